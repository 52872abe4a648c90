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


def _thirds(h):
    return torch.cat([h[:, :3].clamp(max=1.5), h[:, 3:]], 1)


def _unseen(h):
    with torch.no_grad():
        return (h.mean(1, keepdim=True) > 0).to(h)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h):
        return h * (h.amax(1, keepdim=True) > 0.7)

    @staticmethod
    def backward(ctx, slope):
        return slope


# Of what comes straight from a convolution, of either sign.
RAW = {
    "a clip of some places": lambda h, y: y(_thirds(h)),
    "a leak of the even places": lambda h, y: y(
        torch.where(torch.arange(8).view(-1, 1, 1) % 2 == 0, h, h.relu())
    ),
    "a gate without gradient": lambda h, y: y(h * _unseen(h)),
    "a gate of a function of one's own": lambda h, y: y(_Gate.apply(h)),
    "a gate in vmap": lambda h, y: y(torch.vmap(lambda z: z * (z.sum(0) > 0))(h)),
    "a floor for a norm without gradient": lambda h, y: y(
        h / h.detach().norm(dim=1, keepdim=True).clamp(min=50.0)
    ),
    "a branch on detached numbers": lambda h, y: y(h) if h.data.std() < 9 else -y(h),
    "a bound by all channels": lambda h, y: y(
        torch.minimum(h, h).clamp(max=9 * h.abs().mean(1, keepdim=True))
    ),
    "a lower bound by all channels": lambda h, y: y(
        torch.clamp_min(h, -7 * h.square().mean(1, keepdim=True))
    ),
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


class Raw(Net):
    def forward(self, x):
        return self.how(self.a(x), self.b)


@pytest.mark.parametrize("how", RAW)
def test_what_decides_without_a_gradient_or_by_place_keeps_its_channels(how, images):
    with pytest.raises(UnsupportedModuleError, match="no layer that can be pruned"):
        read_layers(Raw(RAW[how]).eval(), images)


def test_halves_that_are_rectified_otherwise_lose_the_same_places(images):
    def halves(h, y):
        one, other = h.chunk(2, 1)
        return y(torch.cat([F.relu(one), F.hardtanh(other)], 1))

    net = Raw(halves).eval()
    (layer,) = read_layers(net, images)
    assert layer.units == 4
    smaller, masked = (cut(net, images, {"a": [0, 2]}) for cut in (remove_units, mask_units))
    torch.testing.assert_close(smaller(5 * images), masked(5 * images))


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


class Switch(nn.Module):
    """Two branches with heads of their own, and one more head for the branch that a number chooses."""

    def __init__(self, gate):
        super().__init__()
        self.shallow, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.heads = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(3))
        self.named = gate
        if gate:
            self.add_module(gate, nn.Linear(3, 1))

    def forward(self, x):
        a, b = F.relu(self.shallow(x)), F.relu(self.deep(x))
        chosen = getattr(self, self.named)(x.mean((2, 3))).mean() if self.named else x.mean()
        first, second, either = self.heads
        return first(a), second(b), either(a if chosen > 0 else b)


@pytest.mark.parametrize("gate", ["gate", "router", "conf", "score", "exit", ""])
@pytest.mark.parametrize("sign", [1, 0, -1])
def test_branches_that_a_number_chooses_between_stay_whatever_it_is_called(gate, sign, images):
    try:
        layers = read_layers(Switch(gate).eval(), sign * images)
    except UnsupportedModuleError:
        return
    assert {"shallow", "deep"}.isdisjoint(part.module for layer in layers for part in layer.parts)
