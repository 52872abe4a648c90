"""The rule of the protocol (``book/protocol.md``): one method against all others, by network and ratio."""

from collections.abc import Collection, Hashable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from splinelib.errors import SettingError
from splinestudy.analysis.intervals import mean_interval
from splinestudy.results.simultaneous import compare_with_control, decide, leverages_and_residuals, linked_to
from splinestudy.results.ways import SPLINE, Way
from splinestudy.runs import protocol
from splinestudy.runs.committed import Study
from splinestudy.runs.protocol import AT_START, CORE, OTHERS

PAPER_ERA = (
    *(Way(name) for name in (*CORE, *OTHERS) if name != SPLINE.method),
    Way("slimming"),
    *(Way(name, draw="start") for name in AT_START),
)
"""Set (a): what the spline criterion is judged against under C5 and C6."""

# The core's own first is the criterion; slimming comes in its place.
METHODS_OF = {"paper_era": len(PAPER_ERA)} | dict.fromkeys(("core", "core_flops"), len(CORE))
"""How many methods of set (a) each sweep runs: the claim is not supported before all of them are there."""


class Planned(NamedTuple):
    """How many methods a comparison plans, and on how many seeds."""

    methods: int
    seeds: int


def planned(study: Study) -> Planned:
    """What a study of :data:`METHODS_OF` plans against the criterion."""
    return Planned(METHODS_OF[study.sweep], len(study.settings().seeds))


SOLVED = replace(SPLINE, compensate="least_squares")
"""The criterion that set (b) is compared with."""

LIKE_FOR_LIKE = tuple(
    Way(name, compensate="least_squares") for name in (*CORE, "slimming") if name != SPLINE.method
)
"""Set (b): every choice of units of the core with least squares behind it."""

TODAY = tuple(Way(name, compensate=how) for name, how in protocol.TODAY)
"""Set (c): what appeared since."""

BIRD = Way("spline", draw="detector")
"""Spline pruning where the partition's detector drew, in training that goes on."""

MASK_BIRD = Way("EB Train")
"""The same where EB Train's detector drew."""

WAYS_TO_THE_SHAPE = (*PAPER_ERA, SPLINE, MASK_BIRD)
"""What the early bird's training is compared with under C7."""

MORE_WAYS = len(WAYS_TO_THE_SHAPE) - len(PAPER_ERA)
"""How many of these every network has beside its methods of set (a)."""

UNEQUAL = 2.0
"""Residual spreads beyond this many pooled ones break the additive model, and paired intervals decide."""

NOTHING_FREE = 1e-9
"""A sum of one minus leverage below this is rounding: the runs determine their own fit."""

REPRODUCED_AT = tuple(sorted(protocol.RATIOS))
"""Ratios at which the claim is to hold on each of three networks."""

DECISIONS = 3 * len(REPRODUCED_AT)
"""Networks and ratios by which C5 and C6 are decided."""

SAVINGS = 2 * len(REPRODUCED_AT)
"""Networks and ratios by which C7 is decided."""

CONTRADICTIONS = 2
"""So many of those nine contradicted, and the claim is *not reproduced*."""


