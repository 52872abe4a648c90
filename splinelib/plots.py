"""Figures. Each function draws on axes it is given and returns them; nothing is computed here. Needs seaborn."""

import os
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# One colour, marker and dash for each criterion or detector, everywhere: told apart without colour as well.
_STYLES = {
    "spline": ("#0072B2", "o", "-"),
    "spline_geometric": ("#56B4E9", "P", "-"),
    "l1": ("#D55E00", "s", "--"),
    "bn_scale": ("#009E73", "^", "-."),
    "random": ("#666666", "X", ":"),
}
LABELS = {
    "spline": "spline",
    "spline_geometric": "spline, geometric offset",
    "l1": "filter L1 norm",
    "bn_scale": "batch-norm scale",
    "random": "random",
}


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


def _whole_epochs(*axes: Axis) -> None:
    for axis in axes:
        axis.set_major_locator(MaxNLocator(integer=True))


def image_grid(axes: Axes, images: np.ndarray, columns: int = 10) -> Axes:
    """Images [N, H, W, C] (uint8) side by side in rows of ``columns``."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 2), columns * (width + 2), channels), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + 2), (index % columns) * (width + 2)
        sheet[top : top + height, left : left + width] = image
    axes.imshow(sheet.squeeze(), cmap="gray", interpolation="nearest")
    axes.set_axis_off()
    return axes


def epoch_matrix(axes: Axes, matrix: np.ndarray, title: str = "", drawn: float | None = None) -> Axes:
    """Epoch × epoch matrix of code distances [epochs, epochs], scaled to [0, 1] by its largest entry."""
    image = axes.imshow(matrix / (matrix.max() or 1.0), cmap="cividis", origin="lower", vmin=0, vmax=1)
    axes.figure.colorbar(image, ax=axes, label=f"distance / {matrix.max():.2f}", shrink=0.8)
    if drawn is not None and not np.isnan(drawn):
        for line in (axes.axvline, axes.axhline):
            line(drawn, color="white", linestyle="--", linewidth=1.2)
    axes.set(title=title, xlabel="epoch", ylabel="epoch")
    _whole_epochs(axes.xaxis, axes.yaxis)
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
    _whole_epochs(axes.xaxis)
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
    _whole_epochs(axes.xaxis)
    axes.legend()
    return axes


def detected_epochs(axes: Axes, table: pd.DataFrame, title: str = "") -> Axes:
    """Epoch drawn by each detector: a dot for each seed; a detector that never drew is marked at the end."""
    last = int(table["epochs"].max())
    detectors = list(table["detector"].unique())
    for row, detector in enumerate(detectors):
        part = table[table["detector"] == detector].reset_index(drop=True)
        shift = row + np.linspace(-0.15, 0.15, len(part)) if len(part) > 1 else np.array([row])
        found = part["epoch"].notna()
        colour = _STYLES["spline"][0] if detector == "spline" else _STYLES["bn_scale"][0]
        axes.scatter(part["epoch"][found], shift[found], color=colour, s=50, zorder=3)
        axes.scatter(np.full((~found).sum(), last), shift[~found], color=colour, marker="x", s=50, zorder=3)
    axes.set_yticks(range(len(detectors)), detectors)
    axes.set(title=title, xlabel="epoch drawn (× at the right edge: never)", xlim=(0, last + 0.5))
    _whole_epochs(axes.xaxis)
    axes.set_ylim(len(detectors) - 0.5, -0.5)
    return axes


def ratio_curves(
    axes: Axes, summary: pd.DataFrame, value: str, label: str, x: str = "ratio", title: str = ""
) -> Axes:
    """``value`` (mean ± std over seeds, from ``tables.summarise``) against ``x``, one line for each criterion.

    At equal ratios the points are moved apart a little sideways so that error bars stay readable.
    """
    criteria = [criterion for criterion in _STYLES if criterion in set(summary["criterion"])]
    # Shares of units are the same for all, so the points are moved apart; a measured cost stays where it is.
    spread = 0.012 * (summary[x].max() - summary[x].min() or 0.5) if x == "ratio" else 0.0
    for index, criterion in enumerate(criteria):
        part = summary[summary["criterion"] == criterion].sort_values(x)
        colour, marker, dash = _STYLES[criterion]
        axes.errorbar(
            part[x] + (index - (len(criteria) - 1) / 2) * spread,
            part[f"{value}_mean"],
            yerr=part[f"{value}_std"].fillna(0),
            color=colour,
            marker=marker,
            linestyle=dash,
            capsize=3,
            label=LABELS[criterion],
        )
    axes.set(title=title, xlabel=label, ylabel="test accuracy")
    if x == "ratio":
        axes.set_xticks(sorted(summary[x].unique()))
    return axes


def reference_line(axes: Axes, value: float, label: str) -> Axes:
    """A thin horizontal line, for instance at the dense network's accuracy."""
    axes.axhline(value, color="black", linewidth=1, linestyle=(0, (6, 3)), label=label)
    return axes


def difference_forest(axes: Axes, differences: pd.DataFrame, margin: float, title: str = "") -> Axes:
    """Paired differences with confidence intervals (from ``tables.paired_differences``) in points, and the margin."""
    axes.axvspan(-100 * margin, 100 * margin, color="#999999", alpha=0.25)
    axes.axvline(0, color="black", linewidth=1)
    for position, row in enumerate(differences.itertuples()):
        colour, marker, _ = _STYLES[row.against]
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
    names = [f"{LABELS[row.against]}, ratio {row.ratio:g}" for row in differences.itertuples()]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set(title=f"{title} (grey: ±{100 * margin:g})", xlabel="spline − baseline (points)")
    return axes


def layer_widths(axes: Axes, table: pd.DataFrame, ratio: float, title: str = "") -> Axes:
    """Share of units kept in each layer at one ratio (mean over seeds), one line for each criterion."""
    part = table[np.isclose(table["ratio"], ratio)]
    for criterion in [name for name in _STYLES if name in set(part["criterion"])]:
        group = part[part["criterion"] == criterion]
        mean = group.groupby("position")["kept"].mean()
        colour, marker, dash = _STYLES[criterion]
        axes.plot(mean.index, mean, color=colour, marker=marker, linestyle=dash, label=LABELS[criterion])
    axes.axhline(1 - ratio, color="black", linewidth=1, linestyle=(0, (1, 2)))
    axes.set(title=title, xlabel="layer, from input to output", ylabel="share of units kept", ylim=(0, 1.02))
    axes.legend()
    return axes


def canvas_grid(
    axes: Axes, first: np.ndarray, second: np.ndarray, mean: tuple[float, ...], side: int = 5
) -> Axes:
    """A coarse view of the two-image canvas of two images [C, H, W] (uint8): α upwards, β to the right."""
    centre = 255 * np.array(mean)[:, None, None]
    steps = np.linspace(0, 1, side)
    blends = [
        centre + alpha * (first - centre) + beta * (second - centre)
        for alpha in steps[::-1]
        for beta in steps
    ]
    image_grid(axes, np.clip(np.stack(blends), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1), columns=side)
    return axes
