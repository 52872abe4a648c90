"""What decides without a gradient, a comparison or a sign, lets no channel go that it hangs on."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from splinelib import read_layers, remove_units
from splinelib.errors import UnsupportedModuleError
from splinelib.pruning import mask_units

pytestmark = pytest.mark.filterwarnings("ignore:left whole")
MIXED = {
    "a threshold for all channels": lambda h, y: y(h.masked_fill(h.mean(1, keepdim=True) < 0.4, 0)),
    "a branch": lambda h, y: y(h) if h.mean() > 0.2 else -y(h),
    "a number of python's": lambda h, y: y(h) * h.mean().item(),
    "a cast": lambda h, y: y(h) * (8 * h.mean((1, 2, 3), keepdim=True)).to(torch.int64),
}
EACH = {
    "the share of active units": lambda h, y: (y(h), (h > 0).float().mean((1, 2, 3))),
    "signs": lambda h, y: y(h) * torch.sign(h).mean((1, 2, 3), keepdim=True),
    "floors": lambda h, y: y(h) * (1 + torch.floor(3 * h).mean(1, keepdim=True)),
    "any of them": lambda h, y: y(h) * (h > 0.5).any(1, keepdim=True),
}
ALONE = {
    "a rectifier": lambda h, y: y(h * (h > 0.3)),
    "rounding": lambda h, y: y((4 * h).round() / 4),
    "a choice": lambda h, y: y(torch.where(h > 0.2, h * h, h)),
}


class Net(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.a, self.b, self.how = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), how

    def forward(self, x):
        return self.how(F.relu(self.a(x)), self.b)


@pytest.fixture
def images(generator):
    return torch.randn(2, 3, 6, 6, generator=generator)


@pytest.mark.parametrize("how", [*MIXED, *EACH])
def test_channels_that_decide_together_stay(how, images):
    net = Net({**MIXED, **EACH}[how]).eval()
    with pytest.raises(UnsupportedModuleError, match="no layer that can be pruned"):
        read_layers(net, images)


@pytest.mark.parametrize("how", MIXED)
def test_what_decides_is_named(how, images):
    with pytest.raises(UnsupportedModuleError, match=r"'a': (lt|gt|item|to) chooses by them"):
        read_layers(Net(MIXED[how]).eval(), images)


@pytest.mark.parametrize("how", ALONE)
def test_steps_of_each_channel_alone_go_with_it(how, images):
    net = Net(ALONE[how]).eval()
    smaller, masked = (cut(net, images, {"a": [0, 5]}) for cut in (remove_units, mask_units))
    torch.testing.assert_close(smaller(images), masked(images))


def test_a_gate_by_signs_of_another_layer_goes_with_what_it_gates(images):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.g, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return self.b(self.a(x) * (self.g(x) > 0))

    try:
        layers = read_layers(Gated().eval(), images)
    except UnsupportedModuleError:
        return
    assert all({"a", "g"} <= {part.module for part in layer.parts} for layer in layers)


def test_networks_that_want_positive_numbers_are_read_without_wide_noise(images):
    def how(h, y):
        assert bool((h >= 0).all()), "not for negative numbers"
        return y(h.sqrt() * (h > 0.5))

    class Positive(Net):
        def forward(self, x):
            return self.how(self.a(x).abs(), self.b)

    assert [layer.name for layer in read_layers(Positive(how).eval(), images)] == ["a"]
