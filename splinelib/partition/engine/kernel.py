"""The compiled engine: a depth-first binary space partition driven by units that become decided.

A node of the search holds a convex polygon, the units that still change sign on it (as affine functions), and through
the shared coefficients all lanes whose inputs are decided there. Splitting by one unit leaves two children; each
settles what no longer changes: a decided unit adds its affine function to the lanes it feeds (once along each path
from the root), a cell whose inputs are all decided is classified on the polygon, and so on. When nothing is undecided
the polygon is a region. Leaving a node restores the saved numbers exactly. Nothing depends on the order of layers,
so skips and pooling need no special care, and in a convolutional network most units are decided far above the leaves.
"""

import numpy as np
from numba import njit

from splinelib.partition.engine.claims import claimed
from splinelib.partition.engine.classify import in_doubt, keep, settle
from splinelib.partition.engine.geometry import INNER, OPTIONS, clip, clip_to_winner, extents, polygon_area
from splinelib.partition.engine.pointers import part
from splinelib.partition.engine.program import view_program
from splinelib.partition.engine.rounding import RELATIVE, sharp_tolerance, sharpen
from splinelib.partition.engine.spread import decide, undo
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
    VERTICES,
    WINDOW,
    WINDOW_AT,
    WINDOWS,
    view_chunk,
    view_state,
)

# What ``NEXT`` of a node says before it is the number of its next child.
FRESH, SETTLED = -2, -1
DONE, FLUSH, PAUSED = range(3)
MORE_FRAMES, MORE_CORNERS, MORE_CHORDS, MORE_WINDOWS, MORE_LOG, MORE_LOG_DATA, MORE_LOG_BITS = range(3, 10)


@njit(**INNER)
def _inherit_some(p, s, begin, count, skip, keep_code, again):  # type: ignore[no-untyped-def]
    """Keep or decide each chord but those in doubt, or (with sharp bounds) these; returns whether there are any."""
    low, high = part(s.low, 0, count), part(s.high, 0, count)
    doubtful = False
    for i in range(count):
        k = begin + i
        if k == skip:
            continue
        tolerance, lane = s.chord_tolerance[k], np.int64(s.chord_lane[k])
        crosses = high[i] > tolerance and low[i] < -tolerance
        if (not crosses and in_doubt(low[i], high[i], tolerance)) != again:
            doubtful = True
            continue
        if again:
            tolerance = sharp_tolerance(p, s, k)
            crosses = high[i] > tolerance and low[i] < -tolerance
        if crosses:
            keep(s, s.chord_a[k], s.chord_b[k], s.chord_c[k], low[i], high[i], tolerance, lane)
        else:
            decide(p, s, lane, lane, high[i] > tolerance, keep_code)
    return doubtful


@njit(**INNER)
def _inherit_chords(p, s, begin, count, skip, x, y, keep_code):  # type: ignore[no-untyped-def]
    """Carry the parent's chords over to a child: those that still cross it stay, the others are decided."""
    if count == 0:
        return
    low, high = part(s.low, 0, count), part(s.high, 0, count)
    a, b, c = part(s.chord_a, begin, count), part(s.chord_b, begin, count), part(s.chord_c, begin, count)
    extents(a, b, c, x, y, low, high)
    for again in (False, True):
        if not _inherit_some(p, s, begin, count, skip, keep_code, again):
            return


@njit(**INNER)
def _inherit_windows(s, begin, count, skip):  # type: ignore[no-untyped-def]
    """The same for max units, which are looked at again when the node settles, the first one first."""
    r = s.register
    for k in range(begin + count - 1, begin - 1, -1):
        if k != skip:
            s.ready[r[READY]] = s.windows[k]
            r[READY] += 1


@njit(**INNER)
def _emit(p, s, o, f, keep_code, keep_polygons):  # type: ignore[no-untyped-def]
    """Append the node's polygon to the chunk as a region."""
    r = s.register
    n, v, m, at = r[REGIONS], r[VERTICES], f[CORNERS], f[POLYGON]
    x, y = part(s.poly_x, at, m), part(s.poly_y, at, m)
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


@njit(**INNER)
def _choose(s, f):  # type: ignore[no-untyped-def]
    """Pick the unit to split by: the chord that cuts the polygon most evenly, or else a max unit."""
    if f[CHORDS] == 0:
        return f[WINDOW]
    best, score = f[CHORD], s.chord_score[f[CHORD]]
    for k in range(f[CHORD] + 1, f[CHORD] + f[CHORDS]):
        if s.chord_score[k] < score:
            best, score = k, s.chord_score[k]
    return best


