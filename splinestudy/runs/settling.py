"""Watching a partition settle: several canvases at once, and the weights averaged over epochs beside the live ones."""

import math
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from splinelib.early_bird.canvas import noise_canvas, two_image_canvas
from splinelib.early_bird.codes import distances_to_final, settled_share
from splinelib.early_bird.detectors import SplineEarlyBird
from splinelib.pruning.least_squares import reestimate_norms
from splinestudy.data import Dataset, normalize, subset
from splinestudy.runs.runs import Canvas, SettlingRun, calibration, canvas_pair
from splinestudy.training.loop import evaluate

AVERAGING = 0.75
"""Weight that the average so far keeps at each epoch."""


def image_canvas(data: Dataset, count: int, seed: int) -> Tensor:
    """A batch of real test images, normalised: float32 [count, C, H, W] on the device of ``data.test``.

    The images are drawn with ``seed``, the classes as balanced as ``count`` allows (:func:`splinestudy.data.subset`),
    so a smaller canvas of one seed is part of every larger one. Unlike the two-image grid, this canvas lies where
    the data lie. Raises :class:`SettingError` if ``count`` is below 1 or above the number of test images.
    """
    return normalize(subset(data.test, count, seed).images, data)


def make_canvas(canvas: Canvas, data: Dataset, seed: int) -> Tensor:
    """The inputs [points, C, H, W] that ``canvas`` describes, for a run of that seed."""
    own = seed + 1000 * canvas.draw
    if canvas.inputs == "images":
        return image_canvas(data, canvas.points, own)
    if canvas.inputs == "noise":
        return noise_canvas(image_canvas(data, min(1000, len(data.test)), seed), canvas.points, own)
    pair = torch.tensor(canvas_pair(data, own), device=data.test.images.device)
    first, second = normalize(data.test.images[pair], data)
    return two_image_canvas(first, second, math.isqrt(canvas.points))


class SettlingWatch:
    """Training callback: a detector for each canvas, and one for the averaged weights on the first canvas.

    The average is exponential over epochs (:data:`AVERAGING`); its batch norms are re-estimated on the calibration
    images, since averaged statistics fit no single network.
    """

    def __init__(self, run: SettlingRun, data: Dataset) -> None:
        seed = run.training.seed
        self.canvases = run.canvases
        self.live = [SplineEarlyBird(make_canvas(canvas, data, seed)) for canvas in run.canvases]
        self.averaged = SplineEarlyBird(self.live[0].canvas)
        self.seconds = [0.0 for _ in run.canvases]
        self._average: AveragedModel | None = None
        self._saved: dict[str, Any] | None = None
        self._data = data
        self._images = calibration(data, seed).images

    def after_epoch(self, model: nn.Module, epoch: int) -> dict[str, Any]:
        """Ask every detector; measures the test accuracy of the averaged weights."""
        for place, detector in enumerate(self.live):
            started = time.monotonic()
            detector.update(model)
            self.seconds[place] += time.monotonic() - started
        average = self._averaged_with(model)
        self.averaged.update(average)
        return {"averaged_accuracy": evaluate(average, self._data)}

    def _averaged_with(self, model: nn.Module) -> nn.Module:
        """The averaged network once the weights of ``model`` have joined it."""
        if self._average is None:
            self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGING))
            if self._saved is not None:
                self._average.load_state_dict(self._saved)
        self._average.update_parameters(model)
        return reestimate_norms(self._average.module, self._images)

    def state_dict(self) -> dict[str, Any]:
        """Detectors, the average and the clocks."""
        return {
            "live": [detector.state_dict() for detector in self.live],
            "averaged": self.averaged.state_dict(),
            "seconds": list(self.seconds),
            "average": None if self._average is None else self._average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state over; the average becomes a network at the next epoch."""
        for detector, saved in zip(self.live, state["live"], strict=True):
            detector.load_state_dict(saved)
        self.averaged.load_state_dict(state["averaged"])
        self.seconds = list(state["seconds"])
        self._saved, self._average = state["average"], None

    def results(self) -> dict[str, Any]:
        """What every canvas showed, and the averaged weights on the first, as JSON values."""
        watched = [
            {"inputs": c.inputs, "points": c.points, "draw": c.draw, "seconds": seconds, **_shown(detector)}
            for c, detector, seconds in zip(self.canvases, self.live, self.seconds, strict=True)
        ]
        return {"watched": watched, "averaged": _shown(self.averaged)}


def _shown(detector: SplineEarlyBird) -> dict[str, Any]:
    """The drawn epoch; the matrix of distances; and by layer: distance to the end, share that never changes again."""
    return {
        "epoch": detector.epoch,
        "distances": detector.distances.round(6).tolist(),
        "to_final": distances_to_final(detector.codes).round(6).tolist(),
        "settled": settled_share(detector.codes).round(6).tolist(),
    }
