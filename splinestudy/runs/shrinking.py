"""How runs carry a method out: the units that it gives up, the smaller network, and pruning while training goes on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

from splinelib.errors import SettingError
from splinelib.layers.layer import Layer
from splinelib.layers.network import read_layers
from splinelib.pruning.flops import count_flops
from splinelib.pruning.folding import fold_units
from splinelib.pruning.pipeline import Compensate, remove_compensated
from splinelib.pruning.selection import (
    Normalize,
    RatioOf,
    Scope,
    choose_share,
    normalized,
    select_units,
)
from splinelib.pruning.surgery import Selection, cut
from splinestudy.data import Calibration
from splinestudy.models import ChannelSelection
from splinestudy.runs.methods import METHODS, choices, make_criterion

NormalizeOrFlops = Normalize | Literal["flops"]
"""What makes layers comparable: as :func:`splinelib.pruning.select_units` does, or by its mean and per operation."""


def check_method(name: str, compensate: str, start: str, scope: str) -> None:
    """Raise :class:`SettingError` for a method that there is not, or settings that do not go with it."""
    if name not in choices():
        raise SettingError(f"criterion is {name!r}: choose one of {', '.join(choices())}")
    if METHODS[name].role == "procedure" and (compensate, start, scope) != ("none", "trained", "layerwise"):
        raise SettingError(
            f"{name!r} is a method of its own, with compensate 'none', start 'trained' and scope 'layerwise'; "
            f"they are {compensate!r}, {start!r} and {scope!r}"
        )


@dataclass(frozen=True)
class Choice:
    """Which units a network gives up: what a run's settings say about it.

    Attributes:
        method: one of :func:`splinestudy.runs.methods.choices`; procedures choose by a score of their own.
        ratio: the share to give up.
        scope: ``"layerwise"`` or ``"global"``.
        ratio_of: what ``ratio`` is a share of.
        normalize: that of :func:`splinelib.pruning.select_units`, or ``"flops"``: by the layer's mean, and then per
            operation that a unit of the layer costs.
        allocation: the criterion that says how many units each layer loses; ``""`` for the method itself.
    """

    method: str
    ratio: float
    scope: Scope = "layerwise"
    ratio_of: RatioOf = "units"
    normalize: NormalizeOrFlops = "mean"
    allocation: str = ""


def choose_units(
    model: nn.Module, choice: Choice, seed: int, data: Calibration, layers: Sequence[Layer] | None = None
) -> Selection:
    """The units that ``model`` gives up, by layer name."""
    example = data.images[:2]
    layers = read_layers(model, example) if layers is None else layers
    scores = make_criterion(choice.method, seed, data)(model, layers)
    if choice.allocation:
        own = replace(choice, method=choice.allocation, allocation="")
        widths = choose_units(model, own, seed, data, layers)
        shares = {one.name: len(widths[one.name]) / one.units for one in layers if one.name in widths}
        return select_units(layers, scores, shares)
    if choice.normalize == "flops":
        costs = _flops_per_unit(model, example, layers)
        scores = [normalized(score, "mean") / cost for score, cost in zip(scores, costs, strict=True)]
    how: Normalize = "none" if choice.normalize == "flops" else choice.normalize
    return choose_share(
        model, example, layers, scores, choice.ratio, choice.scope, choice.ratio_of, normalize=how
    )


def _flops_per_unit(model: nn.Module, example: Tensor, layers: Sequence[Layer]) -> list[float]:
    """Operations that the network saves with a layer's first unit, as a share of all; at least a millionth."""
    whole = count_flops(model, example)
    left = [count_flops(cut(model, layers, {layer.name: [0]}), example) for layer in layers]
    return [max(whole - flops, 1e-6 * whole) / whole for flops in left]


def shrink(
    model: nn.Module, choice: Choice, compensate: Compensate, seed: int, data: Calibration
) -> nn.Module:
    """``model`` without these units (``sfp`` by its score, the filters' L2 norm)."""
    example = data.images[:2]
    if choice.method == "folding":
        return fold_units(model, example, choice.ratio, seed)
    layers = read_layers(model, example)
    own = replace(choice, method="l2") if choice.method == "sfp" else choice
    selection = choose_units(model, own, seed, data, layers)
    return remove_compensated(model, example, layers, selection, compensate, data.images)


@dataclass
class SoftPruning:
    """Training callback of soft filter pruning (He et al., IJCAI 2018): zeroes the weakest filters after every epoch.

    The share ``ratio`` of each layer's filters with the smallest L2 norm is set to zero, and free to grow again. A
    residual stream that blocks only select from stays whole, as it does when they are cut.
    """

    ratio: float
    data: Calibration

    def after_epoch(self, model: nn.Module, epoch: int) -> dict[str, Any]:
        """Zero the filters in place; measures nothing."""
        selection = choose_units(model, Choice("l2", self.ratio), 0, self.data)
        for layer in read_layers(model, self.data.images[:2]):
            if not isinstance(model.get_submodule(layer.name), ChannelSelection):
                for writer in layer.writers:
                    module: Any = model.get_submodule(writer.module)
                    module.weight.data[selection.get(layer.name, [])] = 0
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Nothing: all is in the weights."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over nothing."""
