import math

import pytest
import torch
from torch import nn

from splinelib import read_layers
from splinestudy.analysis.neighbours import nearest_neighbours, norm_ranks


def network(rows):
    model = nn.Sequential(nn.Linear(len(rows[0]), len(rows)), nn.ReLU(), nn.Linear(len(rows), 2))
    model[0].weight.data = torch.tensor(rows)
    return model, read_layers(model, torch.zeros(2, len(rows[0])))


def test_neighbours_by_hand():
    # Angles 0°, 10°, 200° (opposite to 20°) and 90°, with other lengths: the third is closest to the second.
    angles = [math.radians(degrees) for degrees in (0, 10, 200, 90)]
    rows = [
        [size * math.cos(a), size * math.sin(a)] for size, a in zip((1.0, 3.0, 0.5, 2.0), angles, strict=True)
    ]
    (found,) = nearest_neighbours(*network(rows))
    expected = [math.cos(math.radians(degrees)) for degrees in (10, 10, 10, 70)]
    torch.testing.assert_close(found.alignment, torch.tensor(expected).double(), rtol=0, atol=1e-6)
    assert found.opposed.tolist() == [False, False, True, True] or found.opposed.tolist() == [
        False,
        True,
        True,
        True,
    ]
    assert (found.layer, found.units, found.dimension) == ("0", 4, 2)


def test_chance_is_that_of_random_directions(generator):
    model, layers = network(torch.randn(200, 30, generator=generator).tolist())
    (found,) = nearest_neighbours(model, layers)
    # Such a network is what chance means, so the two agree; twins do not.
    assert found.alignment.mean().item() == pytest.approx(found.chance.mean().item(), rel=0.05)
    model[0].weight.data[100:] = -2 * model[0].weight.data[:100]
    (found,) = nearest_neighbours(model, layers)
    torch.testing.assert_close(found.alignment, torch.ones(200).double())
    assert found.opposed.all()
    assert found.chance.max() < 0.9


def test_ranks_of_norms_by_hand():
    model, layers = network([[5.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    assert norm_ranks(model, layers, {"0": [0, 2]}) == [0.75]
    assert norm_ranks(model, layers, {"0": [1]}) == [0.0]
    assert norm_ranks(model, layers, {}) == []
