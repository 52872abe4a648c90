"""Tables of pruning runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from splinestudy.data.samples import CALIBRATION
from splinestudy.results.training_cost import dense_epochs_before, dense_training_flops, phase_flops
from splinestudy.runs.methods import FRESH
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
_SHARED = ("profile", *_DENSE, "criterion", "ratio", *_MEASURED)


def method_name(settings: Mapping[str, Any]) -> str:
    """One name for what a prune or one-shot record's settings do: the criterion, with what was done beside it.

    For example ``"spline"``, ``"spline + least_squares"``, ``"slimming"`` (batch-norm scale after training with L1 on
    it), ``"ticket initial"`` and ``"ticket early"`` (rewound weights), ``"narrow"`` (new weights in the pruned shape),
    ``"narrow lsuv"`` (a clever start), ``"narrow early"`` and ``"narrow long"`` (more epochs than the dense run, for
    fewer operations than it, as an early ticket, and for more, as a lottery ticket), ``"snip at start"`` (chosen before
    any training), ``"spline early bird"`` and ``"EB Train"`` (drawn by a detector), ``"spline early bird anew"`` (the
    shape of the draw with new weights).
    """
    start, draw = settings.get("start", "trained"), settings.get("draw", "end")
    if start == "fresh":
        return _fresh_name(settings)
    if start != "trained":
        return f"narrow {start}" if start in FRESH else f"ticket {start}"
    if draw == 0:
        return f"{settings['criterion']} at start"
    if (draw, settings["criterion"]) == ("mask", "bn_scale"):
        return "EB Train"
    if draw in ("spline", "mask"):
        return f"{settings['criterion']} early bird"
    name = settings["criterion"]
    if settings["dense"]["train"]["norm_l1"]:
        name = "slimming" if name == "bn_scale" else f"{name} after slimming"
    how = settings.get("compensate", "none")
    return name if how == "none" else f"{name} + {how}"


def _fresh_name(settings: Mapping[str, Any]) -> str:
    if settings.get("draw", "end") in ("spline", "mask"):
        return f"{settings['criterion']} early bird anew"
    epochs, standard = settings["finetune"]["epochs"], settings["dense"]["train"]["epochs"]
    if epochs <= standard:
        return "narrow"
    return "narrow early" if epochs * (1 - settings["ratio"]) ** 2 < standard else "narrow long"


def pruning_table(records: Sequence[Record], scope: str) -> pd.DataFrame:
    """One row for each prune record of ``scope``.

    Columns: profile, dataset, arch, width, images, seed, criterion (see :func:`method_name`), ratio; dense_accuracy,
    pruned_accuracy (before fine-tuning), reestimated_accuracy (with batch norms re-estimated, before fine-tuning; NaN
    in records that lack it), best_accuracy (of these two the one that a user gets without training: as it is after
    least squares, which sets batch-norm statistics itself, else re-estimated), accuracy (after), all in [0, 1];
    parameters and flops as shares of the dense network's; training, the operations of all phases behind it
    (:func:`phase_flops`) as a share of the dense training's; dense_epochs before the units were chosen; seconds.
    """
    rows = []
    for record in records:
        if record.settings["scope"] == scope:
            own = {
                "accuracy": record.results["accuracy"],
                "training": _training(record),
                "dense_epochs": dense_epochs_before(record),
            }
            rows.append(_shared(record) | own | {"seconds": record.provenance["seconds"]})
    return _sorted(rows, ("accuracy", "training", "dense_epochs", "seconds"))


def one_shot_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each one-shot record: the columns of :func:`pruning_table` but accuracy, and three of its own.

    They are scope, ratio_of and calibration (how many images were asked for).
    ``seconds`` are those of choosing, removing and compensating.
    """
    rows = []
    for record in records:
        row = _shared(record)
        what = {
            "scope": record.settings["scope"],
            "ratio_of": record.settings.get("ratio_of", "units"),
            "calibration": record.settings.get("images", CALIBRATION),
        }
        rows.append(row | what | {"seconds": record.results["seconds"]})
    return _sorted(rows, ("scope", "ratio_of", "calibration", "seconds"))


