"""Training with an eye on the partition of one slice."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from splinelib.hooks import duplicate
from splinelib.partition.partition import Partition, compute_partition
from splinelib.partition.slices import Slice2D
from splinestudy.analysis.evolution import Evolution, evolution
from splinestudy.data import Dataset, normalize
from splinestudy.data.samples import canvas_pair
from splinestudy.training.loop import train
from splinestudy.training.settings import TrainSettings


@dataclass
class _Recorder:
    """Training callback that keeps the partition after every epoch."""

    slice: Slice2D
    kept: list[Partition] = field(default_factory=list)

    def look(self, model: nn.Module) -> None:
        frozen = duplicate(model).eval()
        self.kept.append(compute_partition(frozen, self.slice, codes=True, boundary=True, threads=1))

    def after_epoch(self, model: nn.Module, epoch: int) -> dict[str, Any]:
        self.look(model)
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def canvas_of(data: Dataset, seed: int) -> Slice2D:
    """The two-image canvas of two test images of different classes, drawn with ``seed`` as for early-bird detection."""
    first, second = normalize(data.test.images[torch.tensor(canvas_pair(data, seed))], data)
    return Slice2D.canvas(first, second)


def train_watched(
    model: nn.Module, data: Dataset, settings: TrainSettings, where: Slice2D, seed: int
) -> tuple[Evolution, list[dict[str, Any]]]:
    """Train ``model`` in place and keep its partition of ``where`` before training and after every epoch.

    Returns the evolution and the rows of :func:`splinestudy.training.loop.train`.
    """
    recorder = _Recorder(where)
    recorder.look(model)
    rows = train(model, data, settings, seed=seed, callbacks=[recorder], progress=False)
    return evolution(range(len(recorder.kept)), recorder.kept), rows
