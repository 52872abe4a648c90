"""The toy's study: what pruning and retraining do, over many runs, as rows of a table and as a record."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np
import pandas as pd
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
from splinestudy.runs.records import Record, RecordStore, provenance

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class ToyRun:
    """The whole toy study: its settings, and the seed of points, weights and order."""

    kind: ClassVar[str] = "toy"
    settings: ToySettings
    seed: int = 0


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


def execute_toy(run: ToyRun) -> dict[str, Rows]:
    """Everything the study measures, as JSON values: rows ``dense``, ``pruning`` and ``retraining``."""
    train, test = x_problem(run.settings, run.seed)
    original = new_nets(run.settings, seed=run.seed)
    dense, _ = train_nets(original, train, run.settings, run.seed)
    return {
        "dense": dense_rows(dense, test),
        "pruning": pruning_rows(dense, run.settings),
        "retraining": retraining_rows(dense, original, train, test, run.settings),
    }


def toy_record(run: ToyRun, store: RecordStore, profile: str) -> Record:
    """The study's record: found in ``store``, or computed now and kept there."""
    found = store.load(run)
    if found is not None:
        return found
    started, clock = datetime.now(UTC), time.perf_counter()
    results = execute_toy(run)
    seconds, finished = time.perf_counter() - clock, datetime.now(UTC)
    where = provenance(
        profile,
        torch.device("cpu"),
        started.isoformat(timespec="seconds"),
        finished.isoformat(timespec="seconds"),
        seconds,
    )
    return store.save(run, results, where)


def pruning_claim(rows: Rows, source: str) -> dict[str, str]:
    """Claim C2 in the toy: what node and weight pruning do to boundaries at a low and at the largest ratio."""
    table = pd.DataFrame(rows)
    ratios = sorted(table["ratio"].unique())
    parts = []
    for ratio in dict.fromkeys((ratios[len(ratios) // 3], ratios[-1])):
        for kind in KINDS:
            chosen = table[(table["ratio"] == ratio) & (table["kind"] == kind)]
            gone, turned = 100 * chosen["vanished"].mean(), 100 * chosen["axis_parallel"].astype(float).mean()
            parts.append(
                f"{kind} {ratio:.0%}: {gone:.0f} % of boundaries vanish, {turned:.0f} % of length is parallel"
            )
    return {
        "claim": "C2",
        "paper": "pruning can be pinpointed on the partition",
        "records": f"{source}, {table['run'].nunique()} runs",
        "ours": "; ".join(parts),
    }
