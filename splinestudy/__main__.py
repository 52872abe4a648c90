"""Command line: ``python -m splinestudy COMMAND``. Needs no Jupyter; sweeps need no internet."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch

from splinelib.checks import Count, NonNegative, Positive, Within, check
from splinelib.errors import DamagedError, SettingError, SplineError
from splinestudy.data import DATASETS, load_dataset
from splinestudy.models import ARCHITECTURES
from splinestudy.runs.asked import duration, part, plan_as_asked
from splinestudy.runs.check import TOLERANCE, check_keys, check_record
from splinestudy.runs.committed import STUDIES, committed_store
from splinestudy.runs.executors import EXECUTORS, execute
from splinestudy.runs.gpu import write_archive
from splinestudy.runs.methods import choices
from splinestudy.runs.plans import SWEEPS
from splinestudy.runs.profiles import PROFILES, get_profile
from splinestudy.runs.remote import open_store
from splinestudy.runs.run import Run, brief, check_data
from splinestudy.runs.slurm import slurm_script
from splinestudy.runs.store import RecordStore
from splinestudy.runs.sweep import shard
from splinestudy.runs.workers import end_with_parent, run_workers
from splinestudy.training import distributed

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

_FETCHED = tuple(name for name in DATASETS if name != "imagefolder")  # which is a folder, not a name
_OVERRIDES = (
    "dataset",
    "arch",
    "width",
    "images",
    "epochs",
    "finetune_epochs",
    "seeds",
    "ratios",
    "curve",
    "criteria",
)
_JOBS = Annotated[int, Within("[1, 256]")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    The exit status is 0 on success, 1 if runs failed, 2 on an error that names its remedy, 130 if interrupted.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    end_with_parent()
    try:
        status = options.command(options)
        sys.stdout.flush()
        return status
    except SplineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        hint = "in the checkout, pip install '.[study]'"
        print(f"error: {error.name} is not installed: {hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted: the same command goes on, single runs from their last checkpoint", file=sys.stderr
        )
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads has enough; nor may the interpreter flush at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    about = "The study: its data sets, its runs, its records. Needs no Jupyter; sweeps need no internet."
    parser = argparse.ArgumentParser(prog="python -m splinestudy", description=about)
    commands = parser.add_subparsers(required=True)

    data = commands.add_parser("data", help="get data sets and check them")
    data.add_argument("names", nargs="+", choices=_FETCHED)
    data.set_defaults(command=_data)

    studies = commands.add_parser("studies", help="list the commands that compute the committed records")
    studies.set_defaults(command=_studies)

    checking = commands.add_parser("check", help="compute committed records again and compare")
    checking.add_argument("keys", nargs="+", metavar="KEY", help="names of files in records/, without .json")
    checking.add_argument("--store", required=True, help="folder, or address, to compute in")
    checking.add_argument("--tolerance", type=float, default=TOLERANCE, help="see splinestudy/runs/check.py")
    checking.set_defaults(command=_check)

    gpu = commands.add_parser("gpu", help="the paper's own schedule on a GPU, for so many minutes")
    gpu.add_argument("--minutes", type=float, required=True, help="after which what still runs is ended")
    gpu.add_argument("--out", type=Path, required=True, help="folder for the records' archive and the store")
    gpu.add_argument("--jobs", type=int, default=3, help="processes that share the GPU")
    gpu.add_argument("--profile", choices=PROFILES, default="paper")
    gpu.set_defaults(command=_gpu)

    sweeping = commands.add_parser(
        "sweep",
        help="compute the runs that a store of records lacks",
        epilog="\n".join(f"{name:20} {sweep.about}" for name, sweep in SWEEPS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_sweep_options(sweeping)
    sweeping.set_defaults(command=_sweep)

    slurm = commands.add_parser("slurm", help="write the script of a SLURM array whose workers share a sweep")
    slurm.add_argument("name", choices=SWEEPS, metavar="NAME", help="a sweep, as of the command sweep")
    slurm.add_argument("--profile", choices=PROFILES, default="quick")
    slurm.add_argument("--store", required=True, help="folder of records that all workers see, or an address")
    slurm.add_argument("--workers", type=int, default=4, help="tasks of the array")
    slurm.add_argument("--hours", type=float, default=12, help="that each of them is given")
    slurm.add_argument("--gpus", type=int, default=0, help="of each of them: 0 or 1")
    slurm.set_defaults(command=_slurm)
    return parser


def _add_sweep_options(sweeping: argparse.ArgumentParser) -> None:
    """How a sweep is computed, and then what replaces single settings of its profile."""
    sweeping.add_argument("name", choices=SWEEPS, metavar="NAME", help="one of those at the end")
    sweeping.add_argument("--profile", choices=PROFILES, default="quick")
    sweeping.add_argument(
        "--store", required=True, help="folder of records, or an address as s3://bucket/study"
    )
    sweeping.add_argument(
        "--budget", type=duration, help="stop between runs after this long, e.g. 540s, 20m, 2h"
    )
    sweeping.add_argument("--jobs", type=int, default=1, help="processes that share the runs (and one GPU)")
    sweeping.add_argument(
        "--executor", choices=EXECUTORS, default="order", help="ray: as tasks of a Ray cluster"
    )
    sweeping.add_argument("--gpus", type=float, help="share of a GPU that Ray gives each run")
    sweeping.add_argument("--no-wait", action="store_true", help="leave when others compute all that is left")
    sweeping.add_argument(
        "--shard", type=part, help="i/n: part i (from 1) of n, for machines that share no store"
    )
    sweeping.add_argument("--list", action="store_true", help="list the runs: done, left or damaged")
    sweeping.add_argument("--dataset", choices=_FETCHED)
    sweeping.add_argument("--arch", choices=ARCHITECTURES)
    sweeping.add_argument("--width", type=float)
    sweeping.add_argument("--images", type=int, help="training images; 0 for all")
    sweeping.add_argument("--epochs", type=int)
    sweeping.add_argument("--seeds", type=int, nargs="+")
    sweeping.add_argument("--ratios", type=float, nargs="+")
    sweeping.add_argument(
        "--curve", type=float, nargs="+", help="ratios at which networks are measured without any training"
    )
    sweeping.add_argument("--criteria", choices=choices(), nargs="+")
    sweeping.add_argument("--finetune-epochs", type=int)


def _data(options: argparse.Namespace) -> int:
    for name in options.names:
        data = load_dataset(name)
        logging.info("%s: %d training and %d test images", name, len(data.train), len(data.test))
    return 0


def _check(options: argparse.Namespace) -> int:
    check("--tolerance", options.tolerance, NonNegative)
    check_keys(options.keys)
    stand = True
    for key in options.keys:
        found = check_record(key, committed_store(needed=True), open_store(options.store))
        stand &= found.holds(options.tolerance)
        word = "agrees" if found.holds(options.tolerance) else "DIFFERS"
        logging.info("%s %s: %d of %d numbers equal to the last digit", key, word, found.equal, found.numbers)
        if found.where:
            logging.info(
                "  largest difference %.2g, in %s (tolerance %g)",
                found.largest,
                found.where,
                options.tolerance,
            )
        for path in found.other:
            logging.info("  not the same: %s", path)
        if found.equal < found.numbers:
            logging.info("  record: %s\n  here: %s", *found.machines)
        logging.info("  study: %s", found.study.command())
    return 0 if stand else 1


def _studies(options: argparse.Namespace) -> int:
    store = committed_store(needed=True)
    for study in STUDIES:
        runs = study.runs()
        count = sum(store.holds(store.path(run)) for run in runs)
        print(f"{study.command()}  # {count} of {len(runs)} records")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    given = {name: getattr(options, name) for name in _OVERRIDES}
    runs = plan_as_asked(options.name, options.profile, **given)
    check("--jobs", options.jobs, _JOBS)
    if options.gpus is not None:
        check("--gpus", options.gpus, Annotated[float, Within("[0, 64]")])
        if options.gpus and options.executor != "ray":
            raise SettingError(f"--gpus is {options.gpus:g}, which only --executor ray uses: leave it out")
    if options.shard:
        runs = shard(runs, *options.shard)
    _check_address(options.store)
    store = open_store(options.store)
    if options.list:
        return _list(runs, store)
    check_data(runs)  # once, before several processes ask for it
    if options.jobs > 1:
        return run_workers(options.jobs, options.arguments)
    with distributed.joined():
        return _report(options, runs, store)


def _check_address(address: str) -> None:
    """Raise :class:`SettingError` unless a store at this address outlives its process."""
    if not address or address.startswith("memory://"):
        why = "which ends with this process" if address else "which is no name"
        raise SettingError(f"store is {address!r}, {why}: name a folder, or an address")


def _report(options: argparse.Namespace, runs: Sequence[Run], store: RecordStore) -> int:
    report = execute(
        options.executor,
        runs,
        store,
        profile=options.profile,
        gpus=options.gpus,
        budget=options.budget,
        wait=not options.no_wait,
    )
    if distributed.part()[0]:
        return 0
    logging.info("%d records, %d failed, %d left", len(report.records), len(report.failed), len(report.left))
    told: set[int] = set()
    for run, error in report.failed:  # a network that was not trained fails all that starts from it
        reason = "for the same reason" if id(error) in told else f"{type(error).__name__}: {error}"
        told.add(id(error))
        logging.error("failed: %s\n  %s", brief(run), reason)
    return 1 if report.failed else 0


def _list(runs: Sequence[Run], store: RecordStore) -> int:
    store.readonly = True  # a damaged record is listed, and set aside by whoever computes it anew
    for run in runs:
        try:
            state = "done" if store.holds(store.path(run)) and store.load(run) is not None else "left"
        except DamagedError:
            state = "damaged"
        print(f"{state} {brief(run)}")
    return 0


def _slurm(options: argparse.Namespace) -> int:
    _check_address(options.store)
    check("--workers", options.workers, Count)
    check("--hours", options.hours, Annotated[float, Within("[0.05, 10000]")])
    check("--gpus", options.gpus, Annotated[int, Within("[0, 1]")])
    names = ("name", "profile", "store", "workers", "hours", "gpus")
    print(slurm_script(**{name: getattr(options, name) for name in names}), end="")
    return 0


def _gpu(options: argparse.Namespace) -> int:
    check("--minutes", options.minutes, Positive)
    check("--jobs", options.jobs, _JOBS)
    RecordStore(options.out).holds(options.out)
    load_dataset(get_profile(options.profile).dataset)
    store, seconds = options.out / "store", 60 * options.minutes
    arguments = [
        "sweep",
        "gpu",
        "--profile",
        options.profile,
        "--store",
        str(store),
        "--budget",
        f"{seconds:.3f}s",
    ]
    status = run_workers(options.jobs, arguments, seconds)
    archive = write_archive(RecordStore(store), options.out)
    logging.info("records so far: %s; the same command goes on", archive)
    return status


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    sys.exit(main())
