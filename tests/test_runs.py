import dataclasses
import shutil

import pytest
import torch
from tiny_runs import CPU, SETTINGS, sweep_tiny, tiny_dataset, tiny_plan

from splinelib import prune, read_layers, remove_units
from splinelib.criteria import FilterNorm
from splinelib.criteria.spline import Spline
from splinelib.errors import RecordError, SettingError
from splinelib.pruning import cost, reestimate_norms
from splinestudy.analysis.neighbours import norm_ranks
from splinestudy.data import canvas_pair, normalize
from splinestudy.data.samples import calibration
from splinestudy.models import build_model
from splinestudy.runs import dense as dense_kind
from splinestudy.runs import prune as prune_kind
from splinestudy.runs.dense import load_run_data, trained_model
from splinestudy.runs.one_shot import OneShotRun, SensitivityRun
from splinestudy.runs.records import run_key, settings_dict
from splinestudy.runs.shrinking import Choice, SoftPruning, choose_units, shrink
from splinestudy.runs.store import RecordStore
from splinestudy.training.loop import evaluate, train

DENSE_0, _, SPLINE_0, _, SPLINE_1, _ = tiny_plan()


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(dense_kind, "load_dataset", lambda name: tiny_dataset())


def test_a_dense_record_holds_what_was_watched(complete):
    results = RecordStore(complete[0]).load(DENSE_0).results
    assert [row["epoch"] for row in results["epochs"]] == [0, 1, 2]
    distances = torch.tensor(results["spline"]["distances"])
    assert distances.shape == (3, 3)
    assert torch.equal(distances, distances.T)
    consecutive = torch.tensor(results["spline"]["consecutive_by_layer"])
    assert consecutive.shape == (2, 6)  # 5 convolutions and a hidden layer
    torch.testing.assert_close(consecutive.mean(1), distances.diagonal(1), rtol=0, atol=2e-6)
    assert (results["spline"]["threshold"], results["spline"]["window"]) == (0.16, 3)
    assert results["spline"]["epoch"] is None  # not before epoch 3
    assert [mask["ratio"] for mask in results["masks"]] == [0.5]
    assert results["cost"]["parameters"] > 0


def test_a_pruned_record_holds_what_pruning_did(complete):
    store = RecordStore(complete[0])
    results, dense = store.load(SPLINE_0).results, store.load(DENSE_0).results
    assert results["dense_accuracy"] == dense["epochs"][-1]["accuracy"]
    assert results["dense_cost"] == dense["cost"]
    assert results["accuracy"] == results["epochs"][-1]["accuracy"]
    data = tiny_dataset()
    model = trained_model(DENSE_0, data, store, CPU)
    assert not model.training
    pruned = prune(model, normalize(data.test.images[:2], data), 0.5, "layerwise", Spline(), round_to=1)
    assert results["pruned_accuracy"] == evaluate(pruned, data)
    assert results["cost"]["parameters"] == sum(p.numel() for p in pruned.parameters())
    assert results["widths"] == {name: n - round(n / 2) for name, n in results["dense_widths"].items()}


def test_canvas_images_have_different_classes():
    data = tiny_dataset()
    pairs = {canvas_pair(data, seed) for seed in range(20)}
    assert all(data.test.labels[a] != data.test.labels[b] for a, b in pairs)
    assert len(pairs) > 10
    assert canvas_pair(data, 3) == canvas_pair(data, 3)


@pytest.mark.parametrize(
    ("changes", "named"), [({"criterion": "magic"}, "criterion is 'magic'"), ({"ratio": 1.5}, "ratio is 1.5")]
)
def test_runs_that_make_no_sense_are_named(changes, named):
    with pytest.raises(SettingError, match=named):
        dataclasses.replace(SPLINE_0, **changes)


def test_a_pruned_run_needs_its_dense_record(tmp_path):
    with pytest.raises(RecordError, match="has no record of DenseRun"):
        SPLINE_0.compute(RecordStore(tmp_path), CPU, False)


def tiny_pruned(**settings):
    return dataclasses.replace(SPLINE_0, **settings)


