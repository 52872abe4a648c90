"""Watching a partition settle: several canvases at once, and the weights averaged over epochs beside the live ones."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from splinelib.checks import Count, Whole, check_fields
from splinelib.early_bird.canvas import noise_canvas, two_image_canvas
from splinelib.early_bird.detectors import SplineEarlyBird
from splinelib.early_bird.distances import distances_to_final, settled_share
from splinelib.errors import SettingError
from splinelib.pruning.least_squares import reestimate_norms
from splinestudy.data import Dataset, calibration, canvas_pair, normalize, subset
from splinestudy.runs.dense import DenseRun, load_run_data, new_model
from splinestudy.runs.run import Run
from splinestudy.runs.store import RecordStore
from splinestudy.training.loop import evaluate, train

AVERAGING = 0.75
"""Weight that the average so far keeps at each epoch."""


@dataclass(frozen=True)
class Canvas:
    """A canvas that a settling run watches.

    Attributes:
        inputs: ``"pair"`` (the two-image grid), ``"images"`` (test images) or ``"noise"`` (uniform).
        points: how many; for a pair a square number.
        draw: which of several such canvases; draw 0 of the pair is the dense run's own pair.
    """

    inputs: Literal["pair", "images", "noise"]
    points: Count
    draw: Whole = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.inputs == "pair" and math.isqrt(self.points) ** 2 != self.points:
            raise SettingError(f"points is {self.points}: give a square number for a pair")


def image_canvas(data: Dataset, count: int, seed: int) -> Tensor:
    """A batch of real test images, normalised: float32 [count, C, H, W] on the device of ``data.test``.

    The images are drawn with ``seed``, the classes as balanced as ``count`` allows (:func:`splinestudy.data.subset`),
    so a smaller canvas of one seed is part of every larger one. Unlike the two-image grid, this canvas lies where
    the data lie. Raises :class:`SettingError` if ``count`` is below 1 or above the number of test images.
    """
    return normalize(subset(data.test, count, seed).images[:], data)


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

    def __init__(self, canvases: Sequence[Canvas], data: Dataset, seed: int) -> None:
        self.canvases = canvases
        self.live = [SplineEarlyBird(make_canvas(canvas, data, seed)) for canvas in canvases]
        self.averaged = SplineEarlyBird(self.live[0].canvas)
        self.seconds = [0.0 for _ in canvases]
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


@dataclass(frozen=True)
class SettlingRun:
    """Train as a dense run does, and watch its partition on several canvases, also with the weights averaged.

    Attributes:
        training: how the network is made and trained.
        canvases: the first one is watched with averaged weights as well.
    """

    kind: ClassVar[str] = "settling"
    training: DenseRun
    canvases: tuple[Canvas, ...]

    def __post_init__(self) -> None:
        if not self.canvases:
            raise SettingError("canvases are empty: give at least one")

    def needs(self, store: RecordStore) -> Sequence[Run]:
        """Nothing."""
        return ()

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """Train, and watch every canvas."""
        data = load_run_data(self.training, device)
        model = new_model(self.training, data, device)
        watch = SettlingWatch(self.canvases, data, self.training.seed)
        rows = train(
            model,
            data,
            self.training.train,
            seed=self.training.seed,
            callbacks=[watch],
            checkpoint=store.checkpoint_path(self),
            progress=progress,
        )
        return {"epochs": rows, **watch.results()}
