"""Compiled geometry of convex polygons: which values affine functions take on one, and cutting one."""

from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from splinelib.partition.engine.pointers import part
from splinelib.partition.engine.stale import cache_folder

# Numbers are finite by construction (weights and slices are checked), and signed zeros do not matter.
OPTIONS: dict[str, Any] = {
    "_nrt": False,
    "cache": cache_folder(Path(__file__).parent) is not None,
    "nogil": True,
    "fastmath": {"contract", "nnan", "nsz"},
    "error_model": "numpy",
}
# For what only compiled code calls: nothing for Python is compiled or kept. Each is compiled for each set of types that
# it is called with, so lanes are int64 and flags are computed, not literal.
INNER: dict[str, Any] = OPTIONS | {"cache": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


@njit(**INNER)
def add_row(c, weights, fa, fb, fc):  # type: ignore[no-untyped-def]
    """Add an affine function, times each weight, to the functions of a cell, whose numbers begin at ``c``."""
    n = len(weights)
    ta, tb, tc = part(c, 0, n), part(c, n, n), part(c, 2 * n, n)
    for i in range(n):
        ta[i] += weights[i] * fa
    for i in range(n):
        tb[i] += weights[i] * fb
    for i in range(n):
        tc[i] += weights[i] * fc


@njit(**INNER)
def copy(source, target):  # type: ignore[no-untyped-def]
    """Copy numbers from one place to another of the same length."""
    for i in range(len(source)):
        target[i] = source[i]


@njit(**INNER)
def largest(values):  # type: ignore[no-untyped-def]
    """The largest of numbers that are not negative: their bits rank alike, and integers are compared in vectors."""
    bits = values.view(np.int64)
    most = bits[0]
    for i in range(len(bits)):
        most = max(most, bits[i])
    found = np.int64(most)
    return found.view(np.float64)


@njit(**INNER)
def extents(a, b, c, x, y, low, high):  # type: ignore[no-untyped-def]
    """Write the least and the largest value of each ``a x + b y + c`` over the corners into ``low`` and ``high``."""
    n = len(a)
    x0, y0, x1, y1, x2, y2 = x[0], y[0], x[1], y[1], x[2], y[2]
    for i in range(n):
        v0 = a[i] * x0 + b[i] * y0 + c[i]
        v1 = a[i] * x1 + b[i] * y1 + c[i]
        v2 = a[i] * x2 + b[i] * y2 + c[i]
        low[i] = min(min(v0, v1), v2)
        high[i] = max(max(v0, v1), v2)
    k = 3
    while k + 1 < len(x):
        x0, y0, x1, y1 = x[k], y[k], x[k + 1], y[k + 1]
        for i in range(n):
            v0 = a[i] * x0 + b[i] * y0 + c[i]
            v1 = a[i] * x1 + b[i] * y1 + c[i]
            low[i] = min(low[i], min(v0, v1))
            high[i] = max(high[i], max(v0, v1))
        k += 2
    if k < len(x):
        x0, y0 = x[k], y[k]
        for i in range(n):
            v0 = a[i] * x0 + b[i] * y0 + c[i]
            low[i] = min(low[i], v0)
            high[i] = max(high[i], v0)


@njit(**INNER)
def clip(x, y, lane, other, a, b, c, tolerance, new_lane, new_other, out_x, out_y, out_lane, out_other):  # type: ignore[no-untyped-def]
    """Write the part with ``a x + b y + c >= 0`` and return its number of corners (0 if it has no area).

    ``lane[i]`` names the edge from corner i to the next. A corner within ``tolerance`` of the line counts as on it:
    both sides then keep that very corner, so no sliver appears beside it.
    """
    n = len(x)
    m = 0
    inside = 0
    s = a * x[0] + b * y[0] + c
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        r = a * x[j] + b * y[j] + c
        if s >= -tolerance:
            out_x[m] = x[i]
            out_y[m] = y[i]
            leaves = s <= tolerance and r < -tolerance
            out_lane[m] = new_lane if leaves else lane[i]
            out_other[m] = new_other if leaves else other[i]
            m += 1
            if s > tolerance:
                inside += 1
        if (s > tolerance and r < -tolerance) or (s < -tolerance and r > tolerance):
            t = s / (s - r)
            out_x[m] = x[i] + t * (x[j] - x[i])
            out_y[m] = y[i] + t * (y[j] - y[i])
            out_lane[m] = new_lane if s > 0 else lane[i]
            out_other[m] = new_other if s > 0 else other[i]
            m += 1
        s = r
    return m if inside > 0 and m >= 3 else 0


@njit(**INNER)
def polygon_area(x, y):  # type: ignore[no-untyped-def]
    """Area of a counter-clockwise polygon, summed relative to its first corner to keep small areas exact."""
    total = 0.0
    for i in range(1, len(x) - 1):
        ax, ay = x[i] - x[0], y[i] - y[0]
        bx, by = x[i + 1] - x[0], y[i + 1] - y[0]
        total += ax * by - ay * bx
    return 0.5 * total


@njit(**INNER)
def winner_at(a, b, c, n, x, y):  # type: ignore[no-untyped-def]
    """Index of the largest of n functions ``a x + b y + c`` at one point, the first among equals."""
    best, index = a[0] * x + b[0] * y + c[0], 0
    for i in range(1, n):
        v = a[i] * x + b[i] * y + c[i]
        if v > best:
            best, index = v, i
    return index


@njit(**INNER)
def difference_extent(a, b, c, i, j, x, y):  # type: ignore[no-untyped-def]
    """Least and largest value of function i minus function j over the corners."""
    da, db, dc = a[i] - a[j], b[i] - b[j], c[i] - c[j]
    low, high = np.inf, -np.inf
    for k in range(len(x)):
        v = da * x[k] + db * y[k] + dc
        low, high = min(low, v), max(high, v)
    return low, high


@njit(**INNER)
def magnitude(a, b, c, i, j):  # type: ignore[no-untyped-def]
    """Scale of the difference of two functions within [-1, 1]²."""
    return abs(a[i]) + abs(b[i]) + abs(c[i]) + abs(a[j]) + abs(b[j]) + abs(c[j])


@njit(**INNER)
def winner_on(a, b, c, error, relative, x, y):  # type: ignore[no-untyped-def]
    """The function that is largest on all of the polygon (the first of those that coincide there), or -1.

    Also whether the answer hangs on the size of the errors, which are bounds for each of the functions.
    """
    mid_x = mid_y = 0.0
    for k in range(len(x)):
        mid_x += x[k]
        mid_y += y[k]
    best = winner_at(a, b, c, len(error), mid_x / len(x), mid_y / len(x))
    first = best
    doubtful = False
    for j in range(len(error)):
        if j == best:
            continue
        low, high = difference_extent(a, b, c, best, j, x, y)
        tolerance = relative * magnitude(a, b, c, best, j) + error[best] + error[j]
        if low < -tolerance:
            return -1, False
        doubtful = doubtful or low <= tolerance and (low < 0.0 or high > 0.0)
        if high <= tolerance and j < first:
            first = j
    return first, doubtful


@njit(**INNER)
def clip_to_winner(a, b, c, i, error, relative, first_lane, x, y, lane, other, sx, sy, sl, so):  # type: ignore[no-untyped-def]
    """Cut the polygon down to where function i is the largest; returns (row of the scratch, number of corners).

    ``sx, sy`` (``sl, so``) are two rows of scratch each. Where functions coincide the first one wins. New edges carry
    the lanes ``first_lane + i`` and ``first_lane + j``.
    """
    m = len(x)
    now = 0
    for k in range(m):
        sx[0, k], sy[0, k], sl[0, k], so[0, k] = x[k], y[k], lane[k], other[k]
    for j in range(len(a)):
        if j == i:
            continue
        low, high = difference_extent(a, b, c, i, j, sx[now, :m], sy[now, :m])
        tolerance = relative * magnitude(a, b, c, i, j) + error[i] + error[j]
        if high <= tolerance and (low < -tolerance or j < i):
            return now, 0
        if low >= -tolerance:
            continue
        then = 1 - now
        m = clip(
            sx[now, :m], sy[now, :m], sl[now, :m], so[now, :m],
            a[i] - a[j], b[i] - b[j], c[i] - c[j], tolerance, first_lane + i, first_lane + j,
            sx[then], sy[then], sl[then], so[then],
        )  # fmt: skip
        if m == 0:
            return then, 0
        now = then
    return now, m
