"""Three-dimensional slices, against formulas, the network itself and two-dimensional slices."""

import numpy as np
import pytest
import torch
from oracles_partition import unit_signs
from torch import nn

from splinelib.errors import LimitError, SettingError, UnsupportedModuleError
from splinelib.partition import Slice2D, Slice3D, compute_partition, compute_solid, face_areas

BOX = Slice3D.axis_aligned(((-1, 1), (-2, 1.5), (0, 3)))


def network(*widths, activation=nn.ReLU, seed=0):
    torch.manual_seed(seed)
    pairs = zip((3, *widths), widths, strict=False)
    return nn.Sequential(
        *(layer for a, b in pairs for layer in (nn.Linear(a, b), activation())), nn.Linear(widths[-1], 2)
    )


def inner_points(solid, each=3):
    """Points strictly inside of each region ``[R, each, 3]``."""
    rng = np.random.default_rng(0)
    parts = zip(solid.corner_start, solid.corner_start[1:], strict=False)
    return np.array([rng.dirichlet(np.ones(b - a), each) @ solid.vertices[a:b] for a, b in parts])


@pytest.mark.parametrize("units", [1, 2, 3, 5, 9])
def test_planes_in_general_position_cut_space_into_so_many_parts(units):
    solid = compute_solid(network(units), Slice3D.axis_aligned(((-1e4, 1e4),) * 3))
    assert len(solid) == 1 + units + units * (units - 1) // 2 + units * (units - 1) * (units - 2) // 6


@pytest.mark.parametrize(
    ("widths", "activation"),
    [((7,), nn.ReLU), ((8, 8), nn.ReLU), ((6, 6, 6), nn.LeakyReLU), ((5, 5), nn.Hardtanh)],
)
@pytest.mark.parametrize("seed", range(3))
def test_no_region_is_lost_or_invented(widths, activation, seed):
    model = network(*widths, activation=activation, seed=seed)
    solid = compute_solid(model, BOX, outputs=True)
    # Codes differ, hold all over each region, and the regions fill the box: it is the partition.
    assert len(np.unique(solid.codes, axis=0)) == len(solid)
    assert solid.volume.min() > 0
    assert solid.volume.sum() == pytest.approx(21, rel=1e-12)
    points = inner_points(solid)
    for place in range(points.shape[1]):
        inputs = BOX.at(points[:, place])
        mine = np.einsum("rkc,rc->rk", solid.outputs, np.c_[points[:, place], np.ones(len(solid))])
        np.testing.assert_allclose(mine, model.double()(inputs).detach().numpy(), atol=1e-12)
        if activation is not nn.Hardtanh:  # whose units have two kinks
            np.testing.assert_array_equal(solid.codes, unit_signs(model, inputs))


def test_a_plane_of_the_box_shows_its_regions_and_their_areas():
    model = network(10, 10)
    solid = compute_solid(model, BOX)
    plane = compute_partition(
        model, Slice2D.axis_aligned(BOX.bounds[:2], origin=torch.tensor([0.0, 0.0, 0.7])), codes=True
    )
    known = {code.tobytes() for code in solid.codes}
    assert all(code.tobytes() in known for code in plane.code_bits())
    # Cavalieri: volumes are integrals of areas.
    levels, weights = np.polynomial.legendre.leggauss(60)
    total = dict.fromkeys(known, 0.0)
    for level, weight in zip(1.5 + 1.5 * levels, 1.5 * weights, strict=True):
        part = compute_partition(
            model, Slice2D.axis_aligned(BOX.bounds[:2], origin=torch.tensor([0.0, 0.0, level])), codes=True
        )
        for code, area in zip(part.code_bits(), part.area, strict=True):
            total[code.tobytes()] += weight * area
    integrals = [total[code.tobytes()] for code in solid.codes]
    np.testing.assert_allclose(solid.volume, integrals, atol=1e-2)


def test_faces_are_flat_closed_and_shared():
    model = network(6, 6)
    solid = compute_solid(model, BOX)
    for region in range(0, len(solid), 7):
        sides = solid.faces(region)
        area, normals = 0.0, np.zeros(3)
        for corners in sides:
            cross = np.cross(corners[1:-1] - corners[0], corners[2:] - corners[0]).sum(axis=0) / 2
            heights = (corners - corners[0]) @ cross / np.linalg.norm(cross)
            assert np.abs(heights).max() < 1e-12
            normals, area = normals + cross, area + np.linalg.norm(cross)
        np.testing.assert_allclose(normals, 0, atol=1e-12)  # of a closed surface
        faces = slice(solid.face_start[region], solid.face_start[region + 1])
        assert solid.face_area[faces].sum() == pytest.approx(area)
    # Both sides of a unit's boundary have the same area, and the box's sides are what they are.
    assert solid.face_area[solid.face_unit < 0].sum() == pytest.approx(2 * (2 * 3.5 + 2 * 3 + 3.5 * 3))
    by_side = np.zeros((2, 12))
    region = np.repeat(np.arange(len(solid)), np.diff(solid.face_start))
    for face in np.flatnonzero(solid.face_unit >= 0):
        unit = solid.face_unit[face]
        by_side[int(solid.codes[region[face], unit]), unit] += solid.face_area[face]
    np.testing.assert_allclose(by_side[0], by_side[1], rtol=1e-10)
    np.testing.assert_allclose(face_areas(solid), by_side.mean(axis=0), rtol=1e-10)


def test_a_box_within_a_larger_input_space():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3)).double()
    where = Slice3D(torch.randn(3, 4), torch.randn(3, 3, 4), [[-1, 1]] * 3)
    solid = compute_solid(model, where)
    assert solid.volume.sum() == pytest.approx(8)
    inputs = where.at(inner_points(solid, 1)[:, 0])
    np.testing.assert_array_equal(solid.codes, unit_signs(model, inputs))


def test_the_origin_may_lie_in_memory_in_any_order():
    where = Slice3D.axis_aligned(origin=torch.arange(12.0).reshape(3, 4).T)
    assert where.at([[-1.0, -2.0, -3.0]])[0].tolist() == [[-1, -2, -3], [1, 5, 9], [2, 6, 10], [3, 7, 11]]


def test_what_is_refused():
    with pytest.raises(LimitError, match="max_regions=5"):
        compute_solid(network(9), BOX, max_regions=5)
    pooled = nn.Sequential(nn.Unflatten(1, (1, 3)), nn.MaxPool1d(2), nn.Flatten())
    with pytest.raises(UnsupportedModuleError, match="max units"):
        compute_solid(pooled, BOX)
    with pytest.raises(SettingError, match="lie in one plane"):
        Slice3D(torch.zeros(3), torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]]), [[0, 1]] * 3)
    with pytest.raises(SettingError, match="give none beyond"):
        Slice3D.axis_aligned(((0, 1e200),) * 3)
    with pytest.raises(SettingError, match="lesser one"):
        Slice3D.axis_aligned(((1, 0), (0, 1), (0, 1)))
