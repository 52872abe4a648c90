"""The marks of C4: draws, what settles by itself, tickets of every epoch."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from splinelib.early_bird.detectors import RELEASED_THRESHOLD
from splinestudy import results
from splinestudy.results import claims
from splinestudy.results.comparison_marks import ticket_marks
from splinestudy.results.comparisons import BAND
from splinestudy.results.marks import Mark, Marks, Word, intervals, keys_of, mean_row
from splinestudy.results.names import network_name, signed
from splinestudy.results.rules import MARKS, SETTLING
from splinestudy.results.settling import settles_alone
from splinestudy.runs.committed import Study, committed
from splinestudy.runs.records import Record
from splinestudy.runs.store import RecordStore


def settling_marks(store: RecordStore) -> Marks:
    """Draws of early birds, the constant rate's control, tickets of every epoch."""
    marks = ticket_marks(store)
    marks += [_drawn(group) for group in claims.dense_studies(store)]
    for study in (Study("settling", "study", {"images": 20_000}), Study("settling", "breadth")):
        found = committed(study, store, "settling")
        if found and "constant" in set(results.draw_table(found, study.settings())["schedule"]):
            marks.append(_by_itself(found, study))
    if tickets := committed(Study("tickets", "study"), store, "prune"):
        early = results.early_tickets(results.pruning_table(tickets, "layerwise"))
        last = max(record.settings["dense"]["train"]["epochs"] for record in tickets)
        for ratio, part in early.groupby("ratio"):
            first = part["dense_epochs"] <= last / 2
            if first.any():
                marks.append(_tickets(ratio, part, part[first], tickets))
    return marks


def _drawn(records: Sequence[Record]) -> Mark:
    draws = [record.results["spline"]["epoch"] for record in records]
    ends = [len(record.results["epochs"]) for record in records]
    early = all(draw is not None and draw + 1 <= end / 2 for draw, end in zip(draws, ends, strict=True))
    distances = [np.array(record.results["spline"]["distances"])[-1] for record in records]
    then = [row[draw] for row, draw in zip(distances, draws, strict=True) if draw is not None]
    near = bool(then) and float(np.mean(then)) < RELEASED_THRESHOLD
    word: Word = "supported" if early and near else "in part" if early or near else "contradicted"
    shares = [(draw + 1) / end for draw, end in zip(draws, ends, strict=True) if draw is not None]
    evidence = f"drawn in {len(shares)} of {len(draws)} runs"
    if shares:
        evidence += (
            f", at {100 * np.mean(shares):.0f} % of the schedule; {100 * np.mean(then):.0f} % of the bits then "
            "differ from the end's"
        )
    rows = [mean_row("share of the schedule at the draw", shares)] if shares else []
    table = intervals(rows, 100)
    return Mark(
        "C4",
        network_name(records[0]),
        "",
        word,
        evidence,
        table,
        "%",
        (0, 50),
        keys_of(records),
        MARKS.beside(records),
    )


def _by_itself(records: Sequence[Record], study: Study) -> Mark:
    profile = study.settings()
    draws, epochs = results.draw_table(records, profile), results.schedule_table(records, profile)
    draws = draws[draws["schedule"] == "constant"]
    end = epochs["epoch"].max()
    half = epochs[(epochs["schedule"] == "constant") & (epochs["epoch"] == end // 2)]
    early = int((draws["epoch"] < draws["epochs"] / 2).sum())
    evidence = (
        f"drawn in the first half in {early} of {len(draws)} runs; "
        f"half-way {100 * half['moved'].mean():.0f} % of the bits will still change"
    )
    table = intervals([mean_row("distance to the last epoch, half-way", half["to_final"].tolist())])
    case = f"{network_name(records[0])}: constant rate"
    word: Word = "supported" if settles_alone(draws, epochs) else "contradicted"
    return Mark(
        "C4",
        case,
        "",
        word,
        evidence,
        table,
        "code distance",
        (0, RELEASED_THRESHOLD),
        keys_of(records),
        SETTLING.beside(records),
    )


def _tickets(ratio: object, early: pd.DataFrame, first: pd.DataFrame, records: Sequence[Record]) -> Mark:
    """Tickets against the last one; those of the ``first`` half of the schedule are judged."""
    verdicts = set(first["verdict"])
    good = bool(verdicts & {"better", "on par"})
    word: Word = "undecided"
    if "worse" in verdicts:
        word = "in part" if good else "contradicted" if verdicts == {"worse"} else "undecided"
    elif good:
        word = "supported"
    best = first.loc[first["difference"].idxmax()]
    evidence = (
        f"the best ticket of the first half ends {signed(100 * best['difference'])} points from the last one"
    )
    rows = [
        (f"ticket of epoch {row.dense_epochs}", row.difference, row.low, row.high)
        for row in early.itertuples()
    ]
    case = f"{network_name(records[0])}: tickets"
    axis = "early ticket − last one (points)"
    table = intervals(rows, 100)
    return Mark(
        "C4", case, f"{ratio:g}", word, evidence, table, axis, BAND, keys_of(records), MARKS.beside(records)
    )
