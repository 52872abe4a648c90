"""What the book's explorers show: distances of every two epochs, and every comparison, as plain numbers."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from splinelib.pruning.selection import Scope
from splinestudy.results.claims import dense_studies, studies
from splinestudy.results.comparisons import paired_differences, summarise
from splinestudy.results.names import network_name
from splinestudy.results.protocol import PAPER_ERA, SOLVED, TODAY, judge
from splinestudy.results.protocol_networks import judge_sets, studied, watched
from splinestudy.results.pruning import pruning_table
from splinestudy.results.ways import SPLINE, Way
from splinestudy.runs.records import Record
from splinestudy.runs.store import RecordStore

SETS = {"of the paper's time": SPLINE, "with least squares": SOLVED, "today's": SPLINE, "all": SPLINE}
"""The sets of methods, and what each is compared with: the protocol's three, and all."""


def trainings(store: RecordStore) -> list[dict[str, Any]]:
    """Every committed network whose partition was watched, seed by seed.

    ``distances`` are the thousandths of the distance of every two epochs, row by row below the diagonal.
    """
    return [
        {
            "name": f"{network_name(group[0])}, {len(group[0].results['epochs'])} epochs",
            "threshold": group[0].results["spline"]["threshold"],
            "window": group[0].results["spline"]["window"],
            "seeds": [
                {
                    "seed": record.settings["seed"],
                    "accuracy": [round(epoch["accuracy"], 4) for epoch in record.results["epochs"]],
                    "distances": _below(np.array(record.results["spline"]["distances"])),
                }
                for record in sorted(group, key=lambda record: record.settings["seed"])
            ],
        }
        for group in [*dense_studies(store), *watched(store)]
    ]


def whole(distances: Sequence[int], epochs: int) -> np.ndarray:
    """The matrix [epochs, epochs] whose rows below the diagonal are given in thousandths."""
    matrix = np.zeros((epochs, epochs))
    matrix[np.tril_indices(epochs, -1)] = np.array(distances) / 1000
    return matrix + matrix.T


def _below(matrix: np.ndarray) -> list[int]:
    return (1000 * matrix[np.tril_indices(len(matrix), -1)]).round().astype(int).tolist()


def comparisons(store: RecordStore) -> list[dict[str, Any]]:
    """Every committed comparison: for each network, scope and ratio the methods and, by :data:`SETS`, intervals.

    The protocol's networks by its rule, the others paired by seed. Accuracies and differences are in points.
    """
    return [
        {"network": name, "scope": scope, "rule": rule, "ratios": _ratios(table, rule)}
        for name, scope, rule, table in _tables(store)
    ]


def _tables(store: RecordStore) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    scopes: tuple[tuple[Scope, str, str], ...] = (
        ("layerwise", "methods", "layerwise"),
        ("global", "core_flops", "globally, at equal FLOPs"),
    )
    for scope, sweep, said in scopes:
        for study, records in studied(scope, store):
            every = judge_sets(study, records, store)[0] if scope == "layerwise" else records
            yield _named(records, " (protocol)"), said, "protocol", pruning_table(every, scope)
        for records in studies(sweep, store):
            yield _named(records), said, "paired", pruning_table(records, scope)


def _named(records: Sequence[Record], more: str = "") -> str:
    return network_name(records[0]) + more


def _ratios(table: pd.DataFrame, rule: str) -> list[dict[str, Any]]:
    return [
        {
            "ratio": ratio,
            "methods": list(map(_method, summarise(part, ["way"], ["accuracy", "training"]).itertuples())),
            "intervals": {
                name: _intervals(_members(part, name), rule, control) for name, control in SETS.items()
            },
        }
        for ratio, part in table.groupby("ratio")
        if SPLINE in set(part["way"])
    ]


def _method(row: Any) -> dict[str, Any]:
    return {
        "label": row.way.label,
        "family": row.way.row.family,
        "n": row.n,
        "accuracy": round(100 * row.accuracy_mean, 2),
        "spread": None if np.isnan(row.accuracy_std) else round(100 * row.accuracy_std, 2),
        "training": round(row.training_mean, 4),
        "sets": _sets_of(row.way),
    }


def _sets_of(way: Way) -> list[str]:
    """The sets that a way belongs to; what a set is compared with is in it."""
    today = way in TODAY
    belongs = (way in PAPER_ERA, way.compensate == "least_squares" and not today, today, True)
    return [name for name, member in zip(SETS, belongs, strict=True) if member or way == SETS[name]]


def _members(part: pd.DataFrame, name: str) -> pd.DataFrame:
    return part[[name in _sets_of(way) for way in part["way"]]]


def _intervals(part: pd.DataFrame, rule: str, control: Way) -> list[list[Any]]:
    """Label, difference, low, high and word of each method, the control minus it, the largest difference first."""
    ways = set(part["way"])
    if control not in ways or len(ways) < 2:
        return []
    found = (
        judge(part, control, ways - {control})
        if rule == "protocol"
        else paired_differences(part, way=control)
    )
    ordered = found.sort_values("difference", ascending=False)
    return [
        [row.against.label, *(_points(value) for value in (row.difference, row.low, row.high)), row.verdict]
        for row in ordered.itertuples()
    ]


def _points(value: float) -> float | None:
    return None if np.isnan(value) else round(100 * value, 2)
