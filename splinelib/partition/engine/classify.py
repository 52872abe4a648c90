"""Compiled: which units of a cell are decided on a polygon, once its inputs are, and all that follows from it."""

import numpy as np
from numba import njit

from splinelib.partition.engine.geometry import INNER, extents, winner_on
from splinelib.partition.engine.layout import LINEAR, MAX
from splinelib.partition.engine.pointers import part
from splinelib.partition.engine.rounding import RELATIVE, cheap_error, sharpen
from splinelib.partition.engine.spread import decide, spread, spread_cell
from splinelib.partition.engine.state import CHORD_AT, LOG_BITS_AT, READY, TODO, WINDOW_AT

INACTIVE, ACTIVE, CROSSES, DOUBTFUL = range(4)


@njit(**INNER)
def in_doubt(low, high, tolerance):  # type: ignore[no-untyped-def]
    """Whether a smaller tolerance could find that the unit changes. What is exactly zero is inactive in any case."""
    return low < tolerance and high >= -tolerance and (low < 0.0 or high > 0.0)


@njit(**INNER)
def keep(s, a, b, d, low, high, tolerance, lane):  # type: ignore[no-untyped-def]
    """Note a unit that changes on the polygon as a chord."""
    n = s.register[CHORD_AT]
    s.chord_a[n], s.chord_b[n], s.chord_c[n] = a, b, d
    s.chord_tolerance[n], s.chord_lane[n] = tolerance, lane
    s.chord_score[n] = abs(high + low) / (high - low)
    s.register[CHORD_AT] = n + 1


@njit(**INNER)
def _clear(s, lane, a, b, d, i):  # type: ignore[no-untyped-def]
    """Make a function that is rounding alone the zero that it stands for: behind it rounding is all there is."""
    if abs(a[i]) + abs(b[i]) + abs(d[i]) <= s.error[lane]:
        a[i] = b[i] = d[i] = s.error[lane] = 0.0


@njit(**INNER)
def _read_signs(error, a, b, d, low, high, tolerance, sign):  # type: ignore[no-untyped-def]
    """What can be said of each unit's sign with a cheap error bound, in loops without branches; returns the largest."""
    n = len(a)
    for i in range(n):
        tolerance[i] = RELATIVE * (abs(a[i]) + abs(b[i]) + abs(d[i])) + error
    for i in range(n):
        above, below = high[i] > tolerance[i], low[i] < -tolerance[i]
        reaches = (low[i] < tolerance[i]) & (high[i] >= -tolerance[i]) & ((low[i] < 0.0) | (high[i] > 0.0))
        sign[i] = CROSSES if above & below else (DOUBTFUL if reaches else (ACTIVE if above else INACTIVE))
    most = sign[0]
    for i in range(n):
        most = max(most, sign[i])
    return most


@njit(**INNER)
def _decide_all(p, s, cell, sign, a, b, d, error, size, keep_code):  # type: ignore[no-untyped-def]
    """What :func:`.decide` does, for all units of a cell whose sign is clear; in loops without branches."""
    r, n, first, active_key = s.register, len(sign), p.cell_lane[cell], np.uint64(0)
    key = part(p.key, first, n)
    for i in range(n):
        active_key ^= key[i] if sign[i] == ACTIVE else np.uint64(0)
    s.hash[0] ^= active_key
    if keep_code:
        for i in range(n):
            if sign[i] == ACTIVE:
                bit = p.bit[first + i]
                s.code[bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)
                s.log_bits[r[LOG_BITS_AT]] = bit
                r[LOG_BITS_AT] += 1
    if p.out_start[first + n] == p.out_start[first]:
        return
    gain, slope, clear = part(s.gain, first, n), part(p.slope, first, n), np.int64(0)
    for i in range(n):
        gain[i] = 1.0 if sign[i] == ACTIVE else slope[i]
        gain[i] = gain[i] if sign[i] <= ACTIVE else 0.0
        clear += sign[i] <= ACTIVE
    if p.dense_target[cell] >= 0:
        spread_cell(p, s, cell, gain, a, b, d, error, size, clear)
        return
    todo = r[TODO]
    for i in range(n):
        s.todo_lane[todo] = s.todo_head[todo] = first + i
        s.todo_slope[todo] = gain[i]
        todo += sign[i] <= ACTIVE
    r[TODO] = todo


