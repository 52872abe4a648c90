"""The marks of the claims that set one method against others: C5, C6 and C7."""

from collections.abc import Sequence

import pandas as pd

from splinelib.pruning.selection import Scope
from splinestudy import results
from splinestudy.results import claims, protocol_rows, simultaneous
from splinestudy.results.claim_rows import VERDICTS
from splinestudy.results.comparisons import MARGIN, paired_differences, standing
from splinestudy.results.marks import HERE, Mark, Marks, Word, case_of, intervals, keys_of
from splinestudy.results.rules import PROTOCOL, STANDING
from splinestudy.results.ways import SPLINE, Way
from splinestudy.runs.records import Record, RecordStore

_BIRD = Way("spline", draw="detector")
_STANDINGS: dict[str, Word] = {word: word for word in ("supported", "undecided", "contradicted")}


def criterion_marks(claim: str, scope: Scope, store: RecordStore) -> Marks:
    """The networks of the protocol, then the studies before it."""
    marks = []
    for _, records, found in protocol_rows.judged(scope, store):
        rule = PROTOCOL.beside(records)
        for ratio, part in found.groupby("ratio"):
            marks.append(_against(claim, records, ratio, part, SPLINE, rule, 100 * simultaneous.MARGIN))
    for study in claims.studies("methods" if scope == "layerwise" else "methods_flops", store):
        found = paired_differences(results.pruning_table(study, scope))
        rule = STANDING.beside(study)
        marks += [_against(claim, study, ratio, part, SPLINE, rule) for ratio, part in found.groupby("ratio")]
    return marks


def _against(
    claim: str,
    records: Sequence[Record],
    ratio: float,
    differences: pd.DataFrame,
    way: Way,
    rule: str,
    margin: float = 100 * MARGIN,
    beside: str = "",
) -> Mark:
    """The mark of ``way`` against every other at one ratio."""
    ordered = differences.sort_values("difference", ascending=False)
    rows = [(row.against.label, row.difference, row.low, row.high) for row in ordered.itertuples()]
    verdicts = list(ordered["verdict"])
    said = [f"{name} {verdicts.count(name)}" for name in VERDICTS if name in verdicts]
    worst = ordered.iloc[-1]
    evidence = f"of {len(verdicts)} other methods: {', '.join(said)}; "
    evidence += f"{100 * worst['difference']:+.1f} points against {worst['against'].label}{beside}"
    table, axis = intervals(rows, 100), f"{way.label} − other (points)"
    case = case_of(records[0]) + (" (protocol)" if "unequal" in differences else "")
    word = _STANDINGS[standing(verdicts)]
    keys, band = keys_of(records), (-margin, margin)
    return Mark(claim, case, f"{ratio:g}", word, evidence, table, axis, band, keys, rule)


def savings_marks(store: RecordStore) -> Marks:
    """The spline early bird against every other way to a pruned network, network by network and ratio by ratio."""
    marks = []
    for study in claims.savings_studies(store):
        table = results.whole_table(study)
        pruned = table[[not way.row.name.startswith("narrow") and (way == _BIRD or not _is_bird(way))
                        for way in table["way"]]]  # fmt: skip
        birds = results.savings_summary(table[table["way"] == _BIRD]).set_index("ratio")
        for ratio, part in paired_differences(pruned, way=_BIRD).groupby("ratio"):
            bird = birds.loc[ratio]
            beside = f"; {bird['saving']:.2f} times cheaper than dense training, "
            beside += f"{100 * bird['loss']:.1f} points below it"
            marks.append(_against("C7", study, ratio, part, _BIRD, HERE, beside=beside))
    return marks


def _is_bird(way: Way) -> bool:
    """Whether a ticket is the spline detector's, in whatever variant."""
    return way.is_early_bird and way.method == _BIRD.method
