"""A sweep is planned as it was asked for, or refused: of some settings a sweep has values of its own."""

import argparse
import dataclasses
import re
from typing import Any

from splinelib.checks import checked
from splinelib.errors import SettingError
from splinestudy.runs.plans import plan
from splinestudy.runs.profiles import Profile, get_profile
from splinestudy.runs.run import Run

_MANY = ("seeds", "ratios", "curve", "criteria")  # settings with several values, each of which a plan may use


@checked
def plan_as_asked(sweep: str, profile: str, **given: Any) -> list[Run]:
    """The runs of a sweep at a profile with the settings ``given``, those that are None aside.

    Raises :class:`SettingError` where the plan does not depend on one of them, or on one of its values: the sweep has
    its own there, and what was asked would not be done.
    """
    given = {name: value for name, value in given.items() if value is not None}
    settings, usual = get_profile(profile, **given), get_profile(profile)
    runs = plan(sweep, settings)
    for name in given:
        value = getattr(settings, name)
        if name in _MANY:
            idle = [one for one in value if _idle(sweep, settings, name, one)]
        else:
            changed = dataclasses.replace(settings, **{name: getattr(usual, name)})
            idle = [value] * (changed != settings and _alike(sweep, settings, changed))
        if idle:
            raise SettingError(
                f"{name} has {', '.join(map(repr, idle))}, on which sweep {sweep!r} does not depend: leave it out"
            )
    return runs


def check_some_used(sweep: str, settings: Profile, profile: str, names: tuple[str, ...]) -> None:
    """Raise :class:`SettingError` where a sweep uses none of the values of a setting, and would use the profile's."""
    for name in names:
        values = getattr(settings, name)
        usual = dataclasses.replace(settings, **{name: getattr(get_profile(profile), name)})
        if all(_idle(sweep, settings, name, one) for one in values) and not _alike(sweep, settings, usual):
            raise SettingError(f"{name} is {list(values)}, of which sweep {sweep!r} uses none: leave it out")


def _idle(sweep: str, settings: Profile, name: str, value: Any) -> bool:
    """Whether the plan is the same without ``value`` among the settings' values of ``name``."""
    others = tuple(one for one in getattr(settings, name) if one != value)
    without: dict[str, Any] = {name: others}
    return _alike(sweep, settings, dataclasses.replace(settings, **without))


def _alike(sweep: str, one: Profile, other: Profile) -> bool:
    """Whether a sweep plans the same at both settings."""
    try:
        return plan(sweep, other) == plan(sweep, one)
    except (SettingError, LookupError, ValueError):  # no plan without it
        return False


def duration(text: str) -> float:
    """Seconds from ``540s``, ``20m``, ``2h`` or a bare number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: write 540s, 20m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def part(text: str) -> tuple[int, int]:
    """``i/n`` with 1 ≤ i ≤ n."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no part of a whole: write 1/4, 2/4, 3/4 or 4/4")
    return int(match[1]), int(match[2])
