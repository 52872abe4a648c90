"""From scores to a selection: which units go, of every layer alike or by one threshold, of units or of a cost."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.checks import Count, checked
from splinelib.errors import SettingError
from splinelib.hooks import Inputs
from splinelib.layers.fit import check_layers
from splinelib.layers.layer import Layer
from splinelib.pruning.flops import count_flops, count_parameters
from splinelib.pruning.latency import measure_latency
from splinelib.pruning.surgery import Selection, cut

Scope = Literal["layerwise", "global"]
RatioOf = Literal["units", "flops", "parameters", "latency"]
Normalize = Literal["mean", "rank", "none"]
Ratio = float | Mapping[str, float]
"""The share to prune; or one for each pattern of layers' names, of which the first that fits counts."""


_STEPS = {64: 16, 32: 8}
"""By the least width, between which multiples a convolution takes as long as at the next (``benchmarks.widths``)."""


def check_ratio(ratio: object) -> None:
    """Raise :class:`SettingError` unless ``ratio`` is a number strictly between 0 and 1."""
    if not isinstance(ratio, int | float | np.floating) or not 0 < ratio < 1:
        raise SettingError(
            f"ratio is {ratio!r}: it is the share to prune and must lie strictly between 0 and 1"
        )


@checked
def select_units(
    layers: Sequence[Layer],
    scores: Sequence[Tensor],
    ratio: Ratio,
    scope: Scope = "layerwise",
    round_to: Count | None = 1,
    min_units: Count = 1,
    normalize: Normalize = "mean",
) -> Selection:
    """The units with the lowest scores.

    Args:
        layers: prunable layers.
        scores: one tensor [units] for each of them; low falls first, ties by lower index.
        ratio: share of the units to prune, strictly between 0 and 1; layerwise also a dict of shares by pattern of
            names, such as ``{"layer4.*": 0.7, "*": 0.5}``: the first that fits counts, other layers stay whole.
        scope: ``"layerwise"`` takes ``round(ratio · units)`` from every layer; ``"global"`` the lowest
            ``round(ratio · all units)`` of the network. Every layer keeps at least one unit: its highest-scored one.
        round_to: a layer keeps the nearest multiple of so many channels, if it has that many; None for widths that
            backends like: multiples of 16 from 64 on, of 8 from 32 on, so that none moves by more than an eighth.
        min_units: a layer keeps so many units, if it has that many.
        normalize: what makes layers of different scale comparable in global scope: scores are divided by their layer's
            ``"mean"``, replaced by their ``"rank"`` in the layer as a share of its units, or taken as they are.

    A layer whose channels come in groups (:attr:`splinelib.layers.layer.Layer.groups`) loses equally many from each,
    the lowest of each, and keeps at least one of each; so its share is rounded to whole numbers per group, which in
    global scope may change the total a little.

    Raises:
        SettingError: for a ratio or scope outside these, or scores that do not fit the layers, are not finite, or
            (for ``"global"`` with ``"mean"``, since dividing needs it) are negative.

    >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> layers = splinelib.read_layers(model, torch.zeros(1, 2))
    >>> select_units(layers, scores=[torch.tensor([3.0, 1.0, 2.0, 4.0])], ratio=0.5)
    {'0': [1, 2]}
    """
    asked = shares(layers, ratio, scope)
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
        if scope == "global" and normalize == "mean" and bool((score < 0).any()):
            raise SettingError(
                f"scores of layer {layer.name!r} go down to {score.min()}: their mean can divide numbers from 0 on "
                "only; give those, or normalize='rank'"
            )
    orders = [score.argsort(stable=True) for score in scores]
    if isinstance(ratio, Mapping) or scope == "layerwise":
        counts = [round(share * layer.units) for share, layer in zip(asked, layers, strict=True)]
    else:
        comparable = [normalized(score, normalize) for score in scores]
        least = [layer.groups * _least(layer, int(min_units)) for layer in layers]
        counts = _global_counts(comparable, orders, least, ratio)
    fallen = [
        _lowest(layer, order, _kept(layer, count, round_to, int(min_units)))
        for layer, order, count in zip(layers, orders, counts, strict=True)
    ]
    return {layer.name: units for layer, units in zip(layers, fallen, strict=True) if units}


