"""Claim C1 as a rule: does pruning a large model, or a clever start, beat a small model's random start?"""

from collections.abc import Mapping
from math import comb

import numpy as np
import pandas as pd

from splinelib.errors import SettingError
from splinestudy.analysis.intervals import CONFIDENCE
from splinestudy.results.names import signed
from splinestudy.results.ways import SPLINE, Way

MARGIN = 0.1
"""Gains within ±0.1 count as none: a tenth of the error (as a logarithm), or ten points of a success rate."""

ROLES = {
    "k-means": ("random", "pruned", "kmeans++"),
    "regression": ("random", "pruned by cost", "knots"),
    "toy": ("xavier", "kept", "rewind"),
}
"""For each problem: the random start, the one from pruning a large trained model, the clever one."""

IMAGE_ROLES = {
    "large model": (SPLINE, Way("l1"), Way("spline", retrained=True), Way("ticket early")),
    "clever start": (Way("narrow lsuv"), Way("narrow through_data"), Way("narrow layerwise")),
}
"""On images: starts taken from a trained large network, and clever ones, as the tables of pruning runs name them."""

_RESAMPLES = 2000


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and its 95 % confidence interval by the bootstrap over ``values [n]``; NaN bounds for a single one."""
    values = np.asarray(values, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise SettingError(
            f"{len(values)} values, finite: {bool(np.isfinite(values).all())}; give finite ones"
        )
    if len(values) == 1:
        return float(values[0]), float("nan"), float("nan")
    picks = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values[picks].mean(axis=1), [tail, 1 - tail])
    return float(values.mean()), float(low), float(high)


def gain_verdict(low: float, high: float) -> str:
    """Where does the interval of a gain lie? *better*, *worse*, *equal* (within ±:data:`.MARGIN`), else *open*."""
    if low > MARGIN:
        return "better"
    if high < -MARGIN:
        return "worse"
    return "equal" if low >= -MARGIN and high <= MARGIN else "open"


def gain_row(start: pd.Series, random: pd.Series, log: bool) -> dict[str, object]:
    """Gain of one start over the random one: n, gain (mean), low, high and verdict.

    Args:
        start, random: values of the two, with the seeds that pair them as index.
        log: the values are errors, where less is better; a gain is ``ln(error of random / error)``. Otherwise they are
            successes and a gain is their difference.
    """
    pairs = pd.concat([random, start], axis=1, keys=["random", "start"]).dropna().astype(float)
    both = pairs["random"], pairs["start"]
    gain, low, high = mean_interval(np.log(both[0] / both[1]) if log else both[1] - both[0])
    return {"n": len(pairs), "gain": gain, "low": low, "high": high, "verdict": gain_verdict(low, high)}


def kmeans_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """Gains on k-means, the size being the factor R (1 where there is no choice of it)."""
    random = rows[rows["start"] == "random"].set_index("seed")["error"]
    found = []
    for (start, factor), part in rows[rows["start"] != "random"].groupby(["start", "factor"], sort=False):
        gain = gain_row(part.set_index("seed")["error"], random, log=True)
        found.append({"problem": "k-means", "start": start, "size": factor, **gain})
    return pd.DataFrame(found)


def width_gains(
    problem: str, rows: pd.DataFrame, value: str, pair: str, large: str, log: bool
) -> pd.DataFrame:
    """Gains over the problem's random start at each width; rows of the start ``large`` are left out."""
    found = []
    random = ROLES[problem.split(",")[0]][0]
    for width, part in rows[rows["start"] != large].groupby("width"):
        wide = part.pivot(index=pair, columns="start", values=value)
        for start in [name for name in part["start"].unique() if name != random]:
            gain = gain_row(wide[start], wide[random], log)
            found.append({"problem": problem, "start": start, "size": width, **gain})
    return pd.DataFrame(found)


def all_gains(kmeans: pd.DataFrame, regression: pd.DataFrame, toy: pd.DataFrame) -> pd.DataFrame:
    """Gains on all problems from the rows of their studies (those of the toy with a column ``success``).

    Columns: problem, start, size, n, gain, low, high (95 % by the bootstrap over seeds), verdict.
    """
    parts = [kmeans_gains(kmeans)]
    for target, rows in regression.groupby("target", sort=False):
        parts.append(width_gains(f"regression, {target}", rows, "error", "seed", "wide", log=True))
    parts.append(width_gains("toy", toy, "success", "run", "large", log=False))
    return pd.concat(parts, ignore_index=True)


def start_name(problem: str, side: str, size: float) -> str:
    """A start of one ``side`` of the coin at one size: of k-means the factor of :data:`ROLES`, else units."""
    if problem != "k-means":
        return f"{side}, {size:g} units"
    return f"pruned from {size:g} × as many centres" if side == "pruned" else ROLES[problem][2]


def gain_name(problem: str) -> str:
    """What gains on a problem are of."""
    if problem == "toy":
        return "share of runs that succeed, minus that of the random start"
    return "log of (error of the random start / error)"


