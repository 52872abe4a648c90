"""The pilot: what the study's protocol takes from networks that the study does not use, before the study begins."""

import dataclasses
from typing import Any

from splinestudy.runs.dense import DenseRun, dense_runs
from splinestudy.runs.profiles import Profile
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.run import Run

VARIANTS: dict[str, dict[str, Any]] = {
    "lr 0.1": {},
    "lr 0.1, labels smoothed": {"label_smoothing": 0.1},
    "lr 0.2": {"lr": 0.2},
    "lr 0.2, labels smoothed": {"lr": 0.2, "label_smoothing": 0.1},
    "lr 0.1, 40 epochs": {"epochs": 40},
}
"""Changes of the recipe: its highest learning rate, smoothed labels, and a schedule of twice the length."""

LENGTHS = (4, 8, 12)
"""Epochs of fine-tuning that are tried."""

TRIED = ("spline", "spline geometric rho=0.2", "spline unfolded", "spline_groups")
"""Readings of the paper's criterion, the first of which is the one that the claim is judged for."""

ORDERS = (0, 1, 2)
"""Orders of the images in fine-tuning, to split the variance."""


def pilot_runs(profile: Profile) -> list[Run]:
    """Variants of the recipe with the first seed, lengths of fine-tuning; readings and orders with all seeds."""
    first, *_ = dense = dense_runs(profile)
    variants = [_changed(first, name) for name in VARIANTS]
    lengths = [
        _tuned(profile, run, criterion, epochs, 0)
        for epochs in LENGTHS
        for criterion in ("spline", "l1")
        for run in dense[:1]
    ]
    readings = [
        _tuned(profile, run, criterion, profile.finetune_epochs, 0) for run in dense for criterion in TRIED
    ]
    orders = [
        _tuned(profile, run, criterion, profile.finetune_epochs, order)
        for run in dense
        for order in ORDERS
        for criterion in ("spline", "l1")
    ]
    return list(dict.fromkeys([*variants[:-1], *lengths, *dense, *readings, *orders, variants[-1]]))


def _changed(run: DenseRun, name: str) -> DenseRun:
    return dataclasses.replace(run, train=dataclasses.replace(run.train, **VARIANTS[name]))


def _tuned(profile: Profile, dense: DenseRun, criterion: str, epochs: int, order: int) -> PruneRun:
    finetune = dataclasses.replace(dense.train, epochs=epochs, lr=profile.finetune_lr)
    return PruneRun(dense, criterion, "layerwise", profile.ratios[0], finetune, order=order)
