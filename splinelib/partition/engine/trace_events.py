"""Compiled: what ends a segment of decision boundary within a region, and what lies along it."""

import numpy as np
from numba import njit

from splinelib.partition.engine.geometry import INNER
from splinelib.partition.engine.layout import LINEAR, MAX
from splinelib.partition.engine.rounding import RELATIVE


@njit(**INNER)
def _functions(p, c, cell):  # type: ignore[no-untyped-def]
    """A cell's first lane, how many it has, and their functions."""
    start, width = p.cell_address[cell], p.cell_width[cell]
    return p.cell_lane[cell], width, c[start:], c[start + width :], c[start + 2 * width :]


@njit(**INNER)
def _winner(active, first):  # type: ignore[no-untyped-def]
    """The piece of a max unit that is active."""
    w = 0
    while not active[first + w]:
        w += 1
    return w


@njit(**INNER)
def next_change(p, c, active, noise, x, y, dx, dy):  # type: ignore[no-untyped-def]
    """The first unit that changes on the way from (x, y): (distance, lane), or (infinity, -1).

    The distance is -1 where an earlier piece of a max unit coincides with the winner, and should be called the winner,
    and where an active unit is zero throughout, and should be called inactive.
    """
    best, found = np.inf, -1
    for cell in range(len(p.cell_kind)):
        kind = p.cell_kind[cell]
        if kind == LINEAR:
            continue
        first, width, a, b, d = _functions(p, c, cell)
        if kind == MAX:
            w = _winner(active, first)
            for j in range(p.cell_used[cell]):
                ea, eb, ed = a[w] - a[j], b[w] - b[j], d[w] - d[j]
                slope = ea * dx + eb * dy
                scale = abs(a[w]) + abs(b[w]) + abs(d[w]) + abs(a[j]) + abs(b[j]) + abs(d[j])
                tolerance = RELATIVE * scale + noise[first + w] + noise[first + j]
                if j < w and abs(ea) + abs(eb) + abs(ed) <= tolerance:
                    return -1.0, first + j
                if slope < -tolerance:
                    t = max(ea * x + eb * y + ed, 0.0) / -slope
                    if t < best:
                        best, found = t, first + j
            continue
        for i in range(width):
            if active[first + i] and abs(a[i]) + abs(b[i]) + abs(d[i]) <= noise[first + i]:
                return -1.0, first + i
            side = 1.0 if active[first + i] else -1.0
            slope = side * (a[i] * dx + b[i] * dy)
            if slope < 0.0:
                v = side * (a[i] * x + b[i] * y + d[i])
                if v < best * -slope and slope < -(
                    RELATIVE * (abs(a[i]) + abs(b[i]) + abs(d[i])) + noise[first + i]
                ):
                    best, found = max(v, 0.0) / -slope, first + i
    return best, found


@njit(**INNER)
def difference(p, c, i, j):  # type: ignore[no-untyped-def]
    """Output i minus output j as an affine function."""
    u, v, su, sv = p.output_address[i], p.output_address[j], p.output_stride[i], p.output_stride[j]
    return c[u] - c[v], c[u + su] - c[v + sv], c[u + 2 * su] - c[v + 2 * sv]


@njit(**INNER)
def next_event(p, c, active, noise, key, sides, x, y, dx, dy, i, j):  # type: ignore[no-untyped-def]
    """What ends a segment: (distance, lane); lane -1 is the slice's border, -2 - k a point where class k takes over."""
    best, found = next_change(p, c, active, noise, x, y, dx, dy)
    while best < 0.0:
        cell = p.lane_cell[found]
        first = p.cell_lane[cell]
        if p.cell_kind[cell] != MAX:
            active[found] = False
            key[0] ^= p.key[found]
        else:
            for k in range(p.cell_width[cell]):
                if active[first + k] or first + k == found:
                    key[0] ^= p.key[first + k]
                active[first + k] = first + k == found
        best, found = next_change(p, c, active, noise, x, y, dx, dy)
    for k in range(len(sides)):
        slope = sides[k, 0] * dx + sides[k, 1] * dy
        if slope < 0.0:
            t = max(sides[k, 0] * x + sides[k, 1] * y + sides[k, 2], 0.0) / -slope
            if t < best:
                best, found = t, -1
    for k in range(len(p.output_address)):
        if k in (i, j):
            continue
        a, b, d = difference(p, c, i, k)
        slope = a * dx + b * dy
        if slope < -RELATIVE * (abs(a) + abs(b) + abs(d)):
            t = max(a * x + b * y + d, 0.0) / -slope
            if t < best:
                best, found = t, -2 - k
    return best, found


@njit(**INNER)
def _vanishes(a, b, d, tolerance, x, y, dx, dy):  # type: ignore[no-untyped-def]
    """Whether an affine function that is not constant is zero all along the line."""
    if abs(a) + abs(b) <= tolerance:
        return False
    return abs(a * dx + b * dy) <= tolerance and abs(a * x + b * y + d) <= tolerance


@njit(**INNER)
def unit_along(p, c, active, noise, x, y, dx, dy):  # type: ignore[no-untyped-def]
    """A unit whose boundary the line is, or -1."""
    for cell in range(len(p.cell_kind)):
        kind = p.cell_kind[cell]
        if kind == LINEAR:
            continue
        first, width, a, b, d = _functions(p, c, cell)
        if kind == MAX:
            w = _winner(active, first)
            own = abs(a[w]) + abs(b[w]) + abs(d[w])
            for j in range(p.cell_used[cell]):
                tolerance = (
                    RELATIVE * (own + abs(a[j]) + abs(b[j]) + abs(d[j])) + noise[first + w] + noise[first + j]
                )
                if j != w and _vanishes(a[w] - a[j], b[w] - b[j], d[w] - d[j], tolerance, x, y, dx, dy):
                    return first + j
            continue
        for i in range(width):
            tolerance = RELATIVE * (abs(a[i]) + abs(b[i]) + abs(d[i])) + noise[first + i]
            if _vanishes(a[i], b[i], d[i], tolerance, x, y, dx, dy):
                return first + i
    return -1


@njit(**INNER)
def class_along(p, c, x, y, dx, dy, i, j):  # type: ignore[no-untyped-def]
    """Whether a third class ties with the two along the line, and may be the one that counts beside it."""
    for k in range(len(p.output_address)):
        if k in (i, j):
            continue
        for mine in (i, j):
            a, b, d = difference(p, c, mine, k)
            u, s = p.output_address[mine], p.output_stride[mine]
            tolerance = (
                2 * RELATIVE * (abs(c[u]) + abs(c[u + s]) + abs(c[u + 2 * s]) + abs(a) + abs(b) + abs(d))
            )
            if k < mine and abs(a) + abs(b) + abs(d) <= tolerance:
                return True
            if _vanishes(a, b, d, tolerance, x, y, dx, dy):
                return True
    return False
