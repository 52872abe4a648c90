"""How redundant units are, layer by layer."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from splinestudy.analysis.neighbours import QUANTILES
from splinestudy.plots.style import mean_and_spread, whole_ticks


def sensitivity_by_layer(axes: Axes, summary: pd.DataFrame, dense: float, title: str = "") -> Axes:
    """Accuracy with one layer cut alone, mean ± std over seeds (``results.summarise``), a line for each way."""
    for way, part in summary.groupby("way", sort=False):
        mean_and_spread(axes, part, "position", "accuracy", way)
    axes.axhline(dense, color="black", linewidth=1, linestyle=(0, (6, 3)), label="dense")
    axes.set(title=title, xlabel="layer that is cut, from input to output", ylabel="test accuracy")
    whole_ticks(axes.xaxis)
    return axes


def alignment_by_layer(axes: Axes, layers: pd.DataFrame, title: str = "") -> Axes:
    """|cos| to the nearest neighbour: median and range from 10 to 90 % of a layer's units, and of random directions.

    ``layers`` has a row for each layer, with the columns of :func:`.neighbour_rows`.
    """
    places = np.arange(1, len(layers) + 1)
    for name, label, colour, dash in (
        ("alignment", "trained units", "#0072B2", "-"),
        ("chance", "random directions", "#666666", ":"),
    ):
        low, middle, high = (layers[f"{name}_{quantile}"] for quantile in QUANTILES)
        axes.plot(places, middle, color=colour, linestyle=dash, marker="o", label=label)
        axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.axhline(1.0, color="black", linewidth=1, linestyle=(0, (6, 3)), label="coinciding boundaries")
    axes.set(
        title=title, xlabel="layer, from input to output", ylabel="|cos| to the nearest unit", ylim=(0, 1.05)
    )
    whole_ticks(axes.xaxis)
    return axes