def sensitivity_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each seed, criterion and layer cut alone.

    Columns: seed, criterion, layer, position (from 1), accuracy, dense_accuracy, norm_rank (mean rank of the cut units
    by folded norm, 0 the smallest, 1 the largest).
    """
    rows = [
        {
            "seed": record.settings["dense"]["seed"],
            "criterion": criterion,
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
    columns = ["seed", "criterion", "layer", "position", "accuracy", "dense_accuracy", "norm_rank"]
    return pd.DataFrame(rows, columns=columns)


STARTS = ("spline", "spline retrained", "l1", "l1 retrained", "ticket initial", "ticket early")
"""Beginnings of a narrow network that come from the trained dense one; all others are called ``narrow …``."""

AGAIN = " retrained"
"""Behind the name of a method whose network is retrained at the full rate, where others fine-tune."""


def starts_table(records: Sequence[Record]) -> pd.DataFrame:
    """The columns of :func:`pruning_table` for layerwise networks by how they begin: ``narrow …`` and :data:`STARTS`.

    A network pruned at the end and trained at the dense run's full rate again is ``"… retrained"``, beside the one that
    was fine-tuned at a lower rate. Networks drawn before the end are left out.
    """
    shown = [record for record in records if is_start(record)]
    parts = []
    for again in (False, True):
        table = pruning_table([record for record in shown if is_retrained(record) == again], "layerwise")
        parts.append(table.assign(criterion=table["criterion"] + AGAIN * again))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def is_start(record: Record) -> bool:
    """Whether :func:`starts_table` shows the record."""
    settings = record.settings
    name = method_name(settings) + AGAIN * is_retrained(record)
    whole = settings["scope"] == "layerwise" and settings.get("draw", "end") == "end"
    return whole and (name in STARTS or name.startswith("narrow"))


def is_retrained(record: Record) -> bool:
    """Whether a network that keeps its trained weights is trained on at the dense run's full rate."""
    settings = record.settings
    trained = settings.get("start", "trained") == "trained"
    return trained and settings["finetune"]["lr"] == settings["dense"]["train"]["lr"]


def _sorted(rows: list[dict[str, Any]], own: tuple[str, ...]) -> pd.DataFrame:
    """The rows in order, with all columns also where there are none."""
    table = pd.DataFrame(rows, columns=[*_SHARED, *own])
    return table.sort_values(["ratio", "criterion", "seed"], ignore_index=True)


def _training(record: Record) -> float:
    """Operations of all phases behind a pruned network as a share of the dense network's training."""
    return sum(phase_flops(record).values()) / dense_training_flops(record)


def _shared(record: Record) -> dict[str, Any]:
    settings, results = record.settings, record.results
    solved = settings.get("compensate") == "least_squares"
    return {
        "profile": record.provenance["profile"],
        **{name: settings["dense"][name] for name in _DENSE},
        "criterion": method_name(settings),
        "ratio": settings["ratio"],
        "dense_accuracy": results["dense_accuracy"],
        "pruned_accuracy": results["pruned_accuracy"],
        "reestimated_accuracy": results.get("reestimated_accuracy", np.nan),
        "best_accuracy": results.get("pruned_accuracy" if solved else "reestimated_accuracy", np.nan),
        "parameters": results["cost"]["parameters"] / results["dense_cost"]["parameters"],
        "flops": results["cost"]["flops"] / results["dense_cost"]["flops"],
    }


def width_table(records: Sequence[Record], scope: str) -> pd.DataFrame:
    """One row for each layer of each prune record: criterion, ratio, seed, layer, position, kept (share)."""
    columns = ["criterion", "ratio", "seed", "layer", "position", "kept"]
    return pd.DataFrame([row for record in records for row in _kept(record, scope)], columns=columns)


def _kept(record: Record, scope: str) -> Iterator[dict[str, Any]]:
    if record.settings["scope"] != scope:
        return
    for position, (layer, kept) in enumerate(record.results["widths"].items(), start=1):
        yield {
            "criterion": method_name(record.settings),
            "ratio": record.settings["ratio"],
            "seed": record.settings["dense"]["seed"],
            "layer": layer,
            "position": position,
            "kept": kept / record.results["dense_widths"][layer],
        }
