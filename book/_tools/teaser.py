"""The front page's picture: one small network's partition, then with units removed, then with weights zeroed."""

from pathlib import Path

import numpy as np

from .layout import BOOK, Layout

NAME = "fig-teaser"
WIDTHS = (12, 10)
SEED = 5
SHARE = 0.5  # of units, or of weights, that go
PIXELS = 500  # per side; boundaries are contours between samples, so this only has to resolve the regions
LINES = ("#1b3a5c", "#c8501e")  # first layer, second layer

Weights = list[tuple[np.ndarray, np.ndarray]]


def random_network(seed: int = SEED) -> Weights:
    """Two ReLU layers with unit rows, as (weights [units, inputs], biases [units]) in float64."""
    generator = np.random.default_rng(seed)
    weights: Weights = []
    inputs = 2
    for units in WIDTHS:
        rows = generator.normal(size=(units, inputs))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        weights.append((rows, generator.uniform(-0.6, 0.6, size=units)))
        inputs = units
    return weights


def without_units(network: Weights, share: float = SHARE) -> Weights:
    """A copy that lacks the last ``share`` of every layer's units (they are random, so any choice is as good)."""
    pruned: Weights = []
    inputs = 2
    for rows, biases in network:
        kept = len(rows) - round(share * len(rows))
        pruned.append((rows[:kept, :inputs], biases[:kept]))
        inputs = kept
    return pruned


def without_weights(network: Weights, share: float = SHARE) -> Weights:
    """A copy in which the smallest ``share`` of each unit's weights is zero."""
    pruned: Weights = []
    for rows, biases in network:
        count = round(share * rows.shape[1])
        rows = rows.copy()
        np.put_along_axis(rows, np.argsort(abs(rows), axis=1)[:, :count], 0.0, axis=1)
        pruned.append((rows, biases))
    return pruned


def preactivations(network: Weights, points: np.ndarray) -> list[np.ndarray]:
    """Each layer's pre-activations [points, units] at ``points`` [points, 2]."""
    values, layers = points, []
    for rows, biases in network:
        layers.append(values @ rows.T + biases)
        values = np.maximum(layers[-1], 0.0)
    return layers


def draw_teaser(layout: Layout) -> None:
    """Write the picture into the book (page and downloads) unless it is newer than this script."""
    page = layout.results / "teaser.png"
    if page.exists() and page.stat().st_mtime > Path(__file__).stat().st_mtime:
        return
    layout.results.mkdir(parents=True, exist_ok=True)
    layout.figures.mkdir(parents=True, exist_ok=True)
    draw([page, *(layout.figures / f"{NAME}.{ending}" for ending in ("svg", "png", "pdf"))])


def draw_committed(layout: Layout = BOOK) -> None:
    """Write the copy that is committed, for the README."""
    draw([layout.source / "_static" / "partition.png"], dots_per_inch=110)


def draw(paths: list[Path], dots_per_inch: int = 200) -> None:
    """Draw the three partitions side by side and write the figure to every path."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = NAME
    from matplotlib.figure import Figure

    network = random_network()
    panels = {
        "a random ReLU network\ncuts its input plane": network,
        "half the units removed:\nboundaries go, regions merge": without_units(network),
        "half the weights zeroed:\nboundaries stay but turn": without_weights(network),
    }
    figure = Figure(figsize=(9.0, 3.5), layout="constrained", facecolor="white")
    for axes, (title, weights) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        _draw_partition(axes, weights)
        axes.set_title(title, fontsize=11)
    for path in paths:
        # Dates and versions in the metadata would make every run differ.
        metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        figure.savefig(path, dpi=dots_per_inch, metadata=metadata[path.suffix[1:]])


def _draw_partition(axes, network: Weights) -> None:
    side = np.linspace(-1.0, 1.0, PIXELS)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    layers = preactivations(network, points)
    axes.imshow(_shades(network, layers), extent=(-1, 1, -1, 1), origin="lower", interpolation="nearest")
    for layer, colour, width in zip(layers, LINES, (1.1, 0.9), strict=True):
        for unit in layer.T:
            axes.contour(
                side, side, unit.reshape(PIXELS, PIXELS), levels=[0.0], colors=colour, linewidths=width
            )
    axes.set(xticks=[], yticks=[], aspect="equal")


def _shades(network: Weights, layers: list[np.ndarray]) -> np.ndarray:
    """One pale colour for each region, from the slope of the summed outputs there: regions are where it is constant."""
    import matplotlib

    (first, _), (second, _) = network
    slopes = ((layers[1] > 0) @ second * (layers[0] > 0)) @ first
    steepness = np.linalg.norm(slopes, axis=1)
    colours = matplotlib.colormaps["YlGnBu"](0.05 + 0.5 * steepness / steepness.max())
    return colours[:, :3].reshape(PIXELS, PIXELS, 3)
