"""Studies as records: computed once, found again by their settings, committed as files."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import pandas as pd
import torch

from splinestudy.runs.records import Record, RecordStore, Settings, provenance

Study = TypeVar("Study", bound=Settings)


def recorded(
    study: Study, compute: Callable[[Study], dict[str, Any]], store: RecordStore, profile: str
) -> Record:
    """The study's record from ``store``; where there is none, ``compute`` it now and write one."""
    if (record := store.load(study)) is not None:
        return record
    started, clock = datetime.now(UTC), time.monotonic()
    results = compute(study)
    made_by = provenance(
        profile,
        torch.device("cpu"),
        started.isoformat(timespec="seconds"),
        datetime.now(UTC).isoformat(timespec="seconds"),
        time.monotonic() - clock,
    )
    return store.save(study, results, made_by)


def columns(rows: list[dict[str, Any]], digits: int = 6) -> dict[str, list[Any]]:
    """Rows with equal keys as one list for each key, numbers rounded to ``digits`` significant digits: small files."""
    return {name: [_rounded(row[name], digits) for row in rows] for name in rows[0]}


def _rounded(value: Any, digits: int) -> Any:
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def table(record: Record, name: str = "rows") -> pd.DataFrame:
    """A result that was written with :func:`columns`, as a table."""
    return pd.DataFrame(record.results[name])


def origin(record: Record) -> str:
    """One line that says where a record comes from: profile, hardware, date, seconds."""
    made = record.provenance
    return f"profile {made['profile']}, {made['hardware']}, {made['seconds']:.0f} s, finished {made['finished'][:10]}"
