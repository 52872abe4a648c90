"""Rows of the table of claims that follow the protocol: the criterion, early tickets, and what early birds save."""

import numpy as np
import pandas as pd

from splinelib.pruning.selection import Scope
from splinestudy.results.claim_rows import compared, distance_at_the_draw, seeds_of, study_claim
from splinestudy.results.comparisons import standing
from splinestudy.results.early_bird import detection_summary, detection_table
from splinestudy.results.names import network_name, signed
from splinestudy.results.protocol import (
    BIRD,
    DECISIONS,
    LIKE_FOR_LIKE,
    SOLVED,
    TODAY,
    Planned,
    all_there,
    costs,
    judge,
    planned,
    reproduced,
)
from splinestudy.results.protocol_networks import (
    DECIDING,
    behind,
    early_convergence,
    judge_common,
    judge_normalisations,
    judge_sets,
    judged,
    judged_savings,
    judged_tickets,
    moment,
    stricter,
)
from splinestudy.results.pruning import pruning_table
from splinestudy.results.rules import BESIDE, PROTOCOL, STRICTER
from splinestudy.results.ways import SPLINE, Way
from splinestudy.runs.committed import Study
from splinestudy.runs.methods import METHODS
from splinestudy.runs.protocol import ALLOCATION, NORMALISATIONS, READINGS
from splinestudy.runs.records import Record
from splinestudy.runs.store import RecordStore

Rows = list[dict[str, str]]

STANDINGS = ("supported", "undecided", "contradicted")


def criterion_rows(claim: str, scope: Scope, store: RecordStore) -> Rows:
    """C5 or C6: the word for the three networks that decide, then every network and the other readings of it."""
    rows: Rows = []
    standings: list[str] = []
    last: list[str] = []
    all_records: list[Record] = []
    for study, records, found in judged(scope, store):
        if found.empty:  # one of the two that a comparison takes is still to come
            continue
        asked = planned(study)
        compares = behind(records, found)
        rows.append(_row(study_claim(claim, records, found, asked), "", compares))
        rows += _readings(claim, records, scope, asked)
        rows += (
            _allocations(claim, records, asked) if scope == "global" else _sets(claim, study, records, store)
        )
        if study.profile in DECIDING:
            all_records += compares
            for _, part in found.groupby("ratio"):
                if part["n"].max() > 1:  # as for the marks
                    standings.append(standing(part["verdict"], asked.methods))
                    last += standings[-1:] if all_there(part, asked) else []
    if not rows:
        return []
    counts = ", ".join(f"{standings.count(word)} {word}" for word in STANDINGS)
    counts += f", {DECISIONS - len(standings)} not begun; all planned seeds are there of {len(last)}"
    whole = {
        "records": "protocol, the three networks that decide",
        "ours": f"*{reproduced(last)}*: of {DECISIONS} (three networks at three ratios) {counts}",
        "rule": PROTOCOL.beside(all_records, claim),
    }
    return [rows[0] | whole, *rows]


def _readings(claim: str, records: list[Record], scope: Scope, asked: Planned) -> Rows:
    """What other readings of the criterion come to, for which the claim is not judged."""
    table = pruning_table(records, scope)
    found = {reading: judge(table, reading) for reading in map(Way, READINGS)}
    return [
        _row(
            study_claim(claim, records, part, asked),
            f"not the claim but its reading *{reading.label}*",
            behind(records, part, reading),
            BESIDE,
        )
        for reading, part in found.items()
        if not part.empty
    ]


def _allocations(claim: str, records: list[Record], asked: Planned) -> Rows:
    """All criteria at the widths of one, and the spline criterion by other normalisations of its scores."""
    common = f"all at the widths of {METHODS[ALLOCATION].label}"
    mean = "the layer's mean against other normalisations of the spline scores"
    found = (
        (common, judge_common(records), asked.methods, ALLOCATION),
        (mean, judge_normalisations(records), len(NORMALISATIONS), ""),
    )
    return [
        _row(
            study_claim(claim, records, part, asked._replace(methods=count)),
            f"not the claim but {what}",
            behind(records, part, allocation=widths),
            BESIDE,
        )
        for what, part, count, widths in found
        if not part.empty
    ]


def _sets(claim: str, study: Study, records: list[Record], store: RecordStore) -> Rows:
    """The sets of the protocol by which the claim is not judged: like for like, and today's methods."""
    records, *found = judge_sets(study, records, store)
    seeds = planned(study).seeds
    sets = (
        ("all with least squares", SOLVED, LIKE_FOR_LIKE),
        ("the criterion against today's methods", SPLINE, TODAY),
    )
    return [
        _row(
            study_claim(claim, records, part, Planned(len(methods), seeds)),
            f"not the claim but {name}",
            behind(records, part, control),
            BESIDE,
        )
        for (name, control, methods), part in zip(sets, found, strict=True)
        if not part.empty
    ]


