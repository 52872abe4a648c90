"""The marks of the claims that set one method against others: C5, C6 and C7."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from splinelib.pruning.selection import Scope
from splinestudy import results
from splinestudy.results import claims, protocol_networks, simultaneous
from splinestudy.results.claim_rows import VERDICTS, compared
from splinestudy.results.comparisons import MARGIN, paired_differences, standing
from splinestudy.results.marks import Mark, Marks, Word, intervals, keys_of
from splinestudy.results.names import network_name, signed
from splinestudy.results.protocol import (
    BIRD,
    MASK_BIRD,
    METHODS_OF,
    MORE_WAYS,
    PAPER_ERA,
    WAYS_TO_THE_SHAPE,
    Planned,
    all_there,
    costs,
    planned,
)
from splinestudy.results.rules import BESIDE, MARKS, PROTOCOL
from splinestudy.results.ways import SPLINE, Way
from splinestudy.runs.protocol import ALLOCATION
from splinestudy.runs.records import Record
from splinestudy.runs.store import RecordStore

_STANDINGS: dict[str, Word] = {word: word for word in ("supported", "undecided", "contradicted")}


def criterion_marks(claim: str, scope: Scope, store: RecordStore) -> Marks:
    """The networks of the protocol, then the studies before it; all against the methods of the paper's time."""
    marks = []
    for study, records, found in protocol_networks.judged(scope, store):
        decides = study.profile in protocol_networks.DECIDING
        for ratio, part in found.groupby("ratio"):
            if part["n"].max() < 2:  # one seed gets no word
                continue
            compares = protocol_networks.behind(records, part)
            asked = planned(study)
            mark = _against(claim, compares, ratio, part, SPLINE, asked=asked)
            marks.append(replace(mark, decides=decides, counted=True, complete=all_there(part, asked)))
        for ratio, part in (
            protocol_networks.judge_common(records).groupby("ratio") if scope == "global" else ()
        ):
            compares = protocol_networks.behind(records, part, allocation=ALLOCATION)
            mark = _against(claim, compares, ratio, part, SPLINE, asked=planned(study))
            case, rule = f"{mark.case}, one allocation", PROTOCOL.beside(compares, BESIDE)
            marks.append(replace(mark, case=case, decides=False, rule=rule))
    for narrow in claims.narrow_studies(scope, store):
        table = results.pruning_table(narrow, scope)
        found = paired_differences(table[table["way"].isin((SPLINE, *PAPER_ERA))])
        marks += [_against(claim, narrow, ratio, part, SPLINE) for ratio, part in found.groupby("ratio")]
    return marks


def _against(
    claim: str,
    records: Sequence[Record],
    ratio: float,
    differences: pd.DataFrame,
    way: Way,
    beside: str = "",
    asked: Planned | None = None,
) -> Mark:
    """The mark of ``way`` against every other at one ratio, by the protocol's rule and margin or those before it.

    ``asked`` is what the protocol plans; None for what came before it.
    """
    ordered = differences.sort_values("difference", ascending=False)
    rows = [(row.against.label, row.difference, row.low, row.high) for row in ordered.itertuples()]
    verdicts = list(ordered["verdict"])
    said = [f"{name} {verdicts.count(name)}" for name in VERDICTS if name in verdicts]
    worst = ordered.iloc[-1]
    evidence = f"against {compared(differences, asked, 'other methods')}: {', '.join(said)}; at worst "
    other = "spline pruning at the end" if worst["against"] == SPLINE else worst["against"].label
    evidence += f"{signed(100 * worst['difference'])} points, against {other}{beside}"
    table, axis = intervals(rows, 100), f"{way.label} − other (points)"
    case = network_name(records[0]) + (" (protocol)" if asked else "")
    rule = PROTOCOL.beside(records, claim) if asked else MARKS.beside(records)
    margin = 100 * (simultaneous.MARGIN if asked else MARGIN)
    word = _STANDINGS[standing(verdicts, asked.methods if asked else 1)]
    keys, band = keys_of(records), (-margin, margin)
    return Mark(claim, case, f"{ratio:g}", word, evidence, table, axis, band, keys, rule, asked is not None)


