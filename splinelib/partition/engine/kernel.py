"""The compiled engine: a depth-first binary space partition driven by units that become decided.

A node of the search holds a convex polygon, the units that still change sign on it (as affine functions), and through
the shared coefficients all lanes whose inputs are decided there. Splitting by one unit leaves two children; each
settles what no longer changes: a decided unit adds its affine function to the lanes it feeds (once along each path
from the root), a cell whose inputs are all decided is classified on the polygon, and so on. When nothing is undecided
the polygon is a region. Leaving a node restores the saved numbers exactly. Nothing depends on the order of layers,
so skips and pooling need no special care, and in a convolutional network most units are decided far above the leaves.
"""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from splinelib.partition.engine.geometry import (
    INLINED,
    OPTIONS,
    clip,
    clip_to_winner,
    extents,
    polygon_area,
    winner_on,
)
from splinelib.partition.engine.layout import LINEAR, MAX
from splinelib.partition.engine.rounding import RELATIVE, cheap_error, sharpen
from splinelib.partition.engine.state import (
    CHILDREN,
    CHORD,
    CHORD_AT,
    CHORDS,
    CORNERS,
    DEPTH,
    LOG,
    LOG_AT,
    LOG_BITS,
    LOG_BITS_AT,
    LOG_DATA,
    LOG_DATA_AT,
    NEXT,
    POLYGON,
    READY,
    REGIONS,
    SERIAL,
    SPLIT,
    TASK,
    TODO,
    VERTICES,
    WINDOW,
    WINDOW_AT,
    WINDOWS,
)

INACTIVE, ACTIVE, CROSSES, DOUBTFUL = range(4)
DONE, FLUSH, PAUSED = range(3)
MORE_FRAMES, MORE_CORNERS, MORE_CHORDS, MORE_WINDOWS, MORE_LOG, MORE_LOG_DATA, MORE_LOG_BITS = range(3, 10)


@intrinsic
def _exchange(typingctx, array, index):  # type: ignore[no-untyped-def]
    """Atomically set ``array[index]`` to 1 and return what it was."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        struct = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.gep(struct.data, [args[1]])
        one = context.get_constant(types.int64, 1)
        return builder.atomic_rmw("xchg", pointer, one, "monotonic")

    return types.int64(array, types.int64), codegen


@njit(**INLINED)
def _save(p, s, cell):  # type: ignore[no-untyped-def]
    """Note the cell's numbers in the undo log, once for each node of the search."""
    r = s.register
    if s.stamp[cell] == r[SERIAL]:
        return
    s.stamp[cell] = r[SERIAL]
    at, data = r[LOG_AT], r[LOG_DATA_AT]
    s.log_cell[at], s.log_count[at] = cell, s.waiting[cell]
    s.log_peak[at], s.log_noise[at] = s.peak[cell], s.noise[cell]
    size, start = 3 * p.cell_width[cell], p.cell_address[cell]
    source, target = s.coefficients[start : start + size], s.log_data[data : data + size]
    for i in range(size):
        target[i] = source[i]
    r[LOG_AT], r[LOG_DATA_AT] = at + 1, data + size


@njit(**INLINED)
def _undo(p, s, log, log_data, log_bits):  # type: ignore[no-untyped-def]
    """Restore everything noted since the marks."""
    r = s.register
    at, data = r[LOG_AT], r[LOG_DATA_AT]
    while at > log:
        at -= 1
        cell = s.log_cell[at]
        size, start = 3 * p.cell_width[cell], p.cell_address[cell]
        data -= size
        target, source = s.coefficients[start : start + size], s.log_data[data : data + size]
        for i in range(size):
            target[i] = source[i]
        s.waiting[cell], s.peak[cell], s.noise[cell] = s.log_count[at], s.log_peak[at], s.log_noise[at]
    r[LOG_AT], r[LOG_DATA_AT] = log, log_data
    while r[LOG_BITS_AT] > log_bits:
        r[LOG_BITS_AT] -= 1
        bit = s.log_bits[r[LOG_BITS_AT]]
        s.code[bit >> 6] &= ~(np.uint64(1) << np.uint64(bit & 63))


