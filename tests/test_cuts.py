"""Networks in which channels are rearranged, shared, or counted on: cut right, or left whole by name."""

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from oracles_cut import without_units
from tiny_nets import Net, built, normed
from torch import nn

from splinelib import prune, read_layers, remove_units
from splinelib.criteria import FilterNorm
from splinelib.hooks import tensors_in
from splinelib.pruning import mask_units

Conv, Linear, Chain = nn.Conv2d, nn.Linear, nn.Sequential
IMAGES, ROWS, TOKENS = (2, 3, 8, 8), (3, 10), (2, 7, 5)


def shuffled(x, groups):
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def chunked(net, x):
    first, second = net.c(x).relu().chunk(2, 1)
    return net.a(first) + net.b(second)


def cross_stage(net, x):
    y = net.c(x).relu().chunk(2, 1)
    return net.o(torch.cat([*y, net.m(y[1]).relu() + y[1]], 1))


def padded_shortcut(net, x):
    x = net.c(x).relu()
    y = net.b(net.a(x).relu()) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
    return net.h(y.relu().mean((2, 3)))


def gated(net, x):
    y = net.a(x).relu()
    return net.h(y * net.g(y).sigmoid())


def halves(net, x):
    a, b = net.d(net.i(x)).chunk(2, 1)
    return net.o(F.gelu(a) * b)


class Frozen(nn.Module):
    """A batch norm of buffers alone, as detectors have it."""

    def __init__(self, width):
        super().__init__()
        for name in ("weight", "bias", "mean", "variance"):
            self.register_buffer(name, torch.rand(width) + 0.5)

    def forward(self, x):
        scale = self.weight * (self.variance + 1e-5).rsqrt()
        return x * scale.view(1, -1, 1, 1) + (self.bias - self.mean * scale).view(1, -1, 1, 1)


