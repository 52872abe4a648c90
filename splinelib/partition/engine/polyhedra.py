"""Compiled geometry of convex polyhedra: cutting one by a plane, volume and areas of faces.

A polyhedron is its corners ``[n, 3]`` and its faces, each a ring of corners, counter-clockwise seen from outside:
face f has ``ring[start[f] : start[f + 1]]`` and the lane ``lane[f]`` of the unit it lies on.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from splinelib.partition.engine.geometry import OPTIONS
from splinelib.partition.engine.layout import Floats, Ints

# These functions make arrays, so they need numba's runtime.
MAKES: dict[str, Any] = OPTIONS | {"_nrt": True}


class Polyhedron(NamedTuple):
    """See the module."""

    corners: Floats
    ring: Ints
    start: Ints
    lane: Ints


def box(low: Floats, high: Floats) -> Polyhedron:
    """The box between two corners, its faces on lane -1."""
    corners = np.array([[(low, high)[b >> axis & 1][axis] for axis in range(3)] for b in range(8)])
    rings = [[0, 4, 6, 2], [1, 3, 7, 5], [0, 1, 5, 4], [2, 6, 7, 3], [0, 2, 3, 1], [4, 5, 7, 6]]
    return Polyhedron(corners, np.array(rings).reshape(-1), np.arange(7) * 4, np.full(6, -1))


@njit(**MAKES)
def half(corners, ring, start, lane, value, tolerance, new):  # type: ignore[no-untyped-def]
    """The part where an affine function, ``value`` at the corners, is not negative; its new face is on lane ``new``.

    Corners within ``tolerance`` of the plane are on it, so that both parts have the same ones.
    """
    n, faces = len(corners), len(lane)
    side = np.zeros(n, np.int8)
    for i in range(n):
        side[i] = 1 if value[i] > tolerance else (-1 if value[i] < -tolerance else 0)
    # Each edge has two faces and is cut in one point, which both must share.
    most = n + len(ring)
    points, name = np.empty((most, 3)), np.full(n, -1, np.int64)
    count = 0
    for i in range(n):
        if side[i] >= 0:
            points[count] = corners[i]
            name[i] = count
            count += 1
    cut_from, cut_to, cuts, first_cut = np.empty(len(ring), np.int64), np.empty(len(ring), np.int64), 0, count
    out_ring, out_start, out_lane = (
        np.empty(2 * len(ring) + most, np.int64), np.zeros(faces + 2, np.int64), np.empty(faces + 1, np.int64),
    )  # fmt: skip
    follows = np.full(most, -1, np.int64)
    at = kept = 0
    for f in range(faces):
        begin, inside, leaves, enters = at, False, -1, -1
        for k in range(start[f], start[f + 1]):
            i, j = ring[k], ring[k + 1 if k + 1 < start[f + 1] else start[f]]
            inside = inside or side[i] > 0
            if side[i] >= 0:
                out_ring[at] = name[i]
                at += 1
            if side[i] * side[j] < 0:
                low, high = min(i, j), max(i, j)
                found = -1
                for c in range(cuts):
                    if cut_from[c] == low and cut_to[c] == high:
                        found = first_cut + c
                if found < 0:
                    share = value[low] / (value[low] - value[high])
                    points[count] = corners[low] + share * (corners[high] - corners[low])
                    cut_from[cuts], cut_to[cuts] = low, high
                    found, cuts, count = count, cuts + 1, count + 1
                out_ring[at] = found
                at += 1
                leaves, enters = (found, enters) if side[i] > 0 else (leaves, found)
            elif side[i] > 0 and side[j] == 0:
                leaves = name[j]
            elif side[i] == 0 and side[j] > 0:
                enters = name[i]
        if not inside:
            at = begin
            continue
        # The new face runs along this one from where the ring enters to where it leaves, seen from outside.
        if leaves >= 0 and enters >= 0 and leaves != enters:
            follows[enters] = leaves
        out_lane[kept] = lane[f]
        kept += 1
        out_start[kept] = at
    first = -1
    for i in range(count):
        if follows[i] >= 0:
            first = i
            break
    if first >= 0:
        i, begin = first, at
        while i >= 0 and at - begin < count:
            out_ring[at] = i
            at += 1
            i = follows[i]
            if i == first:
                break
        out_lane[kept] = new
        kept += 1
        out_start[kept] = at
    return points[:count].copy(), out_ring[:at].copy(), out_start[: kept + 1].copy(), out_lane[:kept].copy()


@njit(**MAKES)
def measure(corners, ring, start):  # type: ignore[no-untyped-def]
    """Volume, and the area of each face."""
    faces = len(start) - 1
    areas, volume, middle = np.empty(faces), 0.0, corners[ring[0]]
    for f in range(faces):
        a = corners[ring[start[f]]]
        x = y = z = 0.0
        for k in range(start[f] + 1, start[f + 1] - 1):
            u, v = corners[ring[k]] - a, corners[ring[k + 1]] - a
            x += u[1] * v[2] - u[2] * v[1]
            y += u[2] * v[0] - u[0] * v[2]
            z += u[0] * v[1] - u[1] * v[0]
        areas[f] = np.sqrt(x * x + y * y + z * z) / 2
        volume += ((a[0] - middle[0]) * x + (a[1] - middle[1]) * y + (a[2] - middle[2]) * z) / 6
    return volume, areas


def packed(parts: list[Any], dtype: Any) -> tuple[NDArray[Any], Ints]:
    """Arrays one after the other, and where each begins."""
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    return (np.concatenate(parts) if parts else np.zeros(0)).astype(dtype), starts