@njit(**INLINED)
def _decide(p, s, lane, head, active, keep_code):  # type: ignore[no-untyped-def]
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


@njit(**INLINED)
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
    w = p.weights[first : first + width]
    ta, tb, tc = (
        c[start : start + width],
        c[start + width : start + 2 * width],
        c[start + 2 * width : start + 3 * width],
    )
    for i in range(width):
        ta[i] += w[i] * fa
    for i in range(width):
        tb[i] += w[i] * fb
    for i in range(width):
        tc[i] += w[i] * fc


@njit(**INLINED)
def _add_eight(target, w, o, f):  # type: ignore[no-untyped-def]
    """Add eight scaled rows of weights at once: one pass over the target instead of eight."""
    n = len(target)
    w0, w1, w2, w3 = w[o[0] : o[0] + n], w[o[1] : o[1] + n], w[o[2] : o[2] + n], w[o[3] : o[3] + n]
    w4, w5, w6, w7 = w[o[4] : o[4] + n], w[o[5] : o[5] + n], w[o[6] : o[6] + n], w[o[7] : o[7] + n]
    f0, f1, f2, f3, f4, f5, f6, f7 = f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]
    for i in range(n):
        target[i] += ((w0[i] * f0 + w1[i] * f1) + (w2[i] * f2 + w3[i] * f3)) + (
            (w4[i] * f4 + w5[i] * f5) + (w6[i] * f6 + w7[i] * f7)
        )


@njit(**INLINED)
def _spread_dense(p, s, cell, target, begin, end):  # type: ignore[no-untyped-def]
    """Add the queued lanes ``begin .. end`` of one dense cell to the one cell they all feed, eight at a time."""
    r, c = s.register, s.coefficients
    _save(p, s, target)
    stride, width = p.cell_width[cell], p.cell_width[target]
    base, start = p.cell_address[cell] - p.cell_lane[cell], p.cell_address[target]
    peak, noise, n = s.peak[target], s.noise[target], 0
    for k in range(begin, end):
        slope = s.todo_slope[k]
        if slope == 0.0:
            continue
        lane = s.todo_lane[k]
        at = base + lane
        fa, fb, fc = slope * c[at], slope * c[at + stride], slope * c[at + 2 * stride]
        peak = max(peak, abs(fa) + abs(fb) + abs(fc))
        noise = max(noise, abs(slope) * cheap_error(p, s, cell, lane))
        s.row_at[n] = p.entry_weight[p.out_start[lane]]
        s.factor[0, n], s.factor[1, n], s.factor[2, n] = fa, fb, fc
        n += 1
        if n == 8:
            n = 0
            for plane in range(3):
                t = start + plane * width
                _add_eight(c[t : t + width], p.weights, s.row_at, s.factor[plane])
    for i in range(n):
        row = p.weights[s.row_at[i] : s.row_at[i] + width]
        for plane in range(3):
            t, f = start + plane * width, s.factor[plane, i]
            place = c[t : t + width]
            for k in range(width):
                place[k] += row[k] * f
    s.peak[target], s.noise[target] = peak, noise
    s.waiting[target] -= end - begin
    if s.waiting[target] == 0:
        s.ready[r[READY]] = target
        r[READY] += 1


@njit(**INLINED)
def _spread(p, s):  # type: ignore[no-untyped-def]
    """Empty the queue of decided units."""
    r = s.register
    while r[TODO] > 0:
        end = r[TODO]
        lane, head, slope = s.todo_lane[end - 1], s.todo_head[end - 1], s.todo_slope[end - 1]
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
            _save(p, s, target)
            if slope != 0.0:
                _add(p, s, fa, fb, fc, size, error, entry, target)
            s.waiting[target] -= 1
            if s.waiting[target] == 0:
                s.ready[r[READY]] = target
                r[READY] += 1


