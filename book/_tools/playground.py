"""The partition playground: a small network's training, written with its script into one piece of HTML for its page."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import splinelib
from splinelib.partition import Partition, Slice2D, compute_partition
from splinelib.pruning import remove_units, select_units
from splinestudy.analysis import toy
from splinestudy.data import Calibration
from splinestudy.runs.methods import METHODS, make_criterion

from .inputs import script_files
from .layout import BOOK, Layout, is_current
from .scripts import one_piece

SOURCE = BOOK.source / "_playground"
HIDDEN = (16, 16)
SEED = 4
# Most happens at the start, so looks lie close together there.
EPOCHS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 50, 65, 80, 100)
CRITERIA = ("spline", "spline_geometric", "l1", "fpgm", "random")
DECIMALS = 4
"""Of the weights on the page. Everything is computed from the rounded ones, here as there."""

Weights = list[dict[str, Any]]


@cache
def problem() -> tuple[toy.Points, toy.Points]:
    """Training and test points of the paper's toy."""
    return toy.x_problem(toy.ToySettings(), SEED)


@cache
def trained() -> tuple[nn.Sequential, ...]:
    """The network after each of :data:`EPOCHS`, float64, with rounded weights. The same on every call."""
    points, _ = problem()
    inputs, labels = torch.from_numpy(points.inputs), torch.from_numpy(points.labels)
    generator = torch.Generator().manual_seed(SEED)
    model = network(HIDDEN, generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    kept = [rounded(model)]
    for epoch in range(1, EPOCHS[-1] + 1):
        for batch in torch.randperm(len(labels), generator=generator).split(256):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
        if epoch in EPOCHS:
            kept.append(rounded(model))
    return tuple(kept)


def network(hidden: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """A ReLU network from the plane to two scores, float64, with He-uniform weights and biases from -1 to 1."""
    modules: list[nn.Module] = []
    for wide, narrow in zip((2, *hidden), (*hidden, 2), strict=True):
        layer = nn.Linear(wide, narrow).double()
        bound = (6 / wide) ** 0.5
        layer.weight.data.uniform_(-bound, bound, generator=generator)
        layer.bias.data.uniform_(-1, 1, generator=generator)
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1]).eval()


def rounded(model: nn.Sequential) -> nn.Sequential:
    """A copy with its weights rounded to :data:`DECIMALS`."""
    copy = nn.Sequential(*[nn.Linear(m.in_features, m.out_features).double() if isinstance(m, nn.Linear) else m
                           for m in model])  # fmt: skip
    copy.load_state_dict({name: value.round(decimals=DECIMALS) for name, value in model.state_dict().items()})
    return copy.eval()


def weights(model: nn.Sequential) -> Weights:
    """The layers as the page's script reads them."""
    return [
        {"weight": layer.weight.tolist(), "bias": layer.bias.tolist()}
        for layer in model
        if isinstance(layer, nn.Linear)
    ]


def falling(model: nn.Sequential, criterion: str) -> list[list[int]]:
    """For each hidden layer its units in the order in which they fall."""
    points, _ = problem()
    data = Calibration(torch.from_numpy(points.inputs), torch.from_numpy(points.labels))
    layers = splinelib.read_layers(model, data.images[:1])
    scores: list[Tensor] = make_criterion(criterion, SEED, data)(model, layers)
    return [score.argsort(stable=True).tolist() for score in scores]


def contents() -> dict[str, Any]:
    """All that the script needs: networks by epoch, orders of falling, test points."""
    _, test = problem()
    orders = {
        name: {"label": METHODS[name].label, "orders": [falling(model, name) for model in trained()]}
        for name in CRITERIA
    }
    return {
        "square": list(toy.DOMAIN[0]),
        "epochs": EPOCHS,
        "networks": [weights(model) for model in trained()],
        "criteria": orders,
        "points": np.round(test.inputs, DECIMALS).tolist(),
        "labels": test.labels.tolist(),
    }


def page() -> str:
    """The playground as HTML: style, controls, data and script in one piece that loads nothing."""
    return one_piece(SOURCE / "page.html", ("partition.mjs", "page.mjs"), contents())


def panels() -> dict[str, Partition]:
    """What the still picture shows: the trained network, and two ways of removing half of each layer."""
    model, example = trained()[-1], torch.zeros(1, 2, dtype=torch.float64)
    layers = splinelib.read_layers(model, example)
    found = {"whole": exact(model)}
    for name in ("spline", "l1"):
        scores = make_criterion(name, SEED, Calibration(example, torch.zeros(1)))(model, layers)
        found[METHODS[name].label] = exact(remove_units(model, example, select_units(layers, scores, 0.5)))
    return found


def exact(model: nn.Module) -> Partition:
    """The partition of the toy's square with its decision boundary."""
    return compute_partition(model, Slice2D.axis_aligned(toy.DOMAIN), boundary=True, threads=1)


def draw_still(path: Path) -> None:
    """Draw the picture that stands in the playground's place on paper."""
    from matplotlib.figure import Figure

    from splinestudy.plots.partition import draw_partition

    figure = Figure(figsize=(9.0, 3.4), layout="constrained", facecolor="white")
    for axes, (name, partition) in zip(figure.subplots(1, 3), panels().items(), strict=True):
        title = "the whole network" if name == "whole" else f"half removed by {name}"
        draw_partition(axes, partition, f"{title}:\n{len(partition)} regions")
    figure.savefig(path, dpi=150, metadata={"Software": None})


def write_playground(layout: Layout) -> None:
    """Write the HTML and the still picture into the book, unless both are newer than what they are made by."""
    made = [layout.results / f"playground.{ending}" for ending in ("html", "png")]
    if is_current(made, [*script_files(Path(__file__)), *SOURCE.iterdir()]):
        return
    layout.results.mkdir(parents=True, exist_ok=True)
    (layout.results / "playground.html").write_text(page())
    draw_still(layout.results / "playground.png")
