"""Compiled walk along the decision boundary: one region after the other, without the partition around it.

Within a region all units are affine functions of the slice's coordinates, and the decision boundary between two
classes is a straight line. The walk follows it to the first unit that changes there. That unit's affine function g
vanishes on the line that is crossed, so every function behind it changes by a multiple of g: one number for each lane,
carried forward through the network, gives the next region's functions.
"""

import numpy as np
from numba import njit

from splinelib.partition.engine.geometry import INNER, OPTIONS
from splinelib.partition.engine.layout import MAX
from splinelib.partition.engine.program import view_program
from splinelib.partition.engine.rounding import RELATIVE
from splinelib.partition.engine.trace_events import class_along, difference, next_event, unit_along

# Why a walk stopped. FULL: there is no room for more segments, call again to go on. LOOK: several things happen in one
# point, or all along the next segment, and only a look at all regions around tells how the boundary goes on.
BORDER, VISITED, THIRD, FULL, LOOK = range(5)
# How a walk starts. ON: at the beginning of a segment. KNOWN: within one that is noted already. WITHIN: within one
# whose beginning is to be found. GIVEN: within one whose beginning is given.
ON, KNOWN, WITHIN, GIVEN = range(4)
# Shorter steps (in the program's coordinates, which span 2) come from units that change at one and the same point.
NO_STEP = 1e-13


@njit(**INNER)
def _push(p, share, dirty, lane, head, value):  # type: ignore[no-untyped-def]
    """Add ``value`` times the weights to the shares of all lanes that a lane feeds."""
    for entry in range(p.out_start[head], p.out_start[head + 1]):
        cell, at = p.entry_cell[entry], p.entry_weight[entry]
        first, width = p.cell_lane[cell], p.cell_width[cell]
        dirty[cell] = True
        if p.entry_lane[entry] >= 0:
            share[first + p.entry_lane[entry]] += value * p.weights[at]
            continue
        w, target = p.weights[at : at + width], share[first : first + width]
        for i in range(width):
            target[i] += value * w[i]


@njit(**INNER)
def _carry(p, c, active, share, dirty, begin, ga, gb, gc):  # type: ignore[no-untyped-def]
    """Carry the shares of g = (ga, gb, gc) forward from cell ``begin`` on, adding them to all functions behind."""
    for cell in range(begin, len(p.cell_kind)):
        if not dirty[cell]:
            continue
        dirty[cell] = False
        first, start, width, kind = (
            p.cell_lane[cell],
            p.cell_address[cell],
            p.cell_width[cell],
            p.cell_kind[cell],
        )
        own = share[first : first + width]
        ta, tb, tc = c[start : start + width], c[start + width : start + 2 * width], c[start + 2 * width :]
        for i in range(width):
            ta[i] += own[i] * ga
            tb[i] += own[i] * gb
            tc[i] += own[i] * gc
        for i in range(width):
            slope = 1.0 if active[first + i] else (0.0 if kind == MAX else p.slope[first + i])
            if slope != 0.0 and own[i] != 0.0:
                _push(p, share, dirty, first + i, first if kind == MAX else first + i, slope * own[i])
        own[:] = 0.0


@njit(**INNER)
def flip(p, c, active, share, dirty, lane, key):  # type: ignore[no-untyped-def]
    """Change one unit (for a max unit: make this piece the winner) and all functions behind it."""
    cell = p.lane_cell[lane]
    first, start, width = p.cell_lane[cell], p.cell_address[cell], p.cell_width[cell]
    i = start + lane - first
    ga, gb, gc = c[i], c[i + width], c[i + 2 * width]
    head, change = lane, 1.0
    if p.cell_kind[cell] == MAX:
        for k in range(width):
            if active[first + k]:
                active[first + k] = False
                key[0] ^= p.key[first + k]
                j = start + k
                ga, gb, gc = ga - c[j], gb - c[j + width], gc - c[j + 2 * width]
        active[lane], head = True, first
    else:
        active[lane] = not active[lane]
        change = (1.0 if active[lane] else -1.0) * (1.0 - p.slope[lane])
    key[0] ^= p.key[lane]
    _push(p, share, dirty, lane, head, change)
    _carry(p, c, active, share, dirty, cell + 1, ga, gb, gc)


