"""Compute the studies of the chapter on initialisation into a store: ``python -m splinestudy.winning records``."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from splinestudy.runs.initialisation import compute, get_studies
from splinestudy.runs.records import RecordStore
from splinestudy.runs.study_records import origin, recorded


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the records that the store lacks."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m splinestudy.winning", description=__doc__)
    parser.add_argument("store", type=Path, help="folder of records")
    parser.add_argument("--profile", default="reference")
    options = parser.parse_args(arguments)
    studies = get_studies(options.profile)
    for study in (studies.toy, studies.regression, studies.kmeans):
        record = recorded(study, compute, RecordStore(options.store), options.profile)
        logging.info("%s %s: %s", record.kind, record.key, origin(record))


if __name__ == "__main__":
    main()
