"""Images and canvases."""

import numpy as np
from matplotlib.axes import Axes

_SIDE = 5
"""Blends along a side of the coarse view of a canvas."""


def image_grid(axes: Axes, images: np.ndarray, columns: int = 10) -> Axes:
    """Images [N, H, W, C] (uint8) side by side in rows of ``columns``."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 2), columns * (width + 2), channels), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + 2), (index % columns) * (width + 2)
        sheet[top : top + height, left : left + width] = image
    axes.imshow(sheet.squeeze(), cmap="gray", interpolation="nearest")
    axes.set_axis_off()
    return axes


def canvas_grid(axes: Axes, first: np.ndarray, second: np.ndarray, mean: tuple[float, ...]) -> Axes:
    """A coarse view of the two-image canvas of two images [C, H, W] (uint8): α upwards, β to the right."""
    centre = 255 * np.array(mean)[:, None, None]
    steps = np.linspace(0, 1, _SIDE)
    blends = [
        centre + alpha * (first - centre) + beta * (second - centre)
        for alpha in steps[::-1]
        for beta in steps
    ]
    image_grid(axes, np.clip(np.stack(blends), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1), columns=_SIDE)
    return axes
