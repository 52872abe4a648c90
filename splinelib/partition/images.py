"""Slices through real images, and how many units touch the decision boundary on them (claim C3)."""

import numpy as np
import torch
from torch import nn

from splinelib.data import Dataset, normalize
from splinelib.errors import SettingError
from splinelib.partition.partition import Partition, compute_partition
from splinelib.partition.slices import Slice2D


def image_slices(dataset: Dataset, count: int, seed: int) -> list[Slice2D]:
    """``count`` planes, each through three test images (normalised) of three different classes, drawn with the seed."""
    generator = np.random.default_rng(seed)
    labels = dataset.test.labels.numpy()
    slices = []
    for _ in range(count):
        classes = generator.choice(np.unique(labels), 3, replace=False)
        chosen = [int(generator.choice(np.flatnonzero(labels == label))) for label in classes]
        images = normalize(dataset.test.images[torch.tensor(chosen)], dataset)
        slices.append(Slice2D.through(images[0], images[1], images[2]))
    return slices


def touching_rows(partition: Partition, number: int) -> list[dict[str, object]]:
    """For each layer of units, and for all of them: how many cross the slice, and how many touch the boundary.

    Raises:
        SettingError: the partition was computed without ``boundary=True``.
    """
    if partition.boundary is None:
        raise SettingError("this partition holds no decision boundary; compute it with boundary=True")
    crossing = np.unique(partition.edge_unit[partition.edge_lane >= 0])
    layers = [(layer.name, layer.first, layer.units) for layer in partition.layers]
    rows: list[dict[str, object]] = []
    for name, first, units in [*layers, ("all", 0, partition.units)]:
        inside = [
            int(((u >= first) & (u < first + units)).sum()) for u in (crossing, partition.boundary.touching)
        ]
        row: dict[str, object] = {"slice": number, "layer": name, "units": units, "regions": len(partition)}
        row |= {"crossing": inside[0] / units, "touching": inside[1] / units}
        row |= {"touching_of_crossing": inside[1] / max(inside[0], 1)}
        rows.append(row)
    return rows


def study_slices(
    model: nn.Module, slices: list[Slice2D], max_regions: int = 5_000_000
) -> list[dict[str, object]]:
    """The rows of :func:`touching_rows` for every slice. Errors as for :func:`compute_partition`."""
    rows: list[dict[str, object]] = []
    for number, where in enumerate(slices):
        rows += touching_rows(compute_partition(model, where, boundary=True, max_regions=max_regions), number)
    return rows
