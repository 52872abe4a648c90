"""What a criterion takes away, seen unit by unit: how redundant the removed boundaries really were."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.layers.hyperplanes import folded
from splinelib.layers.layer import Layer
from splinelib.pruning.surgery import Selection


@dataclass(frozen=True)
class Neighbours:
    """Every unit's nearest neighbour among the units of its layer, by direction alone.

    Attributes:
        layer: name of the layer.
        units: their number; dimension: that of their hyperplanes' normals.
        alignment: |cos| between each unit's normal and its nearest neighbour's, float64 [units]; 1 for parallel
            hyperplanes.
        chance: the same for as many directions drawn at random in the same space, float64 [units].
        opposed: whether the two face opposite ways, so that they are active on opposite sides, bool [units].
    """

    layer: str
    units: int
    dimension: int
    alignment: Tensor
    chance: Tensor
    opposed: Tensor


def nearest_neighbours(model: nn.Module, layers: Sequence[Layer], seed: int = 0) -> list[Neighbours]:
    """How nearly the closest hyperplanes of each layer coincide, beside what chance gives in as many dimensions.

    The spline criterion calls the closest pair redundant whatever its distance. Where ``alignment`` is no larger than
    ``chance`` there are no near-coincident boundaries, and the criterion orders noise. Layers of one unit are left out.

    Args:
        model: a trained network, with its prunable ``layers``.
        seed: of the random directions, which are normally distributed.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for layer in layers:
        if layer.units < 2:
            continue
        weight, _ = folded(model, layer)
        cosine = _cosines(weight)
        nearest = cosine.abs().argmax(dim=1)
        random = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        found.append(
            Neighbours(
                layer.name,
                layer.units,
                weight.shape[1],
                cosine.abs().amax(dim=1).cpu(),
                _cosines(random).abs().amax(dim=1),
                (cosine.gather(1, nearest[:, None])[:, 0] < 0).cpu(),
            )
        )
    return found


QUANTILES = {"low": 0.1, "middle": 0.5, "high": 0.9}
"""By which a layer's units are summed up."""


def neighbour_rows(neighbours: Sequence[Neighbours]) -> list[dict[str, Any]]:
    """One row for each layer: layer, units, dimension, opposed (the share of units), closest (the largest alignment),
    and :data:`QUANTILES` of alignment and chance as ``alignment_low`` and so on.
    """
    return [
        {
            "layer": one.layer,
            "units": one.units,
            "dimension": one.dimension,
            "opposed": one.opposed.double().mean().item(),
            "closest": one.alignment.max().item(),
        }
        | {
            f"{what}_{name}": getattr(one, what).quantile(share).item()
            for what in ("alignment", "chance")
            for name, share in QUANTILES.items()
        }
        for one in neighbours
    ]


def _cosines(weight: Tensor) -> Tensor:
    normal = nn.functional.normalize(weight, dim=1)
    return (normal @ normal.T).fill_diagonal_(0.0)


def norm_ranks(model: nn.Module, layers: Sequence[Layer], selection: Selection) -> list[float]:
    """Mean rank of the selected units by folded norm ‖w‖ in each layer: 0 the smallest, 1 the largest, ½ by chance.

    Layers from which nothing is selected are left out.
    """
    ranks = []
    for layer in layers:
        if chosen := selection.get(layer.name):
            order = folded(model, layer)[0].norm(dim=1).argsort().argsort().double()
            ranks.append(float(order[chosen].mean() / (layer.units - 1)))
    return ranks
