"""From scores to a selection: which units go, of every layer alike or by one threshold, by units or by operations."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.checks import checked
from splinelib.errors import SettingError
from splinelib.hooks import Inputs
from splinelib.layers.fit import check_layers
from splinelib.layers.layer import Layer
from splinelib.pruning.flops import count_flops
from splinelib.pruning.surgery import Selection, cut

Scope = Literal["layerwise", "global"]
RatioOf = Literal["units", "flops"]
RATIOS_OF: tuple[RatioOf, ...] = ("units", "flops")


def check_ratio(ratio: object) -> None:
    """Raise :class:`SettingError` unless ``ratio`` is a number strictly between 0 and 1."""
    if not isinstance(ratio, int | float | np.floating) or not 0 < ratio < 1:
        raise SettingError(
            f"ratio is {ratio!r}: it is the share to prune and must lie strictly between 0 and 1"
        )


@checked
def select_units(
    layers: Sequence[Layer], scores: Sequence[Tensor], ratio: float, scope: Scope = "layerwise"
) -> Selection:
    """The units with the lowest scores.

    Args:
        layers: prunable layers.
        scores: one tensor [units] for each of them; low falls first, ties by lower index.
        ratio: share of the units to prune, strictly between 0 and 1.
        scope: ``"layerwise"`` takes ``round(ratio · units)`` from every layer; ``"global"`` divides each layer's scores
            by their mean (so that layers of different scale compare) and takes the lowest ``round(ratio · all units)``
            of the network. Every layer keeps at least one unit: its highest-scored one.

    A layer whose channels come in groups (:attr:`splinelib.layers.layer.Layer.groups`) loses equally many from
    each, the
    lowest of each, and keeps at least one of each; so its share is rounded to whole numbers per group, which in global
    scope may change the total a little.

    Raises:
        SettingError: for a ratio or scope outside these, or scores that do not fit the layers, are not finite, or
            (for ``"global"``, where dividing by a mean needs it) are negative.

    >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> layers = splinelib.read_layers(model, torch.zeros(1, 2))
    >>> select_units(layers, scores=[torch.tensor([3.0, 1.0, 2.0, 4.0])], ratio=0.5)
    {'0': [1, 2]}
    """
    check_ratio(ratio)
    if len(scores) != len(layers):
        raise SettingError(
            f"{len(scores)} tensors of scores for {len(layers)} layers: a criterion must give one each"
        )
    for layer, score in zip(layers, scores, strict=True):
        if score.shape != (layer.units,) or not bool(torch.isfinite(score).all()):
            raise SettingError(
                f"scores of layer {layer.name!r} have shape {tuple(score.shape)}, finite: "
                f"{bool(torch.isfinite(score).all())}; a criterion must give {layer.units} finite numbers"
            )
        if scope == "global" and bool((score < 0).any()):
            raise SettingError(
                f"scores of layer {layer.name!r} go down to {score.min()}: global scope needs numbers from 0 on"
            )
    orders = [score.argsort(stable=True) for score in scores]
    counts = (
        _layerwise_counts(layers, ratio) if scope == "layerwise" else _global_counts(scores, orders, ratio)
    )
    fallen = [
        _lowest(layer, order, count) for layer, order, count in zip(layers, orders, counts, strict=True)
    ]
    return {layer.name: units for layer, units in zip(layers, fallen, strict=True) if units}


def _lowest(layer: Layer, order: Tensor, count: int) -> list[int]:
    """The first ``count`` units of ``order``, as many from every group of channels."""
    size = layer.units // layer.groups
    share = min(round(count / layer.groups), size - 1)
    members = [order[order // size == group][:share] for group in range(layer.groups)]
    return sorted(torch.cat(members).tolist())


def _layerwise_counts(layers: Sequence[Layer], ratio: float) -> list[int]:
    return [round(ratio * layer.units) for layer in layers]


def _global_counts(scores: Sequence[Tensor], orders: Sequence[Tensor], ratio: float) -> list[int]:
    """How many units each layer loses to one threshold over all normalised scores."""
    total = round(ratio * sum(len(score) for score in scores))
    # The best unit of each layer is no candidate, so that no layer is cut.
    candidates = [
        (score.double() / score.double().mean().clamp_min(torch.finfo(torch.float64).tiny))[order[:-1]].cpu()
        for score, order in zip(scores, orders, strict=True)
    ]
    owner = torch.cat([torch.full((len(c),), index) for index, c in enumerate(candidates)])
    fallen = owner[torch.cat(candidates).argsort(stable=True)[:total]]
    return torch.bincount(fallen, minlength=len(scores)).tolist()


def check_ratio_of(ratio_of: str) -> None:
    """Raise :class:`SettingError` for anything but the names in ``RATIOS_OF``."""
    if ratio_of not in RATIOS_OF:
        raise SettingError(f"ratio_of is {ratio_of!r}: choose one of {', '.join(RATIOS_OF)}")


def choose_share(
    model: nn.Module,
    example_inputs: Inputs,
    layers: Sequence[Layer],
    scores: Sequence[Tensor],
    ratio: float,
    scope: Scope,
    ratio_of: RatioOf,
) -> Selection:
    """The units with the lowest scores that make up a share ``ratio`` of the units or of the operations."""
    if ratio_of == "flops":
        return select_flops(model, example_inputs, layers, scores, ratio, scope)
    return select_units(layers, scores, ratio, scope)


@checked
def select_flops(
    model: nn.Module,
    example_inputs: Inputs,
    layers: Sequence[Layer],
    scores: Sequence[Tensor],
    ratio: float,
    scope: Scope = "global",
) -> Selection:
    """The fewest units, lowest scores first, without which a forward pass has at most ``1 - ratio`` of its operations.

    Units fall as :func:`splinelib.pruning.select_units` takes them in ``scope``; how many is found by bisection, with
    a network cut and counted (:func:`splinelib.pruning.flops.count_flops`) at every step.

    Raises:
        SettingError: as :func:`splinelib.pruning.select_units` does, and if even the narrowest network has more
            operations.

    >>> model, images = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(1, 2)
    >>> layers, scores = splinelib.read_layers(model, images), [torch.tensor([3.0, 1.0, 2.0, 4.0])]
    >>> select_flops(model, images, layers, scores, ratio=0.5)
    {'0': [1, 2]}
    """
    check_ratio(ratio)
    check_layers(model, layers)
    units = sum(layer.units for layer in layers)
    most = (1 - ratio) * count_flops(model, example_inputs)

    def selection(count: int) -> Selection:
        return select_units(layers, scores, count / units, scope)

    def cheap(count: int) -> bool:
        return count_flops(cut(model, layers, selection(count)), example_inputs) <= most

    counts = range(1, units)
    place = bisect_left(counts, True, key=cheap)
    if place == len(counts):
        raise SettingError(
            f"ratio is {ratio} of the FLOPs: with one unit in every layer more than {1 - ratio:g} of them are left; "
            "give a smaller ratio"
        )
    return selection(counts[place])
