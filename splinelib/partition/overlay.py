"""The exact distance of two networks' partitions: the area on which their units disagree."""

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.checks import checked
from splinelib.errors import SettingError
from splinelib.partition.engine.layout import Floats
from splinelib.partition.partition import compute_partition
from splinelib.partition.slices import Slice2D


class _Both(nn.Module):
    """Two networks, each on an input of its own, which it may change; every boundary is one of theirs."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, inputs: Tensor) -> Tensor:
        """Both outputs."""
        return torch.cat([self.first(inputs.clone()).flatten(1), self.second(inputs).flatten(1)], dim=1)


@checked
def area_distance(first: nn.Module, second: nn.Module, slice: Slice2D) -> Floats:
    """Share of the slice's area on which a unit's bit differs, averaged over each layer's units: float64 [layers].

    This is what the distance of codes on a canvas (:func:`splinelib.early_bird.distances.code_distance`) estimates
    where the canvas's points fill the slice evenly. The partition of both networks together refines each of theirs, so
    no point is sampled. Regions of the common partition number up to those of both and their crossings.

    Raises:
        SettingError: the networks do not have the same layers, or are in training mode.
        UnsupportedModuleError, LimitError: as ``compute_partition``.

    >>> from splinelib.partition import Slice2D
    >>> first, second = (nn.Sequential(nn.Linear(2, 1), nn.ReLU()) for _ in range(2))
    >>> _ = second[0].load_state_dict({"weight": -first[0].weight, "bias": -first[0].bias})
    >>> area_distance(first, second, Slice2D.axis_aligned()).round(9).tolist()
    [1.0]
    """
    both = compute_partition(_Both(first, second), slice, codes=True)
    bits = both.code_bits()
    half = bits.shape[1] // 2
    widths = np.array([layer.units * layer.pieces for layer in both.layers])
    count = len(widths) // 2
    if len(widths) != 2 * count or not np.array_equal(widths[:count], widths[count:]):
        raise SettingError(
            f"layers have {widths.tolist()} units, those of both networks in turn: give two of one architecture"
        )
    differs = (bits[:, :half] != bits[:, half:]).astype(np.float64)
    by_unit = both.area @ differs / both.area.sum()
    layers = np.split(by_unit, np.cumsum(widths[:count]))[:count]
    return np.array([layer.mean() for layer in layers], dtype=np.float64)