def shares(layers: Sequence[Layer], ratio: Ratio, scope: Scope, known: Iterable[str] = ()) -> list[float]:
    """The share that each layer is to lose; patterns may also name layers that were ``known`` and have nothing left."""
    if not isinstance(ratio, Mapping):
        check_ratio(ratio)
        return [float(ratio)] * len(layers)
    if scope == "global":
        raise SettingError(
            "ratio differs between layers, and global scope has one for all: use layerwise scope"
        )
    names = list(dict.fromkeys([*known, *(layer.name for layer in layers)]))
    for pattern, share in ratio.items():
        check_ratio(share)
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SettingError(f"ratio names {pattern!r}, which no layer's name fits: they are {names}")
    return [
        next((float(share) for pattern, share in ratio.items() if fnmatchcase(layer.name, pattern)), 0.0)
        for layer in layers
    ]


def _least(layer: Layer, min_units: int) -> int:
    """How many units at least each group of channels keeps, if it has that many."""
    return math.ceil(min_units / layer.groups)


def _kept(layer: Layer, count: int, round_to: int | None, min_units: int) -> int:
    """How many units each group of channels keeps if about ``count`` of the layer's go."""
    size = layer.units // layer.groups
    written = layer.written(layer.name)
    channels = layer.groups * (1 if written is None else written.shape[1])
    least = _least(layer, min_units)
    wanted = min(max(size - round(count / layer.groups), least), size)

    def nearest(multiple: int) -> int:
        step = multiple // math.gcd(multiple, channels)
        return min(step * max(round(wanted / step), math.ceil(least / step)), size)

    if round_to is not None:
        return nearest(int(round_to))
    multiple = next((step for width, step in _STEPS.items() if wanted * channels >= width), 1)
    while abs(nearest(multiple) - wanted) > wanted / 8:  # an odd number of groups makes large steps
        multiple //= 2
    return nearest(multiple)


