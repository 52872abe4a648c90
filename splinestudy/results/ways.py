"""What was done to get a pruned network, as one value: tables and figures ask it, and read nothing off a name."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from splinelib.errors import SettingError
from splinelib.pruning.pipeline import Compensate
from splinelib.pruning.selection import Scope
from splinestudy.runs.methods import METHODS, Method
from splinestudy.runs.shrinking import NormalizeOrFlops

_COMPENSATIONS: dict[Compensate, str] = {"least_squares": "least squares", "merge": "merging"}
_NORMALISATIONS: dict[NormalizeOrFlops, str] = {
    "rank": "scores by rank",
    "none": "scores as they are",
    "flops": "scores per operation",
}


@dataclass(frozen=True)
class Way:
    """A method as a record carried it out. Tables hold ways in a column, sorted by :attr:`id`.

    Attributes:
        method: name of a row of :data:`splinestudy.runs.methods.METHODS`.
        compensate: what was done about the removed units.
        draw: when the units were chosen, where the method leaves it open: at the end of the dense training, at its
            start, where a detector drew, or after so many epochs; ``"epochs"`` stands for any number of them.
        anew: new weights in the shape that the detector's draw left.
        slimmed: the dense network was trained with L1 on its batch-norm scales, which is not part of the method.
        retrained: trained on at the dense run's full rate, where others fine-tune.
        scope: where units compete.
        normalize: what makes layers comparable in global scope, if it is not their mean.
        allocation: the method whose widths the layers got in global scope, if not their own.
    """

    method: str
    compensate: Compensate = "none"
    draw: Literal["end", "start", "detector", "epochs"] | int = "end"
    anew: bool = False
    slimmed: bool = False
    retrained: bool = False
    scope: Scope = "layerwise"
    normalize: NormalizeOrFlops = "mean"
    allocation: str = ""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SettingError(f"method is {self.method!r}: choose one of {', '.join(METHODS)}")

    @property
    def row(self) -> Method:
        """What the registry knows of the method."""
        return METHODS[self.method]

    @property
    def id(self) -> str:
        """A short name, unique and lasting, for files and the order of tables. Nothing reads it."""
        drawn = {"start": " at start", "detector": " early bird", "epochs": " at any epoch"}
        parts = (
            self.method,
            " after slimming" if self.slimmed else "",
            f" at epoch {self.draw}" if isinstance(self.draw, int) else drawn.get(self.draw, ""),
            " anew" if self.anew else "",
            "" if self.compensate == "none" else f" + {self.compensate}",
            "" if self.normalize == "mean" else f" by {self.normalize}",
            f" at widths of {self.allocation}" if self.allocation else "",
            " retrained" if self.retrained else "",
            " (global)" if self.scope == "global" else "",
        )
        return "".join(parts)

    @property
    def label(self) -> str:
        """What the book calls it."""
        parts = [self._named()]
        if self.anew:
            parts.append("new weights")
        if self.slimmed:
            parts.append("trained with L1 on the scales")
        if self.compensate != "none":
            parts.append(_COMPENSATIONS[self.compensate])
        if self.normalize != "mean":
            parts.append(_NORMALISATIONS[self.normalize])
        if self.allocation:
            parts.append(f"widths by {METHODS[self.allocation].label}")
        if self.retrained:
            parts.append("retrained at full rate")
        if self.scope == "global":
            parts.append("global")
        return ", ".join(parts)

    def _named(self) -> str:
        """The method, and the moment of its draw."""
        if self.draw == "start":
            return f"{self.row.brief} at initialisation"
        if self.draw == "detector":
            return f"{self.row.brief} early bird"
        if self.draw != "end":
            epoch = "(number)" if self.draw == "epochs" else self.draw
            return f"{self.row.label} ticket of epoch {epoch}, schedule anew"
        return self.row.brief if self.retrained else self.row.label

    @property
    def is_early_bird(self) -> bool:
        """Whether a detector drew its ticket."""
        return self.draw == "detector" or self.row.early_bird

    def at_any_epoch(self) -> "Way":
        """The same for all tickets that are drawn at fixed moments, whichever; others are returned as they are."""
        return replace(self, draw="epochs") if isinstance(self.draw, int) else self

    def alone(self) -> "Way":
        """Without epoch, full rate and scope, which tables of like networks need not tell apart."""
        draw = "end" if isinstance(self.draw, int) else self.draw
        return replace(self, draw=draw, retrained=False, scope="layerwise")

    def __str__(self) -> str:
        return self.id

    def __lt__(self, other: "Way") -> bool:
        return self.id < other.id


SPLINE = Way("spline")
"""The paper's criterion by itself: what others are compared with."""

NARROW = Way("narrow")
"""The control without any choice: only studies of every method have it."""


def way_of(settings: Mapping[str, Any]) -> Way:
    """What the settings of a prune or one-shot record do."""
    train, tuned = settings["dense"]["train"], settings.get("finetune")
    trained = settings.get("start", "trained") == "trained"
    draw = _DRAWS.get(settings.get("draw", "end"), settings.get("draw", "end"))
    row = METHODS[_method(settings)]
    return Way(
        row.name,
        settings.get("compensate", "none"),
        "end" if row.early_bird else draw,
        anew=not trained and row.role != "combination",
        slimmed=trained and row.role != "combination" and bool(train["norm_l1"]),
        retrained=trained and draw == "end" and tuned is not None and tuned["lr"] == train["lr"],
        scope=settings["scope"],
        normalize=settings.get("normalize", "mean"),
        allocation=settings.get("allocation", ""),
    )


_DRAWS = {0: "start", "spline": "detector", "mask": "detector"}


def _method(settings: Mapping[str, Any]) -> str:
    """The criterion, or the combination that it makes with other settings."""
    start, draw = settings.get("start", "trained"), settings.get("draw", "end")
    detected = draw in ("spline", "mask")
    if start == "fresh" and not detected:
        return _narrow(settings)
    if start not in ("trained", "fresh"):
        return next(row.name for row in METHODS.values() if row.start == start)
    if start == "trained" and settings["criterion"] == "bn_scale":
        if draw == "mask":
            return "EB Train"
        if settings["dense"]["train"]["norm_l1"] and not detected:
            return "slimming"
    return settings["criterion"]


def _narrow(settings: Mapping[str, Any]) -> str:
    """The narrow network by how long it is trained: with new weights no criterion matters, nor the dense network."""
    longer, standard = settings["finetune"]["epochs"], settings["dense"]["train"]["epochs"]
    if longer <= standard:
        return "narrow"
    # For fewer operations than the dense run, as an early ticket; or for more, as a lottery ticket.
    return "narrow early" if longer * (1 - settings["ratio"]) ** 2 < standard else "narrow long"
