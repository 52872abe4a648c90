"""The front page's picture: a trained network's exact partition, then with units removed, then with weights zeroed."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from splinelib.partition import Partition
from splinestudy.analysis import toy

from .inputs import script_files
from .layout import BOOK, Layout, is_current
from .pictures import keep_figures

NAME = "fig-teaser"
SETTINGS = toy.ToySettings(runs=1, hidden=24)
SHARE = 0.5  # of units, or of weights, that go
SEED = 1


def partitions() -> Iterator[tuple[str, Partition, float]]:
    """What each panel says, its partition with decision boundary, and the network's test accuracy."""
    train, test = toy.x_problem(SETTINGS, SEED)
    dense, _ = toy.train_nets(toy.new_nets(SETTINGS, seed=SEED), train, SETTINGS, SEED)
    panels = {"a trained ReLU network": dense}
    for name, kind in (("half of its units removed", "node"), ("half of its weights zeroed", "weight")):
        panels[name], _ = toy.train_nets(toy.pruned(dense, kind, SHARE), train, SETTINGS, SEED)
    for name, nets in panels.items():
        yield name, toy.toy_partition(nets, 0), float(toy.accuracy(nets, test)[0])


def draw_teaser(layout: Layout) -> None:
    """Write the picture into the book (page and downloads) unless it is newer than what it is made by."""
    page = layout.results / "teaser.png"
    if is_current([page], script_files(Path(__file__))):
        return
    layout.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        draw([page, *(Path(folder) / f"{NAME}.{ending}" for ending in ("svg", "png", "pdf"))])
        keep_figures(Path(folder), layout.figures)


def draw_committed() -> None:
    """Write the copy that is committed, for the README; called by hand where the picture is to change."""
    draw([BOOK.source / "_static" / "partition.png"], dots_per_inch=110)


def draw(paths: list[Path], dots_per_inch: int = 200) -> None:
    """Draw the three partitions side by side and write the figure to every path."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = NAME
    from matplotlib.figure import Figure

    from splinelib.partition import draw_partition

    figure = Figure(figsize=(9.0, 3.5), layout="constrained", facecolor="white")
    for axes, (name, partition, accuracy) in zip(figure.subplots(1, 3), partitions(), strict=True):
        draw_partition(axes, partition)
        axes.set_title(f"{name}:\n{len(partition)} regions, accuracy {100 * accuracy:.0f} %", fontsize=11)
    for path in paths:
        # Dates and versions in the metadata would make every run differ.
        metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        figure.savefig(path, dpi=dots_per_inch, metadata=metadata[path.suffix[1:]])