@njit(**INLINED)
def _in_doubt(low, high, tolerance):  # type: ignore[no-untyped-def]
    """Whether a smaller tolerance could find that the unit changes. What is exactly zero is inactive in any case."""
    return low < tolerance and high >= -tolerance and (low < 0.0 or high > 0.0)


@njit(**INLINED)
def _keep(s, a, b, d, low, high, tolerance, lane):  # type: ignore[no-untyped-def]
    """Note a unit that changes on the polygon as a chord."""
    n = s.register[CHORD_AT]
    s.chord_a[n], s.chord_b[n], s.chord_c[n] = a, b, d
    s.chord_tolerance[n], s.chord_lane[n] = tolerance, lane
    s.chord_score[n] = abs(high + low) / (high - low)
    s.register[CHORD_AT] = n + 1


@njit(**INLINED)
def _clear(s, lane, a, b, d, i):  # type: ignore[no-untyped-def]
    """Make a function that is rounding alone the zero that it stands for: behind it rounding is all there is."""
    if abs(a[i]) + abs(b[i]) + abs(d[i]) <= s.error[lane]:
        a[i] = b[i] = d[i] = s.error[lane] = 0.0


@njit(**INLINED)
def _read_signs(bounds, peak, noise, a, b, d, low, high, tolerance, sign):  # type: ignore[no-untyped-def]
    """What can be said of each unit's sign with cheap error bounds, in loops without branches."""
    n = len(a)
    constant, by_peak, by_noise = bounds[0, :n], bounds[1, :n], bounds[2, :n]
    for i in range(n):
        size = abs(a[i]) + abs(b[i]) + abs(d[i])
        tolerance[i] = RELATIVE * size + (constant[i] + by_peak[i] * peak + by_noise[i] * noise)
    for i in range(n):
        above, below = high[i] > tolerance[i], low[i] < -tolerance[i]
        reaches = (low[i] < tolerance[i]) & (high[i] >= -tolerance[i]) & ((low[i] < 0.0) | (high[i] > 0.0))
        sign[i] = CROSSES if above & below else (DOUBTFUL if reaches else (ACTIVE if above else INACTIVE))


@njit(**INLINED)
def _decide_all(p, s, cell, sign, keep_code):  # type: ignore[no-untyped-def]
    """What :func:`_decide` does, for all units of a cell whose sign is clear; without branches that go either way."""
    r, n, first, active_key = s.register, len(sign), p.cell_lane[cell], np.uint64(0)
    key, slopes = p.key[first : first + n], p.slope[first : first + n]
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
    # What adds nothing to a dense cell need not be queued for it.
    target, todo, silent = p.dense_target[cell], r[TODO], 0
    decided, gain = s.decided[first : first + n], s.gain[first : first + n]
    for i in range(n):
        slope = 1.0 if sign[i] == ACTIVE else slopes[i]
        queued = target < 0 or slope != 0.0
        decided[i], gain[i] = first + i, slope
        s.todo_lane[todo] = s.todo_head[todo] = first + i
        s.todo_slope[todo] = slope
        todo += (sign[i] <= ACTIVE) & queued
        silent += (sign[i] <= ACTIVE) & (not queued)
    r[TODO] = todo
    if silent > 0:
        _save(p, s, target)
        s.waiting[target] -= silent
        if s.waiting[target] == 0:
            s.ready[r[READY]] = target
            r[READY] += 1


@njit(**INLINED)
def _classify_pieces(p, s, cell, a, b, d, keep_code):  # type: ignore[no-untyped-def]
    """Decide or keep each unit but those in doubt; returns whether there are any."""
    first, doubtful, n = p.cell_lane[cell], False, len(a)
    tolerance, sign = s.sizes[:n], s.sign[:n]
    _read_signs(
        p.bounds[:, first : first + n], s.peak[cell], s.noise[cell], a, b, d, s.low, s.high, tolerance, sign
    )
    for i in range(n):
        if sign[i] == CROSSES:
            _keep(s, a[i], b[i], d[i], s.low[i], s.high[i], tolerance[i], first + i)
        doubtful = doubtful or sign[i] == DOUBTFUL
    _decide_all(p, s, cell, sign, keep_code)
    return doubtful


