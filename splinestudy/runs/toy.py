"""The toy's study: what pruning and retraining do, over many runs, as one record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from splinelib.partition.measures import axis_parallel_share, compare, share_of_units_touching
from splinestudy.analysis.toy import (
    INITS,
    KINDS,
    Nets,
    Points,
    ToySettings,
    accuracy,
    new_nets,
    pruned,
    reinitialised,
    toy_partition,
    train_nets,
    x_problem,
)
from splinestudy.runs.run import Run
from splinestudy.runs.store import RecordStore

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class ToyRun:
    """The whole toy study: its settings, and the seed of points, weights and order."""

    kind: ClassVar[str] = "toy"
    settings: ToySettings
    seed: int = 0

    def needs(self, store: RecordStore) -> Sequence[Run]:
        """Nothing."""
        return ()

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """Everything the study measures: rows ``dense``, ``pruning`` and ``retraining``."""
        train, test = x_problem(self.settings, self.seed)
        original = new_nets(self.settings, seed=self.seed)
        dense, _ = train_nets(original, train, self.settings, self.seed)
        return {
            "dense": dense_rows(dense, test),
            "pruning": pruning_rows(dense, self.settings),
            "retraining": retraining_rows(dense, original, train, test, self.settings),
        }


def pruning_rows(dense: Nets, settings: ToySettings) -> Rows:
    """What each kind of pruning does to the partition of each run, before any retraining: one row for each."""
    before = [toy_partition(dense, run) for run in range(settings.runs)]
    rows = []
    for kind in KINDS:
        for ratio in settings.ratios:
            nets = pruned(dense, kind, ratio)
            for run in range(settings.runs):
                after = toy_partition(nets, run)
                change = compare(before[run], after)
                present = max(int((change.length_before > 0).sum()), 1)
                row: dict[str, Any] = {"kind": kind, "ratio": ratio, "run": run}
                row |= {"regions": change.regions[1], "regions_before": change.regions[0]}
                row |= {"length_kept": change.length_kept, "vanished": len(change.vanished) / present}
                parallel = axis_parallel_share(after)
                row["axis_parallel"] = None if np.isnan(parallel) else parallel
                rows.append(row | {"touching": share_of_units_touching(after)})
    return rows


def retraining_rows(dense: Nets, original: Nets, train: Points, test: Points, settings: ToySettings) -> Rows:
    """Test accuracy and regions after pruning and retraining from each initialisation: one row for each run."""
    rows = []
    for kind in KINDS:
        for ratio in settings.ratios:
            masks = pruned(dense, kind, ratio)
            for init in INITS:
                nets, _ = train_nets(reinitialised(masks, init, original, settings), train, settings, seed=1)
                for run, score in enumerate(accuracy(nets, test)):
                    row = {"kind": kind, "ratio": ratio, "init": init, "run": run, "accuracy": float(score)}
                    rows.append(row | {"regions": len(toy_partition(nets, run))})
    return rows


def dense_rows(dense: Nets, test: Points) -> Rows:
    """Accuracy, regions and share of units that touch the decision boundary, for each trained network."""
    parts = [toy_partition(dense, run) for run in range(len(dense))]
    shares = [share_of_units_touching(part) for part in parts]
    return [
        {"run": run, "accuracy": float(score), "regions": len(part), "touching": share}
        for run, (score, part, share) in enumerate(zip(accuracy(dense, test), parts, shares, strict=True))
    ]
