"""The marks of each claim: networks and problems, ratio by ratio, judged by the rules that :data:`RULES` tells."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from splinelib.errors import SettingError
from splinestudy import results
from splinestudy.results import boundary, claims, initialisation, interpretation
from splinestudy.results.comparisons import MARGIN, paired_differences, standing
from splinestudy.results.marks import Mark, Word, case_of, intervals, keys_of, mean_row
from splinestudy.results.settling import settles_alone
from splinestudy.results.ways import NARROW, SPLINE, Way
from splinestudy.runs.committed import Study, committed
from splinestudy.runs.records import Record, RecordStore

Marks = list[Mark]


@dataclass(frozen=True)
class Claim:
    """A claim in one sentence, and the chapter that judges it."""

    text: str
    chapter: str


CLAIMS = {
    "C1": Claim(
        "Pruning a large network and cleverly starting a small one are two sides of one coin",
        "02_initialisation",
    ),
    "C2": Claim("What pruning does can be pinpointed on the partition", "01_partition"),
    "C3": Claim("A tiny fraction of the units makes the decision boundary", "06_reading"),
    "C4": Claim("The partition converges early in training, so tickets can be drawn early", "03_early_bird"),
    "C5": Claim(
        "Spline pruning is on par with or better than the state of the art, layer by layer",
        "04_layerwise_pruning",
    ),
    "C6": Claim(
        "Spline pruning is on par with or better than the state of the art, globally", "05_global_pruning"
    ),
    "C7": Claim(
        "Early detection with spline pruning cuts training costs at similar or better accuracy", "09_savings"
    ),
    "C8": Claim("The spline view explains other criteria, such as the batch-norm scale", "06_reading"),
}

_SETTLED = 0.16
"""Below this distance a partition counts as that of the end: the released rule's own threshold."""

_BIRD = Way("spline", draw="detector")

_COINS: dict[str, Word] = {
    "holds": "supported",
    "half": "in part",
    "open": "undecided",
    "fails": "contradicted",
}
_STANDINGS: dict[str, Word] = {word: word for word in ("supported", "undecided", "contradicted")}
_POINTS = (-100 * MARGIN, 100 * MARGIN)


@dataclass(frozen=True)
class Rule:
    """How a claim is judged, and the commit that fixed it; without one the rule was made after the records."""

    text: str
    commit: str = ""


_AGAINST_ALL = Rule(
    "Contradicted where spline is worse than at least one other method (the whole 95 % interval of the paired "
    "difference beyond the margin), supported where it is better than or on par with every one.",
    "76ebc7f",
)

RULES = {
    "C1": Rule(
        "Pruning a large model and a clever start each win if their gain over a random start lies above the margin at "
        "more than half of the sizes. Supported where both win, in part where one does and the other loses.",
        "d5ae75c",
    ),
    "C2": Rule(
        "Supported where, by intervals over runs, removing nodes takes more boundaries away than zeroing weights does, "
        "and zeroing weights turns more of their length parallel to an axis. It is counted in the toy alone."
    ),
    "C3": Rule(
        "Supported where at most a tenth of the units touch the decision boundary on average.", "1cfbce1"
    ),
    "C4": Rule(
        "Supported where every run draws in the first half of its schedule, and the partition is then nearer to the "
        "final one than the rule's threshold; in part where it is so in one of the two. At a constant rate: as in "
        "the chapter. Tickets: at least one of the first half on par or better than the last, and none worse."
    ),
    "C5": _AGAINST_ALL,
    "C6": _AGAINST_ALL,
    "C7": Rule(
        "The spline early bird against every other way to a pruned network at that ratio, by the rule of C5. Cost "
        "stands beside it."
    ),
    "C8": Rule(
        "Supported where the whole interval of the rank correlation lies above the bound in every network, "
        "contradicted where it lies below in every one.",
        "1cfbce1",
    ),
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
    gains, marks = claims.start_gains(store), []
    planned = Study("initialisation", "reference").runs()
    keys = keys_of(record for run in planned if (record := store.load(run)))
    for problem, table in () if gains is None else gains.groupby("problem", sort=False):
        _, pruned, clever = initialisation.ROLES[str(problem).split(",")[0]]
        sides = {"pruned": table[table["start"] == pruned], "clever start": table[table["start"] == clever]}
        evidence = "; ".join(
            f"{side} better at {sum(part['verdict'] == 'better')} of {len(part)} sizes"
            for side, part in sides.items()
        )
        rows = [
            (f"{side}, size {row.size:g}", row.gain, row.low, row.high)
            for side, part in sides.items()
            for row in part.itertuples()
        ]
        word, band = _COINS[initialisation.one_coin(table, pruned, clever)], initialisation.MARGIN
        axis = "gain over the random start"
        marks.append(Mark("C1", str(problem), "", word, evidence, intervals(rows), axis, (-band, band), keys))
    if starts := claims.start_records(store):
        marks.append(_coin_on_images(starts))
    return marks


def _coin_on_images(starts: Sequence[Record]) -> Mark:
    found = paired_differences(results.starts_table(starts), way=NARROW)
    claim = initialisation.image_claim(found, "")
    means = -100 * found.groupby("against")["difference"].mean()
    best = {side: means.reindex(list(ways)).max() for side, ways in initialisation.IMAGE_ROLES.items()}
    evidence = (
        ", ".join(f"best {side} {gain:+.1f} points" for side, gain in best.items()) + " (mean over ratios)"
    )
    roles = [way for ways in initialisation.IMAGE_ROLES.values() for way in ways]
    rows = [
        (f"{row.against.label}, {row.ratio:g}", -row.difference, -row.high, -row.low)
        for row in found[found["against"].isin(roles)].sort_values(["against", "ratio"]).itertuples()
    ]
    axis = "other start − narrow network from a random one (points)"
    word, table = _COINS[claim["C1"]], intervals(rows, 100)
    return Mark("C1", case_of(starts[0]), "", word, evidence, table, axis, _POINTS, keys_of(starts))


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
                )
            )
    return marks


