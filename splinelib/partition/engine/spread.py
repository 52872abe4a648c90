"""Compiled bookkeeping of the search: what a decided unit adds to the lanes it feeds, and the log that undoes it."""

import numpy as np
from numba import njit

from splinelib.partition.engine.geometry import INNER, add_row, copy, largest
from splinelib.partition.engine.pointers import part
from splinelib.partition.engine.rounding import cheap_error
from splinelib.partition.engine.rows import add_rows
from splinelib.partition.engine.state import LOG_AT, LOG_BITS_AT, LOG_DATA_AT, READY, SERIAL, TODO


@njit(**INNER)
def save(p, s, cell):  # type: ignore[no-untyped-def]
    """Note the cell's numbers in the undo log, once for each node of the search; returns whether it has none yet.

    Then it starts from the program's constants, whatever another branch left there, and there is nothing to keep.
    """
    r = s.register
    if s.stamp[cell] == r[SERIAL]:
        return False
    s.stamp[cell] = r[SERIAL]
    at, fresh = r[LOG_AT], s.waiting[cell] == p.cell_count[cell]
    s.log_cell[at], s.log_count[at] = cell, s.waiting[cell]
    s.log_peak[at], s.log_noise[at] = s.peak[cell], s.noise[cell]
    r[LOG_AT] = at + 1
    if not fresh:
        data, size = r[LOG_DATA_AT], 3 * p.cell_width[cell]
        copy(part(s.coefficients, p.cell_address[cell], size), part(s.log_data, data, size))
        r[LOG_DATA_AT] = data + size
    return fresh


@njit(**INNER)
def undo(p, s, log, log_data, log_bits):  # type: ignore[no-untyped-def]
    """Restore everything noted since the marks."""
    r = s.register
    at, data = r[LOG_AT], r[LOG_DATA_AT]
    while at > log:
        at -= 1
        cell = s.log_cell[at]
        if s.log_count[at] < p.cell_count[cell]:
            size = 3 * p.cell_width[cell]
            data -= size
            copy(part(s.log_data, data, size), part(s.coefficients, p.cell_address[cell], size))
        s.waiting[cell], s.peak[cell], s.noise[cell] = s.log_count[at], s.log_peak[at], s.log_noise[at]
    r[LOG_AT], r[LOG_DATA_AT] = log, log_data
    while r[LOG_BITS_AT] > log_bits:
        r[LOG_BITS_AT] -= 1
        bit = s.log_bits[r[LOG_BITS_AT]]
        s.code[bit >> 6] &= ~(np.uint64(1) << np.uint64(bit & 63))


@njit(**INNER)
def decide(p, s, lane, head, active, keep_code):  # type: ignore[no-untyped-def]
    """A unit no longer changes: put it into the hash (if active) and queue it for the lanes that ``head`` feeds."""
    r = s.register
    if active:
        s.hash[0] ^= p.key[lane]
        if keep_code:
            bit = p.bit[lane]
            s.code[bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)
            s.log_bits[r[LOG_BITS_AT]] = bit
            r[LOG_BITS_AT] += 1
    if p.out_start[head + 1] > p.out_start[head]:
        slope = 1.0 if active else p.slope[lane]
        s.decided[head], s.gain[head] = lane, slope
        n = r[TODO]
        s.todo_lane[n], s.todo_head[n] = lane, head
        s.todo_slope[n] = slope
        r[TODO] = n + 1


@njit(**INNER)
def _add(p, s, fa, fb, fc, size, error, entry, cell):  # type: ignore[no-untyped-def]
    """Add a function of this size and error to what one of its lane's entries names."""
    c = s.coefficients
    s.peak[cell], s.noise[cell] = max(s.peak[cell], size), max(s.noise[cell], error)
    start, width, first = p.cell_address[cell], p.cell_width[cell], p.entry_weight[entry]
    if p.entry_lane[entry] >= 0:
        w = p.weights[first]
        place = start + p.entry_lane[entry]
        c[place] += w * fa
        c[place + width] += w * fb
        c[place + 2 * width] += w * fc
        return
    w = part(p.weights, first, width)
    add_row(part(c, start, 3 * width), w, fa, fb, fc)


