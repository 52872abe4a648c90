"""Sentences of the chapter *Beyond the paper*, made from its tables."""

from collections.abc import Iterable, Sequence

import pandas as pd

from splinestudy.results.names import signed
from splinestudy.results.ways import SPLINE, Way
from splinestudy.runs.records import Record

_ALIKE = 0.02  # of the dense network's FLOPs: up to here two cuts cost equally much

SMALL = 0.05
"""A mean loss of accuracy up to this counts as small where single layers are cut."""


def without_training(summary: pd.DataFrame, ratio: float, dense: float) -> str:
    """What is left without training where every layer loses ``ratio``, with and without compensation.

    ``summary`` has columns way, ratio and best_accuracy_mean; ``dense`` is the dense networks' accuracy.
    """
    best = summary[summary["ratio"] == ratio].set_index("way")["best_accuracy_mean"]
    solved, greedy = Way(SPLINE.method, "least_squares"), Way("reconstruction", "least_squares")
    said = {
        SPLINE: f"With {ratio:.0%} of every layer's units gone and no training step, {dense:.0%} fall to {{:.0%}} "
        "by the spline criterion.",
        solved: "Solving the next layer anew lifts the same units to {:.0%}.",
        greedy: "Units chosen by what solving anew would cost keep {:.0%}.",
    }
    return " ".join(words.format(best[way]) for way, words in said.items() if way in best)


def neighbours_by_layer(records: Sequence[Record]) -> pd.DataFrame:
    """Rows of :func:`.neighbour_rows`, layer by layer in the network's order, means over ``records`` of one network."""
    rows = pd.concat([pd.DataFrame(record.results["rows"]) for record in records])
    return rows.groupby("layer", sort=False).mean().reset_index()


def coincidence(layers: pd.DataFrame) -> dict[str, str]:
    """How near the closest boundaries come over a network's layers, beside chance, and how many face opposite ways."""
    opposed = 100 * layers["opposed"]
    return {
        "median |cos|": _between(layers["alignment_middle"]),
        "random": _between(layers["chance_middle"]),
        "closest pair": f"{layers['closest'].median():.2f}, at most {layers['closest'].max():.2f}",
        "opposite": f"{opposed.min():.0f} to {opposed.max():.0f} %",
    }


def _between(values: pd.Series) -> str:
    return f"{values.min():.2f} to {values.max():.2f}"


def kept_by_scope(table: pd.DataFrame, ratios: Iterable[float]) -> str:
    """What greedy reconstruction keeps without training by where the cut is made, ratio by ratio.

    ``table`` has a :func:`.one_shot_table`'s columns, of one network; the global cut by FLOPs that counts at a ratio is
    that which leaves as many as the layerwise one, within a few per cent.
    """
    solved = table[table["way"] == Way("reconstruction", "least_squares")]
    lines = []
    for ratio in ratios:
        alike = solved[(solved["scope"] == "layerwise") & (solved["ratio"] == ratio)]
        pooled = solved[solved["scope"] == "global"]
        flops = pooled[
            (pooled["ratio_of"] == "flops") & ((pooled["flops"] - alike["flops"].mean()).abs() <= _ALIKE)
        ]
        units = pooled[(pooled["ratio_of"] == "units") & (pooled["ratio"] == ratio)]
        if min(map(len, (alike, flops, units))):
            dense, *kept = (
                100 * found.mean()
                for found in (alike["dense_accuracy"], *(x["best_accuracy"] for x in (alike, flops, units)))
            )
            one = " (of one network)" if alike["seed"].nunique() == 1 else ""
            lines.append(
                f"* Of {dense:.1f} %{one}, {kept[0]:.1f} % are left with {ratio:.0%} of every layer's units gone; "
                f"{kept[1]:.1f} % with one threshold for all layers at as few operations "
                f"({alike['flops'].mean():.0%} of the dense ones); {kept[2]:.1f} % with as many units gone by it "
                f"({units['flops'].mean():.0%} of the operations left)."
            )
    return "\n".join(lines)


def harm_by_layer(table: pd.DataFrame) -> str:
    """Where cutting one layer alone does harm, and from where on it does little.

    ``table`` is a :func:`.sensitivity_table` of one network. The two layers are those where the spline criterion does
    most harm.
    """
    lost = table.assign(lost=table["dense_accuracy"] - table["accuracy"])
    means = lost.groupby(["way", "position"])[["accuracy", "lost"]].mean()
    first, second = sorted(means.loc[SPLINE, "lost"].nlargest(2).index)
    cuts = ", ".join(
        f"{_percent(means.loc[(way, at), 'accuracy'] for at in (first, second))} by *{way.label}*"
        for way in table["way"].unique()
    )
    worst = means["lost"].groupby("position").max()
    calm = next((at for at in worst.index if (worst.loc[at:] <= SMALL).all()), None)
    after = (
        "nowhere do all cuts behind cost little"
        if calm is None
        else f"from layer {calm} on no cut costs more than {100 * worst.loc[calm:].max():.1f} points on average"
    )
    return (
        f"The cut of layer {first} or {second} alone takes {100 * table['dense_accuracy'].mean():.0f} % to {cuts}; "
        f"{after}."
    )


def settled_variants(differences: pd.DataFrame) -> str:
    """Which variants differ from the default at every ratio, by intervals that leave out 0.

    ``differences`` has columns way, difference, low, high, of variant minus default.
    """
    found = []
    for way, part in differences.groupby("way", sort=False):
        for word, beyond in (("better", part["low"] > 0), ("worse", part["high"] < 0)):
            if beyond.all():
                by = 100 * part["difference"].abs()
                found.append(
                    f"*{way.label}* is {word} than the default by {by.min():.1f} to {by.max():.1f} points"
                )
    looked = f"{len(differences)} intervals that each stand alone"
    if not found:
        return f"By {looked} no variant differs from the default at every ratio."
    return f"Apart at every ratio, by {looked}: {'; '.join(found)}."


def gains_by_images(summary: pd.DataFrame, size: str) -> str:
    """What more calibration images add, method by method and ratio by ratio.

    ``summary`` has columns ratio, way, ``size`` (how many images) and best_accuracy_mean.
    """
    lines = []
    for (ratio, way), part in summary.groupby(["ratio", "way"]):
        ordered = part.sort_values(size)
        steps = ordered["best_accuracy_mean"].diff().iloc[1:]
        gains = ", ".join(
            f"{signed(100 * gain)} {'more' if place else 'points'} with {count:,}"
            for place, (gain, count) in enumerate(zip(steps, ordered[size].iloc[1:], strict=True))
        )
        start, count = ordered.iloc[0], ordered[size].iloc[0]
        accuracy = f"{100 * start['best_accuracy_mean']:.0f} % with {count:,} images"
        lines.append(f"* *{way.label}* at {ratio:g}: {accuracy}, {gains}")
    return "\n".join(lines)


def _percent(values: Iterable[float]) -> str:
    return " and ".join(f"{100 * value:.0f}" for value in values) + " %"
