"""The committed studies: which sweeps, at which settings, the records beside the source belong to. All in one list."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from splinelib.errors import SettingError
from splinestudy.runs.plans import plan
from splinestudy.runs.profiles import Profile, get_profile
from splinestudy.runs.provenance import SOURCE
from splinestudy.runs.records import Record, run_key
from splinestudy.runs.run import Run
from splinestudy.runs.store import RecordStore


@dataclass(frozen=True)
class Study:
    """One call of a sweep whose records are committed.

    ``overrides`` replace single settings of the profile, as the options of the command line do.
    """

    sweep: str
    profile: str
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> Profile:
        """The profile with its overrides."""
        return get_profile(self.profile, **self.overrides)

    def runs(self) -> list[Run]:
        """The runs of the sweep, those included that are not committed yet."""
        given = {name: tuple(v) if isinstance(v, list) else v for name, v in self.overrides.items()}
        return list(_runs(self.sweep, self.profile, tuple(given.items())))

    def command(self) -> str:
        """The command that computes the runs, or those that a store lacks."""
        options = "".join(
            f" --{name.replace('_', '-')} "
            + " ".join(map(str, value if isinstance(value, tuple) else (value,)))
            for name, value in self.overrides.items()
        )
        return f"python -m splinestudy sweep {self.sweep} --profile {self.profile}{options} --store STORE"


@cache
def _runs(sweep: str, profile: str, overrides: tuple[tuple[str, Any], ...]) -> tuple[Run, ...]:
    """What one chapter asks dozens of times."""
    return tuple(plan(sweep, get_profile(profile, **dict(overrides))))


def _all(sweeps: str, profile: str, **overrides: Any) -> tuple[Study, ...]:
    return tuple(Study(sweep, profile, overrides) for sweep in sweeps.split())


UNTRAINED = {"seeds": (0,), "curve": (0.3, 0.5), "criteria": ("l1", "reconstruction")}
"""What is compared without a training step at the paper's width."""

STUDIES: tuple[Study, ...] = (
    *_all("early_bird", "paper"),
    *_all("early_bird", "residual", arch="preresnet101", width=0.25, images=10_000),
    *_all("core core_flops birds", "residual"),
    *_all("core core_flops birds", "reference"),
    *_all("sensitivity compensation compensation_global calibration", "reference"),
    *_all("core core_flops methods savings tickets scratch initialisations", "study"),
    *_all("one_shot compensation ablation", "study"),
    *_all(
        "methods", "study", ratios=(0.1, 0.9), criteria=("spline", "l1", "fpgm", "random", "reconstruction")
    ),
    *_all("scratch", "study", ratios=(0.1, 0.9)),
    *_all("settling", "study", images=20_000),
    *_all("savings birds settling", "breadth"),
    *_all("savings birds settling", "breadth", dataset="mnist"),
    *_all("toy initialisation", "reference"),
    *_all("local_complexity", "reference"),
    *_all("boundary", "reference", width=0.125),
    *_all("pilot", "pilot"),
    *_all("paper_era early core_flops like_for_like", "grey"),
    *_all("paper_era early like_for_like", "grey", dataset="mnist"),
    *_all("paper_era core_flops like_for_like early", "half"),
    *_all("core core_flops early", "full_residual"),
    *_all("core core_flops early", "full"),
    *_all("readings", "half"),
    *_all("neighbours", "half"),
    *_all("neighbours", "full_residual"),
    *_all("compensation compensation_global", "full", **UNTRAINED),
    *_all("gpu", "paper"),
)
"""Every record of ``records/`` belongs to the first of these that plans its run."""


NETWORKS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("study", {}),
    ("reference", {}),
    ("paper", {}),
    ("residual", {}),
    ("residual", {"arch": "preresnet101", "width": 0.25, "images": 10_000}),
    ("breadth", {}),
    ("breadth", {"dataset": "mnist"}),
)
"""The networks of the committed studies, as profiles with overrides: five on CIFAR-10, one on each grey data set."""


NARROW_PROFILES = ("study", "reference", "residual")
"""Profiles of networks narrower than the paper's, on which methods were compared before the protocol."""

_READ: dict[str, dict[str, Any]] = {}


def committed_store(folder: Path | str | None = None, needed: bool = False) -> RecordStore:
    """The committed records: ``records/`` beside the source, or another folder. An error if that is none.

    An installed package has none beside it, which is an error only where they are ``needed``.
    """
    if folder and not Path(folder).is_dir():
        raise SettingError(f"records is {str(folder)!r}, which is no folder: give one with records, or None")
    if needed and not folder and not (SOURCE / "records").is_dir():
        raise SettingError(
            "the committed records are in a checkout of the repository, and the package was installed without one: "
            "run this in a checkout"
        )
    return RecordStore(folder or SOURCE / "records", readonly=True)


def committed(study: Study, store: RecordStore, kind: str | None = None) -> list[Record]:
    """Records of ``study`` in ``store``, of one kind or of all, in the order of their keys; empty if there are none."""
    loaded = (store.load(run) for run in study.runs() if kind in (None, run.kind))
    found = sorted((record for record in loaded if record is not None), key=lambda record: record.key)
    _READ.update({record.key: record.provenance for record in found})
    return found


def read_so_far() -> dict[str, Any]:
    """How many committed records this process has read, when the first and the last of them ended, at which commits."""
    dates = sorted(provenance["finished"] for provenance in _READ.values())
    commits = sorted({provenance["commit"] or "" for provenance in _READ.values()} - {""})
    return {"records": len(dates), "first": dates[:1], "last": dates[-1:], "commits": commits}


def by_network(sweep: str, store: RecordStore, kind: str = "prune") -> list[list[Record]]:
    """The records of ``sweep`` on each of :data:`NETWORKS`, empty lists included."""
    return [committed(Study(sweep, profile, overrides), store, kind) for profile, overrides in NETWORKS]


@cache
def owners() -> dict[str, tuple[Study, Run]]:
    """Every run that a committed record may have with its study, the first that plans it, by the run's key."""
    owned: dict[str, tuple[Study, Run]] = {}
    for study in STUDIES:
        for run in study.runs():
            owned.setdefault(run_key(run), (study, run))
    return owned
