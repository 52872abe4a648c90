"""Smooth activations by pieces: the stated bound, on a dense grid, and partitions of what comes out."""

import numpy as np
import pytest
import torch
from torch import nn

from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.partition import AffinePieces, Slice2D, compute_partition, with_affine_pieces

GRID = torch.linspace(-60, 60, 600_001, dtype=torch.float64)
SMOOTH = [
    nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(), nn.Mish(), nn.Hardswish(), nn.Softplus(), nn.Softplus(beta=3.0),
    nn.ELU(), nn.ELU(alpha=0.4), nn.Sigmoid(), nn.Tanh(),
]  # fmt: skip


@pytest.mark.parametrize("tolerance", [0.1, 0.01, 1e-4])
@pytest.mark.parametrize("activation", SMOOTH, ids=str)
def test_the_bound_holds_and_is_nearly_reached(activation, tolerance):
    pieces = with_affine_pieces(activation, tolerance)
    assert isinstance(pieces, AffinePieces)
    gap = (pieces(GRID) - activation(GRID)).abs().max()
    assert 0.3 * tolerance < gap <= tolerance


def test_a_network_with_pieces_has_a_partition_and_is_near_the_smooth_one():
    torch.manual_seed(0)
    smooth = nn.Sequential(
        nn.Linear(2, 5), nn.GELU(), nn.Sequential(nn.Linear(5, 4), nn.SiLU()), nn.Linear(4, 2)
    ).eval()
    before = smooth[0].weight.clone()
    with pytest.raises(UnsupportedModuleError, match="GELU"):
        compute_partition(smooth, Slice2D.axis_aligned())
    model = with_affine_pieces(smooth, 0.02)
    partition = compute_partition(model, Slice2D.axis_aligned(), outputs=True)
    points = partition.centroids()
    mine = np.einsum("rkc,rc->rk", partition.outputs, np.c_[points, np.ones(len(points))])
    inputs = partition.slice.at(points)
    np.testing.assert_allclose(mine, model(inputs).numpy(force=True), atol=1e-12)
    assert np.abs(mine - smooth.double()(inputs).numpy(force=True)).max() < 0.1
    torch.testing.assert_close(
        smooth[0].weight.float(), before, rtol=0, atol=0
    )  # the model itself is as it was


def test_nothing_to_approximate_or_no_tolerance():
    with pytest.raises(UnsupportedModuleError, match="holds no module that can be approximated"):
        with_affine_pieces(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    with pytest.raises(SettingError, match="tolerance is 0"):
        with_affine_pieces(nn.GELU(), 0)


def test_an_activation_that_stands_at_two_places_is_replaced_at_both():
    shared = nn.GELU()
    model = nn.Sequential(nn.Linear(2, 4), shared, nn.Linear(4, 4), shared, nn.Linear(4, 1))
    pieces = with_affine_pieces(model, 0.1)
    assert [type(pieces[place]) for place in (1, 3)] == [AffinePieces] * 2
    assert len(compute_partition(pieces, Slice2D.axis_aligned())) > 1
    assert type(model[1]) is nn.GELU


def test_a_softplus_that_jumps_is_named():
    with pytest.raises(
        SettingError, match=r"threshold 2 jumps by 0.13 there, too much for a tolerance of 0.001"
    ):
        with_affine_pieces(nn.Sequential(nn.Linear(2, 4), nn.Softplus(threshold=2)), 0.001)
