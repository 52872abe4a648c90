"""What a study still lacks, said where its figures stand."""

from splinestudy.runs.committed import Study
from splinestudy.runs.store import RecordStore


def missing_least_squares(study: Study, store: RecordStore) -> str:
    """A sentence about planned runs with least squares that have no record, as Markdown; empty if all are there."""
    planned = [run for run in study.runs() if getattr(run, "compensate", "none") == "least_squares"]
    missing = sum(not store.path(run).exists() for run in planned)
    if not missing:
        return ""
    return (
        f"*{missing} of {len(planned)} runs with least squares are missing: it was revised, and they are to be run "
        "again. What the text says of them is from before.*"
    )
