"""The registry of methods: what is known of each stands here, a row a method, and everything else derives from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from splinelib.criteria.activations import CodeDistance, OutputAngle
from splinelib.criteria.gradients import SNIP, GraSP, SynFlow, Taylor
from splinelib.criteria.grouping import SplineGroups
from splinelib.criteria.reconstruction_error import ReconstructionCost, ThiNet
from splinelib.criteria.spline import Criterion, Spline
from splinelib.criteria.weights import FPGM, BatchNormScale, FilterNorm, Random
from splinelib.errors import SettingError
from splinestudy.data import Calibration

Role = Literal["score", "variant", "procedure", "combination"]
"""What a method is: a score of units, which the studies of methods compare; the spline criterion with one choice
changed; a procedure that chooses units in a way of its own, and that runs name as they name a criterion; or a
combination of a criterion with other settings of the run, whose name no run has.
"""

Family = Literal["boundaries", "weights", "gradients", "outputs", "controls"]
"""What a method looks at: where units cut their inputs, weights, slopes, outputs on data; controls at none of them."""

Era = Literal["paper", "today", "ours"]
"""When a method is from: published by the time of the paper (2022), since then, or made here."""

Start = Literal["trained", "initial", "early", "fresh", "lsuv", "through_data", "layerwise"]
"""What a pruned network starts from: the trained weights; those at initialisation or after two epochs (rewinding, as
lottery tickets do); or new random ones, which makes it the narrower network trained from scratch. The last three are
new ones as well, chosen cleverly as in :mod:`splinestudy.training.starts`; ``layerwise`` trains every block for an
epoch.
"""

FRESH: tuple[Start, ...] = ("fresh", "lsuv", "through_data", "layerwise")
"""Starts that need no dense network."""

_SCORED = 512  # images for scores that need gradients or feature maps of all layers


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: its name in the settings of runs, and in tables. It never changes, for records are named by hashes.
        label: what the book calls it.
        family: by which figures colour it.
        marker: its sign in figures, which no other of its family has.
        era: when it is from.
        role: what it is.
        make: its criterion, from a seed and the calibration batch; None for procedures and combinations.
        compensated: compared with compensation as well.
        short: a shorter label (:attr:`brief`).
        curve: colour and dash of its curves, where it does not take those of its family. The methods that most
            figures compare are then told apart at first sight.
        start: the weights that a combination is named for.
        early_bird: a combination whose tickets are drawn by a detector.
    """

    name: str
    label: str
    family: Family
    marker: str
    era: Era
    role: Role = "score"
    make: Callable[[int, Calibration], Criterion] | None = None
    compensated: bool = False
    short: str = ""
    curve: tuple[str, str] | None = None
    start: Start | None = None
    early_bird: bool = False

    @property
    def brief(self) -> str:
        """What the book calls it where more is said beside it."""
        return self.short or self.label


def _labelled(kind: Callable[..., Criterion]) -> Callable[[int, Calibration], Criterion]:
    """The maker of a criterion that takes images with their labels."""
    return lambda seed, data: kind(data.images[:_SCORED], data.labels[:_SCORED])


def _variant(name: str, criterion: Spline, label: str = "") -> Method:
    return Method(name, label or name, "boundaries", ".", "ours", "variant", lambda seed, data: criterion)


def _narrow(name: str, label: str, marker: str, start: Start = "fresh") -> Method:
    return Method(name, label, "controls", marker, "paper", "combination", start=start)


