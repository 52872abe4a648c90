"""Pre-activations of a network's non-linearities, and which prunable layer each of them belongs to."""

from collections.abc import Sequence

from torch import Tensor, nn

from splinelib.errors import UnsupportedModuleError
from splinelib.hooks import evaluating, tapped
from splinelib.layers.layer import Layer


def pre_activations(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Pre-activations ``[N, ...]`` at every non-linearity, in execution order, in eval mode and without gradients."""
    seen: list[Tensor] = []
    with evaluating(model), tapped(lambda index, z: seen.append(z.detach().clone())):
        model(inputs)
    return seen


def tap_of_layer(model: nn.Module, layers: Sequence[Layer], example_inputs: Tensor) -> list[int]:
    """For each prunable layer the number of the non-linearity that its units go through.

    Layers and non-linearities are matched in order, by their number of units.

    Raises:
        UnsupportedModuleError: a layer finds no non-linearity with as many units, as in networks where units are read
            in another order than they are named, or without a non-linearity behind them.
    """
    sizes = [z.shape[1] for z in pre_activations(model, example_inputs[:1])]
    taps, at = [], 0
    for layer in layers:
        while at < len(sizes) and sizes[at] != layer.units:
            at += 1
        if at == len(sizes):
            raise UnsupportedModuleError(
                f"layer {layer.name!r} of {layer.units} units has no non-linearity of its own among those of "
                f"{sizes} units: give the layers of a network that is one chain of modules"
            )
        taps.append(at)
        at += 1
    return taps


def channel_values(z: Tensor) -> Tensor:
    """``[N, units, positions]`` from pre-activations ``[N, units, ...]``; fully connected units have one position."""
    return z.reshape(len(z), z.shape[1], -1)
