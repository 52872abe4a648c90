"""From scores to a smaller network: selection, masking and physical removal.

The steps can be combined at will: ``read_layers`` → criterion → ``select_units`` → ``remove_units`` (or ``mask_units``
for comparison). :func:`splinelib.prune` is the whole way in one call.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.checks import check
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import evaluating
from splinelib.layers.channel_selection import ChannelSelection
from splinelib.layers.groups import channel_groups, grouped, leaves_groups_equal
from splinelib.layers.network import Layer, Part, read_layers

Selection = dict[str, list[int]]
"""Units to prune: sorted unit indices by layer name."""


def remove_units(
    model: nn.Module,
    example_inputs: Tensor,
    selection: Selection,
    layers: Sequence[Layer] | None = None,
) -> nn.Module:
    """A copy of ``model`` without the selected units: every module that writes or reads them is made smaller.

    ``layers`` are those of ``model`` (:func:`splinelib.read_layers`) where they are known already, so that it is not
    traced again. Torch-Pruning's functions cut the modules.

    Raises:
        SettingError: for a unit or a layer that the model does not have, or a layer that would lose all its units.
        UnsupportedModuleError: where the model cannot do without the units, since the groups of a grouped convolution
            or group norm would lose unequally many channels, or it counts on their number.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> smaller = remove_units(model, torch.zeros(1, 2), {"0": [1]})
    >>> smaller[0].out_features, smaller[2].in_features
    (2, 2)
    """
    pruned = cut(model, layers or read_layers(model, example_inputs), selection)
    try:
        with evaluating(pruned):
            pruned(example_inputs)
    except RuntimeError as error:
        raise UnsupportedModuleError(
            f"{type(model).__name__} does not run without units of {list(selection)}, since its forward pass counts "
            f"on their number ({error}): leave out the layers concerned"
        ) from error
    return pruned


def cut(model: nn.Module, layers: Sequence[Layer], selection: Selection) -> nn.Module:
    """What :func:`remove_units` gives, without trying whether it runs."""
    lost = lost_channels(model, layers, selection)
    pruned = copy.deepcopy(model)
    for (name, writes, dim), channels in lost.items():
        if isinstance(_found(pruned, name), nn.Parameter):
            _cut_parameter(pruned, name, dim, channels)
        else:
            _cut_module(pruned.get_submodule(name), writes, channels)
    for (
        name,
        parameter,
    ) in model.named_parameters():  # what is cut is a new parameter, which would be trainable
        _found(pruned, name).requires_grad_(parameter.requires_grad)
    return pruned


def lost_channels(
    model: nn.Module, layers: Sequence[Layer], selection: Selection
) -> dict[tuple[str, bool, int], list[int]]:
    """The channels that every module loses with the selected units, by its name, whether it writes them, and axis."""
    _check_selection(layers, selection)
    lost: dict[tuple[str, bool, int], set[int]] = {}
    for layer in layers:
        units = [int(unit) for unit in selection.get(layer.name, ())]
        for part in layer.parts if units else ():
            channels = part.of(units)
            _check_groups(model, layer, part, channels, units)
            lost.setdefault((part.module, part.writes, part.dim), set()).update(channels)
    return {key: sorted(channels) for key, channels in lost.items()}


def _check_groups(model: nn.Module, layer: Layer, part: Part, channels: list[int], units: list[int]) -> None:
    module: Any = _found(model, part.module)
    if not isinstance(module, nn.Module) or leaves_groups_equal(module, torch.tensor(channels), part.writes):
        return
    raise UnsupportedModuleError(
        f"{part.module!r} ({type(module).__name__}) has {channel_groups(module)} groups of channels, which must stay "
        f"equally large, and would not without units {units} of layer {layer.name!r}: remove as many from each group, "
        "as select_units does, or leave the layer out of the selection"
    )


def _found(model: nn.Module, name: str) -> Any:
    """The module or parameter of that path."""
    path, _, last = name.rpartition(".")
    return getattr(model.get_submodule(path), last) if last else model


def _cut_parameter(model: nn.Module, name: str, dim: int, channels: list[int]) -> None:
    path, _, last = name.rpartition(".")
    old = _found(model, name)
    kept = complement(channels, old.shape[dim]).to(old.device)
    new = nn.Parameter(old.detach().index_select(dim, kept), requires_grad=old.requires_grad)
    setattr(model.get_submodule(path), last, new)


def _cut_module(module: Any, writes: bool, channels: list[int]) -> None:
    """Make one side of a module narrower; of each of its groups a grouped convolution keeps what is left there."""
    pruner = _pruner(module)
    if writes:
        pruner.prune_out_channels(module, channels)
        return
    weight = _group_columns(module, channels) if grouped(module) else None
    pruner.prune_in_channels(module, channels)
    if weight is not None:  # Torch-Pruning takes the columns left in the first group for all of them
        module.weight = nn.Parameter(weight, requires_grad=module.weight.requires_grad)


def _pruner(module: nn.Module) -> Any:
    """The object of Torch-Pruning's that knows how to cut a module of this type."""
    import torch_pruning

    from splinelib.layers.selection_pruner import ChannelSelectionPruner

    if isinstance(module, ChannelSelection):
        return ChannelSelectionPruner()
    return torch_pruning.pruner.function.PrunerBox[torch_pruning.ops.module2type(module)]


def _group_columns(module: Any, channels: list[int]) -> Tensor:
    """The weight of a grouped convolution without these input channels, equally many of each group."""
    kept = torch.ones(module.in_channels, dtype=torch.bool, device=module.weight.device)
    kept[channels] = False
    parts = zip(module.weight.detach().chunk(module.groups), kept.chunk(module.groups), strict=True)
    return torch.cat([weight[:, columns] for weight, columns in parts])


def complement(lost: Sequence[int], count: int) -> Tensor:
    """The numbers from 0 to ``count - 1`` that are not among ``lost``, int64."""
    kept = torch.ones(count, dtype=torch.bool)
    kept[list(lost)] = False
    return kept.nonzero().flatten()


def mask_units(
    model: nn.Module,
    example_inputs: Tensor,
    selection: Selection,
    layers: Sequence[Layer] | None = None,
) -> nn.Module:
    """A copy of ``model`` of full size in which nothing reads the selected units and nothing writes them.

    Computes the same function as :func:`remove_units` gives, at the full cost. Raises as that function does, and
    :class:`UnsupportedModuleError` where a norm over channels (layer norm, group norm) reads the units.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> images, selection = torch.ones(1, 2), {"0": [1]}
    >>> masked, smaller = mask_units(model, images, selection), remove_units(model, images, selection)
    >>> masked[0].out_features, torch.allclose(masked(images), smaller(images), atol=1e-6)
    (3, True)
    """
    lost = lost_channels(model, layers or read_layers(model, example_inputs), selection)
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for (name, writes, dim), channels in lost.items():
            found = _found(masked, name)
            if isinstance(found, nn.Parameter):
                found.movedim(dim, 0)[channels] = 0
            else:
                _silence(found, channels, writes)
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
    check("selection", selection, Selection)
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