@njit(**INNER)
def _classify_pieces(p, s, cell, a, b, d, keep_code):  # type: ignore[no-untyped-def]
    """Decide or keep each unit but those in doubt; returns whether there are any."""
    first, n = p.cell_lane[cell], len(a)
    tolerance, sign, error = part(s.sizes, 0, n), part(s.sign, 0, n), cheap_error(p, s, cell)
    most = _read_signs(error, a, b, d, s.low, s.high, tolerance, sign)
    if most >= CROSSES:
        for i in range(n):
            if sign[i] == CROSSES:
                keep(s, a[i], b[i], d[i], s.low[i], s.high[i], tolerance[i], first + i)
    _decide_all(p, s, cell, sign, a, b, d, error, tolerance, keep_code)
    return most == DOUBTFUL


@njit(**INNER)
def _classify_doubtful(p, s, cell, a, b, d, keep_code):  # type: ignore[no-untyped-def]
    """Decide or keep the units that were in doubt, with sharp bounds."""
    first = p.cell_lane[cell]
    for i in range(len(a)):
        if s.sign[i] != DOUBTFUL:
            continue
        lane = first + i
        low, high = s.low[i], s.high[i]
        tolerance = RELATIVE * (abs(a[i]) + abs(b[i]) + abs(d[i])) + s.error[lane]
        if p.slope[lane] != 0.0:
            _clear(s, lane, a, b, d, i)
        if high > tolerance and low < -tolerance:
            keep(s, a[i], b[i], d[i], low, high, tolerance, lane)
        else:
            decide(p, s, lane, lane, high > tolerance, keep_code)


@njit(**INNER)
def classify(p, s, cell, x, y, keep_code):  # type: ignore[no-untyped-def]
    """A cell's coefficients are final on this polygon: decide its units or keep them as chords."""
    r, c = s.register, s.coefficients
    width, start, first = np.int64(p.cell_width[cell]), p.cell_address[cell], np.int64(p.cell_lane[cell])
    kind, used, best, doubtful = p.cell_kind[cell], p.cell_used[cell], -1, False
    a, b, d = (
        part(c, start, width),
        part(c, start + width, width),
        part(c, start + 2 * width, width),
    )
    error = part(s.error, first, used)
    if kind == LINEAR:
        for i in range(width):
            total = abs(a[i]) + abs(b[i]) + abs(d[i])
            doubtful = doubtful or (total != 0.0 and total <= cheap_error(p, s, cell))
    elif kind == MAX:
        if not s.sharp[cell]:
            for i in range(used):
                error[i] = cheap_error(p, s, cell)
        best, doubtful = winner_on(a, b, d, error, RELATIVE, x, y)
    else:
        extents(a, b, d, x, y, s.low, s.high)
        doubtful = _classify_pieces(p, s, cell, a, b, d, keep_code)
    if doubtful:
        sharpen(p, s, cell)
        if kind == LINEAR:
            for i in range(width):
                _clear(s, first + i, a, b, d, i)
        elif kind == MAX:
            best, doubtful = winner_on(a, b, d, error, RELATIVE, x, y)
        else:
            _classify_doubtful(p, s, cell, a, b, d, keep_code)
    if kind == LINEAR:
        for i in range(width):
            decide(p, s, first + i, first + i, kind != LINEAR, keep_code)
    elif kind == MAX:
        if best >= 0:
            decide(p, s, first + best, first, best >= 0, keep_code)
        else:
            s.windows[r[WINDOW_AT]] = cell
            r[WINDOW_AT] += 1


@njit(**INNER)
def settle(p, s, x, y, keep_code):  # type: ignore[no-untyped-def]
    """Follow every consequence of the queued decisions."""
    r = s.register
    while True:
        spread(p, s)
        if r[READY] == 0:
            return
        r[READY] -= 1
        s.sharp[s.ready[r[READY]]] = False
        classify(p, s, s.ready[r[READY]], x, y, keep_code)