@njit(**INNER)
def _add_to_dense(p, s, cell, target, count, lanes, peak, noise):  # type: ignore[no-untyped-def]
    """Add ``count`` lanes of a cell, as noted, to the dense cell they feed, and note that ``lanes`` are decided."""
    r, width, at = s.register, p.cell_width[target], p.cell_address[target]
    before = p.coefficients if save(p, s, target) else s.coefficients
    add_rows(
        part(s.coefficients, at, 3 * width), part(before, at, 3 * width), width, p.weights,
        part(p.entry_weight, p.out_start[p.cell_lane[cell]], p.cell_width[cell]), s.row_at, s.factor, len(s.row_at),
        count,
    )  # fmt: skip
    s.peak[target], s.noise[target] = max(s.peak[target], peak), max(s.noise[target], noise)
    s.waiting[target] -= lanes
    if s.waiting[target] == 0:
        s.ready[r[READY]] = target
        r[READY] += 1


@njit(**INNER)
def spread_cell(p, s, cell, gain, a, b, d, error, size, lanes):  # type: ignore[no-untyped-def]
    """Add those lanes of a dense cell whose gain is not zero to the one cell they all feed; ``lanes`` are decided.

    ``error`` is a bound for all of them, ``size`` scratch.
    """
    n, room, count = len(gain), len(s.row_at), np.int64(0)
    if lanes == 0:
        return
    fa, fb, fc = part(s.factor, 0, n), part(s.factor, room, n), part(s.factor, 2 * room, n)
    for i in range(n):
        fa[i], fb[i], fc[i] = gain[i] * a[i], gain[i] * b[i], gain[i] * d[i]
    for i in range(n):
        size[i] = abs(fa[i]) + abs(fb[i]) + abs(fc[i])
    peak = largest(size)
    for i in range(n):
        size[i] = abs(gain[i])
    steepest = largest(size)
    for i in range(n):
        s.row_at[count] = i
        count += gain[i] != 0.0
    _add_to_dense(p, s, cell, p.dense_target[cell], count, lanes, peak, steepest * error)


@njit(**INNER)
def _spread_dense(p, s, cell, target, begin, end):  # type: ignore[no-untyped-def]
    """Add the queued lanes ``begin .. end`` of one dense cell to the one cell they all feed."""
    c, stride, at, first = s.coefficients, p.cell_width[cell], p.cell_address[cell], p.cell_lane[cell]
    n, room, peak, noise = np.int64(0), len(s.row_at), 0.0, 0.0
    error = cheap_error(p, s, cell)
    for k in range(begin, end):
        slope = s.todo_slope[k]
        if slope == 0.0:
            continue
        i = np.int64(s.todo_lane[k]) - first
        fa, fb, fc = slope * c[at + i], slope * c[at + stride + i], slope * c[at + 2 * stride + i]
        peak = max(peak, abs(fa) + abs(fb) + abs(fc))
        noise = max(noise, abs(slope) * error)
        s.row_at[n] = i
        s.factor[i], s.factor[room + i], s.factor[2 * room + i] = fa, fb, fc
        n += 1
    _add_to_dense(p, s, cell, target, n, end - begin, peak, noise)


@njit(**INNER)
def spread(p, s):  # type: ignore[no-untyped-def]
    """Empty the queue of decided units."""
    r = s.register
    while r[TODO] > 0:
        end = r[TODO]
        lane, head, slope = np.int64(s.todo_lane[end - 1]), s.todo_head[end - 1], s.todo_slope[end - 1]
        cell = p.lane_cell[lane]
        target = p.dense_target[cell]
        if target >= 0:
            begin = end - 1
            while begin > 0 and p.lane_cell[s.todo_lane[begin - 1]] == cell:
                begin -= 1
            r[TODO] = begin
            _spread_dense(p, s, cell, target, begin, end)
            continue
        r[TODO] = end - 1
        c, stride = s.coefficients, p.cell_width[cell]
        at = p.cell_address[cell] + lane - p.cell_lane[cell]
        fa, fb, fc = slope * c[at], slope * c[at + stride], slope * c[at + 2 * stride]
        size, error = abs(fa) + abs(fb) + abs(fc), 0.0
        if slope != 0.0:
            error = abs(slope) * cheap_error(p, s, cell)
        for entry in range(p.out_start[head], p.out_start[head + 1]):
            target = p.entry_cell[entry]
            if save(p, s, target):
                start, length = p.cell_address[target], 3 * p.cell_width[target]
                copy(part(p.coefficients, start, length), part(s.coefficients, start, length))
            if slope != 0.0:
                _add(p, s, fa, fb, fc, size, error, entry, target)
            s.waiting[target] -= 1
            if s.waiting[target] == 0:
                s.ready[r[READY]] = target
                r[READY] += 1
