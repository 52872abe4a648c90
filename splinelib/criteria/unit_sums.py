"""Sums over units of what is known of single parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from splinelib.criteria.loss_gradients import Saliency
from splinelib.errors import TrainingError, UnsupportedModuleError
from splinelib.layers.channel_selection import ChannelSelection
from splinelib.layers.layer import Layer


def unit_sums(
    model: nn.Module, layers: Sequence[Layer], saliency: Saliency, biases: bool = False
) -> list[Tensor]:
    """Sum of a saliency of parameters over each unit, float64 [units] for each layer.

    Args:
        model: the network whose parameters are the keys of ``saliency``.
        layers: prunable layers.
        saliency: a tensor for each parameter, of its shape.
        biases: False sums over the weights of the unit's writers; True adds their biases, and scale and shift of the
            batch norms that belong to the unit.

    Raises :class:`UnsupportedModuleError` if a weight is computed from other parameters (a parametrization, a mask),
    or the writers of a layer have different widths.
    """
    return [_layer_sums(model, layer, saliency, biases) for layer in layers]


def _layer_sums(model: nn.Module, layer: Layer, saliency: Saliency, biases: bool) -> Tensor:
    names = [writer.module for writer in layer.writers]
    if biases:
        names += [norm for norm in (layer.norm, *(w.norm for w in layer.writers)) if norm is not None]
    parts = []
    for name in names:
        module = model.get_submodule(name)
        parameters = [module.weight, module.bias] if biases else [module.weight]
        for parameter in parameters:
            if isinstance(parameter, Tensor):
                parts.append(layer.by_unit(name, _row_sums(module, _of(saliency, parameter, name))))
    if len({len(part) for part in parts}) != 1:
        raise UnsupportedModuleError(
            f"layer {layer.name!r} is written by {names}, of different widths {[len(part) for part in parts]}: "
            "a unit has no row in each of them, leave the layer out"
        )
    total = torch.stack(parts).sum(0)
    root = model.get_submodule(layer.name)
    total = total[root.indexes] if isinstance(root, ChannelSelection) else total
    if not bool(total.isfinite().all()):
        raise TrainingError(f"scores of layer {layer.name!r} are not finite: the network has diverged")
    return total


def _of(saliency: Saliency, parameter: Tensor, name: str) -> Tensor:
    if not isinstance(parameter, nn.Parameter):
        raise UnsupportedModuleError(
            f"{name!r} computes its weight from other parameters, which have no rows of their own: make it a plain "
            "parameter (torch.nn.utils.parametrize.remove_parametrizations, torch.nn.utils.prune.remove)"
        )
    return saliency[parameter]


def _row_sums(module: nn.Module, values: Tensor) -> Tensor:
    """Sum over each output channel, float64 [out], of values shaped like the module's weight or bias."""
    if isinstance(module, nn.modules.conv._ConvTransposeNd) and values.ndim > 1:  # [in, out / groups, ...]
        values = values.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1)
    return values.double().reshape(len(values), -1).sum(1)
