import numpy as np
import pytest
import torch
from torch import nn

from splinelib.early_bird.codes import sign_codes
from splinelib.early_bird.distances import code_distance
from splinelib.errors import SettingError
from splinelib.partition import Slice2D, area_distance
from splinestudy.analysis import toy
from splinestudy.analysis.toy_settling import toy_distances

SQUARE = Slice2D.axis_aligned(((-1.0, 1.0), (-1.0, 1.0)))


def network(seed, *widths):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        modules = []
        for reads, writes in zip((2, *widths), (*widths, 2), strict=True):
            modules += [nn.Linear(reads, writes), nn.ReLU()]
        return nn.Sequential(*modules[:-1]).double().eval()


def test_equal_networks_have_no_distance():
    assert area_distance(network(0, 6, 5), network(0, 6, 5), SQUARE).tolist() == [0.0, 0.0]


def test_a_moved_line_sweeps_its_area():
    first, second = network(0, 4), network(0, 4)
    with torch.no_grad():
        for model, offset in ((first, 0.0), (second, 0.25)):
            model[0].weight[0] = torch.tensor([1.0, 0.0], dtype=torch.float64)
            model[0].bias[0] = offset
    # A strip of a quarter on a side of two, for one unit of four.
    assert area_distance(first, second, SQUARE) == pytest.approx([0.125 / 4], abs=1e-12)


def test_a_turned_line_disagrees_everywhere():
    first, second = network(1, 3), network(1, 3)
    with torch.no_grad():
        second[0].weight[2] *= -1
        second[0].bias[2] *= -1
    assert area_distance(first, second, SQUARE) == pytest.approx([1 / 3], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_sampled_codes_estimate_it(seed):
    first, second = network(seed, 12, 8), network(seed + 10, 12, 8)
    exact = area_distance(first, second, SQUARE)
    points = torch.rand(40_000, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    sampled = code_distance(*(sign_codes(model, points, 2**20) for model in (first, second)))
    # Bits of one point are not independent, so the error is that of 40,000 means of at most 1/2 spread.
    assert np.abs(exact - sampled).max() < 5 * 0.5 / 40_000**0.5
    assert area_distance(second, first, SQUARE) == pytest.approx(exact, abs=1e-12)


def test_convolutions_and_pools_have_distances_too():
    def convolutional(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 2)
            ).double()

    images = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plane = Slice2D.through(*images)
    first, second = convolutional(0).eval(), convolutional(1).eval()
    exact = area_distance(first, second, plane)
    assert exact.shape == (2,)
    assert (exact > 0).all()
    assert area_distance(first, first, plane) == pytest.approx([0, 0], abs=1e-12)


def test_other_architectures_are_named():
    with pytest.raises(SettingError, match=r"layers have \[4, 6\] units"):
        area_distance(network(0, 4), network(0, 6), SQUARE)


def test_training_mode_is_named_and_left():
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).double()
    with pytest.raises(SettingError, match="training mode"):
        area_distance(model, model, SQUARE)
    assert all(module.training for module in model.modules())


def test_canvases_estimate_the_toys_distances():
    settings = toy.ToySettings(runs=2, epochs=8)
    exact, sampled = toy_distances(settings, (0, 2, 8), (10, 100))
    assert exact.shape == (2, 2)
    assert sampled.shape == (2, 2, 2)
    assert (exact > 0).all()
    errors = np.abs(sampled - exact).max(axis=(1, 2))
    assert errors[1] < 0.002 < 5 * errors[0]
