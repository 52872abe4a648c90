"""The marks of each claim: networks and problems, ratio by ratio, judged by the rules in :mod:`.claim_texts`."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from splinelib.errors import SettingError
from splinestudy import results
from splinestudy.results import boundary, claims, initialisation, interpretation
from splinestudy.results.comparison_marks import criterion_marks, savings_marks
from splinestudy.results.comparisons import BAND, paired_differences
from splinestudy.results.marks import Mark, Marks, Word, intervals, keys_of, mean_row
from splinestudy.results.names import network_name, signed
from splinestudy.results.rules import (
    COIN,
    COIN_ON_IMAGES,
    MARKS,
    READING,
    TOUCHING,
    Rule,
)
from splinestudy.results.settling_marks import settling_marks
from splinestudy.results.ways import NARROW, Way
from splinestudy.runs.committed import Study, committed
from splinestudy.runs.records import Record
from splinestudy.runs.store import RecordStore

_COINS: dict[str, Word] = {
    "holds": "supported",
    "half": "in part",
    "open": "undecided",
    "fails": "contradicted",
}


def claim_marks(claim: str, store: RecordStore) -> Marks:
    """The marks of one claim, case by case and ratio by ratio; none without records.

    Raises:
        SettingError: for another claim than ``"C1"`` to ``"C8"``.
    """
    if claim not in _MARKS:
        raise SettingError(f"claim is {claim!r}: choose one of {', '.join(_MARKS)}")
    return _MARKS[claim](store)


def all_marks(store: RecordStore) -> Marks:
    """The marks of all claims, in their order."""
    return [mark for claim in _MARKS for mark in claim_marks(claim, store)]


def _coin(store: RecordStore) -> Marks:
    plane, marks = claims.plane_records(store), []
    keys, rule = keys_of(plane), COIN.beside(plane)
    for problem, table in claims.start_gains(plane).groupby("problem", sort=False) if plane else ():
        _, pruned, clever = initialisation.ROLES[str(problem).split(",")[0]]
        sides = {"pruned": table[table["start"] == pruned], "clever start": table[table["start"] == clever]}
        sizes = "factors" if problem == "k-means" else "sizes"
        evidence = "; ".join(
            f"{side} better at {sum(part['verdict'] == 'better')} of {len(part)} {sizes}"
            if len(part) > 1
            else f"{side} {part['verdict'].iloc[0]}"
            for side, part in sides.items()
        )
        rows = [
            (initialisation.start_name(str(problem), side, row.size), row.gain, row.low, row.high)
            for side, part in sides.items()
            for row in part.itertuples()
        ]
        word, band = _COINS[initialisation.one_coin(table, pruned, clever)], initialisation.MARGIN
        axis = initialisation.gain_name(str(problem))
        marks.append(
            Mark("C1", str(problem), "", word, evidence, intervals(rows), axis, (-band, band), keys, rule)
        )
    if starts := claims.start_records(store):
        marks.append(_coin_on_images(starts))
    return marks


def _coin_on_images(starts: Sequence[Record]) -> Mark:
    found = paired_differences(results.starts_table(starts), way=NARROW)
    claim = initialisation.image_claim(found, "")
    means = -100 * found.groupby("against")["difference"].mean()
    best = {side: means.reindex(list(ways)).max() for side, ways in initialisation.IMAGE_ROLES.items()}
    evidence = (
        ", ".join(f"best {side} {signed(gain)} points" for side, gain in best.items()) + " (mean over ratios)"
    )
    longer = found[found["against"] == Way("narrow long")].sort_values("ratio")
    if len(longer):
        gains = ", ".join(f"{signed(-100 * row.difference)} at {row.ratio:g}" for row in longer.itertuples())
        evidence += f"; the narrow network trained for as much as a lottery ticket costs: {gains}"
    roles = [way for ways in initialisation.IMAGE_ROLES.values() for way in ways]
    rows = [
        (f"{row.against.label}, {row.ratio:g}", -row.difference, -row.high, -row.low)
        for row in found[found["against"].isin(roles)].sort_values(["against", "ratio"]).itertuples()
    ]
    axis = "other start − narrow network from a random one (points)"
    word, table = _COINS[claim["C1"]], intervals(rows, 100)
    return Mark(
        "C1",
        network_name(starts[0]),
        "",
        word,
        evidence,
        table,
        axis,
        BAND,
        keys_of(starts),
        COIN_ON_IMAGES.beside(starts),
    )


def _pinpointed(store: RecordStore) -> Marks:
    marks = []
    for record in committed(Study("toy", "reference"), store):
        table = pd.DataFrame(record.results["pruning"]).rename(columns={"run": "seed"})
        table["axis_parallel"] = table["axis_parallel"].astype(float)
        gone = paired_differences(table, "vanished", "node", "kind")
        turned = paired_differences(table, "axis_parallel", "weight", "kind")
        for one, other in zip(gone.itertuples(), turned.itertuples(), strict=True):
            rows = [("nodes minus weights: boundaries gone", one.difference, one.low, one.high)]
            rows += [("weights minus nodes: length parallel", other.difference, other.low, other.high)]
            lows, highs = (one.low, other.low), (one.high, other.high)
            word: Word = "supported" if min(lows) > 0 else "contradicted" if min(highs) < 0 else "undecided"
            evidence = (
                f"nodes take {100 * one.difference:.0f} points more of the boundaries away, "
                f"weights turn {100 * other.difference:.0f} points more of the length"
            )
            table_ = intervals(rows, 100)
            marks.append(
                Mark(
                    "C2",
                    "toy in the plane",
                    f"{one.ratio:g}",
                    word,
                    evidence,
                    table_,
                    "points",
                    (0, 0),
                    (record.key,),
                    MARKS.beside([record]),
                )
            )
    return marks + _told_by_the_partition(store)


def _told_by_the_partition(store: RecordStore) -> Marks:
    """Whether what a choice of units does to the partition tells the accuracy that is left."""
    return [
        _told(read, value, name)
        for read in claims.readings(store)
        for value, name in interpretation.EFFECTS.items()
    ]


def _told(read: Sequence[Record], value: str, name: str) -> Mark:
    case = f"{interpretation.network_read(read[0])}: {name} gone (protocol)"
    row = interpretation.effects_row(read, value)
    word = interpretation.effects_word(*row[2:])
    axis = "rank correlation with accuracy before retraining"
    evidence = f"{axis} {signed(row[1], 2)} over {len(read)} networks"
    rows = intervals([row])
    rule = READING.beside(read, "C2")
    return Mark("C2", case, "", word, evidence, rows, axis, (-1, 0), keys_of(read), rule, by_protocol=True)


def _contributing(store: RecordStore) -> Marks:
    marks = []
    found = committed(Study("boundary", "reference", {"width": 1 / 8}), store, "boundary")
    if found:
        table = boundary.boundary_table(found)
        for name, group in table[table["layer"] == "all"].groupby("network", sort=False):
            members = [r for r in found if boundary.boundary_table([r])["network"].iloc[0] == name]
            marks.append(
                _touching(f"{network_name(members[0])}: on slices", group["touching"], TOUCHING, members)
            )
    for read in claims.readings(store):
        sampled = interpretation.rows_table(read, "touching")
        shares = [
            float(np.average(part["units_touching"], weights=part["units"]))
            for _, part in sampled.groupby("seed")
        ]
        case = f"{interpretation.network_read(read[0])}: channels, whole space (protocol)"
        marks.append(_touching(case, shares, READING, read))
    return marks


def _touching(case: str, shares: Sequence[float], rule: Rule, records: Sequence[Record]) -> Mark:
    row = mean_row("units that touch the decision boundary", list(shares))
    evidence = f"{100 * row[1]:.3g} % of the units touch the decision boundary"
    axis = "share of units (%)"
    return Mark(
        "C3",
        case,
        "",
        boundary.touching_word(row[1]),
        evidence,
        intervals([row], 100),
        axis,
        (0, 100 * boundary.TINY),
        keys_of(records),
        rule.beside(records),
        by_protocol=rule.in_protocol,
    )


def _explained(store: RecordStore) -> Marks:
    return [
        _separated(read, measure, name)
        for read in claims.readings(store)
        for measure, name in (("separation", "as released"), ("standardised", "scale divided out"))
    ]


def _separated(read: Sequence[Record], measure: str, name: str) -> Mark:
    found = interpretation.correlations_of(read)
    part = found[(found["layer"] == "all") & (found["measure"] == measure)]
    rows = [(f"network of seed {row.seed}", row.rho, row.low, row.high) for row in part.itertuples()]
    return Mark(
        "C8",
        f"{interpretation.network_read(read[0])}: {name} (protocol)",
        "",
        interpretation.separation_word(part),
        f"rank correlation {signed(part['rho'].mean(), 2)} over {len(part)} networks",
        intervals(rows),
        "rank correlation of scale and class separation",
        (interpretation.STRONG, 1),
        keys_of(read),
        READING.beside(read),
        by_protocol=True,
    )


_MARKS: dict[str, Callable[[RecordStore], Marks]] = {
    "C1": _coin,
    "C2": _pinpointed,
    "C3": _contributing,
    "C4": settling_marks,
    "C5": lambda store: criterion_marks("C5", "layerwise", store),
    "C6": lambda store: criterion_marks("C6", "global", store),
    "C7": savings_marks,
    "C8": _explained,
}
