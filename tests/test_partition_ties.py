"""Decision boundaries of networks whose scores tie: along units' boundaries, and all over regions."""

from types import SimpleNamespace

import numpy as np
import oracles_partition as oracles
import pytest
import torch
from oracles_exact import exact_boundary, exact_regions, rounded
from test_partition import PLANE, randomise
from torch import nn

from splinelib.partition import (
    Slice2D,
    compute_partition,
    load_partition,
    save_partition,
    trace_boundary,
)
from splinelib.partition.engine.planar import regions_at
from splinelib.partition.walker import _MIDDLE, Walker


def ending_in_a_relu(widths, seed):
    layers = []
    for fan_in, fan_out in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return randomise(nn.Sequential(*layers), seed)


def small(seed):
    """A small network that ends in a ReLU, its weights multiples of 1/64."""
    generator = np.random.default_rng(seed)
    hidden = generator.integers(3, 8, generator.integers(1, 3)).tolist()
    return rounded(ending_in_a_relu([2, *hidden, int(generator.integers(2, 5))], seed), 6)


def both(model, where=PLANE, grid=400):
    partition = compute_partition(model, where, boundary=True, threads=1)
    return partition, trace_boundary(model, where, grid=grid)


def rows(boundary, key):
    """Segments as comparable rows: key of the region, classes, ends."""
    order = np.lexsort((boundary.classes[:, 1], boundary.classes[:, 0], key))
    return key[order], boundary.classes[order], boundary.segments[order]


def agree(partition, trace):
    mine = rows(partition.boundary, partition.key[partition.boundary.region])
    theirs = rows(trace.boundary, trace.key)
    for one, other in zip(mine[:2], theirs[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(mine[2], theirs[2], atol=1e-9)
    assert set(partition.boundary.touching) <= set(trace.touching)


def check_sides(model, where, boundary, off=1e-7):
    """Left of each segment (longer than the step aside) the model predicts the lower class, right of it the other."""
    step = boundary.segments[:, 1] - boundary.segments[:, 0]
    length = np.linalg.norm(step, axis=1, keepdims=True)
    aside = off * np.c_[-step[:, 1], step[:, 0]] / length
    middle, long = boundary.segments.mean(axis=1), length[:, 0] > 100 * off
    for side, classes in ((1, boundary.classes[:, 0]), (-1, boundary.classes[:, 1])):
        found = model(where.at(middle + side * aside)).argmax(1).numpy()
        np.testing.assert_array_equal(found[long], classes[long])


def check_grid(model, where, boundary, side=60):
    """Between neighbours of a grid with different classes there is boundary."""
    low, high = where.polygon.min(axis=0), where.polygon.max(axis=0)
    steps = (np.arange(side) + 0.4142) / side
    points = low + np.stack(np.meshgrid(steps, steps + 0.16 / side), axis=-1) * (high - low)
    classes = model(where.at(points.reshape(-1, 2))).argmax(1).reshape(side, side).numpy()
    for moved in (np.roll(points, -1, axis=1), np.roll(points, -1, axis=0)):
        axis = 1 if moved[0, 0, 0] != points[0, 0, 0] else 0
        differ = np.roll(classes, -1, axis=axis) != classes
        differ[(slice(None), -1) if axis else -1] = False
        for here, there in zip(points[differ], moved[differ], strict=True):
            assert oracles.crossings(boundary.segments, here, there) > 0


@pytest.mark.parametrize("seed", range(60))
def test_partition_and_trace_find_the_same_boundary_behind_a_relu(seed):
    widths = [[2, 16, 16, 3], [2, 10, 4], [2, 8, 8, 8, 3]][seed % 3]
    model = ending_in_a_relu(widths, seed)
    partition, trace = both(model)
    with torch.no_grad():
        check_sides(model, PLANE, partition.boundary)
        check_grid(model, PLANE, partition.boundary)
    agree(partition, trace)


@pytest.mark.parametrize("seed", range(60))
def test_the_boundary_has_the_length_that_fractions_give(seed):
    model = small(seed)
    regions = exact_regions(model, PLANE.polygon)
    expected = exact_boundary(regions)
    partition, trace = both(model)
    assert len(partition) == len(regions)
    for boundary in (partition.boundary, trace.boundary):
        step = np.linalg.norm(boundary.segments[:, 1] - boundary.segments[:, 0], axis=1)
        found = {pair: step[(boundary.classes == pair).all(axis=1)].sum() for pair in expected}
        assert found == pytest.approx(expected, abs=1e-9)
        assert boundary.length == pytest.approx(sum(expected.values()), abs=1e-9)


def net(first, bias, head, head_bias, *after):
    model = nn.Sequential(
        nn.Linear(2, len(first)), nn.ReLU(), nn.Linear(len(first), len(head)), *after
    ).double()
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), (first, bias, head, head_bias), strict=True):
            parameter.copy_(torch.tensor(values, dtype=torch.float64))
    return model.eval()


