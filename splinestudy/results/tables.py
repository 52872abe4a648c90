"""Results of a record as a table, tables as Markdown, and one line that says where a record comes from."""

from collections.abc import Iterable, Mapping

import pandas as pd

from splinestudy.results.names import profile_of
from splinestudy.runs.records import Record


def table(record: Record, name: str = "rows") -> pd.DataFrame:
    """A result that was written with :func:`splinestudy.runs.columns.columns`, as a table."""
    return pd.DataFrame(record.results[name])


def markdown_table(columns: Mapping[str, str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Lines of a table; ``columns`` maps each heading to its alignment.

    >>> markdown_table({"name": "---", "n": "--:"}, [["a", 1]])
    ['| name | n |', '|---|--:|', '| a | 1 |']
    """
    head, *body = ("| " + " | ".join(map(str, line)) + " |" for line in (columns, *rows))
    return [head, f"|{'|'.join(columns.values())}|", *body]


def origin(record: Record) -> str:
    """One line that says where a record comes from: profile, hardware, date, seconds."""
    made = record.provenance
    when = f"{made['seconds']:.0f} s, finished {made['finished'][:10]}"
    return f"profile {profile_of(record)}, {made['hardware']}, {when}"
