"""The few images that are looked at without training on them: canvas pairs, calibration batches, examples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from splinelib.checks import Count, Seed, check_fields, checked
from splinestudy.data.dataset import Dataset, normalize, subset

CALIBRATION = 1000
"""Training images that criteria and compensations may look at."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Normalised training images [N, C, H, W] and their labels [N]."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        check_fields(self)


@checked
def calibration(data: Dataset, seed: Seed, images: Count = CALIBRATION) -> Calibration:
    """At most so many training images, plain and class-balanced, that criteria and compensations may look at."""
    chosen = subset(data.train, min(images, len(data.train)), seed=seed)
    return Calibration(normalize(chosen.images[:], data), chosen.labels)


@checked
def example_inputs(data: Dataset) -> Tensor:
    """Two normalised test images."""
    return normalize(data.test.images[:2], data)


@checked
def canvas_pair(data: Dataset, seed: Seed) -> tuple[int, int]:
    """Indices of two test images of different classes, drawn with ``seed``."""
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(int(seed))).tolist()
    labels = data.test.labels.cpu()
    other = next(index for index in order if labels[index] != labels[order[0]])
    return order[0], other