# fmt: off
_ROWS = (
    Method("spline", "spline", "boundaries", "o", "paper", make=lambda seed, data: Spline(), compensated=True,
           curve=("#0072B2", "-")),
    Method("spline_geometric", "spline, geometric offset", "boundaries", "P", "ours",
           make=lambda seed, data: Spline(offset="geometric"), curve=("#56B4E9", "-")),
    Method("spline_groups", "spline, isolated groups", "boundaries", "h", "ours",
           make=lambda seed, data: SplineGroups()),
    Method("l1", "filter L1 norm", "weights", "s", "paper", make=lambda seed, data: FilterNorm(1), compensated=True,
           short="filter L1"),
    Method("l2", "filter L2 norm", "weights", "D", "paper", make=lambda seed, data: FilterNorm(2), short="filter L2"),
    Method("bn_scale", "batch-norm scale", "weights", "^", "paper", make=lambda seed, data: BatchNormScale(),
           short="BN scale", curve=("#009E73", "-.")),
    Method("fpgm", "geometric median (FPGM)", "weights", "p", "paper", make=lambda seed, data: FPGM(), short="FPGM",
           curve=("#8A3B00", "--")),
    Method("random", "random", "controls", "X", "paper", make=lambda seed, data: Random(seed), compensated=True,
           curve=("#666666", ":")),
    Method("taylor", "Taylor", "gradients", "<", "paper", make=_labelled(Taylor)),
    Method("snip", "SNIP", "gradients", ">", "paper", make=_labelled(SNIP)),
    Method("grasp", "GraSP", "gradients", "*", "paper", make=_labelled(GraSP)),
    Method("synflow", "SynFlow", "gradients", "d", "paper", make=lambda seed, data: SynFlow(data.images[:1])),
    Method("code_distance", "code distance on data", "boundaries", "8", "ours",
           make=lambda seed, data: CodeDistance(data.images[:_SCORED])),
    Method("output_angle", "output angle on data", "outputs", "d", "ours",
           make=lambda seed, data: OutputAngle(data.images[:_SCORED])),
    Method("thinet", "ThiNet", "outputs", "s", "paper", make=lambda seed, data: ThiNet(data.images),
           compensated=True),
    Method("reconstruction", "greedy reconstruction", "outputs", "o", "ours",
           make=lambda seed, data: ReconstructionCost(data.images), compensated=True),
    *(_variant(f"spline rho={rho:g}", Spline(rho=rho)) for rho in (0.0, 0.01, 0.2, 1.0)),
    *(_variant(f"spline geometric rho={rho:g}", Spline(rho=rho, offset="geometric")) for rho in (0.01, 0.2, 1.0)),
    _variant("spline drop=closer_second", Spline(drop="closer_second")),
    _variant("spline drop=random", Spline(drop="random")),
    _variant("spline unfolded", Spline(fold=False)),
    _variant("spline same_side", Spline(orientation="same"), "spline, pairs that face one way"),
    Method("folding", "Model Folding", "weights", "H", "today", "procedure"),
    Method("sfp", "soft filter pruning", "weights", "h", "paper", "procedure"),
    Method("slimming", "network slimming", "weights", "v", "paper", "combination", curve=("#E69F00", "-.")),
    Method("EB Train", "EB Train", "weights", "X", "paper", "combination", early_bird=True),
    Method("ticket initial", "lottery ticket, initial weights", "controls", "<", "paper", "combination",
           start="initial"),
    Method("ticket early", "lottery ticket, early weights", "controls", ">", "paper", "combination", start="early"),
    _narrow("narrow", "narrow network from scratch", "v"),
    _narrow("narrow lsuv", "narrow, LSUV", "^", "lsuv"),
    _narrow("narrow through_data", "narrow, boundaries through data", "P", "through_data"),
    _narrow("narrow layerwise", "narrow, pretrained layerwise", "s", "layerwise"),
    _narrow("narrow early", "narrow, as long as an early ticket costs", "d"),
    _narrow("narrow long", "narrow, as long as a lottery ticket costs", "D"),
)
# fmt: on

METHODS: dict[str, Method] = {row.name: row for row in _ROWS}
"""Every method, by name."""


def names_of(*roles: Role) -> tuple[str, ...]:
    """The names of the methods in these roles, in the order of the registry."""
    return tuple(row.name for row in METHODS.values() if row.role in roles)


def choices() -> tuple[str, ...]:
    """What a run's ``criterion`` can be: scores, variants and procedures."""
    return names_of("score", "variant", "procedure")


def make_criterion(name: str, seed: int, data: Calibration) -> Criterion:
    """The criterion of that name; ``seed`` is used by ``random`` alone, ``data`` by those that need images."""
    row = METHODS.get(name)
    if row is None or row.make is None:
        raise SettingError(f"criterion is {name!r}: choose one of {', '.join(names_of('score', 'variant'))}")
    return row.make(seed, data)