@njit(**INLINED)
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
            _keep(s, a[i], b[i], d[i], low, high, tolerance, lane)
        else:
            _decide(p, s, lane, lane, high > tolerance, keep_code)


@njit(**INLINED)
def _classify(p, s, cell, x, y, keep_code):  # type: ignore[no-untyped-def]
    """A cell's coefficients are final on this polygon: decide its units or keep them as chords."""
    r, c = s.register, s.coefficients
    width, start, first = p.cell_width[cell], p.cell_address[cell], p.cell_lane[cell]
    kind, used, best, doubtful = p.cell_kind[cell], p.cell_used[cell], -1, False
    a, b, d = (
        c[start : start + width],
        c[start + width : start + 2 * width],
        c[start + 2 * width : start + 3 * width],
    )
    error = s.error[first : first + used]
    if kind == LINEAR:
        for i in range(width):
            total = abs(a[i]) + abs(b[i]) + abs(d[i])
            doubtful = doubtful or (total != 0.0 and total <= cheap_error(p, s, cell, first + i))
    elif kind == MAX:
        if not s.sharp[cell]:
            for i in range(used):
                error[i] = cheap_error(p, s, cell, first + i)
        best, doubtful = winner_on(a[:used], b[:used], d[:used], error, RELATIVE, x, y)
    else:
        extents(a, b, d, x, y, s.low, s.high)
        doubtful = _classify_pieces(p, s, cell, a, b, d, keep_code)
    if doubtful:
        sharpen(p, s, cell)
        if kind == LINEAR:
            for i in range(width):
                _clear(s, first + i, a, b, d, i)
        elif kind == MAX:
            best, doubtful = winner_on(a[:used], b[:used], d[:used], error, RELATIVE, x, y)
        else:
            _classify_doubtful(p, s, cell, a, b, d, keep_code)
    if kind == LINEAR:
        for i in range(width):
            _decide(p, s, first + i, first + i, False, False)
    elif kind == MAX:
        if best >= 0:
            _decide(p, s, first + best, first, True, keep_code)
        else:
            s.windows[r[WINDOW_AT]] = cell
            r[WINDOW_AT] += 1


@njit(**INLINED)
def _settle(p, s, x, y, keep_code):  # type: ignore[no-untyped-def]
    """Follow every consequence of the queued decisions."""
    r = s.register
    while True:
        _spread(p, s)
        if r[READY] == 0:
            return
        r[READY] -= 1
        s.sharp[s.ready[r[READY]]] = False
        _classify(p, s, s.ready[r[READY]], x, y, keep_code)


@njit(**INLINED)
def _sharp_tolerance(p, s, k):  # type: ignore[no-untyped-def]
    """What counts as zero for a chord, as closely as can be said."""
    sharpen(p, s, p.lane_cell[s.chord_lane[k]])
    size = abs(s.chord_a[k]) + abs(s.chord_b[k]) + abs(s.chord_c[k])
    return RELATIVE * size + s.error[s.chord_lane[k]]


@njit(**INLINED)
def _inherit_some(p, s, begin, count, skip, keep_code, again):  # type: ignore[no-untyped-def]
    """Keep or decide each chord but those in doubt, or (with sharp bounds) these; returns whether there are any."""
    low, high = s.low[:count], s.high[:count]
    doubtful = False
    for i in range(count):
        k = begin + i
        if k == skip:
            continue
        tolerance, lane = s.chord_tolerance[k], s.chord_lane[k]
        crosses = high[i] > tolerance and low[i] < -tolerance
        if (not crosses and _in_doubt(low[i], high[i], tolerance)) != again:
            doubtful = True
            continue
        if again:
            tolerance = _sharp_tolerance(p, s, k)
            crosses = high[i] > tolerance and low[i] < -tolerance
        if crosses:
            _keep(s, s.chord_a[k], s.chord_b[k], s.chord_c[k], low[i], high[i], tolerance, lane)
        else:
            _decide(p, s, lane, lane, high[i] > tolerance, keep_code)
    return doubtful


