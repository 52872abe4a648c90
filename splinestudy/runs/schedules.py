"""Settling runs: the training schedules under which a partition is watched, and the canvases it is watched on."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from splinelib.errors import SettingError
from splinestudy.runs.dense import dense_runs
from splinestudy.runs.profiles import Profile
from splinestudy.runs.settling import Canvas, SettlingRun
from splinestudy.training.settings import TrainSettings

SCHEDULES: dict[str, dict[str, Any]] = {
    "standard": {},
    "constant": {"milestones": ()},
    "constant, a tenth": {"milestones": (), "lr": 0.1},
    "early drop": {"milestones": (0.25, 0.75)},
    "late drop": {"milestones": (0.75,)},
    "cosine": {"cosine": True, "milestones": ()},
    "lr × 0.3": {"lr": 0.3},
    "lr × 3": {"lr": 3.0},
    "batch × 0.5": {"batch_size": 0.5},
    "batch × 4": {"batch_size": 4},
}
"""Changes of the dense training under which settling is watched: ``lr`` and ``batch_size`` are factors."""

DROPS = ("standard", "constant", "constant, a tenth", "early drop", "late drop", "cosine")
"""Schedules that tell whether the partition settles or the steps shrink: the rate falls at other times, or never."""

STEPS = ("standard", "lr × 0.3", "lr × 3", "batch × 0.5", "batch × 4")
"""The standard schedule with other learning rates and batch sizes."""

ON_ALL_CANVASES = ("standard", "constant")
"""Schedules whose runs watch every canvas: with a drop, which may decide the epoch by itself, and without one."""


def chosen_schedules(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` as they are; :class:`SettingError` if one is not in :data:`SCHEDULES`, or if there are none."""
    chosen = tuple(names)
    for name in chosen or (None,):
        if name not in SCHEDULES:
            raise SettingError(f"schedules hold {name!r}: choose from {', '.join(SCHEDULES)}")
    return chosen


def schedule_name(run: SettlingRun, profile: Profile) -> str:
    """Which of :data:`SCHEDULES` a settling run has, at that profile; :class:`SettingError` for a run not of it."""
    seed, train = run.training.seed, run.training.train
    standard = {dense.seed: dense.train for dense in dense_runs(profile)}
    if seed not in standard:
        raise SettingError(
            f"the run has seed {seed}, the profile's are {profile.seeds}: pass the run's own profile"
        )
    names = [name for name in SCHEDULES if _rescheduled(standard[seed], name) == train]
    if not names:
        raise SettingError(
            f"the run trains with {train}, on none of {', '.join(SCHEDULES)}: pass the run's own profile"
        )
    return names[0]


def settling_runs(profile: Profile, schedules: Iterable[str]) -> list[SettlingRun]:
    """Schedule by schedule, so that a study cut short has whole schedules.

    Those in :data:`ON_ALL_CANVASES` are watched on all canvases, the others on the profile's own alone.
    """
    canvases = _canvases(profile)
    return [
        SettlingRun(
            dataclasses.replace(run, train=_rescheduled(run.train, name)),
            canvases if name in ON_ALL_CANVASES else canvases[:1],
        )
        for name in schedules
        for run in dense_runs(profile)
    ]


def _canvases(profile: Profile) -> tuple[Canvas, ...]:
    """The profile's own canvas first; then other sizes of it, other pairs of images, test images, noise."""
    points = profile.canvas_side**2
    return (
        Canvas("pair", points),
        *(Canvas("pair", side * side) for side in profile.canvas_sides),
        *(Canvas("pair", points, draw) for draw in (1, 2, 3)),
        *(Canvas("images", points // share) for share in (64, 16, 4, 1)),
        Canvas("noise", points),
    )


def _rescheduled(standard: TrainSettings, name: str) -> TrainSettings:
    changes = dict(SCHEDULES[name])
    if "lr" in changes:
        changes["lr"] *= standard.lr
    if "batch_size" in changes:
        changes["batch_size"] = int(changes["batch_size"] * standard.batch_size)
    return dataclasses.replace(standard, **changes)