def one_coin(table: pd.DataFrame, pruned: str, clever: str) -> str:
    """Claim C1 on one problem, from its gains at all sizes.

    Pruning a large model, and the clever start, each *win* if better than the random start at more than half of their
    sizes, and *lose* if equal or worse at more than half. *holds* where both win, *fails* where both lose, *half* where
    one wins and the other loses, else *open*.
    """
    found = []
    for start in (pruned, clever):
        verdicts = table.loc[table["start"] == start, "verdict"]
        wins, loses = (verdicts.isin(names).mean() > 0.5 for names in (("better",), ("equal", "worse")))
        found.append("win" if wins else "lose" if loses else "open")
    return _coin(found)


def _coin(found: list[str]) -> str:
    """The verdict of two sides that each win, lose or are open."""
    if "open" in found:
        return "open"
    return ("fails", "half", "holds")[found.count("win")]


def first_claim(gains: pd.DataFrame, profiles: Mapping[str, str]) -> list[dict[str, str]]:
    """Claim C1 beside the gains, a row for each problem, in words made from the numbers alone.

    ``profiles`` names the profile of the rows of k-means, regression and toy.
    """
    rows = []
    for problem, table in gains.groupby("problem", sort=False):
        family = str(problem).split(",")[0]
        _, pruned, clever = ROLES[family]
        rows.append(
            {
                "problem": str(problem),
                "profile": profiles[family],
                "large model pruned, against the random start": _wins(table, pruned),
                "clever start, against the random start": _wins(table, clever),
                "C1": one_coin(table, pruned, clever),
            }
        )
    return rows


def image_claim(differences: pd.DataFrame, profile: str) -> dict[str, str]:
    """Claim C1 on images, a row beside those of :func:`first_claim`.

    ``differences`` are the narrow network, started at random, minus all others
    (:func:`splinestudy.results.paired_differences`). At a ratio a side of :data:`IMAGE_ROLES` *wins* if any of its
    starts
    is better than the narrow network, *loses* if all it has are on par or worse, and is else *open*. A side wins or
    loses on the whole where it does so at more than half of the ratios, and the coin is that of :func:`one_coin`.
    """
    words, found = {}, []
    for side, starts in IMAGE_ROLES.items():
        part = differences[differences["against"].isin(starts)]
        at = {ratio: _side(group["verdict"]) for ratio, group in part.groupby("ratio")}
        found.append(
            next(
                (name for name in ("win", "lose") if sum(v == name for v in at.values()) > len(at) / 2),
                "open",
            )
        )
        means = -100 * part.groupby("against")["difference"].mean()
        known = means.reindex(list(starts)).dropna()
        gains = ", ".join(f"*{start.label}* {signed(gain)}" for start, gain in known.items())
        outcomes = ", ".join(f"{name} at {ratio:g}" for ratio, name in at.items())
        words[side] = f"{gains or 'not run'} points; {outcomes or 'open'}"
    return {
        "problem": "images",
        "profile": profile,
        "large model pruned, against the random start": words["large model"],
        "clever start, against the random start": words["clever start"],
        "C1": _coin(found),
    }


def _side(verdicts: pd.Series) -> str:
    """The narrow network's verdicts against the starts of one side, read from that side."""
    if (verdicts == "worse").any():
        return "win"
    return "lose" if verdicts.isin(("better", "on par")).all() else "open"


def _wins(table: pd.DataFrame, start: str) -> str:
    part = table[table["start"] == start]
    counts = part["verdict"].value_counts()
    words = ", ".join(
        f"{name} at {counts[name]}" for name in ("better", "equal", "worse", "open") if name in counts
    )
    return f"*{start}*: {words} of {len(part)} sizes; mean gain {signed(part['gain'].mean(), 2)}"


def expected_best(errors: np.ndarray, tries: int) -> float:
    """Expected least of ``tries`` errors drawn without replacement from ``errors [n]``; all of them if fewer."""
    ordered, count = np.sort(errors), len(errors)
    tries = min(tries, count)
    weights = [comb(count - 1 - rank, tries - 1) / comb(count, tries) for rank in range(count)]
    return float(np.dot(ordered, weights))


def restart_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Regression: would the large network's training have been spent better on restarts of the small one?

    One row for each target and width: restarts that train as many units as the wide network has, mean error of one
    random start, expected error of the best of these restarts, mean error of the wide network pruned by cost.
    """
    wide = int(rows.loc[rows["start"] == "wide", "width"].iloc[0])
    found = []
    for (target, width), part in rows[rows["start"] != "wide"].groupby(["target", "width"], sort=False):
        random = part.loc[part["start"] == "random", "error"].to_numpy()
        tries = max(1, wide // int(width))
        found.append(
            {
                "target": target,
                "width": width,
                "restarts": min(tries, len(random)),
                "one random start": random.mean(),
                "best of restarts": expected_best(random, tries),
                "pruned by cost": part.loc[part["start"] == "pruned by cost", "error"].mean(),
            }
        )
    return pd.DataFrame(found)
