"""Which region a point of the slice lies in."""

import numpy as np
from numba import njit

from splinelib.partition.engine.geometry import OPTIONS
from splinelib.partition.engine.layout import Floats, Ints
from splinelib.partition.engine.points import spacing

# Points farther outside of every region than this share of the slice's extent lie outside the slice. Neighbouring
# regions share their corners up to rounding (about 1e-15), so no point inside falls between them.
_OUTSIDE = 1e-12


def locate(vertices: Floats, offsets: Ints, points: Floats) -> Ints:
    """The region of each point ``[N, 2]``, -1 outside; on a shared edge the one that comes first of equals.

    Regions are ``vertices[offsets[r] : offsets[r + 1]]``, convex and counter-clockwise. They are sorted into the boxes
    of a grid with about as many boxes as regions, so a call costs time in proportion to regions plus points.
    """
    low = vertices.min(axis=0)
    extent = np.maximum(np.ptp(vertices, axis=0), np.finfo(float).tiny)
    boxes = max(1, int(np.sqrt(len(offsets) - 1)))
    step = extent / boxes
    count = np.zeros(boxes * boxes + 1, dtype=np.int64)
    _sort_in(vertices, offsets, low, step, boxes, count, np.zeros(0, dtype=np.int64))
    start = np.concatenate([[0], np.cumsum(count[:-1])])
    members = np.empty(start[-1], dtype=np.int64)
    _sort_in(vertices, offsets, low, step, boxes, start[:-1].copy(), members)
    found = np.full(len(points), -1, dtype=np.int64)
    _find(
        vertices, offsets, low, step, boxes, start, members, np.ascontiguousarray(points),
        max(_OUTSIDE * float(extent.max()), spacing(vertices)), found,
    )  # fmt: skip
    return found


@njit(**OPTIONS)
def _box(value, low, step, boxes):  # type: ignore[no-untyped-def]
    return min(max(int(np.floor((value - low) / step)), 0), boxes - 1)


@njit(**OPTIONS)
def _sort_in(vertices, offsets, low, step, boxes, count, members):  # type: ignore[no-untyped-def]
    """Count the regions whose bounding box meets each box of the grid, or (given room) note them there."""
    for region in range(len(offsets) - 1):
        begin, end = offsets[region], offsets[region + 1]
        left = right = vertices[begin, 0]
        bottom = top = vertices[begin, 1]
        for k in range(begin + 1, end):
            left, right = min(left, vertices[k, 0]), max(right, vertices[k, 0])
            bottom, top = min(bottom, vertices[k, 1]), max(top, vertices[k, 1])
        for row in range(_box(bottom, low[1], step[1], boxes), _box(top, low[1], step[1], boxes) + 1):
            for column in range(_box(left, low[0], step[0], boxes), _box(right, low[0], step[0], boxes) + 1):
                box = row * boxes + column
                if len(members) > 0:
                    members[count[box]] = region
                count[box] += 1


@njit(**OPTIONS)
def _find(vertices, offsets, low, step, boxes, start, members, points, outside, found):  # type: ignore[no-untyped-def]
    """For each point the candidate in whose polygon it lies deepest."""
    for n in range(len(points)):
        x, y = points[n, 0], points[n, 1]
        box = _box(y, low[1], step[1], boxes) * boxes + _box(x, low[0], step[0], boxes)
        best = -outside
        for place in range(start[box], start[box + 1]):
            region = members[place]
            begin, end = offsets[region], offsets[region + 1]
            depth = np.inf
            for k in range(begin, end):
                j = k + 1 if k + 1 < end else begin
                ex, ey = vertices[j, 0] - vertices[k, 0], vertices[j, 1] - vertices[k, 1]
                side = ex * (y - vertices[k, 1]) - ey * (x - vertices[k, 0])
                depth = min(depth, side / np.sqrt(ex * ex + ey * ey))
                if depth <= best:
                    break
            if depth > best:
                best, found[n] = depth, region
