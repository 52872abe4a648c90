"""Slices through real images, and how many units touch the decision boundary on them (claim C3)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from splinelib.errors import SettingError
from splinelib.partition.engine.layout import Ints
from splinelib.partition.engine.unit_layers import UnitLayer
from splinelib.partition.partition import Partition
from splinelib.partition.slices import Slice2D
from splinelib.partition.trace import Trace
from splinestudy.data import Dataset, normalize


def image_slices(dataset: Dataset, count: int, seed: int) -> list[Slice2D]:
    """``count`` triangles, each spanned by three test images (normalised) of three different classes.

    Every point of such a slice is a mixture of the three images. They are drawn with the seed, the same images whatever
    ``count`` is.
    """
    slices = []
    for chosen in slice_images(dataset, count, seed):
        images = normalize(chosen, dataset)
        plane = Slice2D.through(images[0], images[1], images[2])
        slices.append(plane.within(plane.coordinates(images)))
    return slices


def slice_images(dataset: Dataset, count: int, seed: int) -> list[Tensor]:
    """The three test images (uint8 ``[3, C, H, W]``) of each slice of :func:`image_slices`."""
    generator = np.random.default_rng(seed)
    labels = dataset.test.labels.cpu().numpy()
    images = []
    for _ in range(count):
        classes = generator.choice(np.unique(labels), 3, replace=False)
        chosen = [int(generator.choice(np.flatnonzero(labels == label))) for label in classes]
        images.append(dataset.test.images[torch.tensor(chosen)])
    return images


def touching_rows(found: Partition | Trace, number: int) -> list[dict[str, Any]]:
    """For each layer of units, and for all: which shares cross the slice and touch the decision boundary on it.

    Columns: ``slice`` (the given number), ``layer``, ``units``, ``crossing`` and ``touching`` (shares of the units),
    ``touching_of_crossing``, ``channels_touching`` (share of channels with at least one unit that touches).

    Raises:
        SettingError: the partition was computed without ``boundary=True``.
    """
    crossing, touching = _crossing_and_touching(found)
    groups = [([layer], layer.name) for layer in found.layers] + [(list(found.layers), "all")]
    return [{"slice": number, "layer": name} | _shares(layers, crossing, touching) for layers, name in groups]


def _crossing_and_touching(found: Partition | Trace) -> tuple[Ints, Ints]:
    if isinstance(found, Trace):
        return found.crossing, found.touching
    if found.boundary is None:
        raise SettingError("this partition holds no decision boundary; compute it with boundary=True")
    return np.unique(found.edge_unit[found.edge_lane >= 0]).astype(np.int64), found.boundary.touching


def _shares(layers: list[UnitLayer], crossing: Ints, touching: Ints) -> dict[str, Any]:
    first, units = layers[0].first, sum(layer.units for layer in layers)
    cross, touch = (int(((some >= first) & (some < first + units)).sum()) for some in (crossing, touching))
    met = sum(len(np.unique(layer.channels[_own(layer, touching)])) for layer in layers)
    return {
        "units": units,
        "crossing": cross / units,
        "touching": touch / units,
        "touching_of_crossing": touch / max(cross, 1),
        "channels_touching": met / sum(layer.shape[0] for layer in layers),
    }


def _own(layer: UnitLayer, units: Ints) -> Ints:
    """Those of the units that lie in the layer, numbered within it."""
    return units[(units >= layer.first) & (units < layer.first + layer.units)] - layer.first
