"""Compute the studies of the chapter on reading networks: ``python -m splinestudy.reading records …``."""

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from splinestudy.runs.interpretation import compute_progress, compute_reading, get_studies
from splinestudy.runs.profiles import dense_runs, get_profile
from splinestudy.runs.records import Record, RecordStore
from splinestudy.runs.study_records import origin, recorded

REFERENCE_WIDTH = 1 / 8
"""Width factor of the networks that the committed records read."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the records that the store lacks."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m splinestudy.reading", description=__doc__)
    parser.add_argument("store", type=Path, help="folder of records")
    parser.add_argument("--networks", type=Path, required=True, help="store with the trained networks")
    parser.add_argument("--profile", default="reference")
    parser.add_argument("--width", type=float, default=REFERENCE_WIDTH)
    options = parser.parse_args(arguments)
    runs = dense_runs(get_profile(options.profile, width=options.width))
    readings, trainings = get_studies(options.profile, runs)
    store, compute = (
        RecordStore(options.store),
        partial(compute_reading, networks=RecordStore(options.networks)),
    )
    for reading in readings:
        _report(recorded(reading, compute, store, options.profile))
    for training in trainings:
        _report(recorded(training, compute_progress, store, options.profile))


def _report(record: Record) -> None:
    logging.info("%s %s: %s", record.kind, record.key, origin(record))


if __name__ == "__main__":
    main()
