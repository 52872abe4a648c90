"""Random small architectures, many random points, and looking up the region of a point."""

import numpy as np
import oracles_partition as oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_partition import CASES, PLANE, image_slice, mlp, randomise
from torch import nn

from splinelib.errors import SettingError
from splinelib.partition import Slice2D, compute_partition, topology, trace_boundary


class Skip(nn.Module):
    """A residual block around one convolution, with or without a projection."""

    def __init__(self, channels, out, project):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)
        self.norm = nn.BatchNorm2d(out)
        self.shortcut = nn.Conv2d(channels, out, 1) if project or channels != out else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.norm(self.conv(x)) + self.shortcut(x))


def block(kind, channels, out):
    """Modules of one step and the channels they leave."""
    conv = nn.Conv2d(channels, out, 3, padding=1)
    return {
        "conv": ([conv, nn.ReLU()], out),
        "leaky": ([conv, nn.BatchNorm2d(out), nn.LeakyReLU(0.1)], out),
        "strided": ([nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.PReLU(out)], out),
        "depthwise": ([nn.Conv2d(channels, 2 * channels, 2, padding=1, groups=channels), nn.ReLU()], 2 * channels),
        "max": ([nn.MaxPool2d(2, ceil_mode=False)], channels),
        "overlapping": ([nn.MaxPool2d(2, 1)], channels),
        "average": ([nn.AvgPool2d(2, 1)], channels),
        "skip": ([Skip(channels, out, False)], out),
        "project": ([Skip(channels, out, True)], out),
    }[kind]  # fmt: skip


KINDS = ["conv", "leaky", "strided", "depthwise", "max", "overlapping", "average", "skip", "project"]


def random_net(steps, seed):
    """The steps one after the other as far as the image lasts, and a linear head with three classes."""
    channels, modules, x = 2, [], torch.zeros(1, 2, 6, 6)
    for kind, out in steps:
        more, left = block(kind, channels, out)
        if x.shape[-1] < 2:
            break
        x = nn.Sequential(*more).eval()(x)
        modules, channels = modules + more, left
    head = [nn.Flatten(), nn.Linear(x[0].numel(), 3)]
    return randomise(nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), *modules, *head), seed)


@settings(max_examples=8, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 3)), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
)
def test_random_convolutional_networks(steps, seed):
    model, where = random_net(steps, seed), image_slice(seed).zoomed(0.3)
    partition = compute_partition(model, where, codes=True, outputs=True, boundary=True, threads=1)
    assert partition.area.min() > 0
    assert abs(partition.area.sum() / where.area - 1) < 1e-12
    assert len(np.unique(partition.key)) == len(partition)
    assert topology(partition).euler == 1
    centres, bits = partition.centroids(), partition.code_bits()
    np.testing.assert_array_equal(bits, oracles.unit_signs(model, where.at(centres)))
    low, high = where.polygon.min(axis=0), where.polygon.max(axis=0)
    points = np.random.default_rng(seed).uniform(low, high, (1000, 2))
    regions = partition.locate(points)
    np.testing.assert_array_equal(bits[regions], oracles.unit_signs(model, where.at(points)))
    mine = np.einsum("rkc,rc->rk", partition.outputs[regions], np.c_[points, np.ones(len(points))])
    torch.testing.assert_close(torch.from_numpy(mine), model(where.at(points)), rtol=1e-10, atol=1e-10)
    # What the walk along the boundary finds is the partition's, segment for segment.
    trace = trace_boundary(model, where, grid=24)
    known = set(
        zip(partition.key[partition.boundary.region], map(tuple, partition.boundary.classes), strict=True)
    )
    assert set(zip(trace.key, map(tuple, trace.boundary.classes), strict=True)) <= known


@pytest.mark.parametrize("name", ["mlp-2-64-64-3", "strided"])
def test_a_hundred_thousand_points_have_the_code_of_their_region(name):
    model, where = CASES.get(name) or (mlp(2, 64, 64, 3, seed=7), PLANE)
    partition = compute_partition(model, where, codes=True, threads=1)
    low, high = where.polygon.min(axis=0), where.polygon.max(axis=0)
    points = np.random.default_rng(1).uniform(low, high, (100_000, 2))
    regions, bits = partition.locate(points), partition.code_bits()
    assert regions.min() >= 0
    for part in np.array_split(np.arange(len(points)), 10):
        expected = oracles.unit_signs(model, where.at(points[part]))
        np.testing.assert_array_equal(bits[regions[part]], expected)


