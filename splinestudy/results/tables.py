"""Results of a record as a table, and one line that says where a record comes from."""

import pandas as pd

from splinestudy.results.names import profile_of
from splinestudy.runs.records import Record


def table(record: Record, name: str = "rows") -> pd.DataFrame:
    """A result that was written with :func:`splinestudy.runs.columns.columns`, as a table."""
    return pd.DataFrame(record.results[name])


def origin(record: Record) -> str:
    """One line that says where a record comes from: profile, hardware, date, seconds."""
    made = record.provenance
    when = f"{made['seconds']:.0f} s, finished {made['finished'][:10]}"
    return f"profile {profile_of(record)}, {made['hardware']}, {when}"