@njit(**INLINED)
def _inherit_chords(p, s, begin, count, skip, x, y, keep_code):  # type: ignore[no-untyped-def]
    """Carry the parent's chords over to a child: those that still cross it stay, the others are decided."""
    if count == 0:
        return
    end = begin + count
    low, high = s.low[:count], s.high[:count]
    extents(s.chord_a[begin:end], s.chord_b[begin:end], s.chord_c[begin:end], x, y, low, high)
    if _inherit_some(p, s, begin, count, skip, keep_code, False):
        _inherit_some(p, s, begin, count, skip, keep_code, True)


@njit(**INLINED)
def _inherit_windows(p, s, begin, count, skip, x, y, keep_code):  # type: ignore[no-untyped-def]
    """The same for max units."""
    for k in range(begin, begin + count):
        if k != skip:
            _classify(p, s, s.windows[k], x, y, keep_code)


@njit(**INLINED)
def _emit(p, s, o, f, keep_code, keep_polygons):  # type: ignore[no-untyped-def]
    """Append the node's polygon to the chunk as a region."""
    r = s.register
    n, v, m, at = r[REGIONS], r[VERTICES], f[CORNERS], f[POLYGON]
    x, y = s.poly_x[at : at + m], s.poly_y[at : at + m]
    o.area[n] = polygon_area(x, y)
    o.key[n], o.task[n], o.corners[n] = s.hash[0], r[TASK] - 1, m
    if keep_polygons:
        for i in range(m):
            o.x[v + i] = x[i]
            o.y[v + i] = y[i]
            o.lane[v + i] = s.poly_lane[at + i]
        if len(o.other) > 0:
            for i in range(m):
                o.other[v + i] = s.poly_other[at + i]
        r[VERTICES] = v + m
    if keep_code:
        for i in range(o.code.shape[1]):
            o.code[n, i] = s.code[i]
    for i in range(o.outputs.shape[1]):
        place, stride = p.output_address[i], p.output_stride[i]
        for plane in range(3):
            o.outputs[n, i, plane] = s.coefficients[place + plane * stride]
    r[REGIONS] = n + 1


@njit(**INLINED)
def _choose(s, f):  # type: ignore[no-untyped-def]
    """Pick the unit to split by: the chord that cuts the polygon most evenly, or else a max unit."""
    if f[CHORDS] == 0:
        return f[WINDOW]
    best, score = f[CHORD], s.chord_score[f[CHORD]]
    for k in range(f[CHORD] + 1, f[CHORD] + f[CHORDS]):
        if s.chord_score[k] < score:
            best, score = k, s.chord_score[k]
    return best


