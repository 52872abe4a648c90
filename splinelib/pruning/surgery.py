"""From a selection to a smaller network: masking units and removing them.

The steps can be combined at will: ``read_layers`` → criterion → ``select_units`` → ``remove_units`` (or ``mask_units``
for comparison). :func:`splinelib.prune` is the whole way in one call.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.checks import check, checked
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import Inputs, duplicate, evaluating, run
from splinelib.layers import cutting
from splinelib.layers.fit import layers_of
from splinelib.layers.groups import channel_groups, grouped, leaves_groups_equal
from splinelib.layers.images import check_inputs
from splinelib.layers.kinds import axis_of, mixes_channels, redirect, weight_norm
from splinelib.layers.layer import Layer, Part
from splinelib.layers.network import eager
from splinelib.pruning.cut import remove_channels

Selection = dict[str, list[int]]
"""Units to prune: sorted unit indices by layer name."""
Units = Mapping[str, Sequence[int] | Tensor | np.ndarray]
"""What is taken for a :data:`Selection`."""


@checked
def remove_units(
    model: nn.Module,
    example_inputs: Inputs,
    selection: Units,
    layers: Sequence[Layer] | None = None,
) -> nn.Module:
    """A copy of ``model`` without the selected units: every module that writes or reads them is made smaller.

    ``layers`` are those of ``model`` (:func:`splinelib.read_layers`) where they are known already, so that it is not
    read again.

    Raises:
        SettingError: for a unit or a layer that the model does not have, or a layer that would lose all its units.
        UnsupportedModuleError: where the model cannot do without the units, since the groups of a grouped convolution
            or group norm would lose unequally many channels, or it counts on their number.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> smaller = remove_units(model, torch.zeros(1, 2), {"0": [1]})
    >>> smaller[0].out_features, smaller[2].in_features
    (2, 2)
    """
    model = eager(model)
    pruned = cut(model, layers_of(model, example_inputs, layers), selection)
    try:
        with evaluating(pruned):
            run(pruned, example_inputs)
    except Exception as error:
        check_inputs(model, example_inputs)
        raise UnsupportedModuleError(
            f"{type(model).__name__} does not run without units of {list(selection)}, since its forward pass counts "
            f"on their number ({error}): leave these layers out, or name them in `ignore`"
        ) from error
    return pruned


def cut(model: nn.Module, layers: Sequence[Layer], selection: Units) -> nn.Module:
    """What :func:`remove_units` gives, without trying whether it runs."""
    selection = _checked(layers, selection)
    units = {layer.name: layer.units for layer in layers}
    return remove_channels(model, lost_channels(model, layers, selection), selection, units)


def lost_channels(
    model: nn.Module, layers: Sequence[Layer], selection: Units
) -> dict[tuple[str, bool, int], list[int]]:
    """The channels that every module loses with the selected units, by its name, whether it writes them, and axis."""
    selection = _checked(layers, selection)
    lost: dict[tuple[str, bool, int], set[int]] = {}
    for layer in layers:
        units = selection.get(layer.name, [])
        for part in layer.parts if units else ():
            channels = part.of(units)
            _check_groups(model, layer, part, channels, units)
            lost.setdefault((part.module, part.writes, part.dim), set()).update(channels)
    return {key: sorted(channels) for key, channels in lost.items()}


def _check_groups(model: nn.Module, layer: Layer, part: Part, channels: list[int], units: list[int]) -> None:
    module: Any = cutting.found(model, part.module)
    if not isinstance(module, nn.Module) or leaves_groups_equal(module, torch.tensor(channels), part.writes):
        return
    raise UnsupportedModuleError(
        f"{part.module!r} ({type(module).__name__}) has {channel_groups(module)} groups of channels, which must stay "
        f"equally large, and would not without units {units} of layer {layer.name!r}: remove as many from each group, "
        "as select_units does, or leave the layer out of the selection"
    )


@checked
def mask_units(
    model: nn.Module,
    example_inputs: Inputs,
    selection: Units,
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
    model = eager(model)
    lost = lost_channels(model, layers_of(model, example_inputs, layers), selection)
    masked = duplicate(model)
    with torch.no_grad():
        for (name, writes, dim), channels in lost.items():
            found = cutting.found(masked, name)
            if isinstance(found, Tensor):
                found.movedim(dim, 0)[channels] = 0
            elif isinstance(found, nn.Module):
                _silence(found, channels, writes)
    return masked


def _silence(module: Any, channels: list[int], writes: bool) -> None:
    """Zero the parameters with which ``module`` writes, or reads, these channels."""
    if mixes_channels(module):
        raise UnsupportedModuleError(
            f"{module} normalises over channels, so no mask computes what removal gives: use remove_units"
        )
    if isinstance(module, nn.PReLU):  # keeps zeros as they are
        return
    for name, tensor in module._parameters.items():
        axis = None if tensor is None else axis_of(module, name, writes)
        if axis is not None:
            _zero(module, tensor, axis, channels)
    if norm := weight_norm(module):
        axis = axis_of(module, "weight", writes)
        if axis == norm[0].dim:  # a direction of zeros would have no length
            _zero(module, norm.original0, axis, channels)
        else:
            redirect(norm, _zero(module, norm.original1.clone(), axis, channels))


def _zero(module: Any, tensor: Tensor, axis: Any, channels: list[int]) -> Tensor:
    """Zero a module's channels along an axis of one of its tensors, in place."""
    if grouped(module) and axis == 1:  # which holds the channels of one group
        size = tensor.shape[1]
        for channel in channels:
            tensor.chunk(module.groups)[channel // size][:, channel % size] = 0
    else:
        tensor.movedim(axis, 0)[channels] = 0
    return tensor


def _checked(layers: Sequence[Layer], selection: Units) -> Selection:
    """The selection in Python's own numbers, if these are distinct units of the layers."""
    plain: Any = {
        name: units.tolist() if isinstance(units, Tensor | np.ndarray) else units
        for name, units in selection.items()
    }
    check("selection", plain, Mapping[str, Sequence[int]])
    sizes = {layer.name: layer.units for layer in layers}
    for name, units in plain.items():
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
    return {name: [int(unit) for unit in units] for name, units in plain.items()}
