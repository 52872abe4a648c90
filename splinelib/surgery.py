"""From scores to a smaller network: selection, masking and physical removal.

The steps can be combined at will: ``read_layers`` → criterion → ``select_units`` → ``remove_units`` (or ``mask_units``
for comparison). :func:`splinelib.prune` is the whole way in one call.
"""

import copy
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.groups import grouped, removal_group
from splinelib.network import Layer, dependency_graph, graph_layers
from splinelib.taps import evaluating

Scope = Literal["layerwise", "global"]
Selection = dict[str, list[int]]
"""Units to prune: sorted unit indices by layer name."""


def check_ratio(ratio: object) -> None:
    """Raise :class:`SettingError` unless ``ratio`` is a number strictly between 0 and 1."""
    if not isinstance(ratio, int | float | np.floating) or not 0 < ratio < 1:
        raise SettingError(
            f"ratio is {ratio!r}: it is the share to prune and must lie strictly between 0 and 1"
        )


def check_scope(scope: str) -> None:
    """Raise :class:`SettingError` for anything but the names in ``Scope``."""
    if scope not in get_args(Scope):
        raise SettingError(f"scope is {scope!r}: choose 'layerwise' or 'global'")


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

    A layer whose channels come in groups (:attr:`splinelib.network.Layer.groups`) loses equally many from each, the
    lowest of each, and keeps at least one of each; so its share is rounded to whole numbers per group, which in global
    scope may change the total a little.

    Raises:
        SettingError: for a ratio or scope outside these, or scores that do not fit the layers, are not finite, or
            (for ``"global"``, where dividing by a mean needs it) are negative.
    """
    check_ratio(ratio)
    check_scope(scope)
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


def remove_units(model: nn.Module, example_inputs: Tensor, selection: Selection) -> nn.Module:
    """A copy of ``model`` without the selected units: every module that writes or reads them is made smaller.

    Torch-Pruning's dependency graph finds and cuts the modules.

    Raises:
        SettingError: for a unit or a layer that the model does not have, or a layer that would lose all its units.
        UnsupportedModuleError: where the model cannot do without the units, since the groups of a grouped convolution
            or group norm would lose unequally many channels, or it counts on their number.
    """
    pruned = copy.deepcopy(model)
    graph = dependency_graph(pruned, example_inputs)
    _check_selection(graph_layers(graph), selection)
    for name, units in selection.items():
        _cut(removal_group(graph, name, units))
    try:
        with evaluating(pruned):
            pruned(example_inputs)
    except RuntimeError as error:
        raise UnsupportedModuleError(
            f"{type(model).__name__} does not run without units of {list(selection)}, since its forward pass counts "
            f"on their number ({error}): leave out the layers concerned"
        ) from error
    return pruned


def _cut(group: Any) -> None:
    """Prune a group; a grouped convolution keeps of each of its groups the input channels that are left there."""
    weights = {}
    for dependency, indices in group:
        module = dependency.target.module
        if grouped(module) and dependency.handler.__name__ == "prune_in_channels":
            weights[module] = _group_columns(module, list(indices))
    group.prune()  # which takes the columns left in the first group for all of them
    for module, weight in weights.items():
        module.weight = nn.Parameter(weight, requires_grad=module.weight.requires_grad)


def _group_columns(module: nn.Conv2d, indices: list[int]) -> Tensor:
    """The weight of a grouped convolution without the input channels ``indices``, equally many of each group."""
    kept = torch.ones(module.in_channels, dtype=torch.bool, device=module.weight.device)
    kept[indices] = False
    parts = zip(module.weight.detach().chunk(module.groups), kept.chunk(module.groups), strict=True)
    return torch.cat([weight[:, columns] for weight, columns in parts])


def mask_units(model: nn.Module, example_inputs: Tensor, selection: Selection) -> nn.Module:
    """A copy of ``model`` of full size in which nothing reads the selected units and nothing writes them.

    Computes the same function as :func:`remove_units` gives, at the full cost. Raises as that function does, and
    :class:`UnsupportedModuleError` where a norm over channels (layer norm, group norm) reads the units.
    """
    masked = copy.deepcopy(model)
    graph = dependency_graph(masked, example_inputs)
    _check_selection(graph_layers(graph), selection)
    with torch.no_grad():
        for name, units in selection.items():
            for dependency, indices in removal_group(graph, name, units):
                writes = graph.is_out_channel_pruning_fn(dependency.handler)
                _silence(dependency.target.module, list(indices), writes)
    return masked


def _silence(module: Any, indices: list[int], writes: bool) -> None:
    """Zero the parameters with which ``module`` writes, or reads, the channels ``indices``."""
    if isinstance(module, nn.LayerNorm | nn.GroupNorm):
        raise UnsupportedModuleError(
            f"{module} normalises over channels, so no mask computes what removal gives: use remove_units"
        )
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or isinstance(module, nn.PReLU):  # a PReLU keeps zeros as they are
        return
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
    if grouped(module) and not writes:
        size = weight.shape[1]
        for unit in indices:
            weight.chunk(module.groups)[unit // size][:, unit % size] = 0
    elif weight.ndim == 1 or writes != transposed or getattr(module, "groups", 1) > 1:
        weight[indices] = 0
    else:
        weight[:, indices] = 0
    if (writes or weight.ndim == 1) and isinstance(getattr(module, "bias", None), Tensor):
        module.bias[indices] = 0


def _check_selection(layers: Sequence[Layer], selection: Selection) -> None:
    sizes = {layer.name: layer.units for layer in layers}
    for name, units in selection.items():
        if name not in sizes:
            raise SettingError(
                f"layer {name!r} cannot be pruned in this model; its prunable layers are {list(sizes)}"
            )
        if len(set(units)) != len(units) or not all(0 <= unit < sizes[name] for unit in units):
            raise SettingError(
                f"units {units} of layer {name!r}: give distinct indices from 0 to {sizes[name] - 1}"
            )
        if len(units) == sizes[name]:
            raise SettingError(f"all {len(units)} units of layer {name!r} are selected: keep at least one")
