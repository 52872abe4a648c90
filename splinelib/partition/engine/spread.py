"""Compiled bookkeeping of the search: what a decided unit adds to the lanes it feeds, and the log that undoes it."""

import numpy as np
from numba import njit

from splinelib.partition.engine.geometry import INNER, add_row
from splinelib.partition.engine.pointers import part
from splinelib.partition.engine.rounding import cheap_error
from splinelib.partition.engine.rows import add_rows
from splinelib.partition.engine.state import LOG_AT, LOG_BITS_AT, LOG_DATA_AT, READY, SERIAL, TODO


@njit(**INNER)
def save(p, s, cell):  # type: ignore[no-untyped-def]
    """Note the cell's numbers in the undo log, once for each node of the search."""
    r = s.register
    if s.stamp[cell] == r[SERIAL]:
        return
    s.stamp[cell] = r[SERIAL]
    at, data = r[LOG_AT], r[LOG_DATA_AT]
    s.log_cell[at], s.log_count[at] = cell, s.waiting[cell]
    s.log_peak[at], s.log_noise[at] = s.peak[cell], s.noise[cell]
    size, start = 3 * p.cell_width[cell], p.cell_address[cell]
    source, target = part(s.coefficients, start, size), part(s.log_data, data, size)
    for i in range(size):
        target[i] = source[i]
    r[LOG_AT], r[LOG_DATA_AT] = at + 1, data + size


@njit(**INNER)
def undo(p, s, log, log_data, log_bits):  # type: ignore[no-untyped-def]
    """Restore everything noted since the marks."""
    r = s.register
    at, data = r[LOG_AT], r[LOG_DATA_AT]
    while at > log:
        at -= 1
        cell = s.log_cell[at]
        size, start = 3 * p.cell_width[cell], p.cell_address[cell]
        data -= size
        target, source = part(s.coefficients, start, size), part(s.log_data, data, size)
        for i in range(size):
            target[i] = source[i]
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
def _add_to_dense(p, s, target, count, lanes, peak, noise):  # type: ignore[no-untyped-def]
    """Add the noted rows, ``count`` of them, to a dense cell, and note that so many lanes that feed it are decided."""
    r, width = s.register, p.cell_width[target]
    save(p, s, target)
    add_rows(
        part(s.coefficients, p.cell_address[target], 3 * width), width, p.weights,
        s.row_at, s.factor, len(s.row_at), count,
    )  # fmt: skip
    s.peak[target], s.noise[target] = max(s.peak[target], peak), max(s.noise[target], noise)
    s.waiting[target] -= lanes
    if s.waiting[target] == 0:
        s.ready[r[READY]] = target
        r[READY] += 1


@njit(**INNER)
def spread_cell(p, s, cell, gain, a, b, d, error, lanes):  # type: ignore[no-untyped-def]
    """Add those lanes of a dense cell whose gain is not zero to the one cell they all feed; ``lanes`` are decided."""
    n, room, count, peak, noise = len(gain), len(s.row_at), np.int64(0), 0.0, 0.0
    weight = part(p.entry_weight, p.out_start[p.cell_lane[cell]], n)
    for i in range(n):
        peak = max(peak, abs(gain[i]) * (abs(a[i]) + abs(b[i]) + abs(d[i])))
        noise = max(noise, abs(gain[i]) * error[i])
    for i in range(n):
        s.row_at[count], s.factor[count] = weight[i], gain[i] * a[i]
        s.factor[room + count], s.factor[2 * room + count] = gain[i] * b[i], gain[i] * d[i]
        count += gain[i] != 0.0
    if lanes > 0:
        _add_to_dense(p, s, p.dense_target[cell], count, lanes, peak, noise)


@njit(**INNER)
def _spread_dense(p, s, cell, target, begin, end):  # type: ignore[no-untyped-def]
    """Add the queued lanes ``begin .. end`` of one dense cell to the one cell they all feed."""
    c, stride, base = s.coefficients, p.cell_width[cell], p.cell_address[cell] - p.cell_lane[cell]
    n, room, peak, noise = np.int64(0), len(s.row_at), 0.0, 0.0
    for k in range(begin, end):
        slope = s.todo_slope[k]
        if slope == 0.0:
            continue
        lane = np.int64(s.todo_lane[k])
        at = base + lane
        fa, fb, fc = slope * c[at], slope * c[at + stride], slope * c[at + 2 * stride]
        peak = max(peak, abs(fa) + abs(fb) + abs(fc))
        noise = max(noise, abs(slope) * cheap_error(p, s, cell, lane))
        s.row_at[n] = p.entry_weight[p.out_start[lane]]
        s.factor[n], s.factor[room + n], s.factor[2 * room + n] = fa, fb, fc
        n += 1
    _add_to_dense(p, s, target, n, end - begin, peak, noise)


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
            error = abs(slope) * cheap_error(p, s, cell, lane)
        for entry in range(p.out_start[head], p.out_start[head + 1]):
            target = p.entry_cell[entry]
            save(p, s, target)
            if slope != 0.0:
                _add(p, s, fa, fb, fc, size, error, entry, target)
            s.waiting[target] -= 1
            if s.waiting[target] == 0:
                s.ready[r[READY]] = target
                r[READY] += 1