KNOWN = {
    # The scores of two halves: class 0 on the right.
    "opposite units": (net([[1, 0], [-1, 0]], [0, 0], [[1, 0], [0, 1]], [0, 0]), 2.0, [0, 1]),
    "two units on one line": (net([[1, 0], [1, 0]], [-0.3, -0.3], [[0, 0], [1, 0]], [0, 0]), 2.0, [0, 1]),
    "beside a dead unit": (net([[1, 0], [0, 0]], [-0.3, 0], [[0, 0], [1, 0]], [0, 0]), 2.0, [0]),
    # Score 0 ties with score 1 on the left, where it comes first: no boundary at x = 0, but at x = 0.5.
    "a tie that the first class wins": (net([[1, 0], [1, 0]], [0, -0.5], [[1, -4], [0, 0]], [0, 0]), 2.0, []),
    "no class changes": (net([[1, 0], [0, 1]], [0, 0], [[1, 1], [0, 0]], [0, 0]), 0.0, []),
    # Class 1 in the first quadrant only: its border are two units' boundaries.
    "a corner of two units": (net([[-1, 0], [0, -1]], [0, 0], [[-1, -1], [0, 0]], [0, 0], nn.ReLU()), 0.0, []),
    "a quadrant": (net([[-1, 0], [0, -1]], [0, 0], [[0, 0], [-1, -1]], [0.0, 0.25], nn.ReLU()), None, []),
    # Three classes, two of them equal everywhere: the first of these counts.
    "equal classes": (net([[1, 0], [0, 1]], [0, 0], [[0, 0], [1, 0], [1, 0]], [0, 0, 0]), 2.0, [0]),
    "equal classes in front": (net([[1, 0], [0, 1]], [0, 0], [[0, 0], [0, 0], [1, 0]], [0, 0, 0]), 2.0, [0]),
    "saturated": (net([[1, 0]], [1.0], [[2.0], [0.5]], [-2.0, 0.5], nn.Hardtanh(0.0, 0.75)), None, []),
    # Scores 0, x and -x: where the last two change places the first is as large, and nowhere larger.
    "three in one line": (net([[1, 0]], [2.0], [[0], [1], [-1]], [0, -2, 2]), 2.0, []),
    "three along a unit": (net([[1, 0], [-1, 0]], [0, 0], [[0, 0], [1, 0], [0, 1]], [0, 0, 0]), 2.0, [0]),
    # Scores x+ and y+ and 0 behind another: class 2 nowhere, class 1 where y > max(x, 0).
    "two kinks that meet": (net([[1, 0], [0, 1]], [0, 0], [[1, 0], [0, 1], [0, 0]], [0, 0, 0]), 1 + 2**0.5, [0, 1]),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_boundaries_whose_answer_is_known(name):
    model, length, touching = KNOWN[name]
    partition, trace = both(model, grid=31)
    agree(partition, trace)
    with torch.no_grad():
        check_sides(model, PLANE, partition.boundary)
        check_grid(model, PLANE, partition.boundary)
    if length is not None:
        assert partition.boundary.length == pytest.approx(length, abs=1e-12)
    for unit in touching:
        assert unit in trace.touching
    along = partition.boundary.along
    assert ((along == -1) | np.isin(along, partition.boundary.touching)).all()


def test_a_point_is_looked_at_once(monkeypatch):
    """Scores so steep that between two of them a third one wins on a strip a millionth wide."""
    wide = 2.0**21
    first, bias = [[1, 1], [0, -2], [2, 2], [1, -1]], [0, -2, 2, 1]
    head = [[wide, wide, 0, -wide], [-2, -1, -1, 2], [-2, 0, -1, -1], [0, -2, -1, 1]]
    model = net(first, bias, head, [wide, -1, -1, 0])
    looks, look = [], Walker._partition

    def counted(walker, square):
        looks.append(square)
        assert len(looks) < 50
        return look(walker, square)

    monkeypatch.setattr(Walker, "_partition", counted)
    assert trace_boundary(model, PLANE.zoomed(2.0)).boundary.length > 2


def test_corners_that_coincide_take_no_region_away():
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [3.0, 2.0], [2.0, 3.0]])
    rows = SimpleNamespace(vertices=corners, corners=np.array([4, 3]))
    assert regions_at(rows, np.array([0.2, 0.2]), _MIDDLE).tolist() == [True, False]


