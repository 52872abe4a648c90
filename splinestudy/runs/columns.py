"""Rows as columns: how long tables of results are written into records."""

from typing import Any


def columns(rows: list[dict[str, Any]], digits: int = 6) -> dict[str, list[Any]]:
    """Rows with equal keys as one list for each key, numbers rounded to ``digits`` significant digits: small files."""
    return {name: [_rounded(row[name], digits) for row in rows] for name in rows[0]}


def _rounded(value: Any, digits: int) -> Any:
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