@njit(**INLINED)
def _child_polygon(p, s, f, at):  # type: ignore[no-untyped-def]
    """Write the polygon of the child that is next into the arena at ``at``; returns its number of corners."""
    begin, end = f[POLYGON], f[POLYGON] + f[CORNERS]
    x, y, lane, other = (
        s.poly_x[begin:end],
        s.poly_y[begin:end],
        s.poly_lane[begin:end],
        s.poly_other[begin:end],
    )
    if f[CHORDS] > 0:
        k = f[SPLIT]
        for i in range(len(x)):
            if abs(s.chord_a[k] * x[i] + s.chord_b[k] * y[i] + s.chord_c[k]) <= s.chord_tolerance[k]:
                s.chord_tolerance[k] = _sharp_tolerance(p, s, k)
                break
        sign = 1.0 if f[NEXT] == 0 else -1.0
        return clip(
            x, y, lane, other, sign * s.chord_a[k], sign * s.chord_b[k], sign * s.chord_c[k], s.chord_tolerance[k],
            s.chord_lane[k], -1, s.poly_x[at:], s.poly_y[at:], s.poly_lane[at:], s.poly_other[at:],
        )  # fmt: skip
    cell = s.windows[f[SPLIT]]
    c, start, width, used = s.coefficients, p.cell_address[cell], p.cell_width[cell], p.cell_used[cell]
    second, third = start + width, start + 2 * width
    sharpen(p, s, cell)
    row, m = clip_to_winner(
        c[start : start + used], c[second : second + used], c[third : third + used], f[NEXT],
        s.error[p.cell_lane[cell] : p.cell_lane[cell] + used], RELATIVE, p.cell_lane[cell], x, y, lane, other,
        s.scratch[:2], s.scratch[2:], s.scratch_lane[:2], s.scratch_lane[2:],
    )  # fmt: skip
    for i in range(m):
        s.poly_x[at + i], s.poly_y[at + i] = s.scratch[row, i], s.scratch[2 + row, i]
        s.poly_lane[at + i], s.poly_other[at + i] = s.scratch_lane[row, i], s.scratch_lane[2 + row, i]
    return m


@njit(**INLINED)
def _open(p, s, parent, f, at, corners, keep_code):  # type: ignore[no-untyped-def]
    """Fill the child's frame ``f``: decide what the split decides, carry over the rest, settle."""
    r = s.register
    r[SERIAL] += 1
    f[POLYGON], f[CORNERS], f[NEXT] = at, corners, -1
    f[LOG], f[LOG_DATA], f[LOG_BITS] = r[LOG_AT], r[LOG_DATA_AT], r[LOG_BITS_AT]
    f[CHORD], f[WINDOW] = parent[CHORD] + parent[CHORDS], parent[WINDOW] + parent[WINDOWS]
    r[CHORD_AT], r[WINDOW_AT] = f[CHORD], f[WINDOW]
    x, y = s.poly_x[at : at + corners], s.poly_y[at : at + corners]
    by_chord = parent[CHORDS] > 0
    which = parent[NEXT] - 1
    if by_chord:
        lane = s.chord_lane[parent[SPLIT]]
        _decide(p, s, lane, lane, which == 0, keep_code)
    else:
        first = p.cell_lane[s.windows[parent[SPLIT]]]
        _decide(p, s, first + which, first, True, keep_code)
    _inherit_chords(p, s, parent[CHORD], parent[CHORDS], parent[SPLIT] if by_chord else -1, x, y, keep_code)
    skip = -1 if by_chord else parent[SPLIT]
    _inherit_windows(p, s, parent[WINDOW], parent[WINDOWS], skip, x, y, keep_code)
    _settle(p, s, x, y, keep_code)
    f[CHORDS], f[WINDOWS] = r[CHORD_AT] - f[CHORD], r[WINDOW_AT] - f[WINDOW]


@njit(**OPTIONS)
def start(p, s, corners, keep_code):  # type: ignore[no-untyped-def]
    """Open the root: the whole slice."""
    r = s.register
    f = s.frames[0]
    f[CORNERS], f[NEXT] = corners, -1
    for cell in range(len(p.cell_kind)):
        s.stamp[cell] = 0
        if s.waiting[cell] == 0:
            s.ready[r[READY]] = cell
            r[READY] += 1
    _settle(p, s, s.poly_x[:corners], s.poly_y[:corners], keep_code)
    f[CHORDS], f[WINDOWS] = r[CHORD_AT], r[WINDOW_AT]
    f[LOG], f[LOG_DATA], f[LOG_BITS] = r[LOG_AT], r[LOG_DATA_AT], r[LOG_BITS_AT]
    s.frame_hash[0] = s.hash[0]


