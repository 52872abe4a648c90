"""Whether layers are those of the model at hand: asked before any work is done."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from splinelib.checks import check
from splinelib.errors import SettingError
from splinelib.hooks import Inputs
from splinelib.layers.layer import Layer
from splinelib.layers.network import read_layers


def layers_of(model: nn.Module, example_inputs: Inputs, layers: Sequence[Layer] | None) -> Sequence[Layer]:
    """``layers``, if they are layers of ``model`` (:func:`check_layers`); read where there are none."""
    if not layers:
        return read_layers(model, example_inputs)
    check_layers(model, layers)
    return layers


def check_layers(model: nn.Module, layers: Sequence[Layer]) -> None:
    """Raise :class:`SettingError` unless ``layers`` are layers of ``model``, by the names and widths of its modules."""
    check("model", model, nn.Module)
    check("layers", layers, Sequence[Layer])
    if hasattr(model, "_orig_mod"):
        raise SettingError(
            f"the model is compiled, and its layers are those of the {type(model._orig_mod).__name__} inside: give "
            "model._orig_mod"
        )
    modules: dict[str, Any] = dict(model.named_modules())
    for layer in layers:
        names = [layer.name, *(writer.module for writer in layer.writers), *layer.readers]
        module = modules.get(layer.name)
        width: list[int] = [getattr(module, name, layer.units) for name in ("out_features", "out_channels")]
        # A unit may be several channels, one of each block that a network divides a layer into.
        if not modules.keys() >= set(names) or any(channels % layer.units for channels in width):
            raise SettingError(
                f"layer {layer.name!r} of {layer.units} units is none of this {type(model).__name__}: give what "
                "read_layers says of this model"
            )
