"""What runs can prune by: names of criteria, of compensations, and of whole methods, and how each is carried out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

from splinelib.criteria.activations import CodeDistance, OutputAngle
from splinelib.criteria.gradients import SNIP, GraSP, SynFlow, Taylor
from splinelib.criteria.reconstruction_error import ReconstructionCost, ThiNet
from splinelib.criteria.spline import Criterion, Spline
from splinelib.criteria.weights import FPGM, BatchNormScale, FilterNorm, Random
from splinelib.errors import SettingError
from splinelib.layers.network import Layer, read_layers
from splinelib.pruning.folding import fold_units
from splinelib.pruning.pipeline import Compensate, remove_compensated
from splinelib.pruning.selection import RatioOf, Scope, choose_share
from splinelib.pruning.surgery import Selection
from splinestudy.data import Calibration
from splinestudy.models import ChannelSelection

_SCORED = 512  # of them for scores that need gradients or feature maps of all layers

Start = Literal["trained", "initial", "early", "fresh", "lsuv", "through_data", "layerwise"]
"""What a pruned network starts from: the trained weights; those at initialisation or after two epochs (rewinding, as
lottery tickets do); or new random ones, which makes it the narrower network trained from scratch. The last three are
new ones as well, chosen cleverly as in :mod:`splinestudy.training.starts`; ``layerwise`` trains every block for an
epoch.
"""

FRESH: tuple[Start, ...] = ("fresh", "lsuv", "through_data", "layerwise")
"""Starts that need no dense network."""


_Maker = Callable[[int, Calibration], Criterion]

_MAKERS: dict[str, _Maker] = {
    "spline": lambda seed, data: Spline(),
    "spline_geometric": lambda seed, data: Spline(offset="geometric"),
    "l1": lambda seed, data: FilterNorm(1),
    "l2": lambda seed, data: FilterNorm(2),
    "bn_scale": lambda seed, data: BatchNormScale(),
    "fpgm": lambda seed, data: FPGM(),
    "random": lambda seed, data: Random(seed),
    "taylor": lambda seed, data: Taylor(data.images[:_SCORED], data.labels[:_SCORED]),
    "snip": lambda seed, data: SNIP(data.images[:_SCORED], data.labels[:_SCORED]),
    "grasp": lambda seed, data: GraSP(data.images[:_SCORED], data.labels[:_SCORED]),
    "synflow": lambda seed, data: SynFlow(data.images[:1]),
    "code_distance": lambda seed, data: CodeDistance(data.images[:_SCORED]),
    "output_angle": lambda seed, data: OutputAngle(data.images[:_SCORED]),
    "thinet": lambda seed, data: ThiNet(data.images),
    "reconstruction": lambda seed, data: ReconstructionCost(data.images),
}

ABLATIONS: dict[str, Spline] = {
    **{f"spline rho={rho:g}": Spline(rho=rho) for rho in (0.0, 0.01, 0.2, 1.0)},
    **{f"spline geometric rho={rho:g}": Spline(rho=rho, offset="geometric") for rho in (0.01, 0.2, 1.0)},
    "spline drop=closer_second": Spline(drop="closer_second"),
    "spline drop=random": Spline(drop="random"),
    "spline unfolded": Spline(fold=False),
    "spline same_side": Spline(orientation="same"),
}
"""Variants of the spline criterion, one choice changed at a time."""

PROCEDURES = ("folding", "sfp")
"""Methods that choose units in a way of their own: Model Folding, and soft filter pruning while training goes on."""

CRITERIA = (*_MAKERS, *ABLATIONS)
METHODS = (*CRITERIA, *PROCEDURES)


def make_criterion(name: str, seed: int, data: Calibration) -> Criterion:
    """The criterion of that name; ``seed`` is used by ``random`` alone, ``data`` by those that need images."""
    if name in ABLATIONS:
        return ABLATIONS[name]
    if name not in _MAKERS:
        raise SettingError(f"criterion is {name!r}: choose one of {', '.join(CRITERIA)}")
    return _MAKERS[name](seed, data)


def check_method(name: str, compensate: str, start: str, scope: str) -> None:
    """Raise :class:`SettingError` for names that there are not, or that do not go together."""
    for field, value, choices in (
        ("criterion", name, METHODS),
        ("compensate", compensate, get_args(Compensate)),
        ("start", start, get_args(Start)),
    ):
        if value not in choices:
            raise SettingError(f"{field} is {value!r}: choose one of {', '.join(choices)}")
    if name in PROCEDURES and (compensate, start, scope) != ("none", "trained", "layerwise"):
        raise SettingError(
            f"{name!r} is a method of its own, with compensate 'none', start 'trained' and scope 'layerwise'; "
            f"they are {compensate!r}, {start!r} and {scope!r}"
        )


def choose_units(
    model: nn.Module,
    criterion: str,
    ratio: float,
    scope: Scope,
    seed: int,
    data: Calibration,
    ratio_of: RatioOf = "units",
) -> Selection:
    """The units that the criterion of that name gives up."""
    layers = read_layers(model, data.images[:2])
    return _chosen(model, layers, criterion, ratio, scope, seed, data, ratio_of)


def _chosen(
    model: nn.Module,
    layers: Sequence[Layer],
    criterion: str,
    ratio: float,
    scope: Scope,
    seed: int,
    data: Calibration,
    ratio_of: RatioOf,
) -> Selection:
    scores = make_criterion(criterion, seed, data)(model, layers)
    return choose_share(model, data.images[:2], layers, scores, ratio, scope, ratio_of)


def shrink(
    model: nn.Module,
    method: str,
    ratio: float,
    scope: Scope,
    compensate: Compensate,
    seed: int,
    data: Calibration,
    ratio_of: RatioOf = "units",
) -> nn.Module:
    """``model`` without ``ratio`` of its units or FLOPs by that method (``sfp`` by its score, the filters' L2 norm)."""
    example = data.images[:2]
    if method == "folding":
        return fold_units(model, example, ratio, seed)
    criterion = "l2" if method == "sfp" else method
    layers = read_layers(model, example)
    selection = _chosen(model, layers, criterion, ratio, scope, seed, data, ratio_of)
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
        selection = choose_units(model, "l2", self.ratio, "layerwise", 0, self.data)
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
