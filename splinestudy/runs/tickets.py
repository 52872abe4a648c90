"""Early birds and tickets: cut at a moment of the dense training, by a detector or by the clock, and trained on."""

import dataclasses

from splinelib.pruning.selection import Scope
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.prune import Draw, PruneRun

MOMENTS = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)
"""When tickets are drawn to see whether an early one loses anything, as shares of the dense schedule."""

TICKETS = ("spline", "random")
"""Criteria of those tickets: the paper's, and a control that knows nothing of the moment."""


def early_birds(
    dense: list[DenseRun], draw: Draw, criterion: str, ratio: float, scope: Scope
) -> list[PruneRun]:
    """Cut where the detector drew, and on with the small network to the end of the schedule."""
    return [
        PruneRun(
            run,
            criterion,
            scope,
            ratio,
            dataclasses.replace(run.train, norm_l1=0.0),
            draw=draw,
            onward=True,
        )
        for run in dense
    ]


def birds(dense: list[DenseRun], slim: list[DenseRun], ratio: float) -> list[PruneRun]:
    """The early birds of both detectors: the partition's, and EB Train's on networks with its L1 on the scales."""
    scopes: tuple[Scope, ...] = ("layerwise", "global")
    return [
        bird
        for scope in scopes
        for bird in (
            *early_birds(dense, "spline", "spline", ratio, scope),
            *early_birds(slim, "mask", "bn_scale", ratio, scope),
        )
    ]


def tickets(
    dense: list[DenseRun],
    ratios: tuple[float, ...],
    criteria: tuple[str, ...] = TICKETS,
    moments: tuple[float, ...] = MOMENTS,
) -> list[PruneRun]:
    """Seed by seed; each ticket is trained for half of the dense schedule, wherever it was drawn."""
    return [
        _ticket(run, criterion, ratio, draw)
        for criterion in criteria
        for ratio in ratios
        for run in dense
        for draw in sorted({epoch_at(share, run.train.epochs) for share in moments})
    ]


def detected_ticket(run: DenseRun, ratio: float) -> PruneRun:
    """The spline ticket drawn by the partition's detector, trained as long as :func:`tickets` are."""
    return _ticket(run, "spline", ratio, "spline")


def _ticket(run: DenseRun, criterion: str, ratio: float, draw: Draw) -> PruneRun:
    epochs = run.train.epochs
    finetune = dataclasses.replace(run.train, epochs=epoch_at(1 / 2, epochs))
    return PruneRun(run, criterion, "layerwise", ratio, finetune, draw="end" if draw == epochs else draw)


def epoch_at(share: float, epochs: int) -> int:
    """The epoch, from 1 on, after that share of a schedule."""
    return max(1, round(share * epochs))
