"""Compiled code sees through a table of pointers what Python sees in the arrays."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from splinelib.partition.engine.pointers import part, table_of, view_of


class Mixed(NamedTuple):
    flags: NDArray[np.bool_]
    small: NDArray[np.int8]
    table: NDArray[np.float64]
    block: NDArray[np.int32]
    names: NDArray[np.uint64]


view = view_of(Mixed, table=2, block=3)


@njit
def _read(table, flag, i, j, k):
    m = view(table)
    row = m.table[i]
    sizes = len(m.flags), m.table.shape[0], m.table.shape[1], m.block.shape[2], len(m.names)
    return m.flags[flag], m.small[i], row[j], m.block[i, j, k], m.names[k], sizes


@njit
def _write(table, begin, size):
    m = view(table)
    some = part(m.table[1], begin, size)
    for i in range(len(some)):
        some[i] = -1.0
    return len(some)


def mixed():
    rng = np.random.default_rng(0)
    return Mixed(
        rng.random(7) < 0.5,
        rng.integers(-9, 9, 5, dtype=np.int8),
        rng.random((4, 6)),
        rng.integers(0, 99, (4, 6, 3), dtype=np.int32),
        rng.integers(0, 2**64, 3, dtype=np.uint64),
    )


def test_fields_are_read_whatever_their_type_and_dimensions():
    m = mixed()
    for flag, i, j, k in ((0, 0, 0, 0), (6, 3, 5, 2), (3, 1, 4, 1)):
        *found, sizes = _read(table_of(m), flag, i, j, k)
        assert found == [m.flags[flag], m.small[i], m.table[i, j], m.block[i, j, k], m.names[k]]
        assert sizes == (7, 4, 6, 3, 3)


def test_a_part_is_the_same_memory():
    m = mixed()
    before = m.table.copy()
    assert _write(table_of(m), np.int32(2), 3) == 3
    before[1, 2:5] = -1.0
    np.testing.assert_array_equal(m.table, before)
