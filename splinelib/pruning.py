"""From scores to a smaller network: selection, masking and physical removal.

``prune`` is the whole way in one call. Its parts are public, so that criteria, scopes and surgeries can be combined:
``read_layers`` → criterion → ``select_units`` → ``remove_units`` (or ``mask_units`` for comparison).
"""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from splinelib.criterion import Criterion, Spline
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.network import Layer, dependency_graph, graph_layers, read_layers, removal_group
from splinelib.taps import evaluating

Scope = Literal["layerwise", "global"]
Selection = dict[str, list[int]]
"""Units to prune: sorted unit indices by layer name."""


def check_ratio(ratio: float) -> None:
    """Raise :class:`SettingError` unless ``ratio`` lies strictly between 0 and 1."""
    if not 0 < ratio < 1:
        raise SettingError(
            f"ratio is {ratio}: it is the share of units to prune and must lie strictly between 0 and 1"
        )


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

    Raises:
        SettingError: for a ratio or scope outside these, or scores that do not fit the layers, are not finite, or
            (for ``"global"``, where dividing by a mean needs it) are negative.
    """
    check_ratio(ratio)
    if scope not in ("layerwise", "global"):
        raise SettingError(f"scope is {scope!r}: choose 'layerwise' or 'global'")
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
    return {
        layer.name: sorted(order[:count].tolist())
        for layer, order, count in zip(layers, orders, counts, strict=True)
        if count
    }


def _layerwise_counts(layers: Sequence[Layer], ratio: float) -> list[int]:
    return [min(round(ratio * layer.units), layer.units - 1) for layer in layers]


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
        UnsupportedModuleError: where the model cannot do without the units, since their channels come in fixed groups
            (grouped convolution, group norm) or it counts on their number.
    """
    pruned = copy.deepcopy(model)
    graph = dependency_graph(pruned, example_inputs)
    _check_selection(graph_layers(graph), selection)
    for name, units in selection.items():
        removal_group(graph, name, units).prune()
    try:
        with evaluating(pruned):
            pruned(example_inputs)
    except RuntimeError as error:
        raise UnsupportedModuleError(
            f"{type(model).__name__} does not run without units of {list(selection)}, since its forward pass counts "
            f"on their number ({error}): leave out the layers concerned"
        ) from error
    return pruned


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
    if weight.ndim == 1 or writes != transposed or getattr(module, "groups", 1) > 1:
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


def prune(
    model: nn.Module,
    example_inputs: Tensor,
    ratio: float,
    scope: Scope = "layerwise",
    criterion: Criterion | None = None,
) -> nn.Module:
    """Prune a share of a network's units; returns a smaller copy, the original stays as it is.

    Args:
        model: any network that Torch-Pruning can trace.
        example_inputs: a batch of inputs [N, ...] on the model's device, used to trace it.
        ratio: share of the units to remove, strictly between 0 and 1.
        scope: the same share of each layer, or one threshold for all (see :func:`select_units`).
        criterion: which units are redundant; by default the spline criterion, :class:`splinelib.Spline`.

    Raises:
        SettingError: for a ratio outside (0, 1) or an unknown scope, before any work.
        UnsupportedModuleError: if nothing in the model can be pruned.
    """
    check_ratio(ratio)
    layers = read_layers(model, example_inputs)
    scores = (criterion or Spline())(model, layers)
    return remove_units(model, example_inputs, select_units(layers, scores, ratio, scope))
