"""Profiles, and what they plan."""

import dataclasses
import json

import pytest
from tiny_runs import tiny_plan

from splinelib.errors import SettingError
from splinestudy.runs.dense import DenseRun, dense_runs
from splinestudy.runs.methods import METHODS, names_of
from splinestudy.runs.one_shot import OneShotRun, SensitivityRun
from splinestudy.runs.plans import SWEEPS, plan
from splinestudy.runs.profiles import PROFILES, get_profile
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.records import run_key

SCORES, COMPENSATED = len(names_of("score")), sum(row.compensated for row in METHODS.values())
DENSE_0 = tiny_plan()[0]


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("sweep", ["early_bird", "layerwise", "global"])
def test_every_profile_plans_every_sweep(name, sweep):
    profile = get_profile(name)
    planned = plan(sweep, profile)
    dense = [run for run in planned if isinstance(run, DenseRun)]
    assert planned[: len(dense)] == dense == dense_runs(profile)
    assert [run.seed for run in dense] == list(profile.seeds)
    pruned = planned[len(dense) :]
    if sweep == "early_bird":
        assert pruned == []
    else:
        assert [(run.dense.seed, run.ratio, run.criterion) for run in pruned] == [
            (seed, ratio, criterion)
            for seed in profile.seeds
            for ratio in profile.ratios
            for criterion in profile.criteria
        ]
        assert {run.scope for run in pruned} == {sweep}
        assert {(run.finetune.epochs, run.finetune.lr) for run in pruned} == {
            (profile.finetune_epochs, profile.finetune_lr)
        }


@pytest.mark.parametrize("sweep", SWEEPS)
def test_plans_hold_every_run_once_and_dense_runs_first(sweep):
    profile = get_profile("study")
    planned = plan(sweep, profile)
    assert len({run_key(run) for run in planned}) == len(planned)
    json.dumps([dataclasses.asdict(run) for run in planned])
    seen = set()
    for run in planned:
        assert {run.dense} <= seen if isinstance(run, PruneRun | OneShotRun | SensitivityRun) else True
        seen.add(run)
    starts = [getattr(run, "dense", getattr(run, "training", run)) for run in planned]
    assert {run.seed for run in starts if hasattr(run, "seed")} in (set(profile.seeds), {0}, set())