@pytest.mark.parametrize("start", ["initial", "early", "fresh"])
def test_pruned_networks_start_from_other_weights(start, complete):
    store, data = RecordStore(complete[0]), tiny_dataset()
    run = tiny_pruned(start=start)
    dense, known = trained_model(run.dense, data, store, CPU), calibration(data, 0)
    network, _ = prune_kind._pruned(run, dense, data, known, store, CPU)
    trained, _ = prune_kind._pruned(tiny_pruned(), dense, data, known, store, CPU)
    assert [p.shape for p in network.parameters()] == [p.shape for p in trained.parameters()]
    assert not any(
        torch.equal(a, b)
        for a, b in zip(network.parameters(), trained.parameters(), strict=True)
        if a.ndim > 1
    )
    same, _ = prune_kind._pruned(run, dense, data, known, store, CPU)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), same.parameters(), strict=True))


def test_early_weights_are_those_of_the_dense_run(complete):
    data, known, store = tiny_dataset(), calibration(tiny_dataset(), 0), RecordStore(complete[0])
    dense = trained_model(DENSE_0, data, store, CPU)
    early, _ = prune_kind._pruned(tiny_pruned(start="early"), dense, data, known, store, CPU)
    network = dense_kind.new_model(DENSE_0, data, CPU)
    train(network, data, SETTINGS, seed=0, stop=prune_kind.REWIND_EPOCHS, progress=False)
    selection = choose_units(dense, Choice("spline", 0.5), 0, known)
    expected = remove_units(network, known.images[:2], selection)
    assert all(torch.equal(a, b) for a, b in zip(early.parameters(), expected.parameters(), strict=True))


def test_networks_are_measured_without_training(complete, tmp_path):
    shutil.copytree(complete[0], tmp_path / "store")
    run = OneShotRun(DENSE_0, "reconstruction", "layerwise", 0.5, "least_squares", images=24)
    (record,) = sweep_tiny(tmp_path / "store", [run]).records
    data, known = tiny_dataset(), calibration(tiny_dataset(), 0, images=24)
    assert len(known.images) == 24 < len(data.train)
    dense = trained_model(DENSE_0, data, RecordStore(complete[0]), CPU)
    pruned = shrink(dense, Choice("reconstruction", 0.5), "least_squares", 0, known)
    assert record.results["pruned_accuracy"] == evaluate(pruned, data)
    assert record.results["reestimated_accuracy"] == evaluate(reestimate_norms(pruned, known.images), data)
    assert record.results["seconds"] > 0


def test_single_layers_are_cut_alone(complete, tmp_path):
    shutil.copytree(complete[0], tmp_path / "store")
    run = SensitivityRun(DENSE_0, ("spline", "l1"), 0.5)
    (record,) = sweep_tiny(tmp_path / "store", [run]).records
    data, known = tiny_dataset(), calibration(tiny_dataset(), 0)
    dense = trained_model(DENSE_0, data, RecordStore(complete[0]), CPU)
    layers = read_layers(dense, known.images[:2])
    names = [layer.name for layer in layers]
    assert record.results["dense_accuracy"] == evaluate(dense, data)
    for criterion in run.criteria:
        chosen = choose_units(dense, Choice(criterion, 0.5), 0, known)
        expected = [evaluate(remove_units(dense, known.images[:2], {n: chosen[n]}), data) for n in names]
        assert record.results["accuracy"][criterion] == dict(zip(names, expected, strict=True))
        ranks = norm_ranks(dense, layers, chosen)
        assert record.results["norm_rank"][criterion] == dict(zip(names, ranks, strict=True))


def test_all_criteria_get_the_widths_of_one(complete):
    known = calibration(tiny_dataset(), 0)
    dense = trained_model(DENSE_0, tiny_dataset(), RecordStore(complete[0]), CPU)
    widths = choose_units(dense, Choice("l1", 0.6, "global", "flops"), 0, known)
    chosen = choose_units(dense, Choice("random", 0.6, "global", "flops", allocation="l1"), 0, known)
    own = choose_units(dense, Choice("random", 0.6, "global", "flops"), 0, known)
    assert {name: len(units) for name, units in chosen.items()} == {
        n: len(units) for n, units in widths.items()
    }
    assert chosen != widths
    assert chosen != own