@njit(**INNER)
def _name(key, i, j):  # type: ignore[no-untyped-def]
    """A number for the boundary of two classes in one region, not 0."""
    low, high = min(i, j), max(i, j)
    return (key ^ np.uint64(low * 65_537 + high + 1)) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)


@njit(**INNER)
def _seen(table, name):  # type: ignore[no-untyped-def]
    """Whether the name is in the hash table; put it there. The table has a free place (see the caller)."""
    mask = len(table) - 1
    slot = np.int64(name & np.uint64(mask))
    while table[slot] != 0:
        if table[slot] == name:
            return True
        slot = (slot + 1) & mask
    table[slot] = name
    return False


@njit(**OPTIONS)
def note(table, names):  # type: ignore[no-untyped-def]
    """Put names into the table of visited regions."""
    for k in range(len(names)):
        _seen(table, names[k])


@njit(**OPTIONS)
def visited(table, key, i, j):  # type: ignore[no-untyped-def]
    """Whether the segment of two classes in a region is noted; note it."""
    return _seen(table, _name(key, i, j))


@njit(**OPTIONS)
def walk(  # type: ignore[no-untyped-def]
    program,
    c,
    active,
    noise,
    share,
    dirty,
    sides,
    table,
    place,
    begin,
    number,
    key,
    ends,
    pairs,
    names,
    tags,
    along,
    touched,
):
    """Follow the boundary between classes i (left) and j from ``place``.

    ``number = (i, j, filled, how it starts, lane at the beginning, whether the first segment was looked at)``; only
    such a segment may lie along a unit's boundary. Returns why it stopped and the class that took over; ``key`` holds
    the region's key.
    """
    p = view_program(program)
    i, j = number[0], number[1]
    x, y = place[0], place[1]
    before = number[4]
    while True:
        n = number[2]
        if n + 1 >= len(names):
            place[0], place[1] = x, y
            number[4] = before
            return FULL, -1
        a, b, d = difference(p, c, i, j)
        size = np.sqrt(a * a + b * b)
        if not size > RELATIVE * abs(d):
            place[0], place[1] = x, y
            return LOOK, -1
        # Back onto the line; then along it, class i on the left.
        off = (a * x + b * y + d) / (size * size)
        x, y = x - off * a, y - off * b
        dx, dy = b / size, -a / size
        start_x, start_y = x, y
        if number[3] == GIVEN:
            start_x, start_y = begin[0], begin[1]
        if number[3] == WITHIN:
            step, lane = next_event(p, c, active, noise, key, sides, x, y, -dx, -dy, i, j)
            x, y, before = x - step * dx, y - step * dy, lane
            start_x, start_y = x, y
        step, lane = next_event(p, c, active, noise, key, sides, x, y, dx, dy, i, j)
        unit = unit_along(p, c, active, noise, x, y, dx, dy)
        tied = unit >= 0 or class_along(p, c, x, y, dx, dy, i, j)
        looked = number[5] == 1
        if step == np.inf or not looked and (tied or step <= NO_STEP):
            place[0], place[1] = x, y
            return LOOK, -1
        if number[3] != KNOWN:
            if _seen(table, _name(key[0], i, j)):
                return VISITED, -1
            ends[n, 0, 0], ends[n, 0, 1] = start_x, start_y
            ends[n, 1, 0], ends[n, 1, 1] = x + step * dx, y + step * dy
            pairs[n, 0], pairs[n, 1], names[n], along[n] = i, j, key[0], unit
            tags[n, 0], tags[n, 1] = before, lane
            number[2] = n + 1
        if number[3] == WITHIN and before >= 0:
            touched[before] = True
        number[3], number[5] = ON, 0
        x, y, before = x + step * dx, y + step * dy, lane
        if lane >= 0:
            touched[lane] = True
        if lane < 0 or tied:
            place[0], place[1] = x, y
            if lane == -1:
                return BORDER, -1
            return (LOOK, -1) if tied else (THIRD, -2 - lane)
        flip(p, c, active, share, dirty, lane, key)
