"""The pilot: variants of a training recipe, of which the study's protocol takes one before the study begins."""

import dataclasses
from typing import Any

from splinestudy.runs.dense import DenseRun
from splinestudy.runs.profiles import Profile, dense_runs
from splinestudy.runs.prune import PruneRun

VARIANTS: dict[str, dict[str, Any]] = {
    "lr 0.2, labels smoothed": {},
    "lr 0.1, labels smoothed": {"lr": 0.1},
    "lr 0.2": {"label_smoothing": 0.0},
    "lr 0.1": {"lr": 0.1, "label_smoothing": 0.0},
    "lr 0.2, labels smoothed, 40 epochs": {"epochs": 40},
}
"""Changes of the recipe: its highest learning rate, smoothed labels, and a schedule of twice the length."""

FINETUNED = ("spline", "l1")
"""Criteria by whose networks the length of fine-tuning is found."""

LENGTHS = (4, 8, 12)
"""Epochs of fine-tuning that are tried."""


def pilot_runs(profile: Profile) -> list[DenseRun | PruneRun]:
    """Dense runs variant by variant; then networks of the first, pruned and fine-tuned for several lengths."""
    dense = dense_runs(profile)
    trained = [
        dataclasses.replace(run, train=dataclasses.replace(run.train, **changes))
        for changes in VARIANTS.values()
        for run in dense
    ]
    tuned = [
        PruneRun(
            run,
            criterion,
            "layerwise",
            ratio,
            dataclasses.replace(run.train, epochs=epochs, lr=profile.finetune_lr),
        )
        for epochs in LENGTHS
        for criterion in FINETUNED
        for ratio in profile.ratios
        for run in dense
    ]
    return list(dict.fromkeys([*trained, *tuned]))  # a profile may have a variant's settings itself
