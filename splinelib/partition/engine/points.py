"""Points as they are given, and those that are the same up to rounding."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from splinelib.checks import check_finite, shown
from splinelib.errors import SettingError
from splinelib.partition.engine.layout import Floats, Ints


def as_numbers(name: str, values: Any, *shape: int) -> Floats:
    """``values`` as finite float64 of a shape, -1 for any length; others raise :class:`SettingError`."""
    try:
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except Exception as error:  # ragged lists, and whatever else says that it is an array
        raise SettingError(f"{name} is {shown(values)}: give numbers ({error})") from error
    _check_rows(name, array)
    if shape[0] < 0 and array.ndim == len(shape) - 1:
        array = array[None]  # one point is a list of one
    if array.ndim != len(shape) or any(w not in (-1, n) for w, n in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("n" if size < 0 else str(size) for size in shape)
        raise SettingError(f"{name} has shape {array.shape}: give numbers of shape [{wanted}]")
    return array.astype(np.float64)


def _check_rows(name: str, array: NDArray[Any]) -> None:
    """Raise :class:`SettingError` that names the first row with a value that is not finite."""
    if array.ndim == 2 and array.dtype.kind == "f" and not (sound := np.isfinite(array).all(axis=1)).all():
        row = int(sound.argmin())
        raise SettingError(f"{name.removesuffix('s')} {row} is {array[row].tolist()}: give finite {name}")
    check_finite(name, array)


def spacing(points: Floats) -> float:
    """A few times the distance of neighbouring floating-point numbers of the points' size."""
    return 8.0 * float(np.spacing(np.abs(points).max(initial=0.0)))


def merge_points(points: Floats, tolerance: float = 1e-10) -> Ints:
    """Number the points ``[N, 2]`` so that those that coincide share a number.

    Args:
        tolerance: as a share of the points' extent; far above the rounding of intersections (about 1e-15), far below
            the distance of different vertices that a figure could show.
    """
    extent = float(np.ptp(points, axis=0).max()) if len(points) else 0.0
    step = max(2 * tolerance * extent, spacing(points)) if extent > 0 else 1.0
    low = points.min(axis=0) if len(points) else np.zeros(2)
    label: NDArray[np.int64] = np.arange(len(points))
    # Two points closer than half a step share a box in at least one of four shifted grids.
    grids = []
    for shift_x in (0.0, 0.5):
        for shift_y in (0.0, 0.5):
            boxes = np.floor((points - low) / step + (shift_x, shift_y)).astype(np.uint64)
            mixed = boxes[:, 0] * np.uint64(0x9E3779B97F4A7C15) + boxes[:, 1] * np.uint64(0xC2B2AE3D27D4EB4F)
            grids.append(np.unique(mixed, return_inverse=True)[1])
    while True:
        before = label.copy()
        for group in grids:
            least = np.full(group.max(initial=-1) + 1, len(points))
            np.minimum.at(least, group, label)
            label = least[group]
        if np.array_equal(before, label):
            return np.unique(label, return_inverse=True)[1]