class Rms(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Keeping(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.h = Conv(3, 12, 3), Conv(12, 4, 1)

    def forward(self, x):
        self.kept = {"feature": self.a(x).relu()}
        return self.h(self.kept["feature"])


class Shifted(nn.Module):
    """A frozen norm of one's own, whose shifts leave some channels negative whatever a probe writes."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("shift", torch.linspace(-3, 1, channels)[:, None, None])

    def forward(self, x):
        return x + self.shift


def tied(outer):
    outer[4].weight = outer[2].weight
    return outer


def split_by_width(net, x):
    first, second = net.c(x).relu().split(net.width, 1)
    return net.h(torch.cat([first, net.a(second).relu()], 1))


class Mixed(nn.Module):
    """Convolutions of several sizes, each on its share of the channels."""

    def __init__(self, wide, sizes):
        super().__init__()
        self.sizes = sizes
        self.parts = nn.ModuleList(
            Conv(size, size, 2 * place + 1, padding=place, groups=size if wide else 1)
            for place, size in enumerate(sizes)
        )

    def forward(self, x):
        return torch.cat([part(y) for part, y in zip(self.parts, x.split(self.sizes, 1), strict=True)], 1)


class Scales(nn.Module):
    """Blocks of channels, each of which adds what the one before has become."""

    def __init__(self):
        super().__init__()
        self.width, self.a, self.b = 3, Conv(5, 24, 1), Conv(24, 5, 1)
        self.convs = nn.ModuleList(Conv(3, 3, 3, padding=1) for _ in range(7))

    def forward(self, x):
        first, *others = self.a(x).relu().split(self.width, 1)
        given = [self.convs[0](first).relu()]
        for conv, part in zip(self.convs[1:], others[:-1], strict=True):
            given.append(conv(given[-1] + part).relu())
        return self.b(torch.cat([*given, others[-1]], 1))


def positions(net, x):
    return net.h((net.e(x) + net.p).relu().mean(1))


def mixture(net, x):
    shares = net.gate(x).softmax(-1)
    return net.h(sum(shares[:, at : at + 1] * part(x) for at, part in enumerate(net.experts)).relu())


def attended(net, x):
    q, k, v = net.q(x), net.k(x), net.v(x)
    return net.h(net.m((q @ k.mT).softmax(-1) @ v).relu())


# Each network, what it takes, and how many units its layers have.
RIGHT = {
    "permute": (
        lambda: Net(
            lambda s, x: s.h(s.c(x).relu().permute(0, 2, 3, 1).flatten(1)), c=Conv(3, 4, 3), h=Linear(144, 2)
        ),
        IMAGES,
        {"c": 4},
    ),
    "permute back": (
        lambda: Net(
            lambda s, x: s.h(s.c(x).permute(0, 3, 1, 2).relu().permute(0, 2, 3, 1)),
            c=Conv(3, 5, 3),
            h=Conv(5, 2, 1),
        ),
        IMAGES,
        {"c": 5},
    ),
    "channel shuffle": (
        lambda: Chain(Conv(3, 6, 3), nn.ReLU(), nn.ChannelShuffle(3), Conv(6, 2, 1)),
        IMAGES,
        {"0": 2},
    ),
    "shuffle in front of groups": (  # both groups of the reader must lose what the shuffle brings there
        lambda: Chain(
            Conv(3, 16, 1),
            nn.ReLU(),
            nn.ChannelShuffle(2),
            Conv(16, 8, 1, groups=2),
            nn.ReLU(),
            Conv(8, 2, 1),
        ),
        IMAGES,
        {"0": 8, "3": 8},
    ),
    "groups in front of a shuffle": (
        lambda: Chain(
            Conv(3, 8, 1),
            nn.ReLU(),
            Conv(8, 24, 1, groups=2),
            nn.ReLU(),
            nn.ChannelShuffle(2),
            Conv(24, 4, 1),
        ),
        IMAGES,
        {"0": 8, "2": 12},
    ),
    "rectifier that is flat for some channels": (
        lambda: Chain(Conv(3, 8, 3), Shifted(8), nn.ReLU(inplace=True), Conv(8, 2, 1)),
        IMAGES,
        {"0": 8},
    ),
    **{
        f"{name} on the spot, flat for some channels": (
            lambda rectify=rectify: Net(
                lambda s, x: s.h(rectify(s.s(s.c(x)))), c=Conv(3, 8, 3), s=Shifted(8), h=Conv(8, 2, 1)
            ),
            IMAGES,
            {"c": 8},
        )
        for name, rectify in {
            "relu_": lambda z: z.relu_(),
            "relu, unused": lambda z: (F.relu(z, inplace=True), z)[1],
            "clamp_": lambda z: z.clamp_(0, 0.5),
            "threshold": lambda z: F.threshold(z, 0.0, 0.0, True),
        }.items()
    },
    "clip that is flat for some channels": (
        lambda: Chain(Conv(3, 8, 3), Shifted(8), nn.Hardtanh(0, 0.5), Conv(8, 2, 1)),
        IMAGES,
        {"0": 8},
    ),
    "shuffle by hand": (
        lambda: Net(lambda s, x: s.b(shuffled(s.a(x), 2)), a=Conv(3, 8, 1), b=Conv(8, 2, 1)),
        IMAGES,
        {"a": 4},
    ),
    "activations in place": (
        lambda: Chain(
            Conv(3, 5, 3),
            nn.Hardswish(inplace=True),
            Conv(5, 6, 3),
            nn.Hardswish(inplace=True),
            Conv(6, 2, 1),
        ),
        IMAGES,
        {"0": 5, "2": 6},
    ),
    "chunk": (lambda: Net(chunked, c=Conv(3, 8, 3), a=Conv(4, 2, 1), b=Conv(4, 2, 1)), IMAGES, {"c": 4}),
    "split in three": (
        lambda: Net(
            lambda s, x: sum(h(part) for h, part in zip(s.h, s.a(x).chunk(3, -1), strict=True)),
            a=Linear(10, 12),
            h=nn.ModuleList(Linear(4, 2) for _ in range(3)),
        ),
        ROWS,
        None,
    ),
    "cross stage": (
        lambda: Net(cross_stage, c=Conv(3, 16, 1), m=Conv(8, 8, 3, padding=1), o=Conv(24, 4, 1)),
        IMAGES,
        {"c": 8},
    ),
    "pixel shuffle": (
        lambda: Chain(Conv(3, 16, 3, padding=1), nn.PixelShuffle(2), Conv(4, 6, 1), nn.ReLU(), Conv(6, 3, 1)),
        IMAGES,
        {"0": 4, "2": 6},
    ),
    "gated linear unit": (lambda: Chain(Linear(10, 12), nn.GLU(), Linear(6, 2)), ROWS, {"0": 6}),
    "padded shortcut": (
        lambda: Net(
            padded_shortcut, c=Conv(3, 8, 3), a=Conv(8, 16, 3, 2, 1), b=Conv(16, 16, 3, 1, 1), h=Linear(16, 3)
        ),
        IMAGES,
        {"c": 8, "a": 16},
    ),
    "gate of one channel": (
        lambda: Net(gated, a=Conv(3, 12, 3), g=Conv(12, 1, 1), h=Conv(12, 4, 1)),
        IMAGES,
        {"a": 12, "g": 1},
    ),
    "halves of a depthwise convolution": (
        lambda: Net(halves, i=Conv(3, 16, 1), d=Conv(16, 16, 3, padding=1, groups=16), o=Conv(8, 4, 1)),
        IMAGES,
        {"d": 8},
    ),
    "flattened twice": (
        lambda: Net(
            lambda s, x: s.o(s.h(s.c(x).relu().flatten(2).flatten(1)).relu()),
            c=Conv(3, 4, 3),
            h=Linear(144, 6),
            o=Linear(6, 3),
        ),
        IMAGES,
        {"c": 4, "h": 6},
    ),
    "upsampled and flattened": (
        lambda: Chain(Conv(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(9), nn.Flatten(), Linear(324, 2)),
        IMAGES,
        {"0": 4},
    ),
    "unflattened": (
        lambda: Net(
            lambda s, x: s.t(s.l(x).relu().view(-1, s.t.in_channels, 4, 4)),
            l=Linear(10, 128),
            t=nn.ConvTranspose2d(8, 3, 4, 2, 1),
        ),
        ROWS,
        {"l": 8},
    ),
    "grouped transposed": (
        lambda: Chain(
            Conv(3, 6, 1), nn.ReLU(), nn.ConvTranspose2d(6, 4, 3, groups=2), nn.ReLU(), Conv(4, 2, 1)
        ),
        IMAGES,
        {"0": 6, "2": 4},
    ),
    "frozen norm": (lambda: Chain(Conv(3, 6, 1), Frozen(6), nn.ReLU(), Conv(6, 2, 1)), IMAGES, {"0": 6}),
    "norm with statistics": (
        lambda: Chain(Conv(3, 6, 1), nn.InstanceNorm2d(6, True, track_running_stats=True), Conv(6, 2, 1)),
        IMAGES,
        {"0": 6},
    ),
    "RMS norm": (lambda: Chain(Linear(5, 8), nn.RMSNorm(8), nn.ReLU(), Linear(8, 2)), TOKENS, {"0": 8}),
    "recurrent": (
        lambda: Net(
            lambda s, x: s.h(s.r(s.e(x))[0][:, -1]),
            e=Linear(5, 12),
            r=nn.GRU(12, 6, 2, batch_first=True),
            h=Linear(6, 3),
        ),
        TOKENS,
        {"e": 12},
    ),
    "bidirectional": (
        lambda: Net(
            lambda s, x: s.h(s.r(s.e(x))[0].mean(1)),
            e=Linear(5, 12),
            r=nn.LSTM(12, 6, bidirectional=True),
            h=Linear(12, 3),
        ),
        TOKENS,
        {"e": 12},
    ),
    "keeps an activation": (Keeping, IMAGES, {"a": 12}),
    "tied in a chain": (
        lambda: tied(
            Chain(Linear(10, 8), nn.ReLU(), Linear(8, 8), nn.ReLU(), Linear(8, 8), nn.ReLU(), Linear(8, 3))
        ),
        ROWS,
        None,
    ),
    "lone parameter": (
        lambda: Net(positions, e=Linear(5, 12), p=nn.Parameter(torch.rand(7, 12)), h=Linear(12, 3)),
        TOKENS,
        {"e": 12},
    ),
    "nothing among the outputs": (
        lambda: Net(lambda s, x: (s.h(s.a(x).relu()), None), a=Linear(10, 12), h=Linear(12, 4)),
        ROWS,
        {"a": 12},
    ),
    "read twice": (
        lambda: Net(
            lambda s, x: s.c(torch.cat([y := s.b(s.a(x)).relu(), y.flip(3)], 1)),
            a=Conv(3, 8, 1),
            b=nn.BatchNorm2d(8),
            c=Conv(16, 4, 1),
        ),
        IMAGES,
        {"a": 8},
    ),
    "weight norm": (
        lambda: Chain(
            normed(Conv(3, 6, 3)),
            nn.ReLU(),
            normed(Conv(6, 8, 3, groups=2)),
            normed(nn.ConvTranspose2d(8, 5, 2)),
            nn.Flatten(),
            normed(Linear(125, 7), None),
            nn.ReLU(),
            normed(Linear(7, 2), 1),
        ),
        IMAGES,
        None,
    ),
    "split by a list": (
        lambda: Chain(
            Conv(3, 12, 1),
            Mixed(True, [4, 3, 5]),
            nn.ReLU(),
            Mixed(False, (6, 6)),
            Mixed(True, [4, 3, 5]),
            Conv(12, 2, 1),
        ),
        IMAGES,
        {f"{place}.parts.{part}": size for place in (1, 4) for part, size in enumerate((4, 3, 5))},
    ),
    "scales in a row": (
        lambda: Chain(Conv(3, 5, 1), Scales(), Conv(5, 2, 1)),
        IMAGES,
        {"0": 5, "1.a": 3, "1.convs.6": 3, "1.b": 5},
    ),
    "split by a number": (
        lambda: Net(split_by_width, c=Conv(3, 8, 1), width=4, a=Conv(4, 5, 1), h=Conv(9, 2, 1)),
        IMAGES,
        {"c": 4, "a": 5},
    ),
    "pruning mask": (
        lambda: Chain(nn.utils.prune.l1_unstructured(Linear(10, 8), "weight", 0.5), nn.ReLU(), Linear(8, 2)),
        ROWS,
        {"0": 8},
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_left_gives_what_the_whole_network_gives_without_the_units(name):
    make, shape, units = RIGHT[name]
    model, inputs = built(make, shape)
    layers = read_layers(model, inputs)
    if units is not None:
        assert {layer.name: layer.units for layer in layers} == units
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2):
        selection = {}
        for layer in layers:
            size = layer.units // layer.groups
            lost = [
                torch.randperm(size, generator=generator)[: min(count, size - 1)] for _ in range(layer.groups)
            ]
            each = [units + size * group for group, units in enumerate(lost)]
            selection[layer.name] = sorted(torch.cat(each).tolist())
        wanted = tensors_in(without_units(model, inputs, layers, selection))
        given = tensors_in(remove_units(model, inputs, selection, layers)(inputs))
        torch.testing.assert_close(given, wanted)
        assert not any(
            torch.allclose(one, whole) for one, whole in zip(given, tensors_in(model(inputs)), strict=True)
        )
        if name != "RMS norm":
            torch.testing.assert_close(
                tensors_in(mask_units(model, inputs, selection, layers)(inputs)), wanted
            )
    for compensate in ("none", "merge"):
        smaller = prune(model, inputs, 0.5, criterion=FilterNorm(1), compensate=compensate)
        assert sum(p.numel() for p in smaller.parameters()) <= sum(p.numel() for p in model.parameters())
        assert [t.shape for t in tensors_in(smaller(inputs))] == [t.shape for t in tensors_in(model(inputs))]


def spectral(module):
    return nn.utils.parametrizations.spectral_norm(module)


def heads(net, x):
    z = net.e(x)
    q, k, v = net.qkv(z).reshape(*z.shape[:2], 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
    z = z + net.p(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(z.shape))
    return net.o(net.m(z).relu().mean(1))


def every_other(net, x):
    y = net.c(x).relu()
    return net.h(net.m((net.a(y[:, ::2]) + net.b(y[:, 1::2])).relu()).relu())


def sliced(net, x):
    return net.h(net.m(torch.cat([(p := net.p(x).relu()), net.c(p).relu()], 1)[:, :14]).relu())


def looked_up(how):
    """Which unit is the largest is the number of a code, read beside a soft branch."""
    return lambda s, x: s.g((z := s.a(x)).relu()) + s.h(s.b(s.e(how(z))).relu())


def numbered(how):
    parts = {"a": (10, 8), "g": (8, 3), "b": (4, 6), "h": (6, 3)}
    return lambda: Net(
        looked_up(how), e=nn.Embedding(8, 4), **{name: Linear(*sizes) for name, sizes in parts.items()}
    )


NUMBERS = {
    "max": lambda z: z.max(-1).indices,
    "topk": lambda z: z.topk(1)[1][:, 0],
    "sort": lambda z: z.sort(-1, descending=True)[1][:, 0],
    "nonzero": lambda z: (z == z.amax(-1, keepdim=True)).nonzero()[:, 1],
}


# Each network, what it takes, the layers that are cut, and what is said of one that is not.
LEFT = {
    **{
        f"index of {name}": (numbered(how), ROWS, ["b"], "'a': ('e' would read other|eq chooses by them)")
        for name, how in NUMBERS.items()
    },
    "groups that a shuffle does not bring together": (
        lambda: Chain(
            Conv(3, 12, 1, groups=3),
            nn.ReLU(),
            nn.ChannelShuffle(3),
            Conv(12, 8, 1, groups=2),
            nn.Softmax(1),
            Conv(8, 4, 1),
            nn.ReLU(),
            Conv(4, 2, 1),
        ),
        IMAGES,
        ["5"],
        "left whole: '[03]': ('3' would read other channels|each channel)",
    ),
    "softmax": (
        lambda: Chain(Conv(3, 8, 3), nn.Softmax(1), Conv(8, 4, 1), nn.ReLU(), Conv(4, 2, 1)),
        IMAGES,
        ["2"],
        r"'0': .* at '1' \(Softmax\)",
    ),
    "local response norm": (
        lambda: Chain(Conv(3, 8, 3), nn.LocalResponseNorm(3), Conv(8, 4, 1), nn.ReLU(), Conv(4, 2, 1)),
        IMAGES,
        ["2"],
        None,
    ),
    "norm of one's own": (
        lambda: Chain(Linear(10, 8), Rms(8), nn.ReLU(), Linear(8, 6), nn.ReLU(), Linear(6, 3)),
        ROWS,
        ["3"],
        r"at '1' \(Rms\)",
    ),
    "norm over maps": (
        lambda: Chain(Conv(3, 8, 3), nn.LayerNorm([8, 6, 6]), Conv(8, 4, 1), nn.ReLU(), Conv(4, 2, 1)),
        IMAGES,
        ["2"],
        r"'1' \(LayerNorm\): it normalises over \(8, 6, 6\)",
    ),
    "attention": (
        lambda: Net(
            lambda s, x: s.h(s.m((z := s.e(x)) + s.a(z, z, z, need_weights=False)[0]).relu()),
            e=Linear(5, 8),
            a=nn.MultiheadAttention(8, 2, batch_first=True),
            m=Linear(8, 6),
            h=Linear(6, 3),
        ),
        TOKENS,
        ["m"],
        r"'e': 'a' \(MultiheadAttention\) reads them",
    ),
    "attention by hand": (
        lambda: Net(
            heads, e=Linear(5, 16), qkv=Linear(16, 48), p=Linear(16, 16), m=Linear(16, 6), o=Linear(6, 3)
        ),
        TOKENS,
        ["m"],
        "the network counts on its width",
    ),
    "parametrization": (
        lambda: Chain(spectral(Conv(3, 12, 3)), nn.ReLU(), Conv(12, 6, 1), nn.ReLU(), Conv(6, 2, 1)),
        IMAGES,
        ["2"],
        "'0' .*a parametrization.: make it a plain one",
    ),
    "spectral norm by a hook": (
        lambda: Chain(
            nn.utils.spectral_norm(Linear(10, 8)), nn.ReLU(), Linear(8, 6), nn.ReLU(), Linear(6, 2)
        ),
        ROWS,
        ["2"],
        r"'0' .*a hook.: make it a plain one .*remove_spectral_norm",
    ),
    "parametrization behind": (
        lambda: Chain(
            Conv(3, 12, 3), nn.ReLU(), spectral(Conv(12, 6, 1)), nn.Flatten(), Linear(216, 5), Linear(5, 2)
        ),
        IMAGES,
        ["4"],
        "'2' .*a parametrization.: make it a plain one",
    ),
    "mixture of experts": (
        lambda: Net(
            mixture,
            gate=Linear(10, 3),
            experts=nn.ModuleList(Chain(Linear(10, 7), nn.ReLU(), Linear(7, 6)) for _ in range(3)),
            h=Linear(6, 2),
        ),
        ROWS,
        ["experts.0.0", "experts.1.0", "experts.2.0", "experts.2.2"],
        "'gate': each channel depends on all others",
    ),
    "one head": (
        lambda: Net(attended, **{n: Linear(5, 7) for n in "qkv"}, m=Linear(7, 6), h=Linear(6, 3)),
        TOKENS,
        ["v", "m"],
        "'[qk]': each channel depends on all others",
    ),
    "rolled": (
        lambda: Net(
            lambda s, x: s.h(s.m(torch.roll(s.c(x).relu(), 1, 1)).relu()),
            c=Conv(3, 8, 3),
            m=Conv(8, 5, 1),
            h=Conv(5, 2, 1),
        ),
        IMAGES,
        ["m"],
        "'c': 'm' would read other channels",
    ),
    "equally many of both": (
        lambda: Net(
            lambda s, x: s.h(s.m(torch.stack([s.a(x), s.b(x)], 1).flatten(1, 2).relu()).relu()),
            a=Conv(3, 6, 3),
            b=Conv(3, 6, 3),
            m=Conv(12, 5, 1),
            h=Conv(5, 2, 1),
        ),
        IMAGES,
        ["m"],
        "'[ab]': behind 'b' the network counts on its width",
    ),
    "every other channel": (
        lambda: Net(
            every_other, c=Conv(3, 8, 3), a=Conv(4, 6, 1), b=Conv(4, 6, 1), m=Conv(6, 5, 1), h=Conv(5, 2, 1)
        ),
        IMAGES,
        ["a", "m"],
        "'c': 'a' would read other channels",
    ),
    "every third channel alone": (
        lambda: Net(
            lambda s, x: s.h(s.m(s.c(x).relu()[:, ::3]).relu()),
            c=Linear(10, 12),
            m=Linear(4, 6),
            h=Linear(6, 2),
        ),
        ROWS,
        ["m"],
        "'c': 'm' would read other channels",
    ),
    "slice of a concatenation": (
        lambda: Net(
            sliced, p=Conv(3, 8, 1), c=Conv(8, 8, 3, padding=1, groups=8), m=Conv(14, 6, 1), h=Conv(6, 4, 1)
        ),
        IMAGES,
        ["m"],
        "'c': 'm' would read",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_cannot_be_cut_is_left_whole_by_name_and_the_rest_is_cut(name):
    make, shape, cut, said = LEFT[name]
    model, inputs = built(make, shape)
    with pytest.warns(UserWarning, match=said or "left whole"):
        layers = read_layers(model, inputs)
    assert [layer.name for layer in layers] == cut
    selection = {layer.name: [1] for layer in layers}
    wanted = without_units(model, inputs, layers, selection)
    torch.testing.assert_close(remove_units(model, inputs, selection, layers)(inputs), wanted)