def _beside(points: float) -> str:
    """How far above or below, in words."""
    return f"{abs(points):.1f} points {'below' if points < 0 else 'above'}"


def ticket_marks(store: RecordStore) -> Marks:
    """The ticket of the detector's draw against that of the end, by the protocol."""
    marks = []
    for study, _, tickets, found in protocol_networks.judged_tickets(store):
        for ratio, part in found.groupby("ratio"):
            word = _STANDINGS[protocol_networks.early_convergence(part, tickets, study)]
            rows = [
                (
                    f"after {row.against:.0f} epoch{'s' if row.against > 1 else ''}",
                    row.difference,
                    row.low,
                    row.high,
                )
                for row in part.itertuples()
            ]
            last = part.loc[part["against"].idxmax()]
            when = protocol_networks.moment(last["against"], study)
            evidence = (
                f"the detector's ticket ends {_beside(100 * last['difference'])} that of {when}, "
                f"interval {signed(100 * last['low'], 2)} to {signed(100 * last['high'], 2)}"
            )
            if missed := protocol_networks.not_early(tickets):
                evidence += f"; in {missed} runs it drew at the end or never, and its ticket is that of the end itself"
            if (late := protocol_networks.drawn_late(tickets)) > missed:
                evidence += f"; in {late} runs it drew in the second half of the schedule"
            band = (-100 * simultaneous.MARGIN, 100 * simultaneous.MARGIN)
            axis = "ticket of the draw − ticket of another moment (points)"
            case, rule = f"{network_name(tickets[0])}: tickets (protocol)", PROTOCOL.beside(tickets, "C4")
            table, keys = intervals(rows, 100), keys_of(tickets)
            marks.append(Mark("C4", case, f"{ratio:g}", word, evidence, table, axis, band, keys, rule, True))
    return marks


def savings_marks(store: RecordStore) -> Marks:
    """The spline early bird against every way of the paper's time: by the protocol, then in the studies before it."""
    marks = []
    for records, found, asked in protocol_networks.judged_savings(store):
        for ratio, part in found.groupby("ratio"):
            if part["n"].max() < 2:  # as for the criterion
                continue
            beside = f"; its training takes {costs(part)}"
            compares = protocol_networks.behind(records, part, BIRD)
            mark = _against("C7", compares, ratio, part, BIRD, beside, asked)
            # The claim is of cheaper training at no loss: one way that costs no more speaks against it.
            cheaper = part.loc[part["saving"] <= 1, "against"]
            why = "not the cheapest way, whatever the accuracies"
            beaten_before = any(other.draw == "start" for other in cheaper)
            if beaten_before:
                why += " (what chooses before training never trains the dense network)"
            elif set(cheaper) == {MASK_BIRD}:
                why += " (EB Train alone costs no more)"
            masks = [r for r in compares if r.settings["ratio"] == ratio and r.settings.get("draw") == "mask"]
            if missed := protocol_networks.not_early(masks, "mask"):
                late = f"EB Train drew at the end or never in {missed} of {len(masks)} runs"
                mark = replace(mark, evidence=f"{mark.evidence}; {late}")
            why = f"{why}; {mark.evidence}"
            decides = (
                asked.methods == METHODS_OF["core"] + MORE_WAYS
            )  # nothing planned chooses before training
            mark = replace(mark, once=True, decides=decides, complete=all_there(part, asked))
            marks.append(replace(mark, word="contradicted", evidence=why) if len(cheaper) else mark)
    for study in claims.savings_studies(store):
        table = results.whole_table(study)
        birds = results.savings_summary(table[table["way"] == BIRD]).set_index("ratio")
        ways = table[table["way"].isin(WAYS_TO_THE_SHAPE) | (table["way"] == BIRD)]
        for ratio, part in paired_differences(ways, way=BIRD).groupby("ratio"):
            bird = birds.loc[ratio]
            beside = f"; {bird['saving']:.2f} times cheaper than dense training, "
            beside += f"{100 * bird['loss']:.1f} points below it"
            marks.append(_against("C7", study, ratio, part, BIRD, beside))
    return marks