@njit(**INLINED)
def _shortage(p, s, f):  # type: ignore[no-untyped-def]
    """What has to grow before the next child can be opened, or DONE."""
    r = s.register
    lanes, cells = len(p.slope), len(p.cell_kind)
    if r[DEPTH] + 2 > len(s.frames):
        return MORE_FRAMES
    # Every cut adds at most one corner, and a max unit's child takes one cut for each other piece.
    corners = f[CORNERS] + 2
    if f[CHORDS] == 0:
        corners += p.cell_used[s.windows[f[SPLIT]]]
    if f[POLYGON] + f[CORNERS] + corners > len(s.poly_x) or corners > len(s.scratch[0]):
        return MORE_CORNERS
    if f[CHORD] + 2 * f[CHORDS] + lanes > len(s.chord_a):
        return MORE_CHORDS
    if f[WINDOW] + 2 * f[WINDOWS] + cells > len(s.windows):
        return MORE_WINDOWS
    if r[LOG_AT] + cells > len(s.log_cell):
        return MORE_LOG
    if r[LOG_DATA_AT] + 3 * lanes > len(s.log_data):
        return MORE_LOG_DATA
    if r[LOG_BITS_AT] + lanes > len(s.log_bits):
        return MORE_LOG_BITS
    return DONE


@njit(**INLINED)
def _claimed(s, number, threads, thread):  # type: ignore[no-untyped-def]
    """Whether this subtree is this thread's: the first to ask gets it. All threads number subtrees alike."""
    if threads == 1:
        return True
    if number < len(s.claims):
        return _exchange(s.claims, number) == 0
    mixed = np.uint64(number) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(40)) % np.uint64(threads) == np.uint64(thread)


@njit(**OPTIONS)
def advance(p, s, o, top, threads, thread, budget, keep_code, keep_polygons):  # type: ignore[no-untyped-def]
    """Search on until all is done (DONE), the chunk is full (FLUSH), ``budget`` nodes are opened (PAUSED) or an array
    must grow (MORE_...); to go on, call it again.

    Subtrees at depth ``top`` and leaves above it are the tasks that threads share out.
    """
    r = s.register
    while r[DEPTH] >= 0:
        depth = r[DEPTH]
        f = s.frames[depth]
        if f[NEXT] < 0:
            if f[CHORDS] + f[WINDOWS] == 0:
                if r[REGIONS] >= len(o.key) or r[VERTICES] + f[CORNERS] > len(o.x):
                    return FLUSH
                mine = True
                if depth < top or top == 0 and depth == 0:
                    r[TASK] += 1
                    mine = _claimed(s, r[TASK] - 1, threads, thread)
                if mine:
                    _emit(p, s, o, f, keep_code, keep_polygons)
                f[CHILDREN], f[NEXT] = 0, 0
            else:
                f[SPLIT] = _choose(s, f)
                f[CHILDREN] = 2 if f[CHORDS] > 0 else p.cell_used[s.windows[f[SPLIT]]]
                f[NEXT] = 0
        if f[NEXT] >= f[CHILDREN]:
            _undo(p, s, f[LOG], f[LOG_DATA], f[LOG_BITS])
            r[DEPTH] = depth - 1
            if depth > 0:
                s.hash[0] = s.frame_hash[depth - 1]
            continue
        lack = _shortage(p, s, f)
        if lack != DONE:
            return lack
        at = f[POLYGON] + f[CORNERS]
        corners = _child_polygon(p, s, f, at)
        f[NEXT] += 1
        if corners == 0:
            continue
        if depth + 1 == top:
            r[TASK] += 1
            if not _claimed(s, r[TASK] - 1, threads, thread):
                continue
        _open(p, s, f, s.frames[depth + 1], at, corners, keep_code)
        s.frame_hash[depth + 1] = s.hash[0]
        r[DEPTH] = depth + 1
        budget -= 1
        if budget == 0:
            return PAUSED
    return DONE
