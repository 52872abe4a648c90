"""Class separation, overlap of selections, tables of readings and what is said about claims C3 and C8."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from oracles_analysis import slow_separation
from scipy import stats
from tiny_nets import tiny_cnn
from tiny_runs import tiny_dataset
from torch import nn

from splinelib.errors import SettingError
from splinelib.layers.hyperplanes import unit_scales
from splinelib.layers.network import read_layers
from splinelib.partition import Slice2D, compute_partition
from splinestudy.analysis import trained_network as subjects
from splinestudy.analysis.class_separation import (
    _ranks_of_draws,
    class_separation,
    rank_correlation,
    rank_within,
)
from splinestudy.analysis.complexity_watch import ProgressWatch, probe_points
from splinestudy.analysis.local_complexity import random_directions
from splinestudy.analysis.overlap import jaccard, jaccard_matrix, slice_effect
from splinestudy.results import interpretation as verdicts
from splinestudy.runs import interpretation as studies
from splinestudy.runs.records import Record
from splinestudy.training.loop import train
from splinestudy.training.settings import TrainSettings


@pytest.fixture
def subject(generator):
    model = tiny_cnn(generator)
    inputs = 2 * torch.randn(60, 2, 6, 6, generator=generator)
    labels = torch.arange(60) % 3
    return subjects.Subject(model, read_layers(model, inputs[:2])[:2], inputs, labels)


# --- class separation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rectified", [True, False])
def test_separation_matches_class_by_class(subject, rectified):
    found = class_separation(subject.model, subject.layers, subject.inputs, subject.labels, rectified)
    value = subject.inputs
    for layer, depth in zip(found, (2, 5), strict=True):
        with torch.no_grad():
            z = subject.model[:depth](value)
        means = (z.clamp_min(0) if rectified else z).double().mean((2, 3)).numpy()
        np.testing.assert_allclose(layer.numpy(), slow_separation(means, subject.labels.tolist()), rtol=1e-4)


def test_scale_and_separation_of_a_channel_grow_together(subject):
    """With shift 0 the separation is proportional to the scale, and dividing it out leaves nothing of it."""
    before = pd.DataFrame(subjects.channel_rows(subject, [torch.zeros(6), torch.zeros(5)]))
    with torch.no_grad():
        norm = subject.model[1]
        norm.weight[2] *= 3
        norm.bias[2] *= 3
    after = pd.DataFrame(subjects.channel_rows(subject, [torch.zeros(6), torch.zeros(5)]))
    assert after.loc[2, "separation"] == pytest.approx(3 * before.loc[2, "separation"], rel=1e-4)
    assert after.loc[2, "standardised"] == pytest.approx(before.loc[2, "standardised"], rel=1e-4)
    assert after["scale"][:6].tolist() == unit_scales(subject.model, subject.layers[0]).tolist()


def test_rank_correlation():
    random = np.random.default_rng(0)
    first = random.normal(size=80)
    second = first + random.normal(size=80)
    rho, low, high = rank_correlation(first, second)
    assert rho == pytest.approx(stats.spearmanr(first, second).statistic)
    assert 0.3 < low < rho < high < 0.9
    assert rank_correlation(first, np.exp(first))[:2] == (pytest.approx(1), pytest.approx(1))
    assert np.isnan(rank_correlation(first, np.ones(80))).all()
    groups = np.array(["a", "b", "a", "b", "a"])
    assert rank_within(np.array([5.0, 1, 7, 0, 6]), groups).tolist() == [0, 1, 1, 0, 0.5]


# --- overlap ---------------------------------------------------------------------------------------------------------


def test_jaccard():
    one, two = {"a": [0, 1], "b": [3]}, {"a": [1], "c": [3]}
    assert jaccard(one, two) == 1 / 4
    assert jaccard({}, {}) == 1
    np.testing.assert_array_equal(jaccard_matrix({"one": one, "two": two}), [[1, 0.25], [0.25, 1]])
    random = np.random.default_rng(0)
    draws = [{"a": random.permutation(400)[:120].tolist()} for _ in range(40)]
    mean = np.mean([jaccard(draws[i], draws[i + 1]) for i in range(39)])
    assert mean == pytest.approx(0.3 / (2 - 0.3), abs=0.02)


def test_slice_effect_counts_what_a_mask_takes():
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]]))
        model[0].bias.copy_(torch.tensor([0.5, 0, -0.5, 0]))
    before = compute_partition(model.eval(), Slice2D.axis_aligned())
    assert len(before) == 8
    effect = slice_effect(model, torch.zeros(2, 2).double(), {"0": [0, 1]}, before)
    assert effect == {"regions": pytest.approx(0.5), "length": pytest.approx(0.5)}


# --- readings of one network -----------------------------------------------------------------------------------------


def test_units_are_masked_by_how_often_they_touch(subject):
    rates = [torch.tensor([0.5, 0, 0.2, 0, 0.4, 0.3]).double(), torch.arange(1, 6).double() / 10]
    rows = subjects.removal_rows(subject, rates, (0.4,))
    assert [(row["choice"], row["units"]) for row in rows] == [
        ("never touching", 2),
        ("random, as many as never touch", 2),
        ("least touching", 4),
        ("most touching", 4),
        *[("random", 4)] * 5,
    ]
    assert rows[0]["accuracy"] == subject.accuracy(
        subjects.mask_units(subject.model, subject.example, {"0": [1, 3]})
    )


def test_every_reading_of_a_network_has_its_rows(subject):
    points = subjects.sampled_points(subject, 120)
    chosen = studies.selections_of(subject, 0.4)
    windows = subjects.boundary_windows(subject, points, 1, 10)
    rows = pd.DataFrame(subjects.effect_rows(subject, {0.4: chosen}, windows))
    assert rows["criterion"].tolist() == list(studies.CRITERIA)
    assert (rows["length"] <= 1).all()
    assert rows["length"].max() > 0
    checks = pd.DataFrame(subjects.complexity_rows(points.inputs[:2], subject.model, (0.2, 0.5)))
    assert (checks["estimate"] <= checks["exact"]).all()
    assert checks["exact"].max() > 0


def test_progress_is_measured_after_every_epoch():
    data = tiny_dataset()
    points = probe_points(data, 5, seed=1)
    assert all(images.shape == (5, 1, 8, 8) for images in points.values())
    noisy = probe_points(data, 5, seed=1, noise=0.01)
    assert torch.equal(noisy["random"], points["random"])
    torch.testing.assert_close((noisy["test"] - points["test"]).std().item(), 0.01, rtol=0.3, atol=0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3))
    watch = ProgressWatch(points, directions=3, radius=0.05, regions=8, seed=0)
    train(model, data, TrainSettings(epochs=2, batch_size=16), seed=0, callbacks=[watch], progress=False)
    table = pd.DataFrame(watch.rows)
    assert table["epoch"].tolist() == [0, 0, 0, 1, 1, 1]
    assert table["kind"].tolist() == ["training", "test", "random"] * 2
    assert (table["regions"] >= 1).all()
    again = ProgressWatch(points, directions=3, radius=0.05, regions=8, seed=0)
    again.load_state_dict(watch.state_dict())
    again.measure(model, 2)
    assert len(again.rows) == 9
    assert again.rows[-1]["complexity"] == table["complexity"].iloc[-1]
    assert again.rows[-1]["regions"] == table["regions"].iloc[-1]
    with pytest.raises(SettingError, match="count is 99"):
        probe_points(data, 99, seed=0)


# --- claims ----------------------------------------------------------------------------------------------------------


def record(seed, share=0.9, slope=1.0):
    """A record in which ``share`` of the units touch and separation follows the scale by ``slope``."""
    random = np.random.default_rng(seed)
    scale = random.uniform(1, 2, 60)
    noise = 0.2 * random.normal(size=60)
    layers = ["a"] * 30 + ["b"] * 30
    channels = {"layer": layers, "scale": scale, "separation": slope * scale + noise, "standardised": noise}
    channels |= {"unit": list(range(60)), "rate": [0.0] * 60}
    touching = {"layer": [0, 1], "units": [30, 30], "positions": [90, 30], "units_touching": [share] * 2}
    touching["positions_touching"] = [share, share / 2]
    windows = {
        "window": [0],
        "regions": [9],
        "layer": ["all"],
        "units": [99],
        "crossing": [0.04],
        "touching": [0.02],
    }
    removal = {"choice": ["never touching", "least touching", "random"], "ratio": [0.0, 0.3, 0.3]}
    removal |= {"units": [2, 20, 20], "accuracy": [0.9, 0.5, 0.4]}
    overlap = [{"ratio": 0.3, "criteria": ["x", "y"], "jaccard": [[1, 0.1 * seed], [0.1 * seed, 1]]}]
    results = {"channels": channels, "touching": touching, "windows": windows, "removal": removal}
    results |= {"overlap": overlap, "accuracy": 0.9}
    dense = {"seed": seed, "dataset": "digits", "arch": "vgg16_bn", "width": 0.5, "images": None}
    dense |= {"train": {"norm_l1": 0.0}}
    return Record("reading", "k", {"dense": dense}, results, {"profile": "smoke"})


@pytest.mark.parametrize(
    ("share", "said"), [(0.9, "*fails* for channels: 90.0%"), (0.05, "*holds* for channels: 5.0%")]
)
def test_touching_claim_follows_its_rule(share, said):
    claim = verdicts.touching_claim([record(0, share), record(1, share)])["ours"]
    assert claim.startswith(said)
    assert "of the single positions 4.00% cross one small window, and 50% of those touch there" in claim


@pytest.mark.parametrize(("slope", "said"), [(1.0, "*holds* as released"), (-1.0, "*fails* as released")])
def test_separation_claim_follows_its_rule(slope, said):
    records = [record(seed, slope=slope) for seed in (0, 1)]
    table = verdicts.correlation_table(verdicts.rows_table(records, "channels"), resamples=200)
    assert len(table) == 2 * 2 * 3
    claim = verdicts.separation_claim(table, records)["ours"]
    assert claim.startswith(said)
    assert "*holds* with the scale divided out" not in claim
    assert f"in the last layer alone, as released: {said.split()[0]}" in claim


def test_tables_of_readings():
    records = [record(1), record(3)]
    assert verdicts.mean_overlap(records, 0.3).loc["x", "y"] == pytest.approx(0.2)
    assert verdicts.removal_words(records) == (
        "units that never touch: 2.0 a network; least touching minus random: at ratio 0.3 +10.0 points "
        "(+10.0 to +10.0)"
    )


def test_networks_are_what_varies_when_the_partition_is_to_tell_accuracy():
    """One number for each of them, with ranks within each ratio."""
    choices = pd.DataFrame({"length": range(5), "accuracy": [9, 7, 5, 3, 1]})
    mild, deep = choices.assign(ratio=0.3), (choices + 100).assign(ratio=0.7)
    one = pd.concat([mild, deep]).assign(seed=0)
    other = one.assign(seed=1, accuracy=-one["accuracy"])
    assert verdicts.effect_correlations(pd.concat([one, other]), "length") == pytest.approx([-1, 1])
    words = [verdicts.effects_word(*ends) for ends in ((-0.5, -0.1), (-0.5, 0.1), (0.1, 0.5))]
    assert words == ["supported", "undecided", "contradicted"]


def test_studies_of_a_profile():
    from splinestudy.runs.dense import dense_runs
    from splinestudy.runs.profiles import get_profile

    runs = dense_runs(get_profile("smoke"))
    found, progress = studies.reading_runs("smoke", runs), studies.progress_runs("smoke", (0, 1))
    assert [study.dense for study in found] == runs
    assert [(study.dataset, study.seed) for study in progress] == [("digits", 0), ("digits", 1)]
    with pytest.raises(SettingError, match="lines is 0"):
        dataclasses.replace(found[0], lines=0)


def test_class_of_every_input_is_needed(subject):
    with pytest.raises(SettingError, match="every class"):
        class_separation(subject.model, subject.layers, subject.inputs, subject.labels + 1)
    with pytest.raises(SettingError, match="two of one length"):
        rank_correlation(np.zeros(3), np.zeros(4))
    assert random_directions((2, 3), 2, 0).shape == (2, 2, 3)


@pytest.mark.parametrize(("n", "values"), [(3, 2), (40, 5), (200, 10_000)])
def test_ranks_of_draws_are_those_of_sorting_each(n, values):
    random = np.random.default_rng(n)
    numbers, picks = random.integers(values, size=n).astype(float), random.integers(n, size=(20, n))
    assert (_ranks_of_draws(numbers, picks) == stats.rankdata(numbers[picks], axis=1)).all()
