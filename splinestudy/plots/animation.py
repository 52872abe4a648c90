"""Animations that stand still until the reader starts them: an animated PNG inside a closed HTML ``<details>``."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from splinelib.errors import SettingError
from splinestudy.analysis.evolution import Evolution
from splinestudy.plots.partition import draw_frame

Pixels = NDArray[np.uint8]

_COLOURS = 64  # that all frames share, which keeps the file small


def pixels(figure: Figure) -> Pixels:
    """The figure as an image ``[H, W, 3]``."""
    figure.set_dpi(80)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def evolution_frames(found: Evolution, size: tuple[float, float] = (9.0, 3.4)) -> list[Pixels]:
    """One image for each epoch: the partition, and the curves as far as they have come."""
    frames = []
    for number in range(len(found.epochs)):
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        draw_frame(figure.subplots(1, 3, width_ratios=(1.15, 1, 1)), found, number)
        frames.append(pixels(figure))
    return frames


def animated_png(frames: Sequence[Pixels], seconds: float = 0.8) -> bytes:
    """An endless animated PNG; the last frame stays three times as long.

    Args:
        frames: images ``[H, W, 3]`` of one size.
        seconds: time for each.

    Raises:
        SettingError: no frames, or frames of different sizes.
    """
    if len({frame.shape for frame in frames}) != 1:
        raise SettingError(
            f"animation: {len(frames)} frames of shapes {sorted({f.shape for f in frames})}; give one"
        )
    sheet = Image.fromarray(np.concatenate(frames)).quantize(_COLOURS, dither=Image.Dither.NONE)
    images = [Image.fromarray(f).quantize(palette=sheet, dither=Image.Dither.NONE) for f in frames]
    times = [int(1000 * seconds)] * (len(frames) - 1) + [int(3000 * seconds)]
    options: dict[str, Any] = {"save_all": True, "append_images": images[1:], "duration": times, "loop": 0}
    file = BytesIO()
    images[0].save(file, "png", **options)
    return file.getvalue()


def player(frames: Sequence[Pixels], title: str, alt: str, seconds: float = 0.8) -> str:
    """HTML that shows nothing but ``title`` until it is opened, and then plays the frames; closing it stops.

    Needs no script and loads nothing. ``alt`` says in words what is to be seen.
    """
    data = base64.b64encode(animated_png(frames, seconds)).decode()
    style = "max-width:100%;background:#fff"
    return (
        f"<details><summary>▶ {escape(title)} ({len(frames)} pictures; open to play, close to stop)</summary>"
        f'<img alt="{escape(alt)}" style="{style}" src="data:image/png;base64,{data}"></details>'
    )