@pytest.mark.parametrize("name", ["mlp-2-24-3", "residual"])
def test_lookup_agrees_with_trying_every_polygon(name):
    model, where = CASES[name]
    triangle = where.within(where.polygon[:3])
    partition = compute_partition(model, triangle, threads=1)
    low, high = where.polygon.min(axis=0), where.polygon.max(axis=0)
    points = np.random.default_rng(2).uniform(low - 0.1, high + 0.1, (200, 2))
    found = partition.locate(points)
    assert 0 < (found >= 0).sum() < len(points)
    np.testing.assert_array_equal(found, oracles.region_of_points(partition, points))


def test_lookup_of_corners_edges_and_centroids():
    model, where = CASES["mlp-2-16-16-3"]
    partition = compute_partition(model, where)
    np.testing.assert_array_equal(partition.locate(partition.centroids()), np.arange(len(partition)))
    assert (partition.locate(where.polygon) >= 0).all()
    middle = (partition.vertices + partition.vertices[partition.edge_end]) / 2
    found, shape = partition.locate(middle), topology(partition)
    assert ((found == partition.edge_region) | (found == shape.neighbour)).all()
    assert partition.locate([[9.0, 0.0]]).tolist() == [-1]
    assert partition.locate(np.zeros((0, 2))).shape == (0,)


def as_set(keys, classes):
    return sorted((int(key), *map(int, pair)) for key, pair in zip(keys, classes, strict=True))


@pytest.mark.parametrize("name", ["mlp-2-24-3", "mlp-2-16-16-3", "mlp-2-12-12-12-12-3", "mlp-2-512-3", "strided",
                                  "relu_then_pool", "dilated_depthwise", "residual"])  # fmt: skip
def test_the_traced_boundary_is_that_of_the_partition(name):
    model, where = CASES[name]
    partition = compute_partition(model, where, boundary=True, threads=1)
    trace, boundary = trace_boundary(model, where), partition.boundary
    assert as_set(trace.key, trace.boundary.classes) == as_set(
        partition.key[boundary.region], boundary.classes
    )
    assert trace.boundary.length == pytest.approx(boundary.length, rel=1e-12)
    assert trace.regions == len(np.unique(boundary.region))
    assert set(boundary.touching) <= set(trace.touching) <= set(trace.crossing)
    # Segment for segment the same ends, and the same units there where only one changes.
    mine, theirs = (np.lexsort((b.classes[:, 1], b.classes[:, 0], k)) for b, k in (
        (trace.boundary, trace.key), (boundary, partition.key[boundary.region])))  # fmt: skip
    np.testing.assert_allclose(trace.boundary.segments[mine], boundary.segments[theirs], atol=1e-9)
    if all(layer.kind == "piece" for layer in partition.layers):
        np.testing.assert_array_equal(trace.touching, boundary.touching)
        np.testing.assert_array_equal(trace.boundary.units[mine], boundary.units[theirs])


def test_units_that_cross_are_seen_on_the_grid():
    model, where = CASES["strided"]
    partition = compute_partition(model, where)
    crossing = np.unique(partition.edge_unit[partition.edge_lane >= 0])
    assert set(trace_boundary(model, where).crossing) <= set(crossing)
    assert len(trace_boundary(model, where, grid=200).crossing) > 0.97 * len(crossing)


def test_a_closed_boundary_is_followed_once():
    model = mlp(2, 4, 2).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]))
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([[1.0] * 4, [0.0] * 4]))
        model[2].bias.copy_(torch.tensor([-1.0, 0.0]))
    trace = trace_boundary(model, PLANE, grid=10)
    # |x + y| + |x - y| = 1: a square with side 1, one side in each of the four quadrants between the diagonals.
    assert len(trace.boundary.segments) == 4
    assert trace.boundary.length == pytest.approx(4.0, rel=1e-12)
    (line,) = trace.boundary.polylines()
    np.testing.assert_allclose(line.points[0], line.points[-1], atol=1e-12)
    assert trace.touching.tolist() == [0, 1, 2, 3]


def test_traces_check_their_settings():
    model, where = CASES["mlp-2-24-3"]
    with pytest.raises(SettingError, match="grid is 1"):
        trace_boundary(model, where, grid=1)
    with pytest.raises(Exception, match="max_segments=5"):
        trace_boundary(model, where, max_segments=5)
    nothing = trace_boundary(mlp(2, 3, 1), Slice2D.axis_aligned())
    assert len(nothing.boundary.segments) == 0
