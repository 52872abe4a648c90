"""Sums of scaled rows in compiled code, against the product of matrices."""

import numpy as np
import pytest
from numba import njit

from splinelib.partition.engine.geometry import OPTIONS, largest
from splinelib.partition.engine.rows import add_rows


@njit(**OPTIONS | {"cache": False})
def _run(target, source, width, weights, rows, chosen, factors, room, count):
    add_rows(target, source, width, weights, rows, chosen, factors, room, count)


@njit(**OPTIONS | {"cache": False})
def _largest(values):
    return largest(values)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_largest_is_found_by_its_bits(size):
    for scale in (1e-310, 1e-9, 1.0, 1e300):
        values = scale * np.random.default_rng(size).random(size)
        assert _largest(values) == values.max()
    assert _largest(np.zeros(size)) == 0.0


@pytest.mark.parametrize("width", [1, 7, 8, 31, 32, 67, 100])
def test_rows_are_added_for_any_width_and_count(width):
    rng = np.random.default_rng(width)
    room = 20
    weights, factors = rng.normal(size=(30, width)), rng.normal(size=(3, room))
    rows = rng.permutation(30)[:room]
    for count in (0, 1, 8, 9, room):
        chosen, source = np.sort(rng.permutation(room)[:count]), rng.normal(size=(3, width))
        expected = source + factors[:, chosen] @ weights[rows[chosen]]
        found = np.full(3 * width + 5, 7.0)  # nothing is written beyond the target
        given = weights.reshape(-1), rows * width, chosen, factors.reshape(-1), room, count
        _run(found, source.reshape(-1), width, *given)
        np.testing.assert_allclose(found[: 3 * width].reshape(3, width), expected, atol=1e-13)
        np.testing.assert_array_equal(found[3 * width :], 7.0)
        _run(found, found, width, *given)  # onto itself
        np.testing.assert_allclose(found[: 3 * width].reshape(3, width), 2 * expected - source, atol=1e-13)
