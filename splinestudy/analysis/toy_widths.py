"""The paper's toy at small widths: which first weights let a few units draw the X-shaped decision boundary."""

import dataclasses
from typing import Any

import numpy as np

from splinelib.errors import SettingError
from splinestudy.analysis.toy import (
    Nets,
    Points,
    ToySettings,
    accuracy,
    new_nets,
    pruned,
    train_nets,
    x_problem,
)

FIRST_WEIGHTS = ("kept", "rewind", "xavier", "normal 0.1", "normal 1", "through data")
"""``kept`` and ``rewind`` start from the pruned large network, with its trained and its first weights."""


def through_data(nets: Nets, points: Points, seed: int) -> Nets:
    """The same networks with each hidden unit's boundary moved through a training point, drawn with the seed.

    Only the biases of the hidden layer change: ``b = -w · x``.
    """
    generator = np.random.default_rng((5, seed))
    chosen = points.inputs[generator.integers(len(points.labels), size=nets.bias1.shape)]
    return dataclasses.replace(nets, bias1=-(nets.weight1 * chosen).sum(axis=2))


def small_nets(
    start: str, width: int, settings: ToySettings, large: tuple[Nets, Nets], points: Points
) -> Nets:
    """Networks of ``width`` hidden units before their training.

    Args:
        start: one of :data:`FIRST_WEIGHTS`. ``kept`` and ``rewind`` take the ``width`` units of the large networks
            with the largest rows; ``through data`` takes Xavier's weights and moves the boundaries.
        large: the large networks before and after training, of ``settings.hidden`` units.
        points: training points.
    """
    if start not in FIRST_WEIGHTS:
        raise SettingError(f"start is {start!r}: choose one of {', '.join(FIRST_WEIGHTS)}")
    if not 1 <= width <= settings.hidden:
        raise SettingError(f"width is {width}: give 1 to {settings.hidden}, the width of the large networks")
    if start in ("kept", "rewind"):
        first, trained = large
        masked = pruned(trained, "node", 1 - width / settings.hidden)
        return masked if start == "kept" else first.masked(masked.mask)
    fresh = new_nets(
        dataclasses.replace(settings, hidden=width), "xavier" if start == "through data" else start, seed=1
    )
    return through_data(fresh, points, seed=1) if start == "through data" else fresh


def width_rows(widths: tuple[int, ...], settings: ToySettings, seed: int = 0) -> list[dict[str, Any]]:
    """Train small networks of every width from every start: one row for each run, with its test accuracy.

    The networks of ``kept`` have trained ``settings.epochs`` epochs more than the others, as part of the large ones.
    The first rows, of start ``large``, are the large networks themselves.
    """
    training, test = x_problem(settings, seed)
    first = new_nets(settings, seed=seed)
    trained, _ = train_nets(first, training, settings, seed)
    rows = [
        {"start": "large", "width": settings.hidden, "run": run, "accuracy": float(score)}
        for run, score in enumerate(accuracy(trained, test))
    ]
    for width in widths:
        for start in FIRST_WEIGHTS:
            nets = small_nets(start, width, settings, (first, trained), training)
            done, _ = train_nets(nets, training, settings, seed=1)
            rows += [
                {"start": start, "width": width, "run": run, "accuracy": float(score)}
                for run, score in enumerate(accuracy(done, test))
            ]
    return rows


def example_nets(width: int, settings: ToySettings, seed: int = 0) -> dict[str, Nets]:
    """The large networks (``large``) and the trained small ones of ``width`` units from every start, for pictures."""
    training, _ = x_problem(settings, seed)
    first = new_nets(settings, seed=seed)
    trained, _ = train_nets(first, training, settings, seed)
    examples = {"large": trained}
    for start in FIRST_WEIGHTS:
        nets = small_nets(start, width, settings, (first, trained), training)
        examples[start] = train_nets(nets, training, settings, seed=1)[0]
    return examples
