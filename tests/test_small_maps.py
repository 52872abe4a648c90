"""Convolutions of small maps as matrix products: the same numbers as the library's, and only where they are meant."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from splinestudy.training import small_maps, trainer
from splinestudy.training.settings import TrainSettings
from splinestudy.training.small_maps import SmallMapsAsProducts

WIDE = 128


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (3, 2, 2, 2), (1, 4, 1, 1), (2, 2, 3, 4), (2, 1, 4, 1)])
@pytest.mark.parametrize("filters", [1, 5])
def test_the_product_is_the_convolution_with_its_gradients(shape, filters):
    torch.manual_seed(0)
    images = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(filters, shape[1], 3, 3, dtype=torch.float64, requires_grad=True)
    one, other = small_maps._Product.apply(images, weight), F.conv2d(images, weight, padding=1)
    torch.testing.assert_close(one, other)
    change = torch.randn_like(other)
    for mine, theirs in zip(
        *(torch.autograd.grad(maps, (images, weight), change) for maps in (one, other)), strict=True
    ):
        torch.testing.assert_close(mine, theirs)
    (alone,) = torch.autograd.grad(small_maps._Product.apply(images.detach(), weight), weight, change)
    torch.testing.assert_close(alone, theirs)


def conv(**settings):
    return nn.Conv2d(WIDE, WIDE, **{"kernel_size": 3, "padding": 1, "bias": False} | settings)


@pytest.fixture
def counted(monkeypatch):
    calls, product = [], small_maps._Product.apply
    monkeypatch.setattr(small_maps._Product, "apply", lambda *args: calls.append(args) or product(*args))
    return calls


@pytest.mark.parametrize("side", [1, 2, 4])
def test_what_autocast_would_convolve_is_multiplied(side, counted):
    torch.manual_seed(0)
    module, images = conv(), torch.randn(3, WIDE, side, side)
    with torch.autocast("cpu", torch.bfloat16):
        wanted = module(images)
        with SmallMapsAsProducts():
            found = module(images)
    assert len(counted) == 1
    assert found.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.01)
    found.float().square().sum().backward()
    assert module.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("module", "shape", "autocast"),
    [
        (conv(), (2, WIDE, 4, 4), False),
        (conv(), (2, WIDE, 5, 4), True),
        (conv(), (WIDE, 4, 4), True),
        (conv(bias=True), (2, WIDE, 4, 4), True),
        (conv(stride=2), (2, WIDE, 4, 4), True),
        (conv(padding=0), (2, WIDE, 4, 4), True),
        (conv(padding="same"), (2, WIDE, 4, 4), True),
        (conv(padding_mode="circular"), (2, WIDE, 4, 4), True),
        (conv(dilation=2, padding=2), (2, WIDE, 4, 4), True),
        (conv(kernel_size=1), (2, WIDE, 4, 4), True),
        (conv(kernel_size=5, padding=2), (2, WIDE, 4, 4), True),
        (conv(groups=2), (2, WIDE, 4, 4), True),
        (nn.Conv2d(8, 8, 3, padding=1, bias=False), (2, 8, 4, 4), True),
    ],
)
def test_everything_else_is_left_to_the_library(module, shape, autocast, counted):
    images = torch.randn(shape)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        wanted = module(images)
        with SmallMapsAsProducts():
            assert torch.equal(module(images), wanted)
    assert not counted


@pytest.mark.parametrize("units", [True, False])
def test_a_step_multiplies_where_the_machine_has_units_for_it(units, counted, monkeypatch):
    monkeypatch.setattr(trainer, "has_matrix_units", lambda: units)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, WIDE, 3, 8, 1), conv(), nn.Flatten(), nn.Linear(16 * WIDE, 4))
    images, labels = torch.randn(6, 3, 32, 32), torch.arange(6) % 4
    settings = TrainSettings(epochs=1, precision="bfloat16")
    loss = trainer.Trainer(model, settings, 0, [], None, 60.0)._step(images, labels)
    assert len(counted) == units
    assert loss.isfinite()
