"""The explorers, each in one piece of HTML: early birds of every committed network, and every comparison."""

from pathlib import Path
from typing import Any

from splinestudy import plots
from splinestudy.results import explorers
from splinestudy.results.claim_marks import claim_marks
from splinestudy.results.comparisons import MARGIN
from splinestudy.results.simultaneous import MARGIN as PROTOCOL_MARGIN
from splinestudy.runs.committed import committed_store

from .inputs import script_files
from .layout import BOOK, Layout, is_current
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
    code = [*SOURCE.iterdir(), *script_files(Path(__file__))]
    if is_current(made, [*store.root.glob("*/*.json"), *code]):
        return
    layout.results.mkdir(parents=True, exist_ok=True)
    trainings, comparisons = explorers.trainings(store), explorers.comparisons(store)
    early, compared = pages(trainings, comparisons)
    made[0].write_text(early)
    made[2].write_text(compared)
    draw_early_bird(made[1], trainings)
    figure, _ = plots.first_case(claim_marks("C5", store))
    figure.savefig(made[3], dpi=110, metadata={"Software": None})


def pages(trainings: list[dict[str, Any]], comparisons: list[dict[str, Any]]) -> tuple[str, str]:
    """Both explorers' HTML, with style, data and script."""
    style = (SOURCE / "style.html").read_text()
    early = one_piece(SOURCE / "early_bird.html", ("rule.mjs", "early_bird.mjs"), trainings)
    sets = {name: control.label for name, control in explorers.SETS.items()}
    data = {"sets": sets, "margins": MARGINS, "comparisons": comparisons}
    return style + early, style + one_piece(SOURCE / "comparison.html", ("comparison.mjs",), data)


def draw_early_bird(path: Path, trainings: list[dict[str, Any]]) -> None:
    """Draw what stands in the explorer's place on paper: the first seed of every network."""
    figure, axes = plots.panels(len(trainings), 3.6, 3.3)
    for ax, training in zip(axes, trainings, strict=True):
        seed = training["seeds"][0]
        plots.epoch_matrix(ax, explorers.whole(seed["distances"], len(seed["accuracy"])), training["name"])
    figure.savefig(path, dpi=110, metadata={"Software": None})
