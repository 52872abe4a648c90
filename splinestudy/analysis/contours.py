"""What contours of a raster show of a partition, as the paper's released code draws it."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor, nn

from splinelib.hooks import evaluating, tapped
from splinelib.partition.engine.layout import Floats, Ints
from splinelib.partition.measures import boundary_length
from splinelib.partition.partition import Partition
from splinelib.partition.raster import raster
from splinelib.partition.slices import Slice2D


@dataclass(frozen=True, eq=False)
class Contours:
    """Zero level sets read off ``side``² points: ``segments [S, 2, 2]`` in the slice's coordinates, ``unit [S]``."""

    segments: Floats
    unit: Ints
    side: int


def raster_contours(model: nn.Module, where: Slice2D, side: int = 100) -> Contours:
    """Zero level sets of every unit's pre-activation, interpolated on ``side``² points over the slice's bounding box.

    Units are numbered as in a partition of a network without max pooling. The model is not changed.
    """
    low, high = where.polygon.min(axis=0), where.polygon.max(axis=0)
    x, y = (np.linspace(low[i], high[i], side) for i in (0, 1))
    rows = []
    with evaluating(model):
        for line in np.stack(np.meshgrid(x, y), axis=-1):
            found: list[Floats] = []
            with tapped(partial(_keep, found)):
                model(where.at(line).to(next(model.parameters()).dtype))
            rows.append(np.concatenate(found, axis=1))
    values = np.stack(rows)
    positive = values > 0
    mixed = np.flatnonzero(positive.any(axis=(0, 1)) & ~positive.all(axis=(0, 1)))
    parts = [marching_squares(values[:, :, unit], x, y) for unit in mixed]
    unit = np.repeat(mixed, [len(part) for part in parts])
    return Contours(np.concatenate([np.zeros((0, 2, 2)), *parts]), unit, side)


def _keep(found: list[Floats], index: int, values: Tensor) -> None:
    found.append(values.double().flatten(1).numpy())


def marching_squares(values: Floats, x: Floats, y: Floats) -> Floats:
    """The zero level set ``[S, 2, 2]`` of values ``[H, W]`` at ``x [W]``, ``y [H]``, by marching squares.

    A box's sides are crossed where the linear interpolation between its corners is zero. Where all four sides are
    crossed, the lower is joined with the left one and the right with the upper one.
    """
    positive = values > 0
    level, upright = positive[:, 1:] != positive[:, :-1], positive[1:] != positive[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        along = np.where(level, values[:, :-1] / (values[:, :-1] - values[:, 1:]), 0.0)
        up = np.where(upright, values[:-1] / (values[:-1] - values[1:]), 0.0)
    on_level = np.stack([x[:-1] + along * np.diff(x), np.broadcast_to(y[:, None], along.shape)], axis=-1)
    on_upright = np.stack([np.broadcast_to(x, up.shape), y[:-1, None] + up * np.diff(y)[:, None]], axis=-1)
    # Sides in the order lower, left, right, upper.
    crossed = np.stack([level[:-1], upright[:, :-1], upright[:, 1:], level[1:]], axis=-1)
    points = np.stack([on_level[:-1], on_upright[:, :-1], on_upright[:, 1:], on_level[1:]], axis=-2)
    chosen = crossed.any(axis=-1)
    crossed, points = crossed[chosen], points[chosen]
    twice = crossed.all(axis=-1)
    first = np.argsort(~crossed, axis=1, kind="stable")[:, :2]
    once = np.take_along_axis(points, first[:, :, None], axis=1)
    return np.concatenate([once, points[twice, 2:]])


def missed(partition: Partition, contours: Contours) -> dict[str, float]:
    """What the raster does not show, in numbers.

    ``units`` and ``units seen``: boundaries that cross the slice, and those with a contour; ``length`` and
    ``length seen``; ``regions`` and ``regions seen`` (those that hold the centre of one of the raster's pixels).
    """
    exact = boundary_length(partition)
    drawn = np.linalg.norm(contours.segments[:, 1] - contours.segments[:, 0], axis=1)
    image = raster(partition, contours.side, contours.side)
    return {
        "units": int((exact > 0).sum()),
        "units seen": len(np.unique(contours.unit)),
        "length": float(exact.sum()),
        "length seen": float(drawn.sum()),
        "regions": len(partition),
        "regions seen": len(np.unique(image[image >= 0])),
    }
