"""The paper's whole grid: its networks and data, the runs that it asks for, and how long devices take over them."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from splinelib.pruning.flops import training_flops
from splinestudy.models import build_model
from splinestudy.runs.methods import METHODS

RATIOS, SEEDS = (0.3, 0.5, 0.7), 3


@dataclass(frozen=True)
class Cell:
    """A network on a data set, as the paper trains it [code, eb].

    Attributes:
        arch: network.
        dataset: its data.
        images: training images.
        epochs: passes over them; as many again after pruning.
        shape: of an image.
        classes: of the data set.
        like: the network that step times were taken of whose kind this one is.
    """

    arch: str
    dataset: str
    images: int
    epochs: int
    shape: tuple[int, int, int]
    classes: int
    like: str


_CIFAR = (50_000, 160, (3, 32, 32))
GRID = (
    Cell("simple_cnn", "mnist", 60_000, 160, (1, 32, 32), 10, "vgg16_bn"),
    *(
        Cell(arch, data, *_CIFAR, classes, like)
        for data, classes in (("cifar10", 10), ("cifar100", 100))
        for arch, like in (
            ("preresnet20", "preresnet20"),
            ("preresnet101", "preresnet20"),
            ("vgg16_bn", "vgg16_bn"),
            ("mobilenet_v2", "preresnet20"),
        )
    ),
    *(
        Cell(arch, "imagenet", 1_281_167, 90, (3, 224, 224), 1000, "vgg16_bn")
        for arch in ("resnet18", "resnet50")
    ),
)
"""Networks and data of the paper; ResNets on ImageNet alone."""

COMPARED = tuple(row.name for row in METHODS.values() if row.role == "score" and row.era == "paper")
"""The scores of the paper and of its time."""


@dataclass(frozen=True)
class Device:
    """What one kind of device takes.

    Attributes:
        name: as tables call it.
        seconds: of a training image of each network of the grid.
        shares: of these, by network and ratio, where so many of each layer's units are gone.
    """

    name: str
    seconds: Mapping[Cell, float]
    shares: Mapping[Cell, Mapping[float, float]]


@cache
def operations(cell: Cell) -> int:
    """Of a training image."""
    model = build_model(
        cell.arch, num_classes=cell.classes, in_channels=cell.shape[0], image_size=cell.shape[1], seed=0
    )
    return training_flops(model, torch.zeros(1, *cell.shape))


def jobs(cell: Cell, device: Device, drawn: float | None) -> tuple[float, list[float]]:
    """Seconds of one seed's dense training, and of every network that is pruned from it and trained again.

    With early birds, ``drawn`` being the share of the training at which they are, the dense network is trained to there
    and what is pruned goes on from there; without, both are trained for the whole schedule.
    """
    whole = device.seconds[cell] * cell.images * cell.epochs
    dense, rest = (whole, whole) if drawn is None else (whole * drawn, whole * (1 - drawn))
    return dense, [rest * device.shares[cell][ratio] for ratio in RATIOS for _ in COMPARED]


def makespan(chains: Sequence[tuple[float, Sequence[float]]], devices: int) -> float:
    """Seconds until ``devices`` have done all: a run after its dense run, of those that may start the longest first.

    >>> makespan([(1.0, [2.0, 2.0])], devices=2)
    3.0
    """
    ready = sorted((-seconds, number) for number, (seconds, _) in enumerate(chains))  # which is a heap
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < devices:
            seconds, number = heapq.heappop(ready)
            heapq.heappush(running, (now - seconds, number))
        now, number = heapq.heappop(running)
        if number >= 0:  # a dense run, which sets its others free
            for seconds in chains[number][1]:
                heapq.heappush(ready, (-seconds, -1))
    return now
