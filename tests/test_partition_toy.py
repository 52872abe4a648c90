"""The two-dimensional toy, and slices through images."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from splinelib.errors import SettingError
from splinelib.partition import compute_partition, raster_distance
from splinestudy.analysis import image_slices as images
from splinestudy.analysis import toy
from splinestudy.data import load_dataset, normalize
from splinestudy.models import build_model
from splinestudy.runs import toy as toy_study

SETTINGS = toy.ToySettings(runs=3, hidden=6, epochs=2, points=200, batch=64)


def test_labels_follow_the_diagonals():
    train, test = toy.x_problem(toy.ToySettings())
    assert (len(train.labels), len(test.labels)) == (1600, 400)
    for points in (train, test):
        x, y = points.inputs.T
        np.testing.assert_array_equal(points.labels, (y**2 > x**2).astype(int))


def test_profiles_are_checked():
    assert toy.toy_settings("reference") == toy.ToySettings()
    assert toy.toy_settings("smoke", ratios=[0.5], runs=None).ratios == (0.5,)
    with pytest.raises(SettingError, match="size is 'large'"):
        toy.toy_settings("large")
    with pytest.raises(SettingError, match="ratios"):
        toy.toy_settings("smoke", ratios=[1.0])
    with pytest.raises(SettingError, match="init 'he'"):
        toy.new_nets(SETTINGS, "he")


def test_training_steps_are_those_of_torch():
    settings = toy.ToySettings(runs=1, hidden=6, epochs=1, points=100, batch=80, lr=0.1)
    train, _ = toy.x_problem(settings)
    before = toy.pruned(toy.new_nets(settings), "weight", 0.3)
    after, kept = toy.train_nets(before, train, settings, keep=(0, 1))
    model = before.model(0)
    scores = model(torch.from_numpy(train.inputs))
    F.cross_entropy(scores, torch.from_numpy(train.labels)).backward()
    weight = before.weight1[0] - 0.1 * model[0].weight.grad.numpy() * before.mask[0]
    np.testing.assert_allclose(after.weight1[0], weight, atol=1e-12)
    np.testing.assert_allclose(
        after.weight2[0], before.weight2[0] - 0.1 * model[2].weight.grad.numpy(), atol=1e-12
    )
    np.testing.assert_allclose(after.bias2[0], before.bias2[0] - 0.1 * model[2].bias.grad.numpy(), atol=1e-12)
    np.testing.assert_array_equal(kept[0].weight1, before.weight1)
    np.testing.assert_array_equal(kept[1].weight1, after.weight1)


def test_accuracy_and_model_agree():
    train, test = toy.x_problem(SETTINGS)
    nets, _ = toy.train_nets(toy.new_nets(SETTINGS, "xavier"), train, SETTINGS)
    for number, share in enumerate(toy.accuracy(nets, test)):
        right = nets.model(number)(torch.from_numpy(test.inputs)).argmax(dim=1).numpy() == test.labels
        assert share == right.mean()


def test_pruned_weights_stay_zero_and_dead_units_stay_dead():
    train, _ = toy.x_problem(SETTINGS)
    dense = toy.new_nets(SETTINGS)
    nodes, weights = toy.pruned(dense, "node", 0.5), toy.pruned(dense, "weight", 0.75)
    assert (nodes.mask.sum(axis=(1, 2)) == 6).all()
    assert (weights.mask.sum(axis=(1, 2)) == 3).all()
    norms = np.linalg.norm(dense.weight1, axis=2)
    kept = nodes.mask.max(axis=2) > 0
    assert (np.where(kept, norms, np.inf).min(axis=1) > np.where(kept, 0, norms).max(axis=1)).all()
    for nets in (nodes, weights):
        for init in toy.INITS:
            fresh = toy.reinitialised(nets, init, dense, SETTINGS)
            after, _ = toy.train_nets(fresh, train, SETTINGS)
            dead = nets.mask.max(axis=2) == 0
            assert (after.weight1[nets.mask == 0] == 0).all()
            assert (after.bias1[dead] == 0).all()
            assert (after.weight2.transpose(0, 2, 1)[dead] == 0).all()


def test_rows_count_what_pruning_does():
    settings = toy.ToySettings(runs=2, hidden=8, epochs=1, points=100, ratios=(0.25, 0.75))
    train, test = toy.x_problem(settings)
    original = toy.new_nets(settings)
    dense, _ = toy.train_nets(original, train, settings)
    rows = toy_study.pruning_rows(dense, settings)
    assert len(rows) == 2 * 2 * 2
    for row in rows:
        if row["kind"] == "node":
            assert row["vanished"] <= 1
            assert not row["axis_parallel"] > 0
            assert row["regions"] <= row["regions_before"]
        elif row["ratio"] == 0.75:
            assert row["axis_parallel"] > 0
    assert len(toy_study.retraining_rows(dense, original, train, test, settings)) == 2 * 2 * 4 * 2


def test_code_distance_is_a_share_of_bits():
    nets = toy.new_nets(SETTINGS)
    first = toy.toy_partition(nets, 0)
    assert raster_distance(first, first) == 0
    flipped = toy.toy_partition(toy.Nets(-nets.weight1, -nets.bias1, nets.weight2, nets.bias2, nets.mask), 0)
    assert raster_distance(first, flipped, side=50) == 1


def test_image_slices_pass_through_images_of_three_classes():
    data = load_dataset("digits")
    first, again = images.image_slices(data, 2, seed=3), images.image_slices(data, 2, seed=3)
    assert all(torch.equal(a.origin, b.origin) for a, b in zip(first, again, strict=True))
    test = normalize(data.test.images, data).double().flatten(1)
    # Not by torch.cdist, which goes through a matrix product and so depends on the processor's rounding.
    distance = (first[0].origin.flatten() - test).norm(dim=1)
    assert distance.min() == 0


def test_touching_rows_add_up():
    data = load_dataset("digits")
    model = build_model(
        "simple_cnn", num_classes=10, in_channels=1, width=0.125, image_size=32, seed=0
    ).eval()
    (where,) = images.image_slices(data, 1, seed=0)
    partition = compute_partition(model, where.zoomed(0.3), boundary=True)
    rows = images.touching_rows(partition, 0)
    assert [row["layer"] for row in rows] == ["relu1", "relu2", "all"]
    assert rows[2]["touching"] == pytest.approx(len(partition.boundary.touching) / partition.units)
    total = sum(row["crossing"] * row["units"] for row in rows[:2])
    assert rows[2]["crossing"] * rows[2]["units"] == pytest.approx(total)
    with pytest.raises(SettingError, match="boundary=True"):
        images.touching_rows(compute_partition(model, where.zoomed(0.1)), 0)
