"""What the notebooks share: checking parameters, and finding live and committed records."""

import difflib
import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from splinelib.checks import Count, Seed, Within, check
from splinelib.errors import SettingError, SplineError
from splinestudy.caches import cache_dir
from splinestudy.runs.asked import check_some_used
from splinestudy.runs.committed import Study, committed, committed_store
from splinestudy.runs.executors import execute
from splinestudy.runs.plans import plan
from splinestudy.runs.profiles import Profile, get_profile
from splinestudy.runs.provenance import SOURCE
from splinestudy.runs.records import Record
from splinestudy.runs.remote import open_store
from splinestudy.runs.run import Run, brief
from splinestudy.runs.store import RecordStore

# torch-pruning imports timm where that is installed, and timm a bar for downloads, which is never drawn here.
warnings.filterwarnings("ignore", message="IProgress not found")

_Folder = str | Path | None
_HINTS: dict[str, Any] = {
    "seed": Seed,
    "runs": Count | None,
    "hidden": Count | None,
    "slices": Count | None,
    "factor": Annotated[int, Within("[2, 1000]")],
    "success": Annotated[float, Within("[0, 1]")],
    "schedules": list[str],
    "executor": str,
    "store": _Folder,
    "records": _Folder,
}
"""What parameters may be that are no fields of a profile, which checks its own."""

_IPYTHON = {"In", "Out", "exit", "quit", "open", "get_ipython"}


def read_parameters(namespace: Mapping[str, Any], names: str) -> dict[str, Any]:
    """The parameters of a notebook, from its ``globals()`` right after the parameters cell.

    ``names`` lists those that the notebook has, with spaces between them.

    Raises:
        SettingError: if another name was set (a misspelt parameter; the nearest known one is named), one is missing,
            or one has a value that it cannot have.
    """
    known = names.split()
    found = {
        name: value
        for name, value in namespace.items()
        if not (name.startswith("_") or name in _IPYTHON or inspect.ismodule(value) or callable(value))
    }
    for name in found.keys() - set(known):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise SettingError(f"this notebook has no parameter {name!r} (set to {found[name]!r}): {hint}")
    if absent := set(known) - found.keys():
        raise SettingError(
            f"parameters {sorted(absent)} are not set: run the notebook's parameters cell first"
        )
    get_profile(found["profile"])
    for name in found.keys() & _HINTS.keys():
        check(name, found[name], _HINTS[name])
    return found


def check_compared(profile: Profile) -> None:
    """Raise :class:`SettingError` where a chapter that compares the spline criterion lacks it, or others."""
    if "spline" not in profile.criteria or len(set(profile.criteria)) < 2:
        raise SettingError(
            f"criteria are {list(profile.criteria)}, and this chapter compares 'spline' with others: name it and at "
            "least one more"
        )


def checked_profile(parameters: Mapping[str, Any]) -> Profile:
    """The profile that a notebook's parameters name, with their overrides. Raises :class:`SettingError` early."""
    overrides = {
        name: value
        for name, value in parameters.items()
        if name not in ("profile", "store", "records", "executor")
    }
    return get_profile(parameters["profile"], **overrides)


def live_store(parameters: Mapping[str, Any]) -> RecordStore:
    """Where a notebook's live runs are kept, with the weights of their dense networks: see :func:`live_runs`."""
    return open_store(parameters["store"] or cache_dir("SPLINELIB_STORE", "runs"))


def committed_records(
    kind: str, sweep: str, parameters: Mapping[str, Any], profile: str = "reference", **overrides: Any
) -> list[Record]:
    """Committed records of ``kind`` that belong to ``sweep`` at a profile with overrides; empty if there are none."""
    return committed(Study(sweep, profile, overrides), committed_store(parameters["records"]), kind)


def committed_step_times() -> list[dict[str, Any]]:
    """Rows of the step times, CPU and GPU, in ``benchmarks/results`` beside the package's source; none without it."""
    folder = SOURCE / "benchmarks" / "results"
    return [
        row for path in sorted(folder.glob("step_time*.json")) for row in json.loads(path.read_text())["rows"]
    ]


def live_records(name: str, profile: Profile, parameters: Mapping[str, Any]) -> list[Record]:
    """Records of sweep ``name`` at ``profile``: see :func:`live_runs`, in the plan's order.

    Raises :class:`SettingError`, before any run, where the sweep uses none of the criteria or ratios asked for.
    """
    check_some_used(name, profile, parameters["profile"], ("criteria", "ratios"))
    return live_runs(plan(name, profile), parameters)


def live_runs(runs: Sequence[Run], parameters: Mapping[str, Any]) -> list[Record]:
    """Records of ``runs``: found in the live store or computed now, in their order.

    The store is the parameter ``store``, else ``$SPLINELIB_STORE``, else a folder in the user's cache. Raises
    :class:`SplineError` that names the first failure if a run failed; finished runs are kept.
    """
    report = execute(
        parameters.get("executor", "order"), runs, live_store(parameters), profile=parameters["profile"]
    )
    if report.failed:
        run, error = report.failed[0]
        raise SplineError(
            f"{len(report.failed)} of {len(report.failed) + len(report.records)} runs failed, first {brief(run)}: "
            f"{type(error).__name__}: {error}. What is finished is kept"
        ) from error
    return report.records
