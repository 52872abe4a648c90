"""Sums of scaled rows in compiled code, against the product of matrices."""

import numpy as np
import pytest
from numba import njit

from splinelib.partition.engine.geometry import OPTIONS
from splinelib.partition.engine.rows import add_rows


@njit(**OPTIONS | {"cache": False})
def _run(target, width, weights, rows, factors, room, count):
    add_rows(target, width, weights, rows, factors, room, count)


@pytest.mark.parametrize("width", [1, 7, 8, 31, 32, 67, 100])
def test_rows_are_added_for_any_width_and_count(width):
    rng = np.random.default_rng(width)
    room = 20
    weights, factors = rng.normal(size=(30, width)), rng.normal(size=(3, room))
    for count in (0, 1, 8, 9, room):
        rows, target = rng.permutation(30)[:count], rng.normal(size=(3, width))
        expected = target + factors[:, :count] @ weights[rows]
        margin = np.full(5, 7.0)  # nothing is written beyond the target
        found = np.concatenate([target.reshape(-1), margin])
        _run(found, width, weights.reshape(-1), rows * width, factors.reshape(-1), room, count)
        np.testing.assert_allclose(found[: 3 * width].reshape(3, width), expected, atol=1e-13)
        np.testing.assert_array_equal(found[3 * width :], margin)
