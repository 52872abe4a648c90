"""Norms that are not PyTorch's own: cut where their function is known to follow their weights, left whole elsewhere."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from tiny_nets import built
from torch import nn

from splinelib import read_layers, remove_units
from splinelib.errors import UnsupportedModuleError
from splinelib.layers.own import applies_its_weight, hands_weights_on

ROWS, IMAGES = (4, 7), (4, 3, 6, 6)


def layer_norm(forward, **more):
    return type("Own", (nn.LayerNorm,), {"forward": forward, **more})


def group_norm(forward):
    return type("Own", (nn.GroupNorm,), {"forward": forward})


class Unrelated(nn.Module):
    """A norm of images or rows that inherits from none, told where its channels lie."""

    def __init__(self, width, last):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(width)), nn.Parameter(torch.rand(width))
        self.normalized_shape, self.last = (width,), last

    def forward(self, x):
        if self.last:
            return F.layer_norm(x, self.normalized_shape, self.weight, self.bias)
        spread, mean = torch.std_mean(x, 1, keepdim=True, correction=0)
        return ((x - mean) / spread) * self.weight[:, None, None] + self.bias[:, None, None]


def rms(s, x):
    return x * (x.square().mean(-1, keepdim=True) + s.eps).rsqrt() * s.weight


def per_image(s, x):
    return F.layer_norm(x.movedim(1, -1), s.normalized_shape, s.weight, s.bias).movedim(-1, 1)


def grouped(s, x, power):
    parts = x.unflatten(1, (s.num_groups, -1))
    size = parts[0, 0].numel() ** power
    y = (parts / parts.flatten(2).norm(dim=2)[:, :, None, None, None]).flatten(1, 2) * size
    return y * s.weight[:, None, None]


def activated(s, x):
    return F.group_norm(x, s.num_groups, s.weight, s.bias, s.eps).sigmoid()


def single(s, x):
    return F.layer_norm(x.float(), s.normalized_shape, s.weight.float(), s.bias.float(), s.eps).type_as(x)


def single_only(s, x):
    return F.layer_norm(x.float(), s.normalized_shape, s.weight, s.bias, s.eps)


def unit_length(s, x):
    return F.normalize(x, dim=-1) * s.weight


def of_its_width(power):
    return lambda s, x: F.layer_norm(x, s.normalized_shape, s.weight, s.bias) * s.weight.numel() ** power


def spread_of_one(s, x):
    return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + s.eps) * s.weight


FOLLOW = {
    "root mean square": (layer_norm(rms)(8), ROWS),
    "float32 inside": (layer_norm(single)(8), ROWS),
    "nothing but float32": (layer_norm(single_only)(8), ROWS),
    "zeros are nothing": (layer_norm(unit_length)(8), ROWS),
    "images": (layer_norm(per_image)(8), IMAGES),
    "inherits from none, rows": (Unrelated(8, True), ROWS),
    "inherits from none, images": (Unrelated(8, False), IMAGES),
    "groups and what is behind": (group_norm(activated)(2, 8), IMAGES),
    "groups of two": (group_norm(activated)(4, 8), IMAGES),
    "groups, root of their size": (group_norm(lambda s, x: grouped(s, x, 0.5))(2, 8), IMAGES),
    "one channel each": (group_norm(activated)(8, 8), IMAGES),
}
SCALE = {
    "times its width": (layer_norm(of_its_width(1))(8), ROWS),
    "by its root": (layer_norm(of_its_width(-0.5))(8), ROWS),
    "a spread that misses one": (layer_norm(spread_of_one)(8), ROWS),
    "groups, times their size": (group_norm(lambda s, x: grouped(s, x, 1))(2, 8), IMAGES),
    "groups, by the width": (group_norm(lambda s, x: activated(s, x) / s.num_channels)(2, 8), IMAGES),
    "images": (layer_norm(lambda s, x: per_image(s, x) * s.weight.numel())(8), IMAGES),
}


def network(norm, shape):
    """A norm between two modules whose channels can go."""
    torch.manual_seed(0)
    torch.nn.init.uniform_(norm.weight)
    write, read = (
        (nn.Linear(7, 8), nn.Linear(8, 3)) if shape == ROWS else (nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1))
    )
    return nn.Sequential(write, norm, read), torch.randn(shape)


@pytest.mark.parametrize("name", FOLLOW)
def test_a_norm_whose_function_follows_its_weights_is_cut(name):
    model, inputs = network(*FOLLOW[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (layer,) = read_layers(model, inputs)
    assert layer.units == 8
    pair = [1, 2 + 8 // layer.groups] if layer.groups > 1 else [1, 2]
    pair = [0, 2, 4, 6] if layer.groups == 4 else pair
    smaller = remove_units(model, inputs, {"0": pair})
    kept = [unit for unit in range(8) if unit not in pair]
    write, norm, read = smaller
    torch.testing.assert_close(
        read(norm(model[0](inputs).movedim(1, -1)[..., kept].movedim(-1, 1))), smaller(inputs)
    )
    assert write.weight.shape[0] == read.weight.shape[1] == norm.weight.numel() == len(kept)


@pytest.mark.parametrize("name", SCALE)
def test_a_norm_that_scales_with_its_width_is_left_whole(name):
    model, inputs = network(*SCALE[name])
    with pytest.warns(UserWarning, match="left whole"), pytest.raises(UnsupportedModuleError) as raised:
        read_layers(model, inputs)
    assert "(Own) computes something else of what is left" in str(raised.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_precision_of_the_weights_is_enough(dtype):
    norm, shape = layer_norm(single)(8), ROWS
    model, inputs = network(norm, shape)
    (layer,) = read_layers(model.to(dtype), inputs.to(dtype))
    assert layer.units == 8


class Activated(nn.GroupNorm):
    def forward(self, x):
        return super().forward(x).relu()


def test_group_norms_of_ones_own_lose_equally_many_of_each_group():
    model, inputs = built(
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), Activated(2, 6), nn.Conv2d(6, 2, 1)), (2, 3, 8, 8)
    )
    (layer,) = read_layers(model, inputs)
    assert (layer.units, layer.groups) == (6, 2)
    kept = [0, 2, 4, 5]
    maps = F.conv2d(inputs, model[0].weight[kept], model[0].bias[kept])
    wanted = F.group_norm(maps, 2, model[1].weight[kept], model[1].bias[kept]).relu()
    wanted = F.conv2d(wanted, model[2].weight[:, kept], model[2].bias)
    torch.testing.assert_close(remove_units(model, inputs, {"0": [1, 3]})(inputs), wanted)


class Standardised(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)


def test_where_nothing_can_go_three_reasons_are_enough():
    blocks = [layer for _ in range(6) for layer in (Standardised(8, 8, 1), nn.ReLU())]
    model, inputs = built(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), *blocks), (2, 3, 8, 8))
    with pytest.warns(UserWarning, match="left whole"), pytest.raises(UnsupportedModuleError) as raised:
        read_layers(model, inputs)
    assert str(raised.value).count("(Standardised) computes something else of what is left") == 3
    assert str(raised.value).endswith("; and 3 more, each in a warning")


def linear(forward):
    return type("Own", (nn.Linear,), {"forward": forward})(5, 4)


def convolution(name, forward, **more):
    return type("Own", (nn.Conv2d,), {name: forward})(4, 6, 3, **more)


def standardised(s, x):
    weight = (s.weight - s.weight.mean((1, 2, 3), keepdim=True)) / s.weight.std((1, 2, 3), keepdim=True)
    return F.conv2d(x, weight, s.bias)


def same_padding(s, x):
    return F.conv2d(F.pad(x, (1, 1, 1, 1)), s.weight, s.bias, s.stride)


def patched():
    module = nn.Linear(5, 4)
    module.forward = lambda x: 2 * nn.Linear.forward(module, x)
    return module


# Each module, whether its outputs are its weight times its inputs, and whether columns of that may be added up.
OWN_PASSES = {
    "PyTorch's own": (nn.Linear(5, 4), True, True),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2), True, True),
    "that of its parent": (linear(lambda s, x: nn.Linear.forward(s, x)), True, True),
    "by hand": (linear(lambda s, x: x @ s.weight.T + s.bias), True, True),
    "grouped": (convolution("forward", nn.Conv2d.forward, groups=2), True, True),
    "gain": (linear(lambda s, x: F.linear(x, 0.1 * s.weight, s.bias)), False, True),
    "patched": (patched(), False, False),  # it knows of one module alone
    "bias elsewhere": (linear(lambda s, x: F.linear(x, s.weight, s.bias + 1)), False, True),
    "low rank beside": (
        linear(lambda s, x: F.linear(x, s.weight, s.bias) + x.sum(1, True) * s.bias),
        False,
        False,
    ),
    "standardised": (convolution("forward", standardised), False, False),
    "standardised inside": (
        convolution("_conv_forward", lambda s, x, w, b: standardised(s, x)),
        False,
        False,
    ),
    "another padding": (convolution("forward", same_padding, stride=2), False, True),
    "transposed, of one's own": (type("Own", (nn.ConvTranspose2d,), {})(4, 6, 3, stride=2), True, True),
    "dropout inside": (
        linear(lambda s, x: F.linear(F.dropout(x, 0.5, s.training), s.weight, s.bias)),
        True,
        True,
    ),
    "wants rows of its own": (linear(lambda s, x: [][len(x)]), False, False),
    "gives two": (linear(lambda s, x: (F.linear(x, s.weight), x)), False, False),
    "refuses": (linear(lambda s, x: F.linear(x[:, :, None], s.weight)), False, False),
}


@pytest.mark.parametrize("name", OWN_PASSES)
def test_what_a_module_does_with_its_weight_is_tried_out(name):
    module, applies, adds = OWN_PASSES[name]
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert (applies_its_weight(module), hands_weights_on(module)) == (applies, adds)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