def _contributing(store: RecordStore) -> Marks:
    marks = []
    found = committed(Study("boundary", "reference", {"width": 1 / 8}), store, "boundary")
    if found:
        table = boundary.boundary_table(found)
        for name, group in table[table["layer"] == "all"].groupby("network", sort=False):
            members = [r for r in found if boundary.boundary_table([r])["network"].iloc[0] == name]
            marks.append(
                _touching(f"{case_of(members[0])}: on slices", group["touching"], boundary.TINY, members)
            )
    if read := claims.readings(store):
        sampled, windows = (interpretation.rows_table(read, name) for name in ("touching", "windows"))
        shares = [
            float(np.average(part["units_touching"], weights=part["units"]))
            for _, part in sampled.groupby("seed")
        ]
        inside = windows.loc[windows["layer"] == "all"].groupby("seed")["touching"].mean()
        case = case_of(read[0])
        marks.append(_touching(f"{case}: channels, whole space", shares, interpretation.TINY, read))
        marks.append(_touching(f"{case}: positions, one small window", inside, interpretation.TINY, read))
    return marks


def _touching(case: str, shares: Sequence[float], tiny: float, records: Sequence[Record]) -> Mark:
    row = mean_row("units that touch the decision boundary", list(shares))
    word: Word = "supported" if row[1] <= tiny else "contradicted"
    evidence = f"{100 * row[1]:.3g} % of the units touch the decision boundary"
    axis = "share of units (%)"
    return Mark(
        "C3", case, "", word, evidence, intervals([row], 100), axis, (0, 100 * tiny), keys_of(records)
    )


def _settling(store: RecordStore) -> Marks:
    marks = [_drawn(group) for group in claims.dense_studies(store)]
    for study in (Study("settling", "study", {"images": 20_000}), Study("settling", "breadth")):
        if found := committed(study, store, "settling"):
            marks.append(_by_itself(found, study))
    if tickets := committed(Study("tickets", "study"), store, "prune"):
        early = results.early_tickets(results.pruning_table(tickets, "layerwise"))
        marks += [_tickets(ratio, part, tickets) for ratio, part in early.groupby("ratio")]
    return marks


def _drawn(records: Sequence[Record]) -> Mark:
    draws = [record.results["spline"]["epoch"] for record in records]
    ends = [len(record.results["epochs"]) for record in records]
    early = all(draw is not None and draw + 1 <= end / 2 for draw, end in zip(draws, ends, strict=True))
    distances = [np.array(record.results["spline"]["distances"])[-1] for record in records]
    then = [row[draw] for row, draw in zip(distances, draws, strict=True) if draw is not None]
    near = bool(then) and float(np.mean(then)) < _SETTLED
    word: Word = "supported" if early and near else "in part" if early or near else "contradicted"
    shares = [(draw + 1) / end for draw, end in zip(draws, ends, strict=True) if draw is not None]
    evidence = f"drawn in {len(shares)} of {len(draws)} runs"
    if shares:
        evidence += (
            f", at {100 * np.mean(shares):.0f} % of the schedule, then {np.mean(then):.2f} from the end"
        )
    rows = [mean_row("share of the schedule at the draw", shares)] if shares else []
    table = intervals(rows, 100)
    return Mark("C4", case_of(records[0]), "", word, evidence, table, "%", (0, 50), keys_of(records))


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
    case = f"{case_of(records[0])}: constant rate"
    word: Word = "supported" if settles_alone(draws, epochs) else "contradicted"
    return Mark("C4", case, "", word, evidence, table, "code distance", (0, _SETTLED), keys_of(records))


