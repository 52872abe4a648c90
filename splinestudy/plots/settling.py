"""A partition that settles: the epochs that detectors draw, schedules, canvases, rules."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from splinelib.early_bird.detectors import RELEASED_THRESHOLD
from splinestudy.plots.style import style_of, whole_ticks
from splinestudy.results.ways import SPLINE, Way

# One colour and dash for each schedule, told apart without colour as well.
_SCHEDULES = {
    "standard": ("#0072B2", "-"),
    "constant": ("#D55E00", "--"),
    "constant, a tenth": ("#E69F00", (0, (5, 1))),
    "early drop": ("#009E73", "-."),
    "late drop": ("#CC79A7", ":"),
    "cosine": ("#56B4E9", (0, (3, 1, 1, 1))),
    "lr × 0.3": ("#000000", (0, (1, 1))),
    "lr × 3": ("#999999", "-"),
    "batch × 0.5": ("#8C510A", "--"),
    "batch × 4": ("#01665E", "-."),
}
_CANVASES = (("#D55E00", "v"), ("#0072B2", "s"), ("#009E73", "o"))


def schedule_curves(axes: Axes, table: pd.DataFrame, value: str, label: str, log: bool = False) -> Axes:
    """``value`` over epochs, mean ± std over seeds, one line for each schedule of ``results.schedule_table``.

    With distances, the threshold of the released rule, dashed.
    """
    for schedule, part in table.groupby("schedule", sort=False):
        colour, dash = _SCHEDULES[str(schedule)]
        groups = part.groupby("epoch")[value]
        mean, std = groups.mean(), groups.std(ddof=1).fillna(0)
        axes.plot(mean.index, mean, color=colour, linestyle=dash, label=schedule)
        if not log:
            axes.fill_between(mean.index, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
    if value == "distance":
        axes.axhline(RELEASED_THRESHOLD, color="black", linewidth=1, linestyle=(0, (6, 3)))
    if log:
        axes.set_yscale("log")
    axes.set(xlabel="epoch", ylabel=label)
    whole_ticks(axes.xaxis)
    return axes


def schedule_draws(axes: Axes, table: pd.DataFrame, title: str = "") -> Axes:
    """Drawn epochs of ``results.draw_table``: a dot for each seed, a bar where the learning rate first drops."""
    schedules = list(table["schedule"].unique())
    last = table["epochs"].max()
    for row, schedule in enumerate(schedules):
        part = table[table["schedule"] == schedule]
        colour = _SCHEDULES[schedule][0]
        _dots(axes, part["epoch"], row, colour, last)
        drop = part["first_drop"].iloc[0]
        if schedule != "cosine" and not np.isnan(drop):
            label = "learning rate drops" if row == 0 else "_"
            axes.vlines(drop, row - 0.4, row + 0.4, color="#444444", linewidth=2, label=label)
    _rows(axes, schedules, last, title)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.08))
    return axes


def detected_epochs(axes: Axes, table: pd.DataFrame, title: str = "") -> Axes:
    """Drawn epochs of ``results.detection_table``: a dot for each seed, a row for each detector."""
    detectors = list(table["detector"].unique())
    last = table["epochs"].max()
    for row, detector in enumerate(detectors):
        colour = style_of(SPLINE if detector == "spline" else Way("bn_scale"))[0]
        _dots(axes, table.loc[table["detector"] == detector, "epoch"], row, colour, last)
    _rows(axes, detectors, last, title)
    return axes


def canvas_draws(axes: Axes, table: pd.DataFrame, last: int, title: str = "") -> Axes:
    """Drawn epochs of ``results.canvas_table``: a dot for each seed, a row for each canvas."""
    colours = {"pair": "#0072B2", "images": "#D55E00", "noise": "#666666"}
    canvases = list(table["canvas"].unique())
    for row, canvas in enumerate(canvases):
        part = table[table["canvas"] == canvas]
        _dots(axes, part["epoch"], row, colours[part["inputs"].iloc[0]], last)
    _rows(axes, canvases, last, title)
    return axes


def _dots(axes: Axes, epochs: pd.Series, row: int, colour: str, last: float) -> None:
    """A dot for each drawn epoch, a cross at the right edge for each that was never drawn."""
    shift = row + (np.linspace(-0.18, 0.18, len(epochs)) if len(epochs) > 1 else np.zeros(1))
    found = epochs.notna().to_numpy()
    axes.scatter(epochs[found], shift[found], color=colour, s=42, zorder=3)
    axes.scatter(np.full((~found).sum(), last), shift[~found], color=colour, marker="x", s=42, zorder=3)


def _rows(axes: Axes, names: list[str], last: float, title: str) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set(title=title, xlabel="epoch drawn (× at the right edge: never)", xlim=(0, last + 0.5))
    whole_ticks(axes.xaxis)


def rule_map(axes: Axes, table: pd.DataFrame, last: int, title: str = "") -> Axes:
    """Mean drawn epochs of ``results.rule_table``; empty where some run never draws."""
    image = axes.imshow(table.to_numpy(), cmap="cividis", vmin=0, vmax=last, aspect="auto")
    bar = axes.figure.colorbar(image, ax=axes, label="epoch drawn (mean)", shrink=0.9)
    whole_ticks(bar.ax.yaxis)
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        if not np.isnan(value):
            dark = value < 0.6 * last
            axes.text(
                column, row, f"{value:.1f}", ha="center", va="center", color="white" if dark else "black"
            )
        else:
            axes.text(column, row, "–", ha="center", va="center", color="#444444")
    axes.set_xticks(range(table.shape[1]), [f"{threshold:g}" for threshold in table.columns])
    axes.set_yticks(range(table.shape[0]), [str(window) for window in table.index])
    axes.set(title=title, xlabel="threshold", ylabel="window")
    axes.grid(visible=False)
    return axes


def step_distances(
    axes: Axes,
    looks: pd.DataFrame,
    epochs: pd.DataFrame,
    threshold: float,
    drawn: int | None = None,
    title: str = "",
) -> Axes:
    """Distances between looks at a partition every few optimiser steps, beside those of whole epochs.

    Args:
        looks: a row for each look: step, previous (distance to the look before, NaN for the first), last (distance to
            the last look).
        epochs: a row for each epoch: step (at its end), previous (distance to the epoch before).
        threshold: of the rule, a dashed line.
        drawn: step of the look at which the rule draws, if it does.
    """
    axes.plot(looks["step"], looks["last"], color="#009E73", linestyle="--", label="to the last look")
    axes.plot(looks["step"], looks["previous"], color="#0072B2", marker=".", label="to the look before")
    axes.plot(
        epochs["step"],
        epochs["previous"],
        color="#D55E00",
        marker="s",
        linestyle="none",
        label="whole epochs, to the one before",
    )
    axes.axhline(
        threshold, color="black", linewidth=1, linestyle=(0, (6, 3)), label=f"threshold {threshold:g}"
    )
    if drawn is not None:
        axes.axvline(drawn, color="#666666", linestyle=":", label="drawn, looking every few steps")
    axes.set(title=title, xlabel="optimiser steps", ylabel="code distance", ylim=(0, None))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return axes


def exact_and_sampled(
    axes: Axes,
    epochs: np.ndarray,
    exact: np.ndarray,
    sampled: np.ndarray,
    sides: tuple[int, ...],
    title: str = "",
) -> Axes:
    """Exact distances [runs, moments] over epochs (mean ± std), and those on canvases [sides, runs, moments]."""
    mean, std = exact.mean(axis=0), exact.std(axis=0)
    axes.plot(epochs, mean, color="black", linewidth=2, label="area, exact")
    axes.fill_between(epochs, mean - std, mean + std, color="black", alpha=0.15, linewidth=0)
    for side, part, (colour, marker) in zip(sides, sampled, _CANVASES, strict=False):
        axes.plot(
            epochs,
            part.mean(axis=0),
            color=colour,
            marker=marker,
            linestyle="none",
            markerfacecolor="none",
            label=f"{side} × {side} points",
        )
    axes.set(title=title, xlabel="epoch", ylabel="distance to the moment before", ylim=(0, None))
    whole_ticks(axes.xaxis)
    axes.legend()
    return axes
