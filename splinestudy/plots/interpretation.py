"""A network read through its splines: who touches the decision boundary, what scores see, and how that changes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from splinestudy.plots.style import whole_ticks
from splinestudy.runs.methods import METHODS

_LINES = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", ":"),
    ("#E69F00", "v", (0, (6, 3))),
    ("#666666", "X", (0, (1, 3))),
)
"""Colours, markers and dashes of what one figure compares, whatever that is."""


def layer_lines(axes: Axes, columns: dict[str, pd.DataFrame], names: Sequence[str], title: str = "") -> Axes:
    """Shares over layers, a line for each entry of ``columns``: tables whose rows are networks, columns layers."""
    for (label, table), (colour, marker, dash) in zip(columns.items(), _LINES, strict=False):
        places = np.arange(1, table.shape[1] + 1)
        axes.plot(places, table.mean(), color=colour, marker=marker, linestyle=dash, label=label)
        axes.fill_between(places, table.min(), table.max(), color=colour, alpha=0.2, linewidth=0)
    axes.set_xticks(np.arange(1, len(names) + 1), list(names), rotation=60, ha="right", fontsize="small")
    axes.set(title=title, ylabel="share of units", ylim=(-0.03, 1.03))
    return axes


def removal_points(axes: Axes, table: pd.DataFrame, dense: float, title: str = "") -> Axes:
    """Accuracy after masking against the ratio, a line for each choice (mean) and a dot for each network."""
    choices = list(dict.fromkeys(table["choice"]))
    for choice, (colour, marker, dash) in zip(choices, _LINES, strict=False):
        part = table[table["choice"] == choice]
        mean = part.groupby("ratio")["accuracy"].mean()
        axes.plot(mean.index, mean, color=colour, linestyle=dash, label=choice)
        axes.scatter(part["ratio"], part["accuracy"], color=colour, marker=marker, s=30)
    axes.axhline(dense, color="black", linestyle="--", linewidth=1, label="dense")
    axes.set_xticks(sorted(table["ratio"].unique()))
    axes.set(title=title, xlabel="share of units masked", ylabel="accuracy, no retraining", ylim=(0, 1))
    axes.legend()
    return axes


def scale_scatter(axes: Axes, table: pd.DataFrame, x: str, y: str, labels: tuple[str, str]) -> Axes:
    """A dot for each channel, coloured by its layer from dark (first) to light (last), with a straight trend line."""
    order = {name: place for place, name in enumerate(dict.fromkeys(table["layer"]))}
    dots = axes.scatter(table[x], table[y], c=table["layer"].map(order) + 1, cmap="viridis", s=14, alpha=0.8)
    slope, level = np.polyfit(table[x], table[y], 1)
    ends = np.array([table[x].min(), table[x].max()])
    axes.plot(ends, level + slope * ends, color="#D55E00", linewidth=2, label="trend")
    axes.figure.colorbar(dots, ax=axes, label="layer", shrink=0.85)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.legend()
    return axes


def correlation_forest(axes: Axes, table: pd.DataFrame, title: str = "") -> Axes:
    """Rank correlation with its interval for each layer (rows), one mark for each network, side by side."""
    layers, seeds = list(dict.fromkeys(table["layer"])), sorted(table["seed"].unique())
    axes.axvline(0, color="black", linewidth=1)
    for number, seed in enumerate(seeds):
        part = table[table["seed"] == seed].set_index("layer").loc[layers]
        shift = np.arange(len(layers)) + (number - (len(seeds) - 1) / 2) * 0.7 / len(seeds)
        reach = np.abs(part[["low", "high"]].to_numpy().T - part["rho"].to_numpy())
        colour, marker, _ = _LINES[number % len(_LINES)]
        bars = axes.errorbar(
            part["rho"],
            shift,
            xerr=np.nan_to_num(reach),
            color=colour,
            linestyle="none",
            label=f"seed {seed}",
        )
        bars[0].set(marker=marker, markersize=4)
    axes.set_yticks(range(len(layers)), layers, fontsize="small")
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set(title=title, xlabel="rank correlation", xlim=(-1.05, 1.05))
    return axes


def overlap_matrix(axes: Axes, matrix: pd.DataFrame, title: str = "") -> Axes:
    """Jaccard matrix with its numbers."""
    axes.imshow(matrix.to_numpy(), cmap="cividis", vmin=0, vmax=1)
    for row, column in np.ndindex(matrix.shape):
        value = matrix.iat[row, column]
        colour = "black" if value > 0.55 else "white"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize="small")
    names = [METHODS[name].brief for name in matrix.columns]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_title(title)
    axes.grid(visible=False)
    return axes


def effect_points(axes: Axes, table: pd.DataFrame, value: str, label: str, title: str = "") -> Axes:
    """Accuracy without retraining against a slice effect, a mark for each network, ratio and criterion."""
    for (name, part), (colour, marker, _) in zip(
        table.groupby("criterion", sort=False), _LINES, strict=False
    ):
        brief = METHODS[str(name)].brief
        axes.scatter(part[value], part["accuracy"], color=colour, marker=marker, s=40, label=brief)
    axes.set(title=title, xlabel=label, ylabel="accuracy, no retraining")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return axes


def complexity_check(axes: Axes, table: pd.DataFrame) -> Axes:
    """Counted corners (``estimate``) against the exact count (``exact``), a mark for each radius."""
    top = max(float(table[["estimate", "exact"]].to_numpy().max()), 1.0)
    axes.plot([0, top], [0, top], color="black", linewidth=1, linestyle="--", label="equal")
    for (radius, part), (colour, marker, _) in zip(table.groupby("radius"), _LINES, strict=False):
        label = f"radius {radius:.3g}"
        axes.scatter(part["exact"], part["estimate"], color=colour, marker=marker, s=36, label=label)
    axes.set(xlabel="boundaries in the square, exact", ylabel="sign changes among its corners")
    axes.legend()
    return axes


def epoch_lines(axes: Axes, table: pd.DataFrame, value: str, label: str, log: bool = False) -> Axes:
    """``value`` over epochs, a line for each kind of point: mean over seeds, and a band from the least to the most."""
    for (kind, part), (colour, marker, dash) in zip(table.groupby("kind", sort=False), _LINES, strict=False):
        seeds = part.groupby("epoch")[value].agg(["mean", "min", "max"]).astype(float)
        axes.plot(seeds.index, seeds["mean"], color=colour, marker=marker, linestyle=dash, label=str(kind))
        axes.fill_between(seeds.index, seeds["min"], seeds["max"], color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="epoch", ylabel=label, yscale="log" if log else "linear")
    whole_ticks(axes.xaxis)
    return axes
