"""What early pruning saves: outcomes of tickets, accuracy against training cost, the phases of that cost."""

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from splinestudy.plots.style import mean_and_spread, style_of, whole_ticks
from splinestudy.results.ways import Way

_PHASES = {"dense": "#0072B2", "detection": "#D55E00", "scoring": "#CC79A7", "retraining": "#56B4E9"}
_HATCHES = {"dense": "", "detection": "xx", "scoring": "..", "retraining": "//"}

_LITTLE = 2.0  # a saving below this wants ticks between 1 and 2


def ticket_outcomes(axes: Axes, summary: pd.DataFrame, title: str = "") -> Axes:
    """Accuracy of retrained tickets (mean ± std) against the epochs of dense training before them."""
    for way, part in summary.sort_values("dense_epochs").groupby("way", sort=False):
        mean_and_spread(axes, part, "dense_epochs", "accuracy", way)
    axes.set(title=title, xlabel="epochs of dense training before the ticket", ylabel="test accuracy")
    whole_ticks(axes.xaxis)
    axes.legend()
    return axes


def pareto(
    axes: Axes, summary: pd.DataFrame, front: pd.DataFrame, dense: tuple[float, float], title: str = ""
) -> Axes:
    """Accuracy against total training cost, mean ± std over seeds, one sign for each method of ``summary``.

    Tickets drawn at fixed moments share a sign, with the epoch beside it.

    Args:
        summary: from ``results.savings_summary``.
        front: its rows that no other beats, joined by a grey line.
        dense: mean and standard deviation of the dense network's accuracy.
    """
    axes.step(
        front["training_mean"], front["accuracy_mean"], where="post", color="#999999", linewidth=3, alpha=0.5
    )
    for way, part in summary.groupby([way.at_any_epoch() for way in summary["way"]], sort=False):
        colour = _signs(axes, part, way, "training", "accuracy", "none")
        for row in part.itertuples():
            if way.draw == "epochs":
                _beside(axes, row.training_mean, row.accuracy_mean, str(row.way.draw), colour)
    return _against_dense(axes, dense, title)


def bird_curves(axes: Axes, summary: pd.DataFrame, dense: tuple[float, float], title: str = "") -> Axes:
    """Accuracy against total training cost, mean ± std over seeds: a line through the ratios of each method, named.

    Args:
        summary: some rows of ``results.savings_summary``.
        dense: mean and standard deviation of the dense network's accuracy.
    """
    _ratio_lines(axes, summary, "training", "accuracy")
    return _against_dense(axes, dense, title)


def seconds_saved(axes: Axes, table: pd.DataFrame, title: str = "") -> Axes:
    """Saving in seconds against saving in operations (from ``results.wall_savings``), as in :func:`bird_curves`."""
    _ratio_lines(axes, table, "saving", "seconds")
    most = table["saving_mean"].max()
    axes.plot([1, most], [1, most], color="#999999", linewidth=1, linestyle=(0, (6, 3)))
    axes.axhline(1, color="black", linewidth=1)
    axes.set(
        title=title, xlabel="saving in operations", ylabel="saving in seconds", xscale="log", yscale="log"
    )
    between = (1, 1.25, 1.5, 1.75) if most < _LITTLE else (1, 1.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(2, subs=between))
        axis.set_major_formatter(StrMethodFormatter("{x:g} ×"))
        axis.set_minor_locator(NullLocator())
    return axes


def _ratio_lines(axes: Axes, summary: pd.DataFrame, x: str, y: str) -> None:
    """A line for each way through its ratios, of which the first and last are named: more would lie on each other."""
    for way, part in summary.sort_values("ratio").groupby("way", sort=False):
        colour = _signs(axes, part, way, x, y, "--" if way.scope == "global" else "-")
        for row in part[part["ratio"].isin([part["ratio"].min(), part["ratio"].max()])].itertuples():
            place = getattr(row, f"{x}_mean"), getattr(row, f"{y}_mean")
            _beside(axes, *place, f"{row.ratio:g}", colour, way.scope == "global")


def _signs(axes: Axes, part: pd.DataFrame, way: Way, x: str, y: str, linestyle: str) -> str:
    """One way's means and spreads of two measures, open signs where it prunes globally; returns the colour."""
    colour, marker, _ = style_of(way)
    axes.errorbar(
        part[f"{x}_mean"],
        part[f"{y}_mean"],
        xerr=part[f"{x}_std"].fillna(0),
        yerr=part[f"{y}_std"].fillna(0),
        color=colour,
        marker=marker,
        markerfacecolor="white" if way.scope == "global" else colour,
        linestyle=linestyle,
        capsize=2.5,
        label=way.label,
    )
    return colour


def _beside(axes: Axes, x: float, y: float, text: str, colour: str, below: bool = False) -> None:
    """A name up on the right of a sign, or down on its left, where two signs nearly coincide."""
    side = -1 if below else 1
    name = axes.annotate(text, (x, y), (7 * side, 5 * side), textcoords="offset points", color=colour)
    name.set(fontsize="small", ha="right" if below else "left", va="top" if below else "bottom")
    name.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])


def _against_dense(axes: Axes, dense: tuple[float, float], title: str) -> Axes:
    axes.errorbar(
        1, dense[0], yerr=np.nan_to_num(dense[1]), color="black", marker="*", markersize=11, label="dense"
    )
    axes.set(
        title=title, xlabel="operations of all training, as a share of dense training", ylabel="test accuracy"
    )
    return axes


def phase_bars(axes: Axes, table: pd.DataFrame, title: str = "") -> Axes:
    """Stacked shares of the phases: ``table`` has a row for each way and a column for each phase."""
    left = np.zeros(len(table))
    for phase in table.columns:
        axes.barh(
            range(len(table)),
            table[phase],
            left=left,
            color=_PHASES[phase],
            hatch=_HATCHES[phase],
            edgecolor="white",
            label=phase,
        )
        left += table[phase].to_numpy()
    axes.axvline(1, color="black", linewidth=1, linestyle=(0, (6, 3)))
    axes.set_yticks(range(len(table)), [way.label for way in table.index])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_title(title, pad=30)
    axes.set_xlabel("operations, as a share of dense training (dashed line: 1)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4)
    return axes
