"""Compute the studies of the chapter on initialisation into a store: ``python -m splinelib.winning records``."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from splinelib.records import RecordStore
from splinelib.winning.store import origin, recorded
from splinelib.winning.studies import compute, get_studies


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the records that the store lacks."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m splinelib.winning", description=__doc__)
    parser.add_argument("store", type=Path, help="folder of records")
    parser.add_argument("--profile", default="reference")
    options = parser.parse_args(arguments)
    studies = get_studies(options.profile)
    for study in (studies.toy, studies.regression, studies.kmeans):
        record = recorded(study, compute, RecordStore(options.store), options.profile)
        logging.info("%s %s: %s", record.kind, record.key, origin(record))


if __name__ == "__main__":
    main()