def test_the_study_of_methods_has_every_method_at_every_ratio():
    profile = get_profile("study")
    pruned = [run for run in plan("methods", profile) if not isinstance(run, DenseRun)]
    assert len(pruned) == (SCORES + COMPENSATED + 4) * len(profile.ratios) * len(profile.seeds)
    assert {run.ratio_of for run in pruned} == {"units"}
    assert {run.ratio for run in pruned[: len(pruned) // 3]} == {0.5}
    finetune = dataclasses.replace(dense_runs(profile)[0].train, epochs=2, lr=0.02)
    assert {run.finetune for run in pruned} == {finetune}
    slim = [run for run in pruned if run.dense.train.norm_l1]
    assert {(run.criterion, run.dense.train.norm_l1) for run in slim} == {("bn_scale", 1e-4)}
    starts = [run.start for run in plan("scratch", profile) if not isinstance(run, DenseRun)]
    assert sorted(set(starts)) == ["early", "fresh", "initial"]


def test_compensation_is_compared_in_both_scopes_at_the_same_cuts():
    profile = get_profile("study", seeds=[0])
    runs_of = {name: [run for run in plan(name, profile) if run.kind == "oneshot"] for name in SWEEPS}
    cuts = {(run.ratio, run.ratio_of) for run in runs_of["compensation_global"]}
    assert {ratio for ratio, of in cuts if of == "units"} == {run.ratio for run in runs_of["compensation"]}
    assert {(0.5, "units"), (0.75, "flops"), (0.3, "units"), (0.51, "flops")} <= cuts
    assert {run.compensate for run in runs_of["compensation_global"]} == {"least_squares"}
    assert {run.ratio for run in runs_of["calibration"]} == {0.3, 0.5}
    assert set(runs_of["compensation"]) >= {run for run in runs_of["calibration"] if run.images == 1000}
    with pytest.raises(SettingError, match="images is 1: a calibration batch needs at least 2"):
        OneShotRun(DENSE_0, "spline", "layerwise", 0.5, images=1)
    with pytest.raises(SettingError, match="criteria hold 'folding'"):
        SensitivityRun(DENSE_0, ("folding",), 0.5)
    with pytest.raises(SettingError, match="count units"):
        OneShotRun(DENSE_0, "folding", "layerwise", 0.5, ratio_of="flops")


def test_the_papers_profile_is_the_papers():
    profile = get_profile("paper")
    settings = dense_runs(profile)[0].train
    assert (settings.epochs, settings.batch_size, settings.lr) == (160, 128, 0.1)
    assert (settings.momentum, settings.weight_decay, settings.milestones) == (0.9, 1e-4, (0.5, 0.75))
    assert (profile.canvas_side, profile.width, profile.images) == (100, 1.0, None)
    assert profile.ratios == (0.3, 0.5, 0.7)


def test_overrides_replace_single_fields():
    profile = get_profile(
        "quick", arch="alexnet", seeds=[4], ratios=[0.5, 0.25], width=1, epochs=None, images=0
    )
    assert profile == dataclasses.replace(
        PROFILES["quick"], arch="alexnet", seeds=(4,), ratios=(0.5, 0.25), width=1.0, images=None
    )
    assert type(profile.width) is float
    assert get_profile("quick") == PROFILES["quick"]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"rattios": [0.5]}, "no field 'rattios': it has dataset, .*ratios"),
        ({"arch": "vgg61"}, "arch is 'vgg61': choose from vgg16_bn"),
        ({"dataset": "cifar"}, "dataset is 'cifar'"),
        ({"criteria": ["spline", "magic"]}, "criteria is 'magic': choose from spline"),
        ({"precision": "half"}, "precision is 'half'"),
        ({"ratios": [0.5, 1.0]}, r"ratios are \(0.5, 1.0\): .* strictly between 0 and 1"),
        ({"ratios": [float("nan")]}, "ratios are"),
        ({"ratios": []}, r"ratios is \[\]: give a non-empty list"),
        ({"ratios": 0.5}, "ratios is 0.5: give a non-empty list"),
        ({"ratios": "0.5"}, "ratios is '0.5': give a non-empty list"),
        ({"ratios": ["0.5"]}, "of type str: give float"),
        ({"seeds": [0, 1.0]}, "seeds is 1.0, of type float: give int"),
        ({"seeds": [True]}, "of type bool: give int"),
        ({"epochs": 2.5}, "epochs is 2.5, of type float: give int"),
        ({"epochs": "3"}, "epochs is '3', of type str"),
        ({"epochs": 0}, "epochs is 0: it must be at least 1"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"images": -5}, "images is -5"),
        ({"images": 1.5}, "of type float: give int or NoneType"),
        ({"canvas_side": 1}, "canvas_side is 1"),
        ({"width": float("nan")}, "width is nan: it must be positive and finite"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"finetune_lr": -0.1}, "finetune_lr is -0.1"),
    ],
)
def test_overrides_that_make_no_sense_are_named(overrides, named):
    with pytest.raises(SettingError, match=named):
        get_profile("smoke", **overrides)


@pytest.mark.parametrize("name", ["smok", "Quick", ""])
def test_an_unknown_profile_is_named(name):
    with pytest.raises(SettingError, match=f"profile is '{name}': choose one of smoke, quick"):
        get_profile(name)


def test_an_unknown_sweep_is_named():
    with pytest.raises(SettingError, match="sweep is 'layers': choose one of early_bird"):
        plan("layers", get_profile("smoke"))
