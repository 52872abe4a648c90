"""Partitions as vector drawings on given axes; nothing is computed here."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from splinelib.partition.drawing import MANY, set_frame
from splinelib.partition.drawing import draw_edges as draw_edges
from splinelib.partition.drawing import draw_partition as draw_partition
from splinelib.partition.engine.layout import Floats
from splinelib.partition.partition import Partition
from splinelib.partition.trace import Trace
from splinestudy.analysis.contours import Contours
from splinestudy.analysis.evolution import Evolution

# Trainings of more epochs are shown on a logarithmic scale: most happens at the start.
_LONG = 20
# Pruning ratios closer than this cannot both be written under an axis.
_CROWDED = 0.12
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def draw_points(axes: Axes, points: Floats, labels: Floats) -> Axes:
    """Points ``[N, 2]`` of two classes, told apart by colour and marker."""
    for label, colour, marker in ((0, "#0072B2", "o"), (1, "#D55E00", "x")):
        x, y = points[labels == label].T
        axes.scatter(x, y, s=6, c=colour, marker=marker, linewidths=0.7, label=f"class {label}")
    return axes


def draw_curves(axes: Axes, table: pd.DataFrame, value: str, by: str, label: str, title: str = "") -> Axes:
    """``value`` against the ratio, mean with standard deviation over runs, a line for each entry of column ``by``."""
    for number, (name, part) in enumerate(table.groupby(by, sort=False)):
        groups = part.groupby("ratio")[value]
        mean, deviation = groups.mean(), groups.std(ddof=1).fillna(0)
        bars = axes.errorbar(mean.index, mean, deviation, capsize=3, color=_COLOURS[number], label=str(name))
        bars[0].set(marker="osD^"[number], linestyle=("-", "--", "-.", ":")[number])
    ratios = sorted(table["ratio"].unique())
    # Labels that would touch the one before are left out; the tick stays.
    crowded = [i > 0 and ratio - ratios[i - 1] < _CROWDED for i, ratio in enumerate(ratios)]
    axes.set_xticks(
        ratios, ["" if drop else f"{ratio:.0%}" for ratio, drop in zip(ratios, crowded, strict=True)]
    )
    axes.set(title=title, xlabel="pruning ratio", ylabel=label)
    axes.legend()
    return axes


def draw_steps(axes: Axes, epochs: list[int], regions: list[int], distances: list[float]) -> Axes:
    """Number of regions over epochs (left axis), and the code distance to the epoch kept before (right axis).

    The distance is divided by the epochs between the two, which may be few at first and many later.
    """
    gaps = [later - earlier for earlier, later in pairwise(epochs)]
    other = axes.twinx()
    (count,) = axes.plot(epochs, regions, color=_COLOURS[0], marker="o", label="regions")
    (distance,) = other.plot(
        epochs[1:],
        [distance / gap for distance, gap in zip(distances, gaps, strict=True)],
        color=_COLOURS[1],
        marker="s",
        linestyle="--",
        label="code distance to the one before, per epoch",
    )
    axes.set(xlabel="epoch", ylabel="regions", ylim=(0, 1.05 * max(regions)))
    if epochs[-1] > _LONG:
        axes.set(xlabel="epoch (symmetric log scale)", xscale="symlog", xlim=(-0.3, 1.2 * epochs[-1]))
    axes.set_xticks(epochs, [str(epoch) for epoch in epochs])
    other.set(ylabel="code distance per epoch", ylim=(0, None))
    other.grid(visible=False)
    axes.legend(handles=[count, distance], loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return axes


def draw_seen(axes: Axes, sides: list[int], seen: list[float]) -> Axes:
    """Share of regions that a raster sees against its points a side."""
    axes.plot(sides, seen, marker="o", color=_COLOURS[0])
    axes.set(xlabel="points a side", ylabel="share of regions seen", xscale="log", ylim=(0, 1))
    axes.set_xticks(sides, [str(side) for side in sides])
    axes.minorticks_off()
    return axes


def draw_frame(axes: Sequence[Axes], found: Evolution, number: int) -> Sequence[Axes]:
    """One picture of an animation on three axes: the partition, the count of regions and the code distance so far."""
    epoch, regions = found.epochs[number], found.regions
    draw_partition(axes[0], found.partitions[number], f"epoch {epoch}: {regions[number]} regions")
    curves: tuple[tuple[Axes, list[int], list[float], int, str], ...] = (
        (axes[1], list(found.epochs), [float(r) for r in regions], number + 1, "regions"),
        (axes[2], list(found.epochs[1:]), list(found.distances), number, "distance to the one before"),
    )
    for place, (ax, epochs, values, shown, label) in enumerate(curves):
        ax.plot(epochs[:shown], values[:shown], color=_COLOURS[place], marker="os"[place])
        ax.set(title=label, xlabel="epoch", ylim=(0, 1.08 * max([*values, 1e-9])))
        if found.epochs[-1] > _LONG:
            ax.set_xscale("symlog")
            ax.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        ax.set_xlim(-0.04 * found.epochs[-1] if found.epochs[-1] <= _LONG else -0.3, 1.05 * found.epochs[-1])
    return axes


def draw_contours(axes: Axes, contours: Contours, partition: Partition) -> Axes:
    """The zero level sets that a raster gives, in the colours of :func:`draw_edges`."""
    layer = partition.unit_layer[contours.unit]
    for number in reversed(range(len(partition.layers))):
        segments = list(contours.segments[layer == number])
        lines = LineCollection(segments, colors=[f"C{number % 10}"], linewidths=0.6)
        lines.set_rasterized(len(contours.segments) > MANY)
        axes.add_collection(lines)
    return set_frame(axes, partition)


def draw_shares(axes: Axes, table: pd.DataFrame, title: str = "") -> Axes:
    """For each layer the shares of units that cross and that touch the decision boundary, mean ± standard deviation.

    ``table`` has columns ``layer``, ``crossing`` and ``touching``, a row for each layer and slice.
    """
    groups = table.groupby("layer", sort=False)[["crossing", "touching"]]
    mean, deviation = groups.mean(), groups.std(ddof=1).fillna(0)
    place = np.arange(len(mean))
    for value, colour, width in (("crossing", "#9ecae1", 0.8), ("touching", "#08519c", 0.5)):
        axes.bar(
            place, mean[value], width, yerr=deviation[value], color=colour, label=value, capsize=2,
            error_kw={"linewidth": 1.0, "ecolor": "#555555"},
        )  # fmt: skip
    axes.set_xticks(place, mean.index, rotation=90)
    axes.set(title=title, ylabel="share of units", ylim=(0, 1))
    axes.grid(visible=False, axis="x")
    axes.legend()
    return axes


def draw_classes(axes: Axes, trace: Trace, names: Sequence[str], corners: Sequence[str]) -> Axes:
    """The decision boundary of a traced slice, one colour for each pair of classes, and the slice's corners by name."""
    pairs = np.unique(trace.boundary.classes, axis=0)
    for number, (i, j) in enumerate(pairs):
        chosen = (trace.boundary.classes == (i, j)).all(axis=1)
        lines = LineCollection(
            list(trace.boundary.segments[chosen]), colors=[f"C{number % 10}"], linewidths=1.2,
            linestyles=[("-", "--", ":")[number // 10 % 3]], label=f"{names[i]} | {names[j]}",
        )  # fmt: skip
        axes.add_collection(lines)
    polygon = trace.slice.polygon
    axes.fill(*polygon.T, facecolor="none", edgecolor="#888888", linewidth=1.0)
    middle = polygon.mean(axis=0)
    for corner, text in zip(polygon, corners, strict=True):
        axes.annotate(
            text, corner, (4, 8 if corner[1] > middle[1] else -14), textcoords="offset points", ha="center"
        )
    axes.set(aspect="equal", xticks=[], yticks=[])
    axes.margins(0.12)
    axes.axis("off")
    return axes
