"""Partitions before and after pruning: units keep their numbers, those removed have no boundary."""

import numpy as np
import pytest
import torch
from test_partition import PLANE, image_slice, mlp, randomise
from test_partition_random import Skip
from torch import nn

from splinelib.errors import SettingError
from splinelib.partition import boundary_length, compare, compute_partition, kept_units
from splinelib.pruning import mask_units, remove_units


def networks():
    conv = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(20, 6), nn.Hardtanh(), nn.Linear(6, 3),
    )  # fmt: skip
    residual = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), Skip(4, 6, True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 3)
    )
    return {
        "dense": (mlp(2, 10, 8, 3), PLANE, {"0": [1, 4], "2": [0, 7]}),
        "conv": (randomise(conv, 1), image_slice(1).zoomed(0.4), {"0": [2], "4": [0, 3], "7": [1, 5]}),
        "residual": (randomise(residual, 2), image_slice(2).zoomed(0.3), {"0": [1], "2.shortcut": [0, 2]}),
    }


@pytest.mark.parametrize("name", ["dense", "conv", "residual"])
def test_the_pruned_partition_is_that_of_the_masked_network(name):
    model, where, selection = networks()[name]
    example = where.origin[None]
    smaller, masked = (f(model, example, selection) for f in (remove_units, mask_units))
    kept = kept_units(model, where, selection)
    before, after, hidden = (compute_partition(m, where) for m in (model, smaller, masked))
    assert after.units == len(kept) < before.units
    change, expected = compare(before, after, kept), compare(before, hidden)
    np.testing.assert_allclose(change.length_after, expected.length_after, atol=1e-9)
    np.testing.assert_array_equal(change.vanished, expected.vanished)
    gone = np.setdiff1d(np.arange(before.units), kept)
    assert (change.length_after[gone] == 0).all()
    assert set(gone[boundary_length(before)[gone] > 0]) <= set(change.vanished)


def test_units_that_were_zero_before_are_kept():
    model = mlp(2, 5, 3)
    with torch.no_grad():
        model[0].weight[2], model[0].bias[2] = 0.0, 0.0
    assert kept_units(model, PLANE, {"0": [0]}).tolist() == [1, 2, 3, 4]


def test_what_was_kept_must_fit():
    model = mlp(2, 6, 3)
    before, after = compute_partition(model, PLANE), compute_partition(mlp(2, 4, 3), PLANE)
    with pytest.raises(SettingError, match="kept_units"):
        compare(before, after)
    for kept in ([0, 1, 2], [0, 1, 1, 2], [0, 1, 2, 6]):
        with pytest.raises(SettingError, match="a different one of the 6 units"):
            compare(before, after, np.array(kept))