@njit(**INNER)
def _child_polygon(p, s, f, at):  # type: ignore[no-untyped-def]
    """Write the polygon of the child that is next into the arena at ``at``; returns its number of corners."""
    begin, room = f[POLYGON], len(s.poly_x) - at
    x, y, lane, other = (
        part(s.poly_x, begin, f[CORNERS]),
        part(s.poly_y, begin, f[CORNERS]),
        part(s.poly_lane, begin, f[CORNERS]),
        part(s.poly_other, begin, f[CORNERS]),
    )
    if f[CHORDS] > 0:
        k = f[SPLIT]
        for i in range(len(x)):
            if abs(s.chord_a[k] * x[i] + s.chord_b[k] * y[i] + s.chord_c[k]) <= s.chord_tolerance[k]:
                s.chord_tolerance[k] = sharp_tolerance(p, s, k)
                break
        sign = 1.0 if f[NEXT] == 0 else -1.0
        return clip(
            x, y, lane, other, sign * s.chord_a[k], sign * s.chord_b[k], sign * s.chord_c[k], s.chord_tolerance[k],
            np.int64(s.chord_lane[k]), np.int64(-1), part(s.poly_x, at, room), part(s.poly_y, at, room),
            part(s.poly_lane, at, room), part(s.poly_other, at, room),
        )  # fmt: skip
    cell = s.windows[f[SPLIT]]
    c, start, width, used = s.coefficients, p.cell_address[cell], p.cell_width[cell], p.cell_used[cell]
    second, third = start + width, start + 2 * width
    sharpen(p, s, cell)
    row, m = clip_to_winner(
        part(c, start, used), part(c, second, used), part(c, third, used), f[NEXT],
        part(s.error, p.cell_lane[cell], used), RELATIVE, p.cell_lane[cell], x, y, lane, other,
        s.scratch[:2], s.scratch[2:], s.scratch_lane[:2], s.scratch_lane[2:],
    )  # fmt: skip
    for i in range(m):
        s.poly_x[at + i], s.poly_y[at + i] = s.scratch[row, i], s.scratch[2 + row, i]
        s.poly_lane[at + i], s.poly_other[at + i] = s.scratch_lane[row, i], s.scratch_lane[2 + row, i]
    return m


@njit(**INNER)
def _open(p, s, parent, f, at, corners, keep_code):  # type: ignore[no-untyped-def]
    """Fill the child's frame ``f``: decide what the split decides, carry over the rest."""
    r = s.register
    r[SERIAL] += 1
    f[POLYGON], f[CORNERS], f[NEXT] = at, corners, FRESH
    f[LOG], f[LOG_DATA], f[LOG_BITS] = r[LOG_AT], r[LOG_DATA_AT], r[LOG_BITS_AT]
    f[CHORD], f[WINDOW] = parent[CHORD] + parent[CHORDS], parent[WINDOW] + parent[WINDOWS]
    r[CHORD_AT], r[WINDOW_AT] = f[CHORD], f[WINDOW]
    x, y = part(s.poly_x, at, corners), part(s.poly_y, at, corners)
    by_chord = parent[CHORDS] > 0
    which = parent[NEXT] - 1
    if by_chord:
        lane = np.int64(s.chord_lane[parent[SPLIT]])
        decide(p, s, lane, lane, which == 0, keep_code)
    else:
        first = np.int64(p.cell_lane[s.windows[parent[SPLIT]]])
        decide(p, s, first + which, first, not by_chord, keep_code)
    _inherit_chords(p, s, parent[CHORD], parent[CHORDS], parent[SPLIT] if by_chord else -1, x, y, keep_code)
    skip = -1 if by_chord else parent[SPLIT]
    _inherit_windows(s, parent[WINDOW], parent[WINDOWS], skip)


@njit(**INNER)
def _start(p, s, corners):  # type: ignore[no-untyped-def]
    """Open the root: the whole slice."""
    r = s.register
    f = s.frames[0]
    f[CORNERS], f[NEXT] = corners, FRESH
    r[SERIAL] = 1
    for cell in range(len(p.cell_kind)):
        if s.waiting[cell] == 0:
            s.ready[r[READY]] = cell
            r[READY] += 1


@njit(**INNER)
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


@njit(**OPTIONS)
def advance(program, state, chunk, corners, top, threads, thread, budget, keep_code, keep_polygons):  # type: ignore[no-untyped-def]
    """Search on until all is done (DONE), the chunk is full (FLUSH), ``budget`` more nodes are settled (PAUSED) or
    an array must grow (MORE_...); to go on, call it again.

    The arrays come as tables (:func:`.table_of`). The first call opens the root, a slice of so many ``corners``.
    Subtrees at depth ``top`` and leaves above it are the tasks that threads share out.
    """
    p, s, o = view_program(program), view_state(state), view_chunk(chunk)
    r = s.register
    if r[SERIAL] == 0:
        _start(p, s, corners)
    while r[DEPTH] >= 0:
        depth = r[DEPTH]
        f = s.frames[depth]
        if f[NEXT] == FRESH:
            at, corners = f[POLYGON], f[CORNERS]
            settle(p, s, part(s.poly_x, at, corners), part(s.poly_y, at, corners), keep_code)
            f[CHORDS], f[WINDOWS], f[NEXT] = r[CHORD_AT] - f[CHORD], r[WINDOW_AT] - f[WINDOW], SETTLED
            s.frame_hash[depth] = s.hash[0]
            if budget == 0:
                return PAUSED
            budget -= 1
        if f[NEXT] == SETTLED:
            if f[CHORDS] + f[WINDOWS] == 0:
                if r[REGIONS] >= len(o.key) or r[VERTICES] + f[CORNERS] > len(o.x):
                    return FLUSH
                mine = True
                if depth < top or top == 0 and depth == 0:
                    r[TASK] += 1
                    mine = claimed(s, r[TASK] - 1, threads, thread)
                if mine:
                    _emit(p, s, o, f, keep_code, keep_polygons)
                f[CHILDREN], f[NEXT] = 0, 0
            else:
                f[SPLIT] = _choose(s, f)
                f[CHILDREN] = 2 if f[CHORDS] > 0 else p.cell_used[s.windows[f[SPLIT]]]
                f[NEXT] = 0
        if f[NEXT] >= f[CHILDREN]:
            undo(p, s, f[LOG], f[LOG_DATA], f[LOG_BITS])
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
            if not claimed(s, r[TASK] - 1, threads, thread):
                continue
        _open(p, s, f, s.frames[depth + 1], at, corners, keep_code)
        r[DEPTH] = depth + 1
    return DONE
