"""Results of a record as a table, and one line that says where a record comes from."""

import pandas as pd

from splinestudy.runs.records import Record


def table(record: Record, name: str = "rows") -> pd.DataFrame:
    """A result that was written with :func:`splinestudy.runs.columns.columns`, as a table."""
    return pd.DataFrame(record.results[name])


def origin(record: Record) -> str:
    """One line that says where a record comes from: profile, hardware, date, seconds."""
    made = record.provenance
    return f"profile {made['profile']}, {made['hardware']}, {made['seconds']:.0f} s, finished {made['finished'][:10]}"