def _lowest(layer: Layer, order: Tensor, kept: int) -> list[int]:
    """The first units of ``order``: of every group of channels all but so many."""
    size = layer.units // layer.groups
    members = [order[order // size == group][: size - kept] for group in range(layer.groups)]
    return sorted(torch.cat(members).tolist())


def normalized(score: Tensor, how: Normalize) -> Tensor:
    """One layer's scores [units] in float64, on the scale that :func:`select_units` compares layers on.

    >>> normalized(torch.tensor([3.0, 1.0]), "mean").tolist(), normalized(torch.tensor([3.0, 1.0]), "rank").tolist()
    ([1.5, 0.5], [1.0, 0.5])
    """
    score = score.double()
    if how == "mean":
        return score / score.mean().clamp_min(torch.finfo(torch.float64).tiny)
    if how == "rank":
        ranks = torch.arange(1, len(score) + 1, dtype=torch.float64, device=score.device) / len(score)
        return torch.empty_like(score).scatter(0, score.argsort(stable=True), ranks)
    return score


def _global_counts(
    scores: Sequence[Tensor], orders: Sequence[Tensor], least: Sequence[int], ratio: float
) -> list[int]:
    """How many units each layer loses to one threshold over all scores, of which the best ``least`` stay."""
    total = round(ratio * sum(len(score) for score in scores))
    candidates = [
        score[order[: max(0, len(order) - stay)]].cpu()
        for score, order, stay in zip(scores, orders, least, strict=True)
    ]
    owner = torch.cat([torch.full((len(c),), index) for index, c in enumerate(candidates)])
    fallen = owner[torch.cat(candidates).argsort(stable=True)[:total]]
    return torch.bincount(fallen, minlength=len(scores)).tolist()


def choose_share(
    model: nn.Module,
    example_inputs: Inputs,
    layers: Sequence[Layer],
    scores: Sequence[Tensor],
    ratio: Ratio,
    scope: Scope,
    ratio_of: RatioOf,
    round_to: int | None = 1,
    min_units: int = 1,
    normalize: Normalize = "mean",
) -> Selection:
    """The units with the lowest scores that make up a share ``ratio`` of what ``ratio_of`` says."""
    if ratio_of == "units":
        return select_units(layers, scores, ratio, scope, round_to, min_units, normalize)
    if isinstance(ratio, Mapping):
        raise SettingError(f"ratio differs between layers: with ratio_of={ratio_of!r} give one number")
    return select_budget(
        model, example_inputs, layers, scores, ratio, scope, ratio_of, round_to, min_units, normalize
    )


@checked
def select_budget(
    model: nn.Module,
    example_inputs: Inputs,
    layers: Sequence[Layer],
    scores: Sequence[Tensor],
    ratio: float,
    scope: Scope = "global",
    ratio_of: Literal["flops", "parameters", "latency"] = "flops",
    round_to: Count | None = 1,
    min_units: Count = 1,
    normalize: Normalize = "mean",
) -> Selection:
    """The fewest units, lowest scores first, without which at most ``1 - ratio`` of the network's cost is left.

    Units fall as :func:`splinelib.pruning.select_units` takes them in ``scope``; how many is found by bisection, with
    a network cut and its cost found at every step: its operations (:func:`splinelib.pruning.flops.count_flops`), its
    parameters, or the time of a forward pass on ``example_inputs``, measured in turn with that of ``model``.

    Raises:
        SettingError: as :func:`splinelib.pruning.select_units` does, and if even the narrowest network costs more.

    >>> model, images = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(1, 2)
    >>> layers, scores = splinelib.read_layers(model, images), [torch.tensor([3.0, 1.0, 2.0, 4.0])]
    >>> select_budget(model, images, layers, scores, ratio=0.5)
    {'0': [1, 2]}
    """
    check_ratio(ratio)
    check_layers(model, layers)
    units = sum(layer.units for layer in layers)
    cheap = _within_budget(model, example_inputs, 1 - ratio, ratio_of)

    def selection(count: int) -> Selection:
        return select_units(layers, scores, count / units, scope, round_to, min_units, normalize)

    counts = range(1, units)
    place = bisect_left(counts, True, key=lambda count: cheap(cut(model, layers, selection(count))))
    if place == len(counts):
        raise SettingError(
            f"ratio is {ratio} of the {ratio_of.replace('flops', 'FLOPs')}: with one unit in every layer, or as many "
            f"as must stay, more than {1 - ratio:g} of them are left; give a smaller ratio"
        )
    return selection(counts[place])


def _within_budget(
    model: nn.Module, example_inputs: Inputs, share: float, ratio_of: RatioOf
) -> Callable[[nn.Module], bool]:
    """Whether a smaller network costs at most a share of what ``model`` does."""
    if ratio_of == "latency":
        return lambda smaller: share_left(model, smaller, example_inputs, ratio_of) <= share
    most = share * _count(model, example_inputs, ratio_of)
    return lambda smaller: _count(smaller, example_inputs, ratio_of) <= most


def share_left(model: nn.Module, smaller: nn.Module, example_inputs: Inputs, ratio_of: RatioOf) -> float:
    """The share of what ``model`` costs, as ``ratio_of`` says, that a smaller network does."""
    if ratio_of == "latency":
        before, after = measure_latency([model, smaller], example_inputs)
        return after / before
    before, after = (_count(network, example_inputs, ratio_of) for network in (model, smaller))
    return after / before


def _count(network: nn.Module, example_inputs: Inputs, ratio_of: RatioOf) -> int:
    return count_flops(network, example_inputs) if ratio_of == "flops" else count_parameters(network)
