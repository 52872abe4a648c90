"""Tables of pruning runs."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from splinestudy.data.samples import CALIBRATION
from splinestudy.results.names import profile_of
from splinestudy.results.training_cost import dense_epochs_before, dense_training_flops, phase_flops
from splinestudy.results.ways import SPLINE, Way, way_of
from splinestudy.runs.records import Record

_DENSE = ("dataset", "arch", "width", "images", "seed")
_MEASURED = (
    "dense_accuracy",
    "pruned_accuracy",
    "reestimated_accuracy",
    "best_accuracy",
    "parameters",
    "flops",
)
_WAY = tuple(field.name for field in dataclasses.fields(Way))
_SHARED = ("profile", *_DENSE, "norm_l1", "way", *_WAY, "ratio", *_MEASURED)
_STARTS = (SPLINE, Way("l1"))


def pruning_table(records: Sequence[Record], scope: str) -> pd.DataFrame:
    """One row for each prune record of ``scope``.

    Columns: profile, dataset, arch, width, images, seed, norm_l1 (of the dense training); way, the :class:`.Way`
    without epoch, full rate and scope (:meth:`.Way.alone`), and each of its fields in full: method, compensate, draw,
    anew, slimmed, retrained, normalize, allocation, scope; ratio; dense_accuracy, pruned_accuracy (before
    fine-tuning), reestimated_accuracy (with batch norms re-estimated, before fine-tuning; NaN in records that lack
    it), best_accuracy (of these two the one that a user gets without training: as it is after least squares, which
    sets batch-norm statistics itself, else re-estimated), accuracy (after), all in [0, 1]; parameters and flops as
    shares of the dense network's; training, the operations of all phases behind it (:func:`phase_flops`) as a share
    of the dense training's; dense_epochs before the units were chosen; seconds.
    """
    table = whole_table([record for record in records if record.settings["scope"] == scope])
    return _sorted(table.assign(way=[way.alone() for way in table["way"]]))


def whole_table(records: Sequence[Record]) -> pd.DataFrame:
    """The columns of :func:`pruning_table` for records of both scopes, with all that :class:`.Way` tells apart."""
    own = ("accuracy", "training", "dense_epochs", "seconds")
    rows = [
        {
            **_shared(record),
            "accuracy": record.results["accuracy"],
            "training": _training(record),
            "dense_epochs": dense_epochs_before(record),
            "seconds": record.provenance["seconds"],
        }
        for record in records
    ]
    return _sorted(pd.DataFrame(rows, columns=[*_SHARED, *own]))


def one_shot_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each one-shot record: the columns of :func:`pruning_table` but those of training, and two of its own.

    They are ratio_of and calibration (how many images were asked for). ``way`` leaves out the scope, and ``seconds``
    are those of choosing, removing and compensating.
    """
    own = ("ratio_of", "calibration", "seconds")
    rows = [
        {
            **_shared(record),
            "way": way_of(record.settings).alone(),
            "ratio_of": record.settings.get("ratio_of", "units"),
            "calibration": record.settings.get("images", CALIBRATION),
            "seconds": record.results["seconds"],
        }
        for record in records
    ]
    return _sorted(pd.DataFrame(rows, columns=[*_SHARED, *own]))


def sensitivity_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each seed, criterion and layer cut alone.

    Columns: seed, way, layer, position (from 1), accuracy, dense_accuracy, norm_rank (mean rank of the cut units
    by folded norm, 0 the smallest, 1 the largest).
    """
    rows = [
        {
            "seed": record.settings["dense"]["seed"],
            "way": Way(criterion),
            "layer": layer,
            "position": position,
            "accuracy": accuracy,
            "dense_accuracy": record.results["dense_accuracy"],
            "norm_rank": record.results["norm_rank"][criterion][layer],
        }
        for record in records
        for criterion, layers in record.results["accuracy"].items()
        for position, (layer, accuracy) in enumerate(layers.items(), start=1)
    ]
    columns = ["seed", "way", "layer", "position", "accuracy", "dense_accuracy", "norm_rank"]
    return pd.DataFrame(rows, columns=columns)


def starts_table(records: Sequence[Record]) -> pd.DataFrame:
    """The columns of :func:`whole_table` for networks by how they begin: those of :func:`is_start`."""
    return whole_table([record for record in records if is_start(record)])


def is_start(record: Record) -> bool:
    """Whether :func:`starts_table` shows the record.

    It shows narrow networks whose weights are new or rewound, and those that were pruned by the spline criterion or by
    the L1 norm, fine-tuned or retrained at the full rate; all of them layerwise, and drawn at the end.
    """
    way = way_of(record.settings)
    end = way.draw == "end" and way.scope == "layerwise"
    return end and (way.row.start is not None or way.alone() in _STARTS)


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["ratio", "way", "seed"], ignore_index=True)


def _training(record: Record) -> float:
    """Operations of all phases behind a pruned network as a share of the dense network's training."""
    return sum(phase_flops(record).values()) / dense_training_flops(record)


def _shared(record: Record) -> dict[str, Any]:
    settings, results, way = record.settings, record.results, way_of(record.settings)
    solved = settings.get("compensate") == "least_squares"
    return {
        "profile": profile_of(record),
        **{name: settings["dense"][name] for name in _DENSE},
        "norm_l1": settings["dense"]["train"]["norm_l1"],
        "way": way,
        **dataclasses.asdict(way),
        "ratio": settings["ratio"],
        "dense_accuracy": results["dense_accuracy"],
        "pruned_accuracy": results["pruned_accuracy"],
        "reestimated_accuracy": results.get("reestimated_accuracy", np.nan),
        "best_accuracy": results.get("pruned_accuracy" if solved else "reestimated_accuracy", np.nan),
        "parameters": results["cost"]["parameters"] / results["dense_cost"]["parameters"],
        "flops": results["cost"]["flops"] / results["dense_cost"]["flops"],
    }


def width_table(records: Sequence[Record], scope: str) -> pd.DataFrame:
    """One row for each layer of each prune record: way (:meth:`.Way.alone`), ratio, seed, layer, position, kept."""
    columns = ["way", "ratio", "seed", "layer", "position", "kept"]
    return pd.DataFrame([row for record in records for row in _kept(record, scope)], columns=columns)


def _kept(record: Record, scope: str) -> Iterator[dict[str, Any]]:
    if record.settings["scope"] != scope:
        return
    for position, (layer, kept) in enumerate(record.results["widths"].items(), start=1):
        yield {
            "way": way_of(record.settings).alone(),
            "ratio": record.settings["ratio"],
            "seed": record.settings["dense"]["seed"],
            "layer": layer,
            "position": position,
            "kept": kept / record.results["dense_widths"][layer],
        }
