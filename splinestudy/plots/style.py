"""The look that all figures share, and writing them to files."""

import os
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from splinestudy.results.names import AFTER, GLOBAL, label_of

# One colour, marker and dash for each method, everywhere: told apart without colour as well.
STYLES = {
    "spline": ("#0072B2", "o", "-"),
    "spline_geometric": ("#56B4E9", "P", "-"),
    "l1": ("#D55E00", "s", "--"),
    "bn_scale": ("#009E73", "^", "-."),
    "random": ("#666666", "X", ":"),
}
_FAMILIES = {  # colour of a family of methods, and the marker of each in it
    "#0072B2": {
        "spline": "o",
        "spline_geometric": "P",
        "code_distance": "8",
        "spline early bird": "*",
        "spline early bird anew": "D",
        "spline retrained": "X",
    },
    "#D55E00": {
        "l1": "s",
        "l2": "D",
        "bn_scale": "^",
        "slimming": "v",
        "fpgm": "p",
        "folding": "H",
        "sfp": "h",
        "EB Train": "X",
        "l1 retrained": "P",
    },
    "#009E73": {
        "taylor": "<",
        "snip": ">",
        "grasp": "*",
        "synflow": "d",
        "snip at start": ">",
        "grasp at start": "*",
        "synflow at start": "d",
    },
    "#CC79A7": {"output_angle": "d", "thinet": "s", "reconstruction": "o"},
    "#666666": {
        "random": "X",
        "ticket initial": "<",
        "ticket early": ">",
        "narrow": "v",
        "narrow lsuv": "^",
        "narrow through_data": "P",
        "narrow layerwise": "s",
        "narrow early": "d",
        "narrow long": "D",
    },
}
_DASHES = {"least_squares": "-", "merge": "-.", "": "--"}


def family_colour(method: str) -> str:
    """Blue for boundaries, orange for weights, green for gradients, pink for outputs on data, grey for controls."""
    base = method.removesuffix(GLOBAL).partition(" + ")[0].partition(AFTER)[0]
    found = [colour for colour, markers in _FAMILIES.items() if base in markers]
    return found[0] if found else "#0072B2"  # variants of the spline criterion


def style_of(method: str) -> tuple[str, str, str]:
    """Colour, marker and dash of a method: its family's colour, its own marker, the dash of its compensation."""
    base, _, how = method.removesuffix(GLOBAL).partition(" + ")
    if method in STYLES:
        return STYLES[method]
    if AFTER in base:
        return family_colour(method), "d", _DASHES[how]
    markers = {name: marker for family in _FAMILIES.values() for name, marker in family.items()}
    return family_colour(method), markers.get(base, "."), _DASHES[how]


def mean_and_spread(
    axes: Axes, part: pd.DataFrame, x: str, value: str, criterion: str, shift: float = 0
) -> None:
    """One method's ``value`` against ``x``, mean ± std over seeds (from ``tables.summarise``), moved by ``shift``."""
    colour, marker, dash = style_of(criterion)
    axes.errorbar(
        part[x] + shift,
        part[f"{value}_mean"],
        yerr=part[f"{value}_std"].fillna(0),
        color=colour,
        marker=marker,
        linestyle=dash,
        capsize=3,
        label=label_of(criterion),
    )


def use_style() -> None:
    """Set the look of all figures: white ground (reads well in dark mode too), readable sizes, reproducible SVG."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    mpl.rcParams |= {
        "figure.dpi": 110,
        "figure.figsize": (7.2, 4.2),
        "figure.constrained_layout.use": True,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "svg.hashsalt": "splinelib",
        "axes.titlesize": "medium",
        "legend.frameon": False,
    }


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` axes of that many inches, two in a row at most: a page has no room for more.

    Without axes the figure is empty.
    """
    across = min(max(count, 1), 2)
    down = -(-max(count, 1) // across)
    figure, grid = plt.subplots(down, across, figsize=(width * across, height * down), squeeze=False)
    for unused in grid.flat[count:]:
        unused.remove()
    return figure, list(grid.flat[:count])


def columns(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` axes beside each other that share their rows, so only the first names them.

    Without a column there is one empty pair of axes.
    """
    size = (3.2 + 2.6 * max(count, 1), height)
    figure, grid = plt.subplots(1, max(count, 1), figsize=size, sharey=True, squeeze=False)
    return figure, list(grid[0])


def legend_below(figure: Figure, columns: int) -> None:
    """One legend for all panels of a figure, each label once."""
    found: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        found |= {label: handle for handle, label in zip(handles, labels, strict=True) if label not in found}
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)


def save_figure(figure: Figure, name: str, table: pd.DataFrame | None = None) -> Figure:
    """Write ``figure`` as SVG, PNG and PDF, and its numbers as CSV, under ``$SPLINELIB_FIGURES``; return it.

    Without that variable nothing is written. Files hold no date, so equal figures are equal files.
    """
    if folder := os.environ.get("SPLINELIB_FIGURES"):
        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        for suffix, metadata in {"svg": {"Date": None}, "png": {}, "pdf": {"CreationDate": None}}.items():
            figure.savefig(root / f"{name}.{suffix}", dpi=200, metadata=metadata)
        if table is not None:
            table.to_csv(root / f"{name}.csv", index=False, float_format="%.6g")
    plt.close(figure)  # the notebook shows what a cell returns; an open figure would be shown twice
    return figure


def whole_ticks(*axes: Axis) -> None:
    """Ticks at whole numbers only."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(integer=True))


def reference_line(axes: Axes, value: float, label: str) -> Axes:
    """A thin horizontal line, for instance at the dense network's accuracy."""
    axes.axhline(value, color="black", linewidth=1, linestyle=(0, (6, 3)), label=label)
    return axes
