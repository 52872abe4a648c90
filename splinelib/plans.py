"""Which runs make up a sweep: dense runs, and what is pruned from them. All lists in one readable place."""

import dataclasses
from typing import Any

from splinelib.errors import SettingError
from splinelib.methods import ABLATIONS
from splinelib.profiles import Profile, dense_runs
from splinelib.pruning import Compensate
from splinelib.runs import DenseRun, OneShotRun, PruneRun, Run
from splinelib.training import TrainSettings

SWEEPS = (
    "early_bird",
    "layerwise",
    "global",
    "methods",
    "methods_global",
    "scratch",
    "one_shot",
    "compensation",
    "ablation",
)

COMPENSATED = ("spline", "l1", "random", "thinet", "reconstruction")
"""Criteria that are compared with compensation as well."""

SLIMMING_L1 = 1e-4
"""L1 on batch-norm scales with which network slimming trains [code, eb]."""


def plan(sweep: str, profile: Profile) -> list[Run]:
    """The runs of a sweep, dense runs first.

    * ``early_bird``: dense runs alone.
    * ``layerwise``, ``global``: the profile's criteria; prune, measure, fine-tune.
    * ``methods``, ``methods_global``: the profile's criteria, those of them in :data:`COMPENSATED` with least squares,
      the spline criterion with merging, network slimming, and layerwise also Model Folding and soft filter pruning.
    * ``scratch``: the pruned shape trained from the initial, the early, and from new weights, on the dense schedule.
    * ``one_shot``, ``compensation``, ``ablation``: no training, at the profile's ``curve`` of ratios; its criteria and
      Model Folding, those in :data:`COMPENSATED` with either compensation, variants of the spline criterion.

    Raises :class:`SettingError` for another name.
    """
    if sweep not in SWEEPS:
        raise SettingError(f"sweep is {sweep!r}: choose one of {', '.join(SWEEPS)}")
    dense = dense_runs(profile)
    if sweep == "early_bird":
        return [*dense]
    if sweep in ("layerwise", "global"):
        return [*dense, *_tuned(profile, dense, {"scope": sweep}, profile.criteria)]
    if sweep in ("methods", "methods_global"):
        return _methods(profile, dense, "layerwise" if sweep == "methods" else "global")
    if sweep == "scratch":
        return [*dense, *_scratch(profile, dense)]
    return [*dense, *_untrained(sweep, profile, dense)]


def slimming_runs(profile: Profile) -> list[DenseRun]:
    """The dense runs once more, trained with network slimming's L1 on the batch-norm scales."""
    runs = dense_runs(profile)
    return [dataclasses.replace(r, train=dataclasses.replace(r.train, norm_l1=SLIMMING_L1)) for r in runs]


def _finetuning(profile: Profile, dense: DenseRun) -> TrainSettings:
    return dataclasses.replace(
        dense.train, epochs=profile.finetune_epochs, lr=profile.finetune_lr, norm_l1=0.0
    )


def _tuned(
    profile: Profile, dense: list[DenseRun], settings: dict[str, Any], criteria: tuple[str, ...]
) -> list[PruneRun]:
    """Pruned and fine-tuned, seed by seed, so that a sweep cut short has whole seeds."""
    return [
        PruneRun(dense=run, criterion=criterion, ratio=ratio, finetune=_finetuning(profile, run), **settings)
        for run in dense
        for ratio in profile.ratios
        for criterion in criteria
    ]


def _methods(profile: Profile, dense: list[DenseRun], scope: str) -> list[Run]:
    """Ratio by ratio, the middle one first, so that a study cut short compares all methods somewhere."""
    slim = slimming_runs(profile)
    middle = profile.ratios[len(profile.ratios) // 2]
    runs: list[Run] = [*dense, *slim]
    for ratio in sorted(profile.ratios, key=lambda ratio: abs(ratio - middle)):
        part = dataclasses.replace(profile, ratios=(ratio,))
        runs += _tuned(part, dense, {"scope": scope}, profile.criteria)
        runs += _tuned(part, slim, {"scope": scope}, ("bn_scale",))
        runs += _tuned(part, dense, {"scope": scope, "compensate": "least_squares"}, _compensated(profile))
        runs += _tuned(part, dense, {"scope": scope, "compensate": "merge"}, ("spline",))
        if scope == "layerwise":
            runs += _tuned(part, dense, {"scope": scope}, ("folding", "sfp"))
    return runs


def _scratch(profile: Profile, dense: list[DenseRun]) -> list[PruneRun]:
    """Lottery tickets (rewound to initial or early weights) and the narrower network, on the dense run's schedule."""
    return [
        PruneRun(run, "random" if start == "fresh" else "l1", "layerwise", ratio, run.train, start=start)
        for ratio in profile.ratios
        for run in dense
        for start in ("initial", "early", "fresh")
    ]


def _compensated(profile: Profile) -> tuple[str, ...]:
    return tuple(name for name in profile.criteria if name in COMPENSATED)


def _untrained(sweep: str, profile: Profile, dense: list[DenseRun]) -> list[OneShotRun]:
    """Ratio by ratio, the two middle ones first; at each, seed by seed."""
    methods: list[tuple[str, Compensate]]
    if sweep == "one_shot":
        methods = [(name, "none") for name in (*profile.criteria, "folding")]
    elif sweep == "ablation":
        methods = [(name, "none") for name in ("spline", "spline_geometric", *ABLATIONS)]
    else:
        methods = [(name, "least_squares") for name in _compensated(profile)]
        methods += [(name, "merge") for name in _compensated(profile)]
    return [
        OneShotRun(run, name, "layerwise", ratio, how)
        for ratio in sorted(profile.curve, key=lambda ratio: abs(ratio - 0.4))
        for run in dense
        for name, how in methods
    ]
