"""Means, spreads and paired comparisons over seeds."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pandas as pd

from splinelib.errors import SettingError
from splinestudy.analysis.intervals import mean_interval
from splinestudy.results.ways import SPLINE, Way

MARGIN = 0.003
"""Accuracies closer than this (0.3 points) count as on par."""
BAND = (-100 * MARGIN, 100 * MARGIN)
"""From the margin on one side to that on the other, in points."""


def summarise(table: pd.DataFrame, by: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Number n, and mean and standard deviation (over seeds, with n − 1) of each value, for each group of ``by``."""
    groups = table.groupby(list(by), sort=False)
    out = groups.size().rename("n").to_frame()
    for value in values:
        out[f"{value}_mean"] = groups[value].mean()
        out[f"{value}_std"] = groups[value].std(ddof=1)
    return out.reset_index()


def best_first(summary: pd.DataFrame) -> list[Way]:
    """The ways of a table by :func:`summarise` by their accuracy, the best first.

    What counts is how far they are above the mean of all ways at a ratio, averaged over the ratios that they have.
    """
    above = summary["accuracy_mean"] - summary.groupby("ratio")["accuracy_mean"].transform("mean")
    return list(above.groupby(summary["way"]).mean().sort_values(ascending=False).index)


def paired_differences(
    table: pd.DataFrame, value: str = "accuracy", way: Hashable = SPLINE, column: str = "way"
) -> pd.DataFrame:
    """``way`` minus every other way, paired by seed, at every ratio where both have runs of one seed.

    Values of another ``column`` can be compared as well. Columns: ratio, against, n, difference (mean), low, high (95 %
    confidence interval of the mean by Student's t, paired; NaN with a single seed) and verdict by :func:`verdict`. An
    empty table gives an empty one.
    """
    if not table.empty and way not in set(table[column]):
        raise SettingError(f"{column} {str(way)!r} is not in the table: run it, or compare another one")
    rows = []
    for ratio, group in table.groupby("ratio"):
        wide = group.pivot(index="seed", columns=column, values=value)
        for other in [other for other in table[column].unique() if other != way]:
            pairs = wide.reindex(columns=[way, other]).dropna()
            if pairs.empty:
                continue
            difference, low, high = mean_interval((pairs[way] - pairs[other]).tolist())
            rows.append(
                {
                    "ratio": ratio,
                    "against": other,
                    "n": len(pairs),
                    "difference": difference,
                    "low": low,
                    "high": high,
                    "verdict": verdict(low, high),
                }
            )
    columns = ["ratio", "against", "n", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def verdict(low: float, high: float) -> str:
    """The rule of the studies before the protocol: where does the confidence interval of a difference lie?

    *better* if wholly above :data:`MARGIN`, *worse* if wholly below its negative, *on par* if wholly between,
    else *open*: the data do not decide. *one seed* where there is no interval.
    """
    if np.isnan(low):
        return "one seed"
    if low > MARGIN:
        return "better"
    if high < -MARGIN:
        return "worse"
    return "on par" if low >= -MARGIN and high <= MARGIN else "open"


def standing(verdicts: Iterable[str], asked: int = 1) -> str:
    """What verdicts against many methods say of the claim "on par with or better than all of them".

    *contradicted* if *worse* is among them, *supported* if all are *better*, *on par* or, in the protocol's words, *at
    least on par* and there are as many as ``asked``, else *undecided*.
    """
    found = list(verdicts)
    if "worse" in found:
        return "contradicted"
    whole = len(found) >= asked and set(found) <= {"better", "on par", "at least on par"}
    return "supported" if whole else "undecided"


def stack(parts: Sequence[pd.DataFrame], names: Sequence[str], column: str = "profile") -> pd.DataFrame:
    """Several tables as one, with the name of each in a first column: its profile, unless that is called otherwise."""
    if not parts:
        return pd.DataFrame(columns=[column])
    named = pd.concat([part.assign(**{column: name}) for part, name in zip(parts, names, strict=True)])
    return named[[column, *(other for other in named if other != column)]]
