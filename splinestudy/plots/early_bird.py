"""Code distances over epochs."""

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from splinestudy.plots.style import whole_ticks

# One colour and dash for each detector, told apart without colour as well.
_DETECTORS = {
    "spline": ("#0072B2", "-"),
    "mask 0.3": ("#009E73", "--"),
    "mask 0.5": ("#D55E00", "-."),
    "mask 0.7": ("#CC79A7", ":"),
}
_SHARP = 0.4  # of the rate of the epoch before: below it a fall is a drop, which has a line of its own


def epoch_matrix(axes: Axes, matrix: np.ndarray, title: str = "", drawn: float | None = None) -> Axes:
    """Epoch × epoch matrix of code distances [epochs, epochs], scaled to [0, 1] by its largest entry."""
    image = axes.imshow(matrix / (matrix.max() or 1.0), cmap="cividis", origin="lower", vmin=0, vmax=1)
    axes.figure.colorbar(image, ax=axes, label=f"distance / {matrix.max():.2f}", shrink=0.8)
    if drawn is not None and not np.isnan(drawn):
        for line in (axes.axvline, axes.axhline):
            line(drawn, color="white", linestyle="--", linewidth=1.2)
    axes.set(title=title, xlabel="epoch", ylabel="epoch")
    whole_ticks(axes.xaxis, axes.yaxis)
    axes.grid(visible=False)
    return axes


def layer_distances(
    axes: Axes, layers: pd.DataFrame, mean: pd.DataFrame, threshold: float, title: str = ""
) -> Axes:
    """Distance of consecutive epochs, a line for each layer from dark (first) to light (last), their mean in black.

    The mean alone has a band: those of a dozen layers would hide each other.

    Args:
        layers: means of ``results.layer_table`` by layer and epoch.
        mean: means and standard deviations of ``results.epoch_table`` by epoch.
        threshold: of the rule, a dashed line.
    """
    count = layers["layer"].max()
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.92, count))
    for (_, part), colour in zip(layers.groupby("layer"), colours, strict=True):
        axes.plot(part["epoch"], part["distance_mean"], color=colour, linewidth=1.1)
    _band(axes, mean, "black", alpha=0.25, linewidth=2.4, label="mean over layers")
    axes.axhline(threshold, color="#D55E00", linestyle="--", label=f"threshold {threshold:g}")
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(1, count), plt.get_cmap("viridis"))
    bar = axes.figure.colorbar(scale, ax=axes, label="layer", shrink=0.8)
    axes.margins(y=0.3)  # room for the legend
    axes.set(title=title, xlabel="epoch", ylabel="distance to the epoch before", ylim=(0, None))
    whole_ticks(axes.xaxis, bar.ax.yaxis)
    axes.legend()
    return axes


def detector_distances(axes: Axes, summary: pd.DataFrame, title: str = "") -> Axes:
    """Distance of consecutive epochs, a line with its band for each detector of ``results.detector_distances``."""
    for detector, part in summary.groupby("detector", sort=False):
        colour, dash = _DETECTORS.get(str(detector), ("#009E73", "--"))
        _band(axes, part, colour, alpha=0.15, linestyle=dash, label=detector)
    axes.margins(y=0.2)  # room for the legend
    axes.set(title=title, xlabel="epoch", ylabel="distance to the epoch before", ylim=(0, None))
    whole_ticks(axes.xaxis)
    axes.legend()
    return axes


def _band(axes: Axes, summary: pd.DataFrame, colour: Any, alpha: float, **line: Any) -> None:
    """Mean distances over epochs as a line, one standard deviation to either side as a band."""
    mean, std = summary["distance_mean"], summary["distance_std"].fillna(0)
    axes.plot(summary["epoch"], mean, color=colour, **line)
    axes.fill_between(summary["epoch"], mean - std, mean + std, color=colour, alpha=alpha, linewidth=0)


def distance_and_accuracy(axes: Axes, table: pd.DataFrame, title: str = "") -> Axes:
    """Distances to the epoch before and to the last one, and test accuracy: mean ± std over seeds, all in [0, 1]."""
    for column, colour, dash, label in (
        ("distance", "#0072B2", "-", "code distance to the epoch before"),
        ("to_last", "#009E73", "-.", "code distance to the last epoch"),
        ("accuracy", "#D55E00", "--", "test accuracy"),
    ):
        groups = table.groupby("epoch")[column]
        mean, std = groups.mean(), groups.std(ddof=1).fillna(0)
        axes.plot(mean.index, mean, color=colour, linestyle=dash, label=label)
        axes.fill_between(mean.index, mean - std, mean + std, color=colour, alpha=0.25, linewidth=0)
    rates = table.groupby("epoch")["lr"].first()
    for number, epoch in enumerate(rates.index[rates < _SHARP * rates.shift()]):
        label = "learning rate drops" if number == 0 else "_"
        axes.axvline(epoch, color="#666666", linestyle=":", linewidth=1.2, label=label)
    axes.set(title=title, xlabel="epoch", ylabel="distance, accuracy", ylim=(0, 1))
    whole_ticks(axes.xaxis)
    return axes
