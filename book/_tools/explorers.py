"""The explorers, each in one piece of HTML: early birds of every committed network, and every comparison."""

from pathlib import Path
from typing import Any

from splinestudy import plots
from splinestudy.results import explorers
from splinestudy.results.comparisons import MARGIN
from splinestudy.results.simultaneous import MARGIN as PROTOCOL_MARGIN
from splinestudy.runs.committed import committed_store

from .layout import BOOK, ROOT, Layout, is_current
from .scripts import one_piece

SOURCE = BOOK.source / "_explorers"
MARGINS = {"protocol": 100 * PROTOCOL_MARGIN, "paired": 100 * MARGIN}


def write_explorers(layout: Layout) -> None:
    """Write the HTML and the still pictures into the book, unless they are newer than records and code."""
    made = [
        layout.results / f"{name}_explorer.{end}"
        for name in ("early_bird", "comparison")
        for end in ("html", "png")
    ]
    store = committed_store()
    code = [*SOURCE.iterdir(), *Path(__file__).parent.glob("*.py"), *(ROOT / "splinestudy").rglob("*.py")]
    if is_current(made, [*store.root.glob("*/*.json"), *code]):
        return
    layout.results.mkdir(parents=True, exist_ok=True)
    trainings, comparisons = explorers.trainings(store), explorers.comparisons(store)
    early, compared = pages(trainings, comparisons)
    made[0].write_text(early)
    made[2].write_text(compared)
    draw_early_bird(made[1], trainings)
    draw_comparison(made[3], comparisons)


def pages(trainings: list[dict[str, Any]], comparisons: list[dict[str, Any]]) -> tuple[str, str]:
    """Both explorers' HTML, with style, data and script."""
    style = (SOURCE / "style.html").read_text()
    early = one_piece(SOURCE / "early_bird.html", ("rule.mjs", "early_bird.mjs"), trainings)
    data = {"sets": explorers.SETS, "margins": MARGINS, "comparisons": comparisons}
    return style + early, style + one_piece(SOURCE / "comparison.html", ("comparison.mjs",), data)


def draw_early_bird(path: Path, trainings: list[dict[str, Any]]) -> None:
    """Draw what stands in the explorer's place on paper: the first seed of every network."""
    figure, axes = plots.panels(len(trainings), 3.6, 3.3)
    for ax, training in zip(axes, trainings, strict=True):
        seed = training["seeds"][0]
        plots.epoch_matrix(ax, explorers.whole(seed["distances"], len(seed["accuracy"])), training["name"])
    figure.savefig(path, dpi=110, metadata={"Software": None})


def draw_comparison(path: Path, comparisons: list[dict[str, Any]]) -> None:
    """Draw what stands in the explorer's place on paper: every ratio of the first network."""
    ratios = comparisons[0]["ratios"]
    figure, axes = plots.panels(len(ratios), 4.6, 4.4)
    for ax, part in zip(axes, ratios, strict=True):
        rows = part["intervals"][explorers.SETS[0]][::-1]
        for place, (_, difference, low, high, _) in enumerate(rows):
            ax.plot(
                [difference if end is None else end for end in (low, high)], [place, place], color="#444444"
            )
            ax.plot(difference, place, "o", color="#0072B2")
        ax.set_yticks(range(len(rows)), [row[0] for row in rows])
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set(title=f"{comparisons[0]['network']}, {part['ratio']:g}", xlabel="spline − method (points)")
    figure.savefig(path, dpi=110, metadata={"Software": None})
