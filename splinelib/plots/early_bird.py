"""Code distances over epochs."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from splinelib.plots.style import whole_epochs


def epoch_matrix(axes: Axes, matrix: np.ndarray, title: str = "", drawn: float | None = None) -> Axes:
    """Epoch × epoch matrix of code distances [epochs, epochs], scaled to [0, 1] by its largest entry."""
    image = axes.imshow(matrix / (matrix.max() or 1.0), cmap="cividis", origin="lower", vmin=0, vmax=1)
    axes.figure.colorbar(image, ax=axes, label=f"distance / {matrix.max():.2f}", shrink=0.8)
    if drawn is not None and not np.isnan(drawn):
        for line in (axes.axvline, axes.axhline):
            line(drawn, color="white", linestyle="--", linewidth=1.2)
    axes.set(title=title, xlabel="epoch", ylabel="epoch")
    whole_epochs(axes.xaxis, axes.yaxis)
    axes.grid(visible=False)
    return axes


def layer_distances(axes: Axes, matrix: np.ndarray, threshold: float, title: str = "") -> Axes:
    """Distance of consecutive epochs [epochs - 1, layers], a line for each layer from dark (first) to light (last)."""
    epochs = np.arange(1, len(matrix) + 1)
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.92, matrix.shape[1]))
    for layer, colour in enumerate(colours):
        axes.plot(epochs, matrix[:, layer], color=colour, linewidth=1.1)
    axes.plot(epochs, matrix.mean(axis=1), color="black", linewidth=2.4, label="mean over layers")
    axes.axhline(threshold, color="#D55E00", linestyle="--", label=f"threshold {threshold:g}")
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(1, matrix.shape[1]), plt.get_cmap("viridis"))
    axes.figure.colorbar(scale, ax=axes, label="layer", shrink=0.8)
    axes.set(title=title, xlabel="epoch", ylabel="distance to the epoch before", ylim=(0, None))
    whole_epochs(axes.xaxis)
    axes.legend()
    return axes


def distance_and_accuracy(axes: Axes, table: pd.DataFrame, title: str = "") -> Axes:
    """Distance to the epoch before and test accuracy over epochs, mean ± std over seeds, on one scale of [0, 1]."""
    for column, colour, dash, label in (
        ("distance", "#0072B2", "-", "code distance to the epoch before"),
        ("accuracy", "#D55E00", "--", "test accuracy"),
    ):
        groups = table.groupby("epoch")[column]
        mean, std = groups.mean(), groups.std(ddof=1).fillna(0)
        axes.plot(mean.index, mean, color=colour, linestyle=dash, label=label)
        axes.fill_between(mean.index, mean - std, mean + std, color=colour, alpha=0.25, linewidth=0)
    drops = table.groupby("epoch")["lr"].first()
    for number, epoch in enumerate(drops.index[drops.diff() < 0]):
        label = "learning rate drops" if number == 0 else "_"
        axes.axvline(epoch, color="#666666", linestyle=":", linewidth=1.2, label=label)
    axes.set(title=title, xlabel="epoch", ylabel="distance, accuracy", ylim=(0, 1))
    whole_epochs(axes.xaxis)
    axes.legend()
    return axes
