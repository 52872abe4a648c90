"""How the partition of one slice changes while a network trains."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from splinelib.data import Dataset, normalize
from splinelib.partition.partition import Partition, compute_partition
from splinelib.partition.raster import code_distance
from splinelib.partition.slices import Slice2D
from splinelib.runs import canvas_pair
from splinelib.training import TrainSettings, train


@dataclass(frozen=True, eq=False)
class Evolution:
    """The partitions of one slice after some epochs (0: before training), and the code distances between neighbours.

    ``distances[i]`` is :func:`code_distance` of ``partitions[i]`` and ``partitions[i + 1]``.
    """

    epochs: tuple[int, ...]
    partitions: tuple[Partition, ...]
    distances: tuple[float, ...]

    @property
    def regions(self) -> list[int]:
        """Number of regions at each epoch."""
        return [len(partition) for partition in self.partitions]


def evolution(epochs: Sequence[int], partitions: Sequence[Partition], side: int = 200) -> Evolution:
    """Put partitions (with codes) in a row; ``side`` as for :func:`code_distance`."""
    pairs = zip(partitions, partitions[1:], strict=False)
    return Evolution(tuple(epochs), tuple(partitions), tuple(code_distance(a, b, side) for a, b in pairs))


@dataclass
class _Recorder:
    """Training callback that keeps the partition after every epoch."""

    slice: Slice2D
    kept: list[Partition] = field(default_factory=list)

    def look(self, model: nn.Module) -> None:
        frozen = copy.deepcopy(model).eval()
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

    Returns the evolution and the rows of :func:`splinelib.training.train`.
    """
    recorder = _Recorder(where)
    recorder.look(model)
    rows = train(model, data, settings, seed=seed, callbacks=[recorder], progress=False)
    return evolution(range(len(recorder.kept)), recorder.kept), rows
