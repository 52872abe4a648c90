"""Slices drawn with repeated corners, one logit, planes through nearly collinear inputs, points that are none."""

import numpy as np
import pytest
import torch
from test_partition import PLANE, mlp
from torch import nn

from splinelib.errors import SettingError
from splinelib.partition import Slice2D, compute_partition, trace_boundary

SQUARE = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]


@pytest.mark.parametrize("turned", [0, 1, 2, 3])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_closed_ring_is_the_polygon(turned, backwards):
    corners = np.roll(SQUARE, turned, axis=0)[:: -1 if backwards else 1]
    closed = PLANE.within([*corners, corners[0]])
    assert closed.area == 1
    np.testing.assert_array_equal(closed.polygon, PLANE.within(corners).polygon)


def test_a_corner_that_is_given_thrice_is_one_corner():
    corners = [[0, 0], [1, 0], [1, 1], [1, 1], [1, 1 + 1e-16], [0.5, 1.5], [0, 1], [0, 0]]
    assert PLANE.within(corners).polygon.tolist() == [[0, 0], [1, 0], [1, 1], [0.5, 1.5], [0, 1]]


def test_the_rings_of_regions_are_slices():
    partition = compute_partition(mlp(2, 6, 2, seed=3), PLANE)
    for region in range(len(partition)):
        ring = partition.polygon(region)
        assert PLANE.within([*ring, ring[0]]).area == pytest.approx(partition.area[region], rel=1e-12)


@pytest.mark.parametrize(
    "polygon",
    [
        [[0, 0], [1, 0], [1, 0], [0, 0]],
        [[1, 1], [1, 1], [1, 1]],
        [[0, 0], [2, 0], [1, 0], [1, 1], [0, 1]],
        [[0, 0], [1, 0], [2, 0], [1, 0]],
    ],
)
def test_outlines_that_turn_back_or_hold_two_corners_are_no_polygons(polygon):
    with pytest.raises(SettingError, match="polygon"):
        PLANE.within(polygon)


@pytest.mark.parametrize("off", [1e-1, 1e-4, 1e-7, 1e-8])
def test_the_axes_through_nearly_collinear_inputs_are_orthonormal(off):
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    where = Slice2D.through(x[0], x[1], x[0] + 1.7 * (x[1] - x[0]) + off * x[2])
    basis = torch.stack([where.first, where.second])
    torch.testing.assert_close(basis @ basis.T, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-14)


def single_and_pair(seed):
    """A network with one logit that is 0 in the middle of the square, and the same with the scores (0, logit)."""
    one = mlp(2, 16, 12, 1, seed=seed)
    two = nn.Sequential(one, nn.Linear(1, 2)).double().eval()
    with torch.no_grad():
        one[4].bias -= one(torch.zeros(1, 2, dtype=torch.float64)).item()
        two[1].weight.copy_(torch.tensor([[0.0], [1.0]]))
        two[1].bias.zero_()
    return one, two


@pytest.mark.parametrize("seed", range(4))
def test_one_logit_is_compared_with_zero(seed):
    one, two = single_and_pair(seed)
    found = compute_partition(one, PLANE, boundary=True, outputs=True, threads=1)
    expected = compute_partition(two, PLANE, boundary=True, threads=1)
    assert found.boundary.length > 0.5
    np.testing.assert_allclose(found.boundary.segments, expected.boundary.segments, atol=1e-12)
    np.testing.assert_array_equal(found.boundary.classes, expected.boundary.classes)
    with torch.no_grad():
        assert one(PLANE.at(found.boundary.segments.reshape(-1, 2))).abs().max() < 1e-12
    assert found.outputs.shape == (len(found), 1, 3)
    centres = np.c_[found.centroids(), np.ones(len(found))]
    mine = torch.from_numpy((found.outputs[:, 0] * centres).sum(axis=1))
    torch.testing.assert_close(mine, one(PLANE.at(found.centroids()))[:, 0], rtol=1e-12, atol=1e-12)
    trace = trace_boundary(one, PLANE, grid=150)  # a piece of length 0.03 is closed
    assert trace.boundary.length == pytest.approx(expected.boundary.length, rel=1e-9)


def test_one_logit_without_boundary_is_one_output():
    found = compute_partition(single_and_pair(0)[0], PLANE, outputs=True)
    assert found.outputs.shape == (len(found), 1, 3)


@pytest.mark.parametrize("point", [[np.nan, 0.0], [0.0, np.inf], [-np.inf, np.nan]])
def test_points_that_are_not_finite_lie_nowhere(point):
    partition = compute_partition(mlp(2, 6, 2), PLANE)
    with pytest.raises(SettingError, match=r"point 1 is \[.*give finite points"):
        partition.locate([[0.0, 0.0], point])


@pytest.mark.parametrize("region", [-1, 10**6])
def test_regions_that_do_not_exist_have_no_polygon(region):
    partition = compute_partition(mlp(2, 6, 2), PLANE)
    with pytest.raises(SettingError, match=f"region {region} does not exist"):
        partition.polygon(region)


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.5, -0.5)])
def test_a_clamp_to_a_point_cuts_nothing(low, high):
    """Torch gives the upper bound where the lower is above it."""

    class Flat(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x).clamp(low, high))

    assert len(compute_partition(Flat(nn.Linear(2, 3), nn.Linear(3, 2)), PLANE)) == 1
