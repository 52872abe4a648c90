import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from tiny_runs import CPU, tiny_dataset, tiny_plan
from torch import nn

from splinelib import read_layers
from splinestudy.analysis.neighbours import nearest_neighbours, neighbour_rows, norm_ranks
from splinestudy.plots import alignment_by_layer
from splinestudy.results.beyond import coincidence, neighbours_by_layer
from splinestudy.runs import dense as dense_kind
from splinestudy.runs.dense import trained_model
from splinestudy.runs.neighbours import neighbours_runs
from splinestudy.runs.records import Record
from splinestudy.runs.store import RecordStore


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


def test_rows_sum_up_a_layer(generator):
    model, layers = network(torch.randn(7, 3, generator=generator).tolist())
    (found,) = nearest_neighbours(model, layers)
    (row,) = neighbour_rows([found])
    assert (row["layer"], row["units"], row["dimension"]) == ("0", 7, 3)
    assert row["closest"] == max(found.alignment.tolist())
    assert row["opposed"] == sum(found.opposed.tolist()) / 7
    for what in ("alignment", "chance"):
        given = [row[f"{what}_{name}"] for name in ("low", "middle", "high")]
        np.testing.assert_allclose(given, np.quantile(getattr(found, what), [0.1, 0.5, 0.9]))


def test_networks_of_several_seeds_are_averaged_and_said():
    def record(seed):
        row = {"units": 4, "dimension": 9, "opposed": 0.25, "closest": 0.5 + seed / 10}
        row |= {f"chance_{name}": 0.1 for name in ("low", "middle", "high")}
        rows = [
            row | {"layer": name, **{f"alignment_{q}": middle + seed / 10 for q in ("low", "middle", "high")}}
            for name, middle in (("b", 0.2), ("a", 0.4))
        ]
        return Record("neighbours", "k", {}, {"rows": rows}, {})

    layers = neighbours_by_layer([record(0), record(1)])
    assert layers["layer"].tolist() == ["b", "a"]  # the network's order
    np.testing.assert_allclose(layers["alignment_middle"], [0.25, 0.45])
    assert [*coincidence(layers).values()] == [
        "0.25 to 0.45",
        "0.10 to 0.10",
        "0.55, at most 0.55",
        "25 to 25 %",
    ]
    figure, axes = plt.subplots()
    alignment_by_layer(axes, layers, "two")
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.25, 0.45])
    plt.close(figure)


def test_a_record_holds_the_neighbours_of_the_trained_network(complete, monkeypatch, tmp_path):
    monkeypatch.setattr(dense_kind, "load_dataset", lambda name: tiny_dataset())
    dense = tiny_plan()[0]
    store = RecordStore(complete[0])
    (run,) = neighbours_runs([dense])
    assert not run.needs(store)
    results = run.compute(store, CPU, progress=False)
    model = trained_model(dense, tiny_dataset(), store, CPU)
    layers = read_layers(model, torch.zeros(2, 1, 8, 8))
    assert results["rows"] == neighbour_rows(nearest_neighbours(model, layers))
    assert run.needs(RecordStore(tmp_path)) == (dense,)


def test_ranks_of_norms_by_hand():
    model, layers = network([[5.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    assert norm_ranks(model, layers, {"0": [0, 2]}) == [0.75]
    assert norm_ranks(model, layers, {"0": [1]}) == [0.0]
    assert norm_ranks(model, layers, {}) == []