def ticket_rows(store: RecordStore) -> Rows:
    """C4: the ticket that the detector draws against that of the end and of moments between, each trained as long."""
    rows = []
    for study, dense, tickets, found in judged_tickets(store):
        drawn = detection_summary(detection_table(dense)).iloc[0]
        when = "never drawn"
        if drawn["drawn"]:
            when = f"drawn in {drawn['drawn']} of {drawn['n']} runs, after {100 * drawn['share_of_schedule']:.0f} % "
            when += f"of the schedule, then {distance_at_the_draw(dense):.2f} from the last epoch's partition"
        worth = "; ".join(
            _worth(float(ratio), part, tickets, study) for ratio, part in found.groupby("ratio")
        )
        words = {
            "claim": "C4",
            "ours": f"{when}; {worth} (points)",
        }
        rows.append(_row(words, "tickets", tickets))
    return rows


def _worth(ratio: float, part: pd.DataFrame, tickets: list[Record], study: Study) -> str:
    """The detector's tickets beside the others."""
    early = early_convergence(part, tickets, study) == "supported"
    outcomes = ", ".join(
        f"{row.verdict} against {moment(row.against, study)} ({signed(100 * row.difference)})"
        for row in part.itertuples()
    )
    word = "converges early" if early else "is not seen to converge early"
    return f"at {ratio:g} the partition *{word}*: the ticket of the draw is {outcomes}"


def saving_rows(store: RecordStore) -> Rows:
    """C7: all training of the spline early bird against that of every way of the paper's time to the same shape."""
    rows = []
    for records, found, asked in judged_savings(store):
        words = "; ".join(_saving(float(ratio), part, asked) for ratio, part in found.groupby("ratio"))
        claim = {
            "claim": "C7",
            "ours": f"{BIRD.label}: {words}",
        }
        rows.append(_row(claim, "against every way of the paper's time", behind(records, found, BIRD)))
    return rows + _stricter_rows(store)


def _stricter_rows(store: RecordStore) -> Rows:
    """What the claim does not ask: the early bird against the dense network, and against the narrow one alone."""
    rows = []
    for records, dense, narrow in stricter(store):
        kept = "; ".join(
            f"at {row.ratio:g} {signed(100 * row.difference)} points{_between(row.low, row.high)}, for "
            f"{row.training:.2f} of its FLOPs"
            for row in dense.itertuples()
        )
        alone = "; ".join(
            f"at {row.ratio:g} {row.verdict} ({signed(100 * row.difference)} points), which takes {row.saving:.2f} of "
            "the early bird's FLOPs"
            for row in narrow.itertuples()
        )
        birds = [record for record in records if record.settings.get("onward")]
        for name, words, behind_it in (
            ("dense network", kept, birds),
            ("narrow network from scratch", alone, records),
        ):
            claim = {"claim": "C7", "ours": f"{BIRD.label}: {words or 'the narrow network is still to come'}"}
            rows.append(_row(claim, f"a stricter test: against the {name}", behind_it, STRICTER))
    return rows


def _between(low: float, high: float) -> str:
    return " on one seed" if np.isnan(low) else f" ({signed(100 * low)} to {signed(100 * high)})"


def _saving(ratio: float, part: pd.DataFrame, asked: Planned) -> str:
    alike = part[part["verdict"].isin(("better", "at least on par"))]
    cheaper = (part["saving"] > 1).all()
    word = "reproduced" if len(alike) == len(part) >= asked.methods and cheaper else "not reproduced so far"
    word = "not judged on one seed" if part["n"].max() < 2 else word
    ways = compared(part, asked, "ways")
    return (
        f"at {ratio:g} *{word}*, for {costs(part)} (FLOPs), against {ways}, of which it is better than "
        f"or at least on par with {len(alike)}, worse than {(part['verdict'] == 'worse').sum()}"
    )


def _row(row: dict[str, str], what: str, records: list[Record], about: str = "") -> dict[str, str]:
    """``about``: :data:`.BESIDE` for what its claim is not judged by."""
    name = ", ".join(
        part for part in ("protocol", network_name(records[0]), what or seeds_of(records)) if part
    )
    return {
        "claim": row["claim"],
        "records": name,
        "ours": row["ours"],
        "rule": PROTOCOL.beside(records, about or row["claim"]),
    }
