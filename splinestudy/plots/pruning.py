"""Pruned networks: accuracy, paired differences, the widths that are left."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from splinestudy.plots.style import (
    columns,
    compensation_dash,
    end_before,
    family_colour,
    farthest,
    mean_and_spread,
    style_of,
    whole_ticks,
)
from splinestudy.results.ways import SPLINE, Way


def ratio_curves(
    axes: Axes, summary: pd.DataFrame, value: str, label: str, x: str = "ratio", title: str = ""
) -> Axes:
    """``value`` (mean ± std over seeds, from ``results.summarise``) against ``x``, one line for each way.

    At equal ratios the points are moved apart a little sideways so that error bars stay readable.
    """
    ways = list(summary["way"].unique())
    compared = any(way.compensate != "none" for way in ways)  # then dashes tell compensations apart
    # Shares of units are the same for all, so the points are moved apart; a measured cost stays where it is.
    spread = 0.012 * (summary[x].max() - summary[x].min() or 0.5) if x == "ratio" else 0.0
    for index, way in enumerate(ways):
        part = summary[summary["way"] == way].sort_values(x)
        shift = (index - (len(ways) - 1) / 2) * spread
        mean_and_spread(axes, part, x, value, way, shift, compensation_dash(way) if compared else "")
    axes.set(title=title, xlabel=label, ylabel="test accuracy")
    if x == "ratio":
        axes.set_xticks(sorted(summary[x].unique()))
    return axes


def difference_forest(
    axes: Axes,
    differences: pd.DataFrame,
    margin: float,
    title: str = "",
    way: Way = SPLINE,
    order: Sequence[Way] | None = None,
    end: float | None = None,
) -> Axes:
    """Paired differences of ``way`` with their intervals (``results.paired_differences``) in points, and the margin.

    The differences of one ratio may be put in a given ``order`` of ways, for panels that share their rows, and share
    the ``end`` beyond which no interval is shown (:func:`.farthest`).
    """
    axes.axvspan(-100 * margin, 100 * margin, color="#999999", alpha=0.25)
    axes.axvline(0, color="black", linewidth=1)
    places = [*(range(len(differences)) if order is None else map(order.index, differences["against"]))]
    for position, row in zip(places, differences.itertuples(), strict=True):
        colour, marker = family_colour(row.against), style_of(row.against)[1]
        reach = [[100 * (row.difference - row.low)], [100 * (row.high - row.difference)]]
        bars = None if np.isnan(row.low) else reach
        axes.errorbar(
            100 * row.difference,
            position,
            xerr=bars,
            color=colour,
            marker=marker,
            capsize=3,
            linestyle="none",
        )
    names = [f"{row.against.label}, ratio {row.ratio:g}" for row in differences.itertuples()]
    _name_rows(axes, names if order is None else [other.label for other in order])
    axes.set(title=title, xlabel=f"{way.label} − other\n(points; grey: ±{100 * margin:g})")
    end = farthest(differences["difference"], margin) if end is None else end
    end_before(axes, 100 * end, places, 100 * differences["low"], 100 * differences["high"])
    return axes


def layer_widths(
    axes: Axes, table: pd.DataFrame, ratio: float, title: str = "", uniform: float | None = None
) -> Axes:
    """Share of units kept in each layer at one ratio (mean over seeds), one line for each way.

    A dotted line marks ``uniform``, what every layer would keep if all kept the same; by default ``1 - ratio``.
    """
    part = table[np.isclose(table["ratio"], ratio)]
    for way in part["way"].unique():
        group = part[part["way"] == way]
        mean = group.groupby("position")["kept"].mean()
        colour, marker, dash = style_of(way)
        axes.plot(mean.index, mean, color=colour, marker=marker, linestyle=dash, label=way.label)
    axes.axhline(1 - ratio if uniform is None else uniform, color="black", linewidth=1, linestyle=(0, (1, 2)))
    axes.set(title=title, xlabel="layer, from input to output", ylabel="share of units kept", ylim=(0, 1.02))
    whole_ticks(axes.xaxis)
    axes.legend(loc="upper right", ncols=2, fontsize="small")
    return axes


def method_dots(
    axes: Axes,
    summary: pd.DataFrame,
    value: str,
    label: str,
    title: str = "",
    dense: float | None = None,
    order: Sequence[Way] | None = None,
) -> Axes:
    """``value`` (mean ± std over seeds) of many ways at one ratio, the best on top unless there is an ``order``."""
    if order is None:
        order = list(summary.sort_values(f"{value}_mean", ascending=False)["way"])
    for _, row in summary.iterrows():
        colour, marker = family_colour(row["way"]), style_of(row["way"])[1]
        spread = 0.0 if np.isnan(row[f"{value}_std"]) else row[f"{value}_std"]
        filled = "white" if row["way"].compensate == "none" else colour
        axes.errorbar(
            row[f"{value}_mean"],
            order.index(row["way"]),
            xerr=spread,
            color=colour,
            marker=marker,
            markerfacecolor=filled,
            capsize=2.5,
            linestyle="none",
        )
    if dense is not None:
        axes.axvline(dense, color="black", linewidth=1, linestyle=(0, (6, 3)))
    _name_rows(axes, [other.label for other in order])
    axes.set(title=title, xlabel=label)
    return axes


def dots_by_ratio(
    summary: pd.DataFrame,
    value: str,
    order: Sequence[Way],
    dense: float | None = None,
    title: Callable[[float], str] = "ratio {:g}".format,
) -> Figure:
    """:func:`method_dots` of a test accuracy, one column for each ratio, with all ways in one ``order``."""
    ratios = sorted(summary["ratio"].unique())
    figure, axes = columns(len(ratios), _height(order))
    for ax, ratio in zip(axes, ratios, strict=False):
        part = summary[summary["ratio"] == ratio]
        method_dots(ax, part, value, "test accuracy", title(ratio), dense, order)
    return figure


def forest_by_ratio(
    differences: pd.DataFrame,
    margin: float,
    order: Sequence[Way],
    title: Callable[[float], str] = "ratio {:g}".format,
    way: Way = SPLINE,
) -> Figure:
    """:func:`difference_forest` of the ways in ``order``, one column for each ratio."""
    shown = differences[differences["against"].isin(order)]
    ratios = sorted(shown["ratio"].unique())
    figure, axes = columns(len(ratios), _height(order))
    for ax, ratio in zip(axes, ratios, strict=False):
        difference_forest(ax, shown[shown["ratio"] == ratio], margin, title(ratio), way, order)
    return figure


def forest_by_network(judged: Mapping[str, pd.DataFrame], margin: float, order: Sequence[Way]) -> Figure:
    """:func:`difference_forest` of the ways in ``order``, one column for each network by its name, on one scale."""
    figure, axes = columns(len(judged), _height(order))
    end = farthest((value for found in judged.values() for value in found["difference"]), margin)
    for ax, (name, found) in zip(axes, judged.items(), strict=False):
        difference_forest(ax, found, margin, name.replace(", ", "\n", 1), order=order, end=end)
    limits = [ax.get_xlim() for ax in axes]
    plt.setp(axes, xlim=(min(low for low, _ in limits), max(high for _, high in limits)))
    return figure


def _height(rows: Sequence[Way]) -> float:
    return 1.4 + 0.25 * len(rows)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """The first name on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
