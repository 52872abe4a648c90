"""The look that all figures share, and writing them to files."""

import json
import os
from collections.abc import Iterable
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

from splinestudy.results.ways import Way
from splinestudy.runs.committed import read_so_far
from splinestudy.runs.methods import Family

_COLOURS: dict[Family, str] = {
    "boundaries": "#0072B2",
    "weights": "#D55E00",
    "gradients": "#009E73",
    "outputs": "#CC79A7",
    "controls": "#666666",
}
_DASHES = {"least_squares": "-", "merge": "-.", "none": "--"}
# Dots an inch of a picture, and of what is drawn in dots within the others; a date would make every run differ.
_FILES: dict[str, tuple[int, dict[str, None]]] = {
    "svg": (96, {"Date": None}),
    "png": (130, {}),
    "pdf": (110, {"CreationDate": None}),
}
WIDEST = 6.0
"""An axis of differences ends so many times as far from zero as the largest of them, or the margin."""
_RETRAINED = {"boundaries": "X", "weights": "P"}  # signs that no method of the family has


def family_colour(way: Way) -> str:
    """Blue for boundaries, orange for weights, green for gradients, pink for outputs on data, grey for controls."""
    return _COLOURS[way.row.family]


def style_of(way: Way) -> tuple[str, str, str]:
    """Colour, marker and dash of a way: told apart without colour as well.

    They are those of its method's curves, or else its family's colour, its own marker, the dash of its compensation.
    """
    if way.row.curve and way == Way(way.method):
        colour, dash = way.row.curve
        return colour, way.row.marker, dash
    return family_colour(way), _marker(way), compensation_dash(way)


def _marker(way: Way) -> str:
    if way.anew:
        return "D"
    if way.draw == "detector":
        return "*"
    if way.draw == "epochs" or isinstance(way.draw, int):
        return "d"
    return _RETRAINED.get(way.row.family, ".") if way.retrained else way.row.marker


def compensation_dash(way: Way) -> str:
    """Solid with least squares, dash-dotted with merging, dashed with nothing."""
    return _DASHES[way.compensate]


def mean_and_spread(
    axes: Axes, part: pd.DataFrame, x: str, value: str, way: Way, shift: float = 0, dash: str = ""
) -> None:
    """One way's ``value`` against ``x``, mean ± std over seeds (from ``results.summarise``), moved by ``shift``.

    ``dash`` is another than the way's own.
    """
    colour, marker, own = style_of(way)
    axes.errorbar(
        part[x] + shift,
        part[f"{value}_mean"],
        yerr=part[f"{value}_std"].fillna(0),
        color=colour,
        marker=marker,
        linestyle=dash or own,
        capsize=3,
        label=way.label,
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
        "axes.titley": 1.0,  # nothing stands above the axes, so no draw needs to look for room there
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
    """A figure with ``count`` axes of that height that share their rows, so only the first of a line names them.

    They stand beside each other, three in a line at most: of more, a page shows no readable letter, and of one alone it
    would show huge ones. Without a column there is one empty pair of axes.
    """
    count = max(count, 1)
    across = min(count, 3)
    down = -(-count // across)
    size = (max(8.0, 3.2 + 2.6 * across), height * down)
    figure, grid = plt.subplots(down, across, figsize=size, sharey=True, squeeze=False)
    for unused in grid.flat[count:]:
        unused.remove()
    return figure, list(grid.flat[:count])


def farthest(values: Iterable[float], margin: float) -> float:
    """How far from zero an axis of these differences goes at most (:data:`WIDEST`), however wide the intervals."""
    return WIDEST * max(margin, *(abs(value) for value in values), 0.0)


def end_before(
    axes: Axes, end: float, places: Iterable[float], low: Iterable[float], high: Iterable[float]
) -> None:
    """Let the axis end at ±``end`` if one of the intervals [low, high] goes farther; arrows stand for what is cut."""
    bounds = [
        (place, side)
        for place, *both in zip(places, low, high, strict=True)
        for side, bound in zip((-1, 1), both, strict=True)
        if side * bound > end
    ]
    for place, side in bounds:
        axes.plot(side * end, place, "<>"[side > 0], color="black", markersize=4, clip_on=False)
    if bounds:
        axes.set_xlim(-end, end)
        axes.set_xlabel(f"{axes.get_xlabel()}\n(arrows: on beyond the panel)")


def legend_below(figure: Figure, columns: int) -> None:
    """One legend for all panels of a figure, each label once."""
    found: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        found |= {label: handle for handle, label in zip(handles, labels, strict=True) if label not in found}
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)


def formats() -> list[str]:
    """In which formats :func:`save_figure` saves."""
    return os.environ.get("SPLINELIB_FORMATS", " ".join(_FILES)).split()


def save_figure(figure: Figure, name: str, table: pd.DataFrame | None = None) -> Figure:
    """Write ``figure`` as SVG, PNG and PDF, and its numbers as CSV, under ``$SPLINELIB_FIGURES``; return it.

    A JSON file beside them says which committed records had been read by then.

    Without that variable nothing is written; ``$SPLINELIB_FORMATS`` names other formats, with spaces between them.
    Files hold no date, so equal figures are equal files.
    """
    if folder := os.environ.get("SPLINELIB_FIGURES"):
        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        # Laid out once, not anew for every file.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        box = figure.get_tightbbox().padded(0.1)  # inches; a legend may be wider than its axes
        for suffix in formats():
            dots_per_inch, metadata = _FILES[suffix]
            figure.savefig(root / f"{name}.{suffix}", dpi=dots_per_inch, metadata=metadata, bbox_inches=box)
        (root / f"{name}.json").write_text(json.dumps(read_so_far()))
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
