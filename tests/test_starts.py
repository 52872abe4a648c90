"""Starts of chains: unit variance, boundaries through data, greedy layerwise training."""

import copy

import pytest
import torch
from tiny_nets import tiny_cnn
from tiny_runs import tiny_dataset, tiny_network
from torch import nn

from splinelib.errors import SettingError, UnsupportedModuleError
from splinestudy.data import normalize
from splinestudy.training.loop import evaluate
from splinestudy.training.settings import TrainSettings
from splinestudy.training.starts import boundaries_through_data, greedy_layerwise, lsuv


@pytest.fixture
def plain(generator):
    """Convolution and linear modules without batch norm."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 8), nn.ReLU(), nn.Linear(8, 3)
    )


@pytest.fixture
def inputs(generator):
    return 3 + 2 * torch.randn(40, 2, 6, 6, generator=generator)


def test_lsuv_gives_every_layer_unit_variance(plain, inputs):
    before = copy.deepcopy(plain.state_dict())
    started = lsuv(plain, inputs, seed=0)
    for depth in (1, 4, 6):
        assert abs(float(started[:depth](inputs).detach().var()) - 1) <= 0.01
    gram = started[3].weight @ started[3].weight.T
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close(lsuv(plain, inputs, seed=0).state_dict(), started.state_dict(), rtol=0, atol=0)
    with pytest.raises(SettingError, match="variance 0.0"):
        lsuv(plain, torch.zeros(4, 2, 6, 6), seed=0)


def test_every_boundary_passes_through_a_datum(plain, inputs):
    moved = boundaries_through_data(plain, inputs, seed=0)
    for depth in (1, 4):
        z = moved[:depth](inputs).transpose(0, 1).flatten(1)
        torch.testing.assert_close(z.abs().min(1).values, torch.zeros(len(z)), atol=1e-4, rtol=0)
    torch.testing.assert_close(moved[5].state_dict(), plain[5].state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(moved[0].weight, plain[0].weight, rtol=0, atol=0)


def test_boundaries_behind_batch_norms_pass_through_data(generator, inputs):
    model = tiny_cnn(generator)
    moved = boundaries_through_data(model, inputs, seed=0)
    assert not moved.training
    for depth in (2, 5, 8):
        z = moved[:depth](inputs).transpose(0, 1).flatten(1)
        torch.testing.assert_close(z.abs().min(1).values, torch.zeros(len(z)), atol=1e-4, rtol=0)
        assert ((z > 1e-3).any(1) & (z < -1e-3).any(1)).float().mean() > 0.5
    model.train()
    assert boundaries_through_data(model, inputs, seed=0).training


def test_greedy_training_changes_all_but_the_head():
    data, model = tiny_dataset(), tiny_network()
    trained, blocks = greedy_layerwise(model, data, TrainSettings(epochs=8, batch_size=16), seed=0)
    assert blocks == 2
    assert torch.equal(trained[8].weight, model[8].weight)
    for place in (0, 4):
        assert not torch.equal(trained[place].weight, model[place].weight)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained.parameters())
    # The features of the last block separate the classes, which the local head was trained for.
    hidden = trained.eval()[:7](normalize(data.train.images, data)).mean((2, 3)).detach()
    means = torch.stack([hidden[data.train.labels == label].mean(0) for label in range(3)])
    nearest = (hidden[:, None] - means).norm(dim=2).argmin(1)
    assert (nearest == data.train.labels).float().mean() > 0.6
    assert 0 <= evaluate(trained, data) <= 1


def test_only_chains_can_be_started():
    for start in (lsuv, boundaries_through_data):
        with pytest.raises(UnsupportedModuleError, match="no chain"):
            start(nn.Linear(2, 2), torch.zeros(2, 2), seed=0)
    bare = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    with pytest.raises(UnsupportedModuleError, match="'0' has no bias"):
        boundaries_through_data(bare, torch.ones(2, 2), seed=0)


def test_blocks_with_modules_inside_are_named(inputs):
    nested = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 3)))
    with pytest.raises(UnsupportedModuleError, match="module '1' .Sequential. has modules inside"):
        lsuv(nested, inputs, seed=0)