def test_scores_compare_per_operation(complete):
    """By hand: a first unit of each layer costs what cutting it saves."""
    known = calibration(tiny_dataset(), 0)
    dense = trained_model(DENSE_0, tiny_dataset(), RecordStore(complete[0]), CPU)
    images = known.images[:2]
    layers = read_layers(dense, images)
    scores = FilterNorm(1)(dense, layers)
    saved = [
        cost(dense, images).flops - cost(remove_units(dense, images, {one.name: [0]}), images).flops
        for one in layers
    ]
    scaled = [s.double() / s.double().mean() / flops for s, flops in zip(scores, saved, strict=True)]
    ranked = sorted((float(v), i, u) for i, layer in enumerate(scaled) for u, v in enumerate(layer))
    chosen = choose_units(dense, Choice("l1", 0.3, "global", normalize="flops"), 0, known)
    fallen = {(i, u) for i, layer in enumerate(layers) for u in chosen.get(layer.name, [])}
    best = {(i, int(layer.argmax())) for i, layer in enumerate(scaled)}
    assert fallen == set([(i, u) for _, i, u in ranked if (i, u) not in best][: len(fallen)])
    assert chosen != choose_units(dense, Choice("l1", 0.3, "global"), 0, known)


def test_soft_pruning_zeroes_filters_that_may_grow_again(complete, tmp_path):
    data, known = tiny_dataset(), calibration(tiny_dataset(), 0)
    dense = trained_model(DENSE_0, data, RecordStore(complete[0]), CPU)
    layers = read_layers(dense, known.images[:2])
    layer = layers[0]

    def zeros():
        return [
            int((dense.get_submodule(one.name).weight.flatten(1).norm(dim=1) == 0).sum()) for one in layers
        ]

    SoftPruning(0.5, known).after_epoch(dense, 0)
    soft = zeros()
    assert soft == [round(one.units / 2) for one in layers]
    shutil.copytree(complete[0], tmp_path / "store")
    (record,) = sweep_tiny(tmp_path / "store", [tiny_pruned(criterion="sfp")]).records
    assert record.results["widths"][layer.name] == layer.units - round(layer.units / 2)
    train(dense, data, SPLINE_0.finetune, seed=1, progress=False)
    assert sum(zeros()) < sum(soft)


def test_soft_pruning_leaves_a_residual_stream_whole():
    model = build_model("preresnet20", num_classes=3, in_channels=1, width=1 / 4, image_size=8, seed=0)
    known = calibration(tiny_dataset(), 0)
    SoftPruning(0.5, known).after_epoch(model, 0)
    inside, stream = [], []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            share = (module.weight.flatten(1).norm(dim=1) == 0).double().mean().item()
            (inside if name.endswith(("conv1", "conv2")) and "stage" in name else stream).append(share)
    assert set(inside) == {0.5}
    assert set(stream) == {0.0}


def test_fields_added_later_leave_older_names_alone():
    assert "start" not in settings_dict(tiny_pruned())
    assert (
        run_key(tiny_pruned(start="trained")) == run_key(tiny_pruned()) != run_key(tiny_pruned(start="fresh"))
    )
    assert settings_dict(tiny_pruned(compensate="merge"))["compensate"] == "merge"


def test_fewer_test_images_are_the_same_for_every_seed():
    data = [
        load_run_data(dataclasses.replace(DENSE_0, seed=seed, images=9, test_images=6), CPU)
        for seed in (0, 1)
    ]
    assert [len(one.train) for one in data] == [9, 9]
    assert torch.equal(data[0].test.images, data[1].test.images)
    assert sorted(data[0].test.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    assert not torch.equal(data[0].train.images, data[1].train.images)
    for all_of_them in (None, 24, 1000):
        run = dataclasses.replace(DENSE_0, test_images=all_of_them)
        assert torch.equal(load_run_data(run, CPU).test.images, tiny_dataset().test.images)