@pytest.mark.parametrize("seed", range(40))
def test_whole_numbers_where_many_units_and_classes_meet(seed):
    generator = np.random.default_rng(seed)
    model = ending_in_a_relu([2, *generator.integers(2, 6, 2).tolist(), 4], seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(generator.integers(-2, 3, parameter.shape)))
    partition, trace = both(model, PLANE.within([[-1.9, -2], [2, -2.1], [0.1, 1.8]]))
    assert abs(partition.boundary.length - trace.boundary.length) < 1e-9
    assert set(trace.boundary.touching) <= set(trace.touching)
    with torch.no_grad():
        check_sides(model, partition.slice, partition.boundary)
        for here, there in generator.uniform([-0.8, -1.9], [0.8, -0.5], (60, 2, 2)):
            if (model(partition.slice.at([here, there])).argmax(1)).unique().numel() > 1:
                assert oracles.crossings(partition.boundary.segments, here, there) > 0


def test_turned_and_shifted_slices_find_the_same_ties():
    model = ending_in_a_relu([2, 12, 8, 3], 3)
    turned = Slice2D(
        torch.tensor([0.1, -0.2]), torch.tensor([0.6, 0.8]), torch.tensor([-0.8, 0.6]), PLANE.polygon
    )
    partition, trace = both(model, turned)
    agree(partition, trace)
    with torch.no_grad():
        check_sides(model, turned, partition.boundary)
        check_grid(model, turned, partition.boundary)


class Pooled(nn.Module):
    """Three scores that are maxima of two functions each."""

    def __init__(self, seed):
        super().__init__()
        self.body = ending_in_a_relu([2, 8, 6], seed)
        self.pool = nn.MaxPool2d((1, 2))

    def forward(self, x):
        return self.pool(self.body(x).reshape(-1, 3, 1, 2)).flatten(1)


@pytest.mark.parametrize("seed", range(8))
def test_scores_behind_a_max_pool_tie_too(seed):
    model = Pooled(seed).double().eval()
    partition, trace = both(model)
    with torch.no_grad():
        check_sides(model, PLANE, partition.boundary)
        check_grid(model, PLANE, partition.boundary)
    assert trace.boundary.length == pytest.approx(partition.boundary.length, rel=1e-9)


def test_threads_and_files_keep_what_lies_along_units(tmp_path):
    model = ending_in_a_relu([2, 16, 16, 3], 1)
    one = compute_partition(model, PLANE, boundary=True, threads=1)
    two = compute_partition(model, PLANE, boundary=True, threads=2)
    assert (one.boundary.along >= 0).any()
    save_partition(one, tmp_path / "p.npz")
    loaded = load_partition(tmp_path / "p.npz")
    for field in ("segments", "classes", "region", "units", "along"):
        np.testing.assert_array_equal(getattr(one.boundary, field), getattr(two.boundary, field))
        np.testing.assert_array_equal(getattr(one.boundary, field), getattr(loaded.boundary, field))
