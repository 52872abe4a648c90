"""Small models from different starts: centres in the plane, fits of one variable, success against size."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator

# One colour, marker and dash for each start, in all figures of the chapter.
START_STYLES = {
    "pruned": ("#0072B2", "o", "-"),
    "pruned by cost": ("#0072B2", "o", "-"),
    "kept": ("#0072B2", "o", "-"),
    "pruned by spline": ("#56B4E9", "P", "-"),
    "rewind": ("#56B4E9", "P", "-"),
    "knots": ("#009E73", "^", "-."),
    "kmeans++": ("#009E73", "^", "-."),
    "through data": ("#009E73", "^", "-."),
    "random, fitted": ("#E69F00", "D", "--"),
    "restarts": ("#E69F00", "D", "--"),
    "xavier": ("#E69F00", "D", "--"),
    "random": ("#D55E00", "s", ":"),
    "normal 0.1": ("#D55E00", "s", ":"),
    "normal 1": ("#CC79A7", "v", ":"),
    "truth": ("#000000", "", "-"),
    "wide": ("#000000", "", "--"),
    "large": ("#000000", "", "--"),
}


def centres_in_plane(
    axes: Axes, points: np.ndarray, centres: np.ndarray, missed: np.ndarray, title: str = ""
) -> Axes:
    """Points [N, 2], centres [K, 2] on them as crosses, and circles around the means [M, 2] that have no centre."""
    axes.scatter(points[:, 0], points[:, 1], s=2, color="#BBBBBB", linewidths=0, rasterized=True)
    axes.scatter(centres[:, 0], centres[:, 1], s=26, color="#0072B2", marker="+", linewidths=1.3)
    axes.scatter(missed[:, 0], missed[:, 1], s=110, facecolors="none", edgecolors="#D55E00", linewidths=1.4)
    axes.set(title=title, xticks=[], yticks=[], aspect="equal")
    axes.grid(visible=False)
    return axes


def factor_curves(axes: Axes, table: pd.DataFrame, title: str = "") -> Axes:
    """Error over the truth's against the factor: mean and 10–90 % band; the other starts as level lines."""
    for start in ("pruned", "restarts"):
        part = table[(table["start"] == start) | (table["start"] == "random")]
        _band(axes, part, "factor", "error", start, quantiles=(0.1, 0.9), centre="mean")
    for start in ("kmeans++", "truth"):
        colour, _, dash = START_STYLES[start]
        level = table.loc[table["start"] == start, "error"].mean()
        axes.axhline(level, color=colour, linestyle=dash, linewidth=1.3, label=start)
    factors = sorted(table["factor"].unique())
    axes.set_xscale("log", base=2)
    axes.set_xticks(factors, [str(factor) for factor in factors])
    axes.set(title=title, xlabel="factor $R$ (1: random start)", ylabel="error / error from the truth")
    axes.legend()
    return axes


def width_errors(axes: Axes, table: pd.DataFrame, starts: Sequence[str], title: str = "") -> Axes:
    """Error against the width on logarithmic axes, median and quartiles, a line for each start; the wide net dashed."""
    for start in starts:
        _band(axes, table[table["start"] == start], "width", "error", start, quantiles=(0.25, 0.75))
    wide = table.loc[table["start"] == "wide", "error"].median()
    axes.axhline(wide, color="black", linestyle="--", linewidth=1.2, label="wide, not pruned")
    _log_widths(axes, sorted(set(table["width"][table["start"] != "wide"])))
    axes.set(title=title, xlabel="units", ylabel="error / std of the target", yscale="log")
    return axes


def success_curves(axes: Axes, table: pd.DataFrame, starts: Sequence[str], title: str = "") -> Axes:
    """Share of runs that succeed (column ``success``) against the width, a line for each start."""
    for start in starts:
        part = table[table["start"] == start]
        rate = part.groupby("width")["success"].mean()
        colour, marker, dash = START_STYLES[start]
        axes.plot(rate.index, rate, color=colour, marker=marker, linestyle=dash, label=start)
    large = table.loc[table["start"] == "large", "success"].mean()
    axes.axhline(large, color="black", linestyle="--", linewidth=1.2, label="large")
    _log_widths(axes, sorted(set(table["width"][table["start"] != "large"])))
    axes.set(title=title, xlabel="hidden units", ylabel="share of runs that succeed", ylim=(-0.04, 1.04))
    return axes


def fit_with_knots(
    axes: Axes, x: np.ndarray, target: np.ndarray, fit: np.ndarray, breaks: np.ndarray, title: str = ""
) -> Axes:
    """A target and its fit on a grid ``x``; the exact breaks of the fit as upright lines."""
    for knot in breaks:
        axes.axvline(knot, color="#999999", linewidth=0.8)
    axes.plot(x, target, color="black", linewidth=1)
    axes.plot(x, fit, color="#D55E00", linewidth=1.8, linestyle="--")
    axes.set(title=title, xlim=(x[0], x[-1]), xticks=[], yticks=[])
    axes.grid(visible=False)
    return axes


def gain_curves(axes: Axes, table: pd.DataFrame, margin: float, title: str = "") -> Axes:
    """Gain over the random start with its interval against the size, a line for each start; the margin in grey."""
    axes.axhspan(-margin, margin, color="#999999", alpha=0.25, linewidth=0)
    for start, part in table[table["start"] != "truth"].groupby("start", sort=False):
        part = part.sort_values("size")
        colour, marker, dash = START_STYLES[str(start)]
        reach = np.abs(part[["low", "high"]].to_numpy().T - part["gain"].to_numpy())
        bars = axes.errorbar(
            part["size"],
            part["gain"],
            np.nan_to_num(reach),
            color=colour,
            capsize=2,
            linestyle=dash,
            label=start,
        )
        bars[0].set(marker=marker, markersize=5)
    _log_widths(axes, sorted(table["size"].unique()))
    axes.set(title=title, xlabel="size", ylabel="gain over random")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize="x-small")
    return axes


def _band(
    axes: Axes,
    part: pd.DataFrame,
    x: str,
    y: str,
    start: str,
    quantiles: tuple[float, float],
    centre: str = "median",
) -> None:
    groups = part.groupby(x)[y]
    colour, marker, dash = START_STYLES[start]
    middle = groups.agg(centre)
    axes.plot(middle.index, middle, color=colour, marker=marker, linestyle=dash, label=start)
    low, high = (groups.quantile(q) for q in quantiles)
    axes.fill_between(middle.index, low, high, color=colour, alpha=0.18, linewidth=0)


def _log_widths(axes: Axes, widths: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