def _tickets(ratio: object, early: pd.DataFrame, records: Sequence[Record]) -> Mark:
    last = max(record.settings["dense"]["train"]["epochs"] for record in records)
    first = early[early["dense_epochs"] <= last / 2]
    verdicts = set(first["verdict"])
    good = bool(verdicts & {"better", "on par"})
    word: Word = "undecided"
    if "worse" in verdicts:
        word = "in part" if good else "contradicted" if verdicts == {"worse"} else "undecided"
    elif good:
        word = "supported"
    best = first.loc[first["difference"].idxmax()]
    evidence = (
        f"the best ticket of the first half ends {100 * best['difference']:+.1f} points from the last one"
    )
    rows = [
        (f"ticket of epoch {row.dense_epochs}", row.difference, row.low, row.high)
        for row in early.itertuples()
    ]
    case = f"{case_of(records[0])}: tickets"
    axis = "early ticket − last one (points)"
    table = intervals(rows, 100)
    return Mark("C4", case, f"{ratio:g}", word, evidence, table, axis, _POINTS, keys_of(records))


def _criterion(claim: str, scope: str, sweep: str, store: RecordStore) -> Marks:
    marks = []
    for study in claims.studies(sweep, store):
        found = paired_differences(results.pruning_table(study, scope))
        marks += [_against(claim, study, ratio, part, SPLINE) for ratio, part in found.groupby("ratio")]
    return marks


def _against(
    claim: str, records: Sequence[Record], ratio: float, differences: pd.DataFrame, way: Way, beside: str = ""
) -> Mark:
    """The mark of ``way`` against every other at one ratio."""
    ordered = differences.sort_values("difference", ascending=False)
    rows = [(row.against.label, row.difference, row.low, row.high) for row in ordered.itertuples()]
    verdicts = list(ordered["verdict"])
    said = [
        f"{name} {verdicts.count(name)}"
        for name in ("better", "on par", "open", "worse", "one seed")
        if name in verdicts
    ]
    worst = ordered.iloc[-1]
    evidence = f"of {len(verdicts)} other methods: {', '.join(said)}; "
    evidence += f"{100 * worst['difference']:+.1f} points against {worst['against'].label}{beside}"
    table, axis = intervals(rows, 100), f"{way.label} − other (points)"
    word = _STANDINGS[standing(verdicts)]
    return Mark(
        claim, case_of(records[0]), f"{ratio:.2g}", word, evidence, table, axis, _POINTS, keys_of(records)
    )


def _savings(store: RecordStore) -> Marks:
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
            marks.append(_against("C7", study, ratio, part, _BIRD, beside))
    return marks


def _is_bird(way: Way) -> bool:
    """Whether a ticket is the spline detector's, in whatever variant."""
    return way.is_early_bird and way.method == _BIRD.method


def _explained(store: RecordStore) -> Marks:
    read = claims.readings(store)
    if not read:
        return []
    found = interpretation.correlation_table(interpretation.rows_table(read, "channels"))
    pooled, marks = found[found["layer"] == "all"], []
    for measure, name in (("separation", "as released"), ("standardised", "scale divided out")):
        part = pooled[pooled["measure"] == measure]
        strong = interpretation.STRONG
        word: Word = "undecided"
        if (part["low"] > strong).all():
            word = "supported"
        elif (part["high"] < strong).all():
            word = "contradicted"
        rows = [(f"network of seed {row.seed}", row.rho, row.low, row.high) for row in part.itertuples()]
        evidence = f"rank correlation {part['rho'].mean():+.2f} over {len(part)} networks"
        case = f"{case_of(read[0])}: {name}"
        axis = "rank correlation of scale and class separation"
        marks.append(Mark("C8", case, "", word, evidence, intervals(rows), axis, (strong, 1), keys_of(read)))
    return marks


_MARKS: dict[str, Callable[[RecordStore], Marks]] = {
    "C1": _coin,
    "C2": _pinpointed,
    "C3": _contributing,
    "C4": _settling,
    "C5": lambda store: _criterion("C5", "layerwise", "methods", store),
    "C6": lambda store: _criterion("C6", "global", "methods_flops", store),
    "C7": _savings,
    "C8": _explained,
}