def judge(table: pd.DataFrame, way: Way = SPLINE, against: Collection[Way] = PAPER_ERA) -> pd.DataFrame:
    """``way`` minus each of ``against`` on ONE network, at every ratio where both were run, by the protocol's rule.

    Runs that no chain of common seeds links to those of ``way`` are left out, as there are while a sweep is under way.

    ``table`` is a :func:`.pruning_table`. Columns: ratio, against, n (seeds that have both), difference, low, high,
    verdict (:func:`.decide`), intervals (*Dunnett*, or *Bonferroni* where the spread of a method is more than
    :data:`UNEQUAL` pooled ones), unequal (the methods whose spread is), and sd (the pooled one; NaN where it does not
    hold).
    """
    parts = []
    for ratio, group in table[table["way"].isin((way, *against))].groupby("ratio"):
        if way not in set(group["way"]):
            continue
        group = group[group["way"].isin(linked_to(way, group, treatment="way"))]
        if group["way"].nunique() < 2:
            continue
        found, wide = _by_rule(group, way, "way")
        unequal = ", ".join(name.label for name in wide)
        parts.append(
            found.assign(ratio=ratio, intervals="Bonferroni" if wide else "Dunnett", unequal=unequal)
        )
    columns = ["ratio", "against", "n", "difference", "low", "high", "verdict", "intervals", "unequal", "sd"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _by_rule(group: pd.DataFrame, control: Hashable, treatment: str) -> tuple[pd.DataFrame, list[Any]]:
    """``control`` against every other value of the column ``treatment`` at one ratio, and those that scatter more."""
    wide = [name for name, value in residual_spreads(group, treatment).items() if value > UNEQUAL]
    if wide:
        found = paired_with_bonferroni(group, control, treatment).assign(sd=np.nan)
    else:
        found = compare_with_control(group, control=control, treatment=treatment)
    verdicts = [decide(row.low, row.high) for row in found.itertuples()]
    return found.rename(columns={"treatment": "against"}).assign(verdict=verdicts), wide


def judge_saving(table: pd.DataFrame) -> pd.DataFrame:
    """The spline early bird against every way of the paper's time to the same shape, on ONE network.

    EB Train is compared by itself: drawn late or never it leaves nothing of the schedule to recover in, and scatters so
    much then that the intervals of all others would be those of pairs. The columns of :func:`judge`, and saving: how
    many times the operations of the early bird's training the other's are, means over seeds.
    """
    others = [way for way in WAYS_TO_THE_SHAPE if way != MASK_BIRD]
    found = [judge(table, BIRD, ways) for ways in (others, [MASK_BIRD])]
    found = pd.concat([part for part in found if len(part)] or found[:1], ignore_index=True)
    training = table.groupby(["ratio", "way"])["training"].mean()
    savings = [training[row.ratio, row.against] / training[row.ratio, BIRD] for row in found.itertuples()]
    return found.assign(saving=savings)


def costs(judged: pd.DataFrame) -> str:
    """The early bird's training as a share of that of the other ways of :func:`judge_saving`, EB Train's by itself."""
    shares, mask = 1 / judged["saving"], judged["against"] == MASK_BIRD
    parts = []
    if not mask.all():
        span = dict.fromkeys(f"{share:.2f}" for share in (shares[~mask].min(), shares[~mask].max()))
        parts.append(f"{' to '.join(span)} of what the ways at fixed moments take")
    return " and ".join([*parts, *(f"{share:.2f} of what EB Train takes" for share in shares[mask])])


def judge_tickets(table: pd.DataFrame) -> pd.DataFrame:
    """The ticket of the detector's draw against those of fixed moments, on ONE network and by the same rule.

    ``table`` is a :func:`.whole_table` of tickets that are trained equally long. Columns: ratio, against (epochs before
    the other ticket was drawn), n, difference, low, high, verdict.
    """
    parts = []
    for ratio, group in table.groupby("ratio"):
        detected = [way.draw == "detector" for way in group["way"]]
        moments = group["dense_epochs"].astype(float).where(~np.array(detected), -1.0)
        if not any(detected) or all(detected):
            continue
        group = group.assign(moment=moments)
        group = group[group["moment"].isin(linked_to(-1.0, group, treatment="moment"))]
        if group["moment"].nunique() < 2:
            continue
        found, _ = _by_rule(group, -1.0, "moment")
        parts.append(found.assign(ratio=ratio).sort_values("against"))
    columns = ["ratio", "against", "n", "difference", "low", "high", "verdict"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def residual_spreads(table: pd.DataFrame, treatment: str = "way") -> dict[Any, float]:
    """Each treatment's own standard deviation about the additive model, as a multiple of the pooled one.

    A treatment's squared residuals have the expectation of its variance times the sum of one minus leverage, if all
    variances are equal; that sum is what they are divided by. NaN where nothing is left to tell a spread by.
    """
    wide = table.pivot(index="seed", columns=treatment, values="accuracy")
    column, leverage, residual = leverages_and_residuals(wide.to_numpy(float))
    runs = pd.DataFrame({"free": 1 - leverage, "square": residual**2}).groupby(column).sum()
    runs = runs[runs["free"] > NOTHING_FREE]
    pooled = runs["square"].sum() / runs["free"].sum() if len(runs) else 0.0
    spreads = np.sqrt(runs["square"] / runs["free"] / (pooled or np.nan))
    return dict(zip(wide.columns, spreads.reindex(range(wide.shape[1])), strict=True))


def paired_with_bonferroni(
    table: pd.DataFrame, control: Hashable = SPLINE, treatment: str = "way", confidence: float = 0.95
) -> pd.DataFrame:
    """As :func:`.compare_with_control`, without a common variance: Student's intervals of paired differences.

    Each of the k intervals has confidence 1 − (1 − ``confidence``) / k, so that together they hold with ``confidence``
    at least, whatever the variances. Columns: treatment, n, difference, low, high; NaN bounds for a single pair.
    """
    wide = table.pivot(index="seed", columns=treatment, values="accuracy")
    if control not in wide:
        raise SettingError(f"control {str(control)!r} has no run in the table: run it, or name another")
    pairs = {name: (wide[control] - wide[name]).dropna() for name in wide if name != control}
    pairs = {name: values for name, values in pairs.items() if len(values)}
    each = 1 - (1 - confidence) / max(len(pairs), 1)
    rows = [(name, len(values), *mean_interval(values.tolist(), each)) for name, values in pairs.items()]
    return pd.DataFrame(rows, columns=["treatment", "n", "difference", "low", "high"])


def all_there(judged: pd.DataFrame, asked: Planned) -> bool:
    """Whether a network and ratio have every method and seed that is planned, so that its word is the last one."""
    return len(judged) >= asked.methods and judged["n"].min() >= asked.seeds


def reproduced(standings: Collection[str]) -> str:
    """The word for all nine (three networks at :data:`REPRODUCED_AT`), from those that are :func:`all_there`.

    *reproduced* if all nine are there and supported, *not reproduced* from :data:`CONTRADICTIONS` contradicted ones on,
    *mixed* for all nine otherwise, else *not decided yet*.
    """
    found = list(standings)
    if found.count("contradicted") >= CONTRADICTIONS:
        return "not reproduced"
    if len(found) < DECISIONS:
        return "not decided yet"
    return "reproduced" if set(found) == {"supported"} else "mixed"
