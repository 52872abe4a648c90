"""Partitions on a grid of pixels, for quick looks and for comparison with rasters."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from splinelib.checks import Count, check_memory, checked
from splinelib.errors import SettingError
from splinelib.partition.engine.geometry import OPTIONS
from splinelib.partition.partition import Partition


@checked
def raster(partition: Partition, width: Count, height: Count) -> NDArray[np.int64]:
    """The region under each pixel's centre, ``[height, width]``, -1 outside the slice.

    The pixels cover the polygon's bounding box; row 0 is at the bottom (``imshow`` with ``origin="lower"``).

    >>> from splinelib.partition import Slice2D, compute_partition
    >>> picture = raster(compute_partition(nn.ReLU(), Slice2D.axis_aligned()), 4, 4)
    >>> sorted(set(picture.flatten().tolist()))
    [0, 1, 2, 3]
    """
    check_memory(f"an image of {width} x {height} pixels", 8 * width * height)
    low, high = partition.slice.polygon.min(axis=0), partition.slice.polygon.max(axis=0)
    image = np.full((height, width), -1, dtype=np.int64)
    step = (high - low) / (width, height)
    # A centre on an edge is rounded apart by both its regions: within so many pixels either may have it.
    slack = 1e-9 + 8 * np.spacing(np.abs(partition.slice.polygon).max(axis=0)) / step
    _fill(partition.vertices, partition.offsets, *low, *step, *slack, image)
    return image


@checked
def raster_distance(first: Partition, second: Partition, side: Count = 200) -> float:
    """Share of code bits that differ between two partitions of one slice, on a grid of ``side * side`` points.

    Raises:
        SettingError: a partition was computed without ``codes=True``, or slices or layers differ.

    >>> from splinelib.partition import Slice2D, compute_partition
    >>> partition = compute_partition(nn.ReLU(), Slice2D.axis_aligned(), codes=True)
    >>> raster_distance(partition, partition)
    0.0
    """
    if not first.slice.same_as(second.slice):
        raise SettingError(
            "raster_distance: the partitions are those of different slices; compute both on one Slice2D"
        )
    widths = [[layer.units * layer.pieces for layer in partition.layers] for partition in (first, second)]
    if widths[0] != widths[1]:
        raise SettingError(
            f"raster_distance: layers of {widths[0]} and of {widths[1]} bits cannot be compared; give two "
            "partitions of one architecture"
        )
    seen = [raster(partition, side, side).reshape(-1) for partition in (first, second)]
    inside = (seen[0] >= 0) & (seen[1] >= 0)
    codes = [p.code_bits()[image[inside]] for p, image in zip((first, second), seen, strict=True)]
    return float((codes[0] != codes[1]).mean())


@njit(**OPTIONS)
def _fill(vertices, offsets, low_x, low_y, step_x, step_y, slack_x, slack_y, image):  # type: ignore[no-untyped-def]
    """Row by row the interval of pixel centres inside each polygon; the first region keeps what several touch."""
    height, width = image.shape
    for region in range(len(offsets) - 1):
        begin, end = offsets[region], offsets[region + 1]
        bottom, top = vertices[begin, 1], vertices[begin, 1]
        for k in range(begin + 1, end):
            bottom, top = min(bottom, vertices[k, 1]), max(top, vertices[k, 1])
        first = max(0, int(np.ceil((bottom - low_y) / step_y - 0.5 - slack_y)))
        last = min(height - 1, int(np.floor((top - low_y) / step_y - 0.5 + slack_y)))
        for row in range(first, last + 1):
            y = min(max(low_y + (row + 0.5) * step_y, bottom), top)
            left, right = np.inf, -np.inf
            for k in range(begin, end):
                j = k + 1 if k + 1 < end else begin
                y0, y1 = vertices[k, 1], vertices[j, 1]
                if min(y0, y1) > y or max(y0, y1) < y:
                    continue
                x0, x1 = vertices[k, 0], vertices[j, 0]
                if y0 == y1:
                    left, right = min(left, min(x0, x1)), max(right, max(x0, x1))
                else:
                    x = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
                    left, right = min(left, x), max(right, x)
            if left > right:
                continue
            from_column = max(0, int(np.ceil((left - low_x) / step_x - 0.5 - slack_x)))
            to_column = min(width - 1, int(np.floor((right - low_x) / step_x - 0.5 + slack_x)))
            for column in range(from_column, to_column + 1):
                if image[row, column] < 0:
                    image[row, column] = region
