"""The program's coordinates, in which a slice's polygon lies within [-1, 1]², and which polygons fit them."""

import numpy as np

from splinelib.errors import SettingError
from splinelib.partition.engine.layout import Floats
from splinelib.partition.slices import Plane

# Corners are rounded as a share of the polygon's length, and what lies closer together is one point from 1e-10 of it on
# (see topology.py): at this ratio of length and width still far below the distances across.
_LONGEST = 1e5


def check_ratio(polygon: Floats) -> None:
    """Raise SettingError for a polygon that is so long and thin that rounding along it counts across it."""
    corners = (polygon - polygon[0]) / np.ptp(polygon, axis=0).max()
    extent, (x, y) = np.ptp(corners, axis=0), corners.T
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    # Of a rectangle that is the ratio, of a triangle twice that.
    ratio = float(extent @ extent) / max(area, np.finfo(float).tiny)
    if not ratio <= _LONGEST:
        raise SettingError(
            f"the slice's polygon is about {ratio:.1g} times as long as wide, more than {_LONGEST:g}; give a "
            "shorter one, or directions (first, second) of such lengths along and across it that in their coordinates "
            "it is about as long as wide"
        )


def frame(where: Plane) -> tuple[Floats, float]:
    """Centre and half the extent of the polygon."""
    low, high = where.polygon.min(axis=0), where.polygon.max(axis=0)
    return (low + high) / 2, float((high - low).max() / 2)
