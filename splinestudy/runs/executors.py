"""Who computes the runs of a sweep: this process, one after the other, or a Ray cluster (extra ``[ray]``).

A task of Ray is a sweep of one run (:func:`splinestudy.runs.sweep.sweep`), so runs, records, leases and checkpoints are
the same either way, and both ways may work on one store at once. A task whose worker or node dies is started again and
goes on from its checkpoint; where Ray's head dies, and with it all tasks, the same command goes on with what is left.
"""

import contextlib
import importlib.util
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, get_args

from splinelib.checks import Within, check
from splinelib.errors import RecordError, SplineError
from splinelib.progress import progress_bar
from splinestudy.runs.provenance import check_clean
from splinestudy.runs.remote import open_store
from splinestudy.runs.run import Run, brief
from splinestudy.runs.store import RecordStore
from splinestudy.runs.sweep import SweepReport, sweep

_LOG = logging.getLogger(__name__)

Executor = Literal["order", "ray"]
EXECUTORS = get_args(Executor)
GPU_SHARE = 0.25
"""Of a GPU for each run, where a cluster has any: a small network waits for launches more than it computes."""

_RETRIES = 3  # of a task whose worker died; a run that kills its worker every time is a failed one


def execute(
    executor: Executor,
    runs: Sequence[Run],
    store: RecordStore,
    *,
    profile: str,
    gpus: float | None = None,
    budget: float | None = None,
    wait: bool = True,
    progress: bool = True,
) -> SweepReport:
    """Compute what ``store`` lacks of ``runs``; settings and report are those of :func:`splinestudy.runs.sweep.sweep`.

    Args:
        executor: ``"order"``, or ``"ray"`` for tasks on the cluster that ``$RAY_ADDRESS`` names, or one that runs on
            this machine, or else its own cores and GPUs. Without Ray the runs are computed in order.
        runs: what to compute.
        store: where records are kept; a folder must be one that all workers see.
        profile: name noted in the records' provenance.
        gpus: share of a GPU for each run under Ray; by default :data:`GPU_SHARE`, and 0 where there is none.
        budget: seconds after which no further run is started.
        wait: for runs that others compute.
        progress: show a bar.
    """
    check("executor", executor, Executor)
    check("gpus", gpus, Annotated[float, Within("[0, 64]")] | None)
    if executor == "ray" and importlib.util.find_spec("ray") is None:
        _LOG.warning(
            'Ray is not installed (in the checkout, pip install ".[ray]"): the runs are computed in order'
        )
        executor = "order"
    if executor == "order":
        return sweep(runs, store, profile=profile, budget=budget, wait=wait, progress=progress)
    return _ray_sweep(runs, store, profile, gpus, budget, wait, progress)


def _ray_sweep(
    runs: Sequence[Run],
    store: RecordStore,
    profile: str,
    gpus: float | None,
    budget: float | None,
    wait: bool,
    progress: bool,
) -> SweepReport:
    check_clean(store.address)
    until = None if budget is None else time.time() + budget
    with _cluster() as ray:
        share = gpus if gpus is not None else GPU_SHARE * bool(ray.cluster_resources().get("GPU"))
        task = ray.remote(_task).options(num_cpus=1, num_gpus=share, max_retries=_RETRIES)
        tasks, refused = dict[Run, Any](), dict[Run, RecordError]()

        def start(run: Run) -> list[Any]:
            """The task of ``run``, behind those of what it needs; none where there is a record."""
            if run not in tasks and not _there(run, store, refused):
                before = [ref for need in run.needs(store) for ref in start(need)]
                tasks[run] = task.remote(run, store.address, profile, until, wait, *before)
            return [tasks[run]] if run in tasks else []

        for run in runs:
            start(run)
        said = _watch(ray, tasks, profile, progress)
    report = SweepReport()
    for run in dict.fromkeys(runs):
        if run in refused:
            report.failed.append((run, refused[run]))
        elif record := store.load(run):
            report.records.append(record)
        elif said.get(run):
            _LOG.error("failed: %s: %s", brief(run), said[run])
            report.failed.append((run, SplineError(said[run])))
        else:
            report.left.append(run)
    return report


def _there(run: Run, store: RecordStore, refused: dict[Run, RecordError]) -> bool:
    """Whether the store has a record of ``run``; one of another schema is noted, and the others can be computed."""
    try:
        return run in refused or store.load(run) is not None
    except RecordError as error:
        refused[run] = error
        return True


def _task(run: Run, address: str, profile: str, until: float | None, wait: bool, *before: str) -> str:
    """Compute one run on a worker; what went wrong, with it or ``before`` with what it needs, or nothing."""
    if error := next(filter(None, before), ""):
        return error
    budget = None if until is None else until - time.time()
    report = sweep([run], open_store(address), profile=profile, budget=budget, wait=wait, progress=False)
    return next((f"{type(error).__name__}: {error}" for _, error in report.failed), "")


def _watch(ray: Any, tasks: dict[Run, Any], profile: str, progress: bool) -> dict[Run, str]:
    """Wait for all tasks; what each said, or what became of it."""
    said, pending = {}, {ref: run for run, ref in tasks.items()}
    with progress_bar(len(pending), "run", title=profile, shown=progress) as bar:
        while pending:
            (done,), _ = ray.wait(list(pending))
            run = pending.pop(done)
            try:
                said[run] = ray.get(done)
            except ray.exceptions.RayError as error:
                said[run] = str(error).strip().splitlines()[-1]
            bar.update()
    return said


@contextlib.contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected to a cluster within the block."""
    import ray

    if ray.is_initialized():
        yield ray
        return
    ray.init(log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()
