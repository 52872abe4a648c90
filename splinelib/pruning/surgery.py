"""From scores to a smaller network: selection, masking and physical removal.

The steps can be combined at will: ``read_layers`` → criterion → ``select_units`` → ``remove_units`` (or ``mask_units``
for comparison). :func:`splinelib.prune` is the whole way in one call.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import evaluating
from splinelib.layers.groups import grouped, removal_group
from splinelib.layers.network import Layer, dependency_graph, graph_layers

Selection = dict[str, list[int]]
"""Units to prune: sorted unit indices by layer name."""


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
