"""Sweeps: compute those of many runs that a store lacks, and carry on whatever happens to single ones."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import torch

from splinelib.errors import FileError, LostError, RecordError, SplineError
from splinelib.progress import is_watched, progress_bar
from splinestudy.runs.provenance import check_clean, provenance
from splinestudy.runs.ranks import announce, follow
from splinestudy.runs.records import Record, run_key
from splinestudy.runs.run import Run, brief
from splinestudy.runs.store import RecordStore
from splinestudy.training import distributed

_LOG = logging.getLogger(__name__)
_WAIT = 2.0  # seconds between looks at runs that other processes compute


@dataclass
class SweepReport:
    """What a sweep left: records found or made, in the order of their runs; runs that failed with their errors (with
    that of the dense run for those that needed it); runs not reached in the budget.
    """

    records: list[Record] = field(default_factory=list)
    failed: list[tuple[Run, Exception]] = field(default_factory=list)
    left: list[Run] = field(default_factory=list)


def sweep(
    runs: Sequence[Run],
    store: RecordStore,
    *,
    profile: str,
    device: torch.device | None = None,
    budget: float | None = None,
    wait: bool = True,
    progress: bool = True,
) -> SweepReport:
    """Compute every run whose record ``store`` lacks, in order, and write each record as its run finishes.

    Killing the process loses at most the run under way, which goes on from its last checkpoint next time. Several
    processes may sweep one store: each run is computed by one of them, and all wait for the last. A run that
    fails is reported and the others go on. Under ``torchrun`` all processes compute each run together, and the report
    is that of the first (:mod:`splinestudy.training.distributed`).

    Args:
        runs: what to compute; the dense runs that pruning starts from are added where their weights are missing.
        store: where records are kept.
        profile: name noted in the records' provenance.
        device: where to compute; by default the first GPU, else the CPU.
        budget: seconds after which no further run is started (and none that would likely not fit); None for no limit.
        wait: for runs that other processes compute; else leave as soon as nothing but such runs is left.
        progress: show a bar with the time left.

    Raises :class:`SettingError` where the store is that of the committed records and the source is not committed, and
    :class:`FileError` where the store cannot be written.
    """
    check_clean(store.address)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if distributed.part()[0]:
        follow(runs, store, device)
        return SweepReport()
    compute = partial(_compute, store=store, device=device, profile=profile, progress=progress)
    started = time.monotonic()
    report, durations = SweepReport(), dict[str, list[float]]()
    pending = list(dict.fromkeys(runs))
    place = {run_key(run): position for position, run in enumerate(pending)}
    with progress_bar(len(pending), "run", title=profile, shown=progress) as bar:
        while pending:
            waiting: list[Run] = []
            for run in pending:
                try:
                    record = store.load(run)
                except RecordError as error:  # of another schema: the others can be computed
                    report.failed.append((run, error))
                    continue
                if record is not None:
                    report.records.append(record)
                elif report.left or _over_budget(run, durations, budget, time.monotonic() - started):
                    report.left.append(run)
                    continue
                elif not _settle(run, compute, report, durations, run.needs(store)):
                    waiting.append(run)
                    continue
                bar.update()
            if waiting and len(waiting) == len(pending):
                if not wait and all(store.held(run) for run in waiting):
                    report.left += waiting
                    break
                time.sleep(_WAIT)
            pending = waiting
    announce(None, device)
    report.records.sort(key=lambda record: place[record.key])
    return report


def shard(runs: Sequence[Run], number: int, of: int) -> list[Run]:
    """The runs of worker ``number`` (from 1) of so many that share no store, dense runs first.

    Whatever starts from one dense run stays together, so that none is trained twice; so there is work for at most as
    many workers as there are dense runs. All get about as many runs. Workers that share a store need no shards.
    """
    owners = [run if run.kind == "dense" else getattr(run, "dense", run) for run in runs]
    loads, place = [0] * of, dict[Run, int]()
    for owner, count in Counter(owners).most_common():  # equal counts in the order of the runs
        place[owner] = loads.index(min(loads))
        loads[place[owner]] += count
    mine = [run for run, owner in zip(runs, owners, strict=True) if place[owner] == number - 1]
    return sorted(mine, key=lambda run: run.kind != "dense")


def _over_budget(run: Run, durations: dict[str, list[float]], budget: float | None, spent: float) -> bool:
    """Whether to stop before ``run``: the time is up, or the longest run of its kind so far would not fit."""
    return budget is not None and spent + max(durations.get(run.kind, [0.0])) >= budget


def _settle(
    run: Run,
    compute: Callable[[Run], Record | None],
    report: SweepReport,
    durations: dict[str, list[float]],
    needs: Sequence[Run],
) -> bool:
    """Compute one run or note its failure; False if it must wait for another process."""
    failed = dict(report.failed)
    broken = next((failed[need] for need in needs if need in failed), None)
    if broken is not None:  # it would fail again, after as long a time
        report.failed.append((run, broken))
        return True
    began = time.monotonic()
    try:
        record = compute(run)
    except FileError:  # of the store: the next run would fail alike, after as long a time
        raise
    except Exception as error:
        if not distributed.alone() and not isinstance(error, SplineError):
            raise  # the others may not have failed, and would wait for ever
        _LOG.error("failed: %s: %s: %s", brief(run), type(error).__name__, error)
        report.failed.append((run, error))
        return True
    if record is None:
        return False
    seconds = time.monotonic() - began
    durations.setdefault(run.kind, []).append(seconds)
    report.records.append(record)
    if not is_watched():  # where no bar tells how far it is
        _LOG.info("%s: %.0f s", brief(run), seconds)
    return True


def _compute(
    run: Run,
    store: RecordStore,
    device: torch.device,
    profile: str,
    progress: bool,
    needed_by: Run | None = None,
) -> Record | None:
    """Compute ``run``, and before it the runs that it needs; None if another process holds one of them."""
    for need in run.needs(store):
        if _compute(need, store, device, profile, progress, needed_by=run) is None:
            return None
    with store.claim(run) as mine:
        if not mine:
            return None
        record = store.load(run)  # another process may have finished it since
        if record is not None and (needed_by is None or run not in needed_by.needs(store)):
            return record
        started, clock = datetime.now(UTC), time.monotonic()
        announce(run, device)
        try:
            results = run.compute(store, device, progress)
        except LostError:
            if run.needs(
                store
            ):  # which says so since what was damaged is set aside: first compute that again
                return None
            raise
        made_by = provenance(
            profile,
            device,
            started.isoformat(timespec="seconds"),
            datetime.now(UTC).isoformat(timespec="seconds"),
            time.monotonic() - clock,
        )
        record = store.save(run, results, made_by)
        store.checkpoint_path(run).unlink(missing_ok=True)
        return record
