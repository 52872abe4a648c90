"""Points, segments and polygons of the plane, a few at a time."""

import numpy as np
from numpy.typing import NDArray

from splinelib.partition.engine.assemble import Rows
from splinelib.partition.engine.layout import Floats


def near(ends: Floats, point: Floats, reach: float) -> bool:
    """Whether one of the segments ``[n, 2, 2]`` comes within ``reach`` of the point, along both axes."""
    start, step = ends[:, 0], ends[:, 1] - ends[:, 0]
    length = np.maximum((step**2).sum(axis=1), np.finfo(float).tiny)
    share = np.clip(((point - start) * step).sum(axis=1) / length, 0.0, 1.0)
    return bool((np.abs(start + share[:, None] * step - point).max(axis=1) <= reach).any())


def regions_at(rows: Rows, point: Floats, tolerance: float) -> NDArray[np.bool_]:
    """Which regions hold a point, or have it on their border up to the tolerance."""
    first = np.concatenate([[0], np.cumsum(rows.corners[:-1])])
    onward = np.arange(1, len(rows.vertices) + 1)
    onward[first + rows.corners - 1] = first
    edge, off = rows.vertices[onward] - rows.vertices, point - rows.vertices
    length = np.maximum(np.linalg.norm(edge, axis=1), np.finfo(float).tiny)  # corners may coincide
    depth = (edge[:, 0] * off[:, 1] - edge[:, 1] * off[:, 0]) / length
    return np.minimum.reduceat(depth, first) > -tolerance


def half(polygon: Floats, side: Floats) -> Floats:
    """The part of a convex polygon ``[n, 2]`` where ``side @ (x, y, 1) >= 0``."""
    if not len(polygon):
        return polygon
    height = polygon @ side[:2] + side[2]
    kept = []
    for here, there, low, high in zip(
        polygon, np.roll(polygon, -1, axis=0), height, np.roll(height, -1), strict=True
    ):
        if low >= 0:
            kept.append(here)
        if low * high < 0:
            kept.append(here + low / (low - high) * (there - here))
    return np.array(kept).reshape(-1, 2)


def turned(a: Floats, b: Floats, c: Floats) -> NDArray[np.bool_]:
    """Whether c lies on the left of the line from a to b."""
    left = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
        c[..., 0] - a[..., 0]
    )
    return left > 0
