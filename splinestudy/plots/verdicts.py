"""Verdicts: the matrix of all marks, and the intervals behind each."""

from collections.abc import Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from splinestudy.plots.style import columns, end_before, farthest, save_figure
from splinestudy.results.claim_texts import CLAIMS
from splinestudy.results.mark_pages import SIGNS, by_case, by_claim
from splinestudy.results.marks import WORDS, Mark, Word
from splinestudy.results.names import signed

COLOURS: dict[Word, str] = {
    "supported": "#00734f",
    "in part": "#8a5a00",
    "undecided": "#5f6368",
    "contradicted": "#a83c00",
}
_MARKERS: dict[Word, str] = {"supported": "o", "in part": "s", "undecided": "D", "contradicted": "X"}


_HEAD = 92  # characters of a claim on a line


def mark_matrix(marks: Sequence[Mark]) -> Figure:
    """All marks: a row for each case, a sign for each ratio, with its number beside it."""
    cases = [(members[0].claim, case, members) for _, case, members in by_case(marks)]
    heads = {claim: fill(f"{claim}  {CLAIMS[claim].text}", _HEAD) for claim in by_claim(marks)}
    rows = len(cases) + sum(1 + 0.6 * head.count("\n") for head in heads.values())
    figure, axes = plt.subplots(figsize=(8, 0.25 * rows + 0.8))
    row, ticks, names = 0.0, [], []
    for claim, head in heads.items():
        name = axes.text(-0.62, row - 0.4, head, transform=axes.get_yaxis_transform(), va="top", fontsize=9)
        name.set(weight="bold", in_layout=False)  # or a long one would press the signs together
        row += 0.6 * head.count("\n")
        for _, case, members in [entry for entry in cases if entry[0] == claim]:
            row += 1
            ticks.append(row)
            names.append(case)
            for place, mark in enumerate(members):
                axes.plot(place, row, _MARKERS[mark.word], color=COLOURS[mark.word], markersize=8)
                axes.annotate(
                    mark.at, (place, row), (6, 0), textcoords="offset points", va="center", fontsize=8
                )
        row += 1
    for word in WORDS:
        axes.plot([], [], _MARKERS[word], color=COLOURS[word], label=f"{word} ({SIGNS[word]} in the table)")
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set(xticks=[], xlim=(-0.6, 6.4), ylim=(row - 0.4, -0.8))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(WORDS), fontsize=8)
    return figure


def mark_intervals(marks: Sequence[Mark]) -> Figure:
    """The intervals behind the marks of one case, a column for each ratio; grey: the band of the rule."""
    labels = list(dict.fromkeys(label for mark in marks for label in mark.intervals["label"]))
    figure, axes = columns(len(marks), 1.5 + 0.26 * len(labels))
    for ax, mark in zip(axes, marks, strict=False):
        _draw_intervals(ax, mark, labels)
    return figure


def first_case(marks: Sequence[Mark]) -> tuple[Figure, pd.DataFrame]:
    """The intervals of a claim's first case, which is the protocol's where it has one, and their numbers."""
    cases = [members for _, _, members in by_case(marks)]
    members = cases[0] if cases else []
    figure = mark_intervals(members)
    if len(members) == 1:  # else centred on the figure, not on what it heads
        figure.axes[0].set_title(f"{members[0].case}\n{members[0].word}")
    elif members:
        figure.suptitle(members[0].case, fontsize="medium")
    return figure, _numbers(members)


def save_intervals(marks: Sequence[Mark]) -> None:
    """Write the figure of each case, by the name that the page has for it, with its numbers."""
    for name, _, members in by_case(marks):
        save_figure(mark_intervals(members), name, _numbers(members))


def _numbers(marks: Sequence[Mark]) -> pd.DataFrame:
    return pd.concat([pd.DataFrame(), *(mark.intervals.assign(ratio=mark.at) for mark in marks)])


def _draw_intervals(axes: Axes, mark: Mark, labels: Sequence[str]) -> None:
    axes.axvspan(*mark.band, color="#999999", alpha=0.25, zorder=0)
    if mark.band[0] <= 0:
        axes.axvline(0, color="black", linewidth=1)
    for row in mark.intervals.itertuples():
        reach = None if np.isnan(row.low) else [[row.value - row.low], [row.high - row.value]]
        decided = row.low > mark.band[1] or row.high < mark.band[0]
        colour = COLOURS[mark.word if decided else "undecided"]
        place = labels.index(row.label)
        axes.errorbar(row.value, place, xerr=reach, fmt="o", color=colour, capsize=3, markersize=4)
    axes.set_yticks(range(len(labels)), labels, fontsize="small")
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axes.set_title(f"{mark.at + ': ' if mark.at else ''}{mark.word}")
    axes.set_xlabel(mark.axis, fontsize="small")
    if mark.band[0] < 0:  # else the mark is of values that have no middle
        _cut_off(axes, mark, labels)


def _cut_off(axes: Axes, mark: Mark, labels: Sequence[str]) -> None:
    """End the axis where most differences can still be told apart; one that lies beyond is named at the edge."""
    found, margin = mark.intervals, max(np.abs(mark.band))
    reach = found[["value", "low", "high"]].abs().max(axis=1)
    end = farthest([found["value"].abs().median()], margin)
    if (reach > end).any():  # then what is cut off does not say how much room the others get
        end = max(1.5 * margin, 1.1 * reach[reach <= end].max())
    beyond = found[found["value"].abs() > end]
    for row in beyond.itertuples():
        side = np.sign(row.value)
        axes.annotate(
            signed(row.value, 0),
            (side * end, labels.index(row.label)),
            (-6 * side, 0),
            textcoords="offset points",
            va="center",
            ha="right" if side > 0 else "left",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    end_before(axes, end, map(labels.index, found["label"]), found["low"], found["high"])
    if len(beyond):
        axes.set_xlabel(f"{axes.get_xlabel()[:-1]};\na number: the mean)")
