"""Command line: ``python -m splinestudy {data,sweep}``. Needs neither Jupyter nor, for sweeps, a network."""

import argparse
import logging
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from splinelib.errors import SettingError, SplineError
from splinestudy.data import DATASETS, load_dataset
from splinestudy.models import ARCHITECTURES
from splinestudy.runs.methods import choices
from splinestudy.runs.plans import SWEEPS, plan
from splinestudy.runs.profiles import PROFILES, get_profile
from splinestudy.runs.records import RecordStore
from splinestudy.runs.sweep import sweep


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 on success, 1 if runs failed, 2 on an error that names its remedy."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    try:
        return options.command(options)
    except SplineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m splinestudy", description=__doc__)
    commands = parser.add_subparsers(required=True)

    data = commands.add_parser("data", help="get data sets and check them")
    data.add_argument("names", nargs="+", choices=DATASETS)
    data.set_defaults(command=_data)

    sweeping = commands.add_parser("sweep", help="compute the runs that a store of records lacks")
    sweeping.add_argument("name", choices=SWEEPS)
    sweeping.add_argument("--profile", choices=PROFILES, default="quick")
    sweeping.add_argument("--store", type=Path, required=True, help="folder of records")
    sweeping.add_argument(
        "--budget", type=_seconds, help="stop between runs after this long, e.g. 540s, 20m, 2h"
    )
    sweeping.add_argument("--jobs", type=int, default=1, help="processes that share the runs (and one GPU)")
    sweeping.add_argument("--dataset", choices=DATASETS)
    sweeping.add_argument("--arch", choices=ARCHITECTURES)
    sweeping.add_argument("--width", type=float)
    sweeping.add_argument("--images", type=int, help="training images; 0 for all")
    sweeping.add_argument("--epochs", type=int)
    sweeping.add_argument("--seeds", type=int, nargs="+")
    sweeping.add_argument("--ratios", type=float, nargs="+")
    sweeping.add_argument("--criteria", choices=choices(), nargs="+")
    sweeping.add_argument("--finetune-epochs", type=int)
    sweeping.set_defaults(command=_sweep)
    return parser


def _seconds(text: str) -> float:
    """Seconds from ``540s``, ``20m``, ``2h`` or a bare number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: write 540s, 20m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _data(options: argparse.Namespace) -> int:
    for name in options.names:
        data = load_dataset(name)
        logging.info("%s: %d training and %d test images", name, len(data.train), len(data.test))
    return 0


def _sweep(options: argparse.Namespace) -> int:
    names = ("dataset", "arch", "width", "images", "epochs", "seeds", "ratios", "criteria", "finetune_epochs")
    profile = get_profile(options.profile, **{name: getattr(options, name) for name in names})
    runs = plan(options.name, profile)
    if options.jobs < 1:
        raise SettingError(f"--jobs is {options.jobs}: give at least 1")
    load_dataset(profile.dataset)  # once, before several processes ask for it
    if options.jobs > 1:
        return _spawn(options.jobs, options.arguments)
    report = sweep(runs, RecordStore(options.store), profile=options.profile, budget=options.budget)
    logging.info("%d records, %d failed, %d left", len(report.records), len(report.failed), len(report.left))
    for run, error in report.failed:
        logging.error("failed: %s\n  %s: %s", run, type(error).__name__, error)
    return 1 if report.failed else 0


_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""Tells glibc to keep freed buffers: given back after every operation and faulted in again, they cost a step 8 %."""


def _spawn(jobs: int, arguments: Sequence[str]) -> int:
    """Run the command of these ``arguments`` in ``jobs`` processes, which share its store and divide the cores."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = {**_KEEP_MEMORY, **os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "splinestudy", *arguments, "--jobs", "1"]
    processes = [subprocess.Popen(command, env=environment) for _ in range(jobs)]
    # -9 means killed by signal 9, which is no success.
    return max(abs(process.wait()) for process in processes)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    sys.exit(main())
