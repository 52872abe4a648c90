import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracles import slow_code_distance, unpacked_codes
from tiny_nets import images, small_network, tiny_cnn
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from splinelib import sign_codes
from splinelib.early_bird import PackedCode, code_distance
from splinelib.early_bird import codes as codes_module
from splinelib.early_bird.codes import _sample
from splinelib.early_bird.distances import (
    pack_bits,
)
from splinelib.errors import SettingError, TrainingError, UnsupportedModuleError


def bits_of(code):
    """The signs of each layer, unpacked."""
    return [
        np.unpackbits(layer)[:count].astype(bool) for layer, count in zip(code.layers, code.bits, strict=True)
    ]


def same(first, second):
    return first.bits == second.bits and all(
        np.array_equal(a, b) for a, b in zip(first.layers, second.layers, strict=True)
    )


class Function(nn.Module):
    """A linear layer and a function of its output."""

    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(4, 3), function

    def forward(self, x):
        return self.function(self.linear(x))


def test_codes_of_two_units_by_hand():
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    model[0].weight.data, model[0].bias.data = torch.tensor([[1.0], [-2.0]]), torch.tensor([0.0, 1.0])
    # Pre-activations of -1, 0, 1: (-1, 3), (0, 1), (1, -1); exactly zero is inactive.
    code = sign_codes(model, torch.tensor([[-1.0], [0.0], [1.0]]))
    assert code.bits == (6,)
    assert code.layers[0].tolist() == [0b01_01_10_00]


def permuted_units(model, generator):
    """The same function with the units of both hidden layers of a two-layer perceptron in another order."""
    other = copy.deepcopy(model)
    for layer, following in ((other[0], other[2]), (other[2], other[4])):
        order = torch.randperm(layer.out_features, generator=generator)
        layer.weight.data, layer.bias.data = layer.weight.data[order], layer.bias.data[order]
        following.weight.data = following.weight.data[:, order]
    return other


def test_neither_the_order_of_units_nor_that_of_points_changes_the_distance(generator):
    first, second = (
        nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 2)).double()
        for _ in range(2)
    )
    canvas = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    expected = code_distance(sign_codes(first, canvas), sign_codes(second, canvas))
    assert (expected > 0).all()
    state = generator.get_state()
    turned = [permuted_units(model, generator.set_state(state)) for model in (first, second)]
    codes = [sign_codes(model, canvas) for model in turned]
    assert not same(codes[0], sign_codes(first, canvas))
    assert code_distance(*codes).tolist() == expected.tolist()
    shuffled = canvas[torch.randperm(50, generator=generator)]
    codes = [sign_codes(model, shuffled) for model in (first, second)]
    assert not same(codes[0], sign_codes(first, canvas))
    assert code_distance(*codes).tolist() == expected.tolist()


def test_codes_of_different_shapes_do_not_compare():
    first = PackedCode((pack_bits(torch.ones(3) > 0),), (3,))
    second = PackedCode((pack_bits(torch.ones(4) > 0),), (4,))
    with pytest.raises(SettingError, match=r"\(3,\) and \(4,\) bits .* same canvas"):
        code_distance(first, second)


@pytest.mark.parametrize(
    ("arch", "points"),
    # 300 points go through the network in two pieces.
    [("vgg16_bn", 3), ("preresnet20", 3), ("mobilenet_v2", 3), ("mlp", 300)],
)
def test_codes_are_the_signs_in_front_of_every_relu(arch, points, generator):
    model, canvas = small_network(arch, generator), images(arch, generator, points)
    expected = unpacked_codes(model, canvas)
    code = sign_codes(model, canvas)
    assert code.bits == tuple(signs.numel() for signs in expected)
    for bits, signs in zip(bits_of(code), expected, strict=True):
        assert np.array_equal(bits, signs.flatten().numpy())
    other = sign_codes(model, canvas.flip(0))
    assert code_distance(code, other).tolist() == slow_code_distance(expected, [s.flip(0) for s in expected])


@pytest.mark.parametrize(
    "function",
    [
        torch.relu,
        torch.Tensor.relu,
        F.relu,
        lambda z: F.relu(z, inplace=True),
        lambda z: F.relu(input=z),
        lambda z: z.relu_(),
        F.relu6,
        F.leaky_relu,
        nn.LeakyReLU(0.1, inplace=True),
        nn.PReLU(3),
        nn.ReLU6(inplace=True),
        nn.RReLU(),
        nn.RReLU(inplace=True),
        nn.Threshold(0, 0),
        nn.Threshold(0.0, 0.0, inplace=True),
        lambda z: torch.clamp(z, min=0),
        lambda z: z.clamp(0, 3),
        lambda z: z.clamp_(min=0.0),
        lambda z: z.clip(min=0),
        lambda z: torch.clamp_min(z, 0),
        lambda z: z.clamp_min_(0),
        abs,
        torch.abs,
        torch.absolute,
        torch.Tensor.abs_,
    ],
)
def test_every_spelling_of_a_non_linearity_counts_once(function, generator):
    model, canvas = Function(function), torch.randn(9, 4, generator=generator)
    expected = (model.linear(canvas) > 0).flatten().numpy()
    code = sign_codes(model, canvas)
    assert code.bits == (27,)
    assert np.array_equal(bits_of(code)[0], expected)


@pytest.mark.parametrize(
    "function",
    [
        torch.sigmoid,
        F.gelu,
        nn.Hardtanh(-1, 1),
        nn.Identity(),
        nn.Threshold(0.1, 0),
        lambda z: z.clamp(max=-1),
        lambda z: z.clamp(-1, 1),
        lambda z: z.clamp_min(1e-5),
        lambda z: z.clamp(min=torch.zeros(3)),
    ],
)
def test_a_model_without_codes_is_named(function, generator):
    with pytest.raises(UnsupportedModuleError, match="Function has no piecewise linear non-linearity"):
        sign_codes(Function(function), torch.randn(2, 4, generator=generator))


def test_a_functional_model_has_the_codes_of_its_module_twin(generator):
    modules = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(inplace=True))

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = modules[0], modules[2]

        def forward(self, x):
            return torch.relu(self.second(F.relu(self.first(x))))

    canvas = torch.randn(5, 2, 6, 6, generator=generator)
    assert same(sign_codes(modules, canvas), sign_codes(Functional(), canvas))


@pytest.mark.parametrize("bits", [2**18, 50])
def test_memory_format_does_not_matter(bits, generator):
    model, canvas = tiny_cnn(generator), torch.randn(7, 2, 6, 6, generator=generator)
    code = sign_codes(model, canvas, bits)
    last = model.to(memory_format=torch.channels_last)
    seen = []
    hook = last[1].register_forward_hook(
        lambda m, i, z: seen.append(z.is_contiguous(memory_format=torch.channels_last))
    )
    assert same(code, sign_codes(last, canvas.contiguous(memory_format=torch.channels_last), bits))
    hook.remove()
    assert seen == [True] * 3  # at two first looks, and for the code


LAYOUTS = {
    "channels last": lambda z: z.contiguous(memory_format=torch.channels_last),
    "transposed": lambda z: z.transpose(1, 3).contiguous().transpose(1, 3),
    "a slice": lambda z: torch.cat([z, z], dim=3)[:, :, :, : z.shape[3]],
    "every other": lambda z: z.repeat_interleave(2, dim=1)[:, ::2],
    "expanded": lambda z: z[:, :1].expand(z.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sample_is_the_same_in_every_layout_of_memory(layout, generator):
    lay_out = LAYOUTS[layout]
    canvas = torch.randn(300, 2, 6, 5, generator=generator)
    other = lay_out(canvas)
    assert other.stride() != canvas.stride()
    places = {}
    expected = sign_codes(nn.ReLU(), other.contiguous(), 1000, places)
    for _ in range(2):  # places found, places known
        assert same(sign_codes(Laid(lay_out), other.contiguous(), 1000, places), expected)
    full = (other > 0).flatten().numpy()
    assert np.array_equal(bits_of(expected)[0], full[_sample(full.size, 1000, 0)])


class Laid(nn.Module):
    """A ReLU of the input in another layout of memory."""

    def __init__(self, lay_out):
        super().__init__()
        self.lay_out = lay_out

    def forward(self, x):
        return F.relu(self.lay_out(x))


def test_known_places_are_not_looked_for_again(generator, monkeypatch):
    model, canvas = tiny_cnn(generator), torch.randn(512, 2, 6, 6, generator=generator)
    places = {}
    code = sign_codes(model, canvas, 5000, places)
    assert same(code, sign_codes(model, canvas, 5000))
    # The layers of 96 and 20 units have more signs, that of 8 has not; the canvas goes through in two equal pieces.
    assert len(places) == 2 * 2
    assert sum(place.numel() for place in places.values()) == 2 * 5000
    assert {place.dtype for place in places.values()} == {torch.int32}
    monkeypatch.setattr(codes_module, "_places_in_memory", None)
    assert same(sign_codes(model, canvas, 5000, places), code)
    monkeypatch.undo()
    for points, bits in ((300, 5000), (512, 4000)):  # another canvas and other bits find places of their own
        fewer = sign_codes(model, canvas[:points], bits, places)
        assert same(fewer, sign_codes(model, canvas[:points], bits))


class Weighted(nn.Module):
    """A linear layer with non-negative weights and a ReLU, on as many points as the weight has rows or not."""

    def __init__(self, generator):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 4, generator=generator))
        self.scale = nn.Parameter(torch.randn(3, generator=generator))

    def forward(self, x):
        return F.relu(x @ self.weight.abs().T - torch.abs(self.scale * 2).sum())


@pytest.mark.parametrize("points", [5, 8, 264])
def test_what_does_not_run_over_the_points_is_no_layer(points, generator):
    model, canvas = Weighted(generator), torch.randn(points, 4, generator=generator)
    assert sign_codes(model, canvas).bits == (points * 8,)


def test_layers_that_only_some_points_meet_are_named(generator):
    class Fickle(nn.Module):
        def forward(self, x):
            return F.relu(F.relu(x) - 1) if len(x) == 256 else F.relu(x)

    with pytest.raises(
        UnsupportedModuleError, match="Fickle has 1 non-linearities on a few points .* and 2 on 256"
    ):
        sign_codes(Fickle(), torch.randn(300, 4, generator=generator))


def test_a_sample_holds_entries_of_the_full_code(generator):
    model, canvas = tiny_cnn(generator), torch.randn(300, 2, 6, 6, generator=generator)
    full, sample = sign_codes(model, canvas), sign_codes(model, canvas, bits=64)
    assert full.bits == (300 * 96, 300 * 20, 300 * 8)
    assert sample.bits == (64, 64, 64)
    for layer, (few, count) in enumerate(zip(bits_of(sample), full.bits, strict=True)):
        drawn = torch.rand(64, generator=torch.Generator().manual_seed(layer), dtype=torch.float64).tolist()
        positions = [int((stretch + share) * count / 64) for stretch, share in enumerate(drawn)]
        assert np.array_equal(few, bits_of(full)[layer][positions])


@given(bits=st.integers(1, 300), more=st.integers(1, 10**9), layer=st.integers(0, 200))
def test_a_sample_takes_one_position_from_each_stretch(bits, more, layer):
    total = bits + more
    positions = _sample(total, bits, layer).tolist()
    assert len(positions) == bits
    for stretch, position in enumerate(positions):
        assert stretch * total // bits <= position <= (stretch + 1) * total // bits
        assert position < total


def test_sampling_is_repeatable_and_finds_the_distance(generator):
    canvas = torch.randn(64, 2, 6, 6, generator=generator)
    first, second = tiny_cnn(generator), tiny_cnn(generator)
    state = torch.get_rng_state()
    samples = [sign_codes(model, canvas, bits=2000) for model in (first, second)]
    assert torch.equal(torch.get_rng_state(), state)
    assert same(samples[0], sign_codes(first, canvas, bits=2000))
    exact = code_distance(sign_codes(first, canvas), sign_codes(second, canvas))
    error = np.sqrt(exact * (1 - exact) / 2000)
    sampled = code_distance(*samples)
    assert (np.abs(sampled - exact)[:1] <= 4 * error[:1]).all()
    assert sampled[1:].tolist() == exact[1:].tolist()  # layers of at most 2000 signs are kept whole


def test_the_model_is_left_as_it_was(generator):
    model = tiny_cnn(generator).train()
    model[1].eval()
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    sign_codes(model, torch.randn(2, 2, 6, 6, generator=generator))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    assert model(torch.randn(2, 2, 6, 6, generator=generator)).requires_grad


def test_an_exception_leaves_no_mode_behind(generator):
    model = tiny_cnn(generator).train()
    with pytest.raises(SettingError, match="shapes cannot be multiplied"):
        sign_codes(model, torch.randn(2, 2, 9, 9, generator=generator))
    assert _get_current_function_mode_stack() == []
    assert all(module.training for module in model.modules())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("bits", [2**18, 5])
def test_nan_is_named(bits, generator):
    model = tiny_cnn(generator)
    model[3].bias.data[:] = torch.nan
    with pytest.raises(TrainingError, match="pre-activation 1 is NaN"):
        sign_codes(model, torch.randn(2, 2, 6, 6, generator=generator), bits)


@pytest.mark.parametrize(
    ("canvas", "bits", "named"),
    [
        (torch.zeros(0, 2, 6, 6), 10, r"canvas has shape \(0, 2, 6, 6\)"),
        (torch.zeros(3), 10, r"canvas has shape \(3,\)"),
        (torch.zeros(1, 2, 6, 6), 0, "bits is 0"),
        (
            torch.zeros(4, 3, 6, 6),
            10,
            r"Sequential cannot take the canvas, .*float32 of shape \(4, 3, 6, 6\) on cpu",
        ),
        (torch.zeros(4, 2, 6, 6).double(), 10, "cannot take the canvas, torch.float64 .* dtype"),
    ],
)
def test_a_canvas_that_cannot_be_used_is_named(canvas, bits, named, generator):
    with pytest.raises(SettingError, match=named):
        sign_codes(tiny_cnn(generator), canvas, bits)


@pytest.mark.parametrize(
    ("rectify", "named"),
    [
        (lambda z: torch.maximum(z, torch.zeros_like(z)), "maximum"),
        (lambda z: torch.where(z > 0, z, 0.0), "gt"),
        (lambda z: z * (z > 0), "gt"),
        (lambda z: z.unflatten(1, (2, 2)).amax(2), "amax"),
        (lambda z: torch.max(z, -z), "max"),
    ],
)
def test_rectifiers_that_the_code_does_not_hold_are_told(rectify, named):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 4), nn.Linear(4, 4)

        def forward(self, x):
            return rectify(self.second(self.first(x).relu()))

    with pytest.warns(UserWarning, match=f"Mixed may bend at {named}, which its codes do not hold"):
        assert len(sign_codes(Mixed(), torch.randn(5, 2)).layers) == 1


def test_a_canvas_point_that_is_not_finite_is_named():
    canvas = torch.randn(40, 2)
    canvas[7, 1] = torch.nan  # unseen by a sample of few signs
    with pytest.raises(SettingError, match="canvas .*not finite"):
        sign_codes(nn.Sequential(nn.Linear(2, 9), nn.ReLU()), canvas, bits=3)


class Rescaled(nn.Module):
    """A weight that is rescaled by absolute values of its own, as where it is quantised."""

    def __init__(self, rows):
        super().__init__()
        self.inner = nn.Linear(2, rows)

    def forward(self, x):
        weight = self.inner.weight * 2
        return F.relu(F.linear(x, weight.sign() * (weight.abs() - 0.1).abs(), self.inner.bias))


@pytest.mark.parametrize(("rows", "points"), [(256, 1024), (256, 256), (20, 276), (2, 2), (3, 3), (2, 258)])
def test_a_weight_with_as_many_rows_as_there_are_points_is_no_layer(rows, points, generator):
    code = sign_codes(Rescaled(rows), torch.randn(points, 2, generator=generator), bits=10**6)
    assert code.bits == (rows * points,)


class Rows(nn.Module):
    """Several rows for each point, as of a sequence that is flattened; then one."""

    def forward(self, x):
        return F.relu(F.relu(x.flatten(0, 1)).unflatten(0, (len(x), -1)) - 1)


class Spectrum(nn.Module):
    def forward(self, x):
        return F.relu(torch.fft.rfft(x).abs())


@pytest.mark.parametrize(
    ("model", "bits", "said"), [(Rows(), 60, "5 rows for each point"), (Spectrum(), 40, "complex numbers")]
)
def test_layers_that_codes_cannot_hold_are_told(model, bits, said, generator):
    with pytest.warns(UserWarning, match=f"may bend at .*{said}"):
        code = sign_codes(model, torch.randn(4, 5, 3, generator=generator))
    assert code.bits == (bits,)


@pytest.mark.parametrize(
    ("model", "canvas"),
    [
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), torch.rand(3, 6, 6)),
        (nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()), torch.rand(5, 4, 2, 2)),
        (nn.Sequential(nn.Embedding(3, 2), nn.ReLU()), torch.full((3, 2), 7)),
        (nn.ReLU(), torch.empty(3, 2, device="meta")),
    ],
)
def test_whatever_the_network_says_of_the_canvas_is_one_error(model, canvas):
    with pytest.raises(SettingError, match="cannot take the canvas"):
        sign_codes(model, canvas)


class Encoder(nn.Module):
    """A transformer behind a rectifier, which puts points or time first."""

    def __init__(self, points_first):
        super().__init__()
        self.points_first = points_first
        self.embed = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=points_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x):
        z = self.embed(x)
        return self.encoder(z) if self.points_first else self.encoder(z.transpose(0, 1)).transpose(0, 1)


@pytest.mark.parametrize(("points", "bits"), [(10, 2**17), (10, 50), (300, 1000)])
def test_time_may_come_first(points, bits, generator):
    first, time = Encoder(True), Encoder(False)
    time.load_state_dict(first.state_dict())
    canvas = torch.randn(points, 5, 4, generator=generator)
    codes = [sign_codes(model, canvas, bits) for model in (first, time)]
    assert [len(code.bits) for code in codes] == [3, 3]
    assert same(*codes)


def test_compiled_parts_are_read_scripted_and_exported_ones_named(generator):
    plain = nn.Sequential(
        nn.Sequential(nn.Linear(4, 6), nn.ReLU()), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)
    )
    canvas = torch.randn(9, 4, generator=generator)
    wanted = sign_codes(plain, canvas)
    whole = torch.compile(plain, backend="eager")
    part = nn.Sequential(torch.compile(plain[0], backend="eager"), *plain[1:])
    for compiled in (whole, part):
        compiled(canvas)
        assert same(sign_codes(compiled, canvas), wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that scripts are things of the past
        scripted = nn.Sequential(torch.jit.script(plain[0]), *plain[1:])
        exported = nn.Sequential(torch.export.export(plain[0], (canvas,)).module(), *plain[1:])
    for network, word in ((scripted, "scripted"), (exported, "exported")):
        with pytest.raises(UnsupportedModuleError, match=f"'0' of Sequential is {word}"):
            sign_codes(network, canvas)


def _twice_rectified(z):
    return torch.clamp(torch.abs(z) - 0.5, min=0.0)


class Calling(nn.Module):
    """A network whose non-linearity is a function that it calls."""

    def __init__(self, function):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(4, 6), nn.Linear(6, 2), function

    def forward(self, x):
        return self.last(self.function(torch.relu(self.first(x))))


def test_functions_that_were_scripted_are_read_as_they_were_written(generator):
    torch.manual_seed(0)
    plain, canvas = Calling(_twice_rectified), torch.randn(9, 4, generator=generator)
    wanted = sign_codes(plain, canvas)
    assert wanted.bits == (54, 54, 54)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that scripts are things of the past
        made = [torch.jit.script(_twice_rectified), torch.jit.trace(_twice_rectified, torch.ones(2, 6))]
    for function in made:
        scripted = Calling(function)
        scripted.load_state_dict(plain.state_dict())
        for _ in range(3):  # torch optimises a script at its second call
            assert same(sign_codes(scripted, canvas), wanted)


def test_networks_that_draw_at_random_leave_the_random_state(generator):
    class Noisy(nn.Module):
        def forward(self, x):
            return x.relu() + torch.rand_like(x)

    torch.manual_seed(5)
    before = torch.get_rng_state()
    sign_codes(nn.Sequential(nn.Linear(3, 4), Noisy()), torch.randn(6, 3, generator=generator))
    assert not torch.equal(torch.get_rng_state(), before)  # by the weights
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(3, 4), Noisy())
    after_weights = torch.get_rng_state()
    sign_codes(model, torch.randn(6, 3, generator=generator))
    assert torch.equal(torch.get_rng_state(), after_weights)


def test_a_bound_in_a_tensor_is_a_bound(generator):
    class Clamped(nn.Module):
        def __init__(self, bound):
            super().__init__()
            self.first, self.second, self.bound = nn.Linear(3, 4), nn.Linear(4, 4), bound

        def forward(self, x):
            return torch.clamp(self.second(torch.relu(self.first(x))), min=self.bound)

    canvas = torch.randn(6, 3, generator=generator)
    assert sign_codes(Clamped(torch.tensor(0.0)), canvas).bits == (24, 24)
    assert sign_codes(Clamped(torch.tensor([0.0])), canvas).bits == (24, 24)
    assert sign_codes(Clamped(torch.tensor(-1.0)), canvas).bits == (24,)
    for bound in (nn.Parameter(torch.tensor(0.0)), torch.zeros(4)):
        with pytest.warns(match="clamp"):
            assert sign_codes(Clamped(bound), canvas).bits == (24,)


class Two(nn.Module):
    """Two layers with a non-linearity of the test's between them."""

    def __init__(self, between):
        super().__init__()
        self.a, self.b, self.between = nn.Linear(6, 5), nn.Linear(5, 4), between

    def forward(self, x):
        return F.relu(self.b(self.between(self.a(x))))


OTHERS = {
    "clamp from above": lambda z: z.clamp(max=0),
    "clamp_max": lambda z: torch.clamp_max(z, 0),
    "an operator": torch.ops.aten.relu,
    "an overload": torch.ops.aten.abs.default,
}


@pytest.mark.parametrize("name", OTHERS)
def test_rectifiers_count_however_they_are_called(name, generator):
    assert sign_codes(Two(OTHERS[name]), torch.randn(3, 6, generator=generator)).bits == (15, 12)


STEPS = {
    "heaviside": lambda z: z * torch.heaviside(z, torch.zeros(())),
    "sign": lambda z: z * (1 + z.sign()) / 2,
    "maximum": lambda z: torch.maximum(z.mT, torch.zeros(())).mT,  # points are not on the first axis
}


@pytest.mark.parametrize("name", STEPS)
def test_rectifiers_in_disguise_are_warned_of(name, generator):
    with pytest.warns(UserWarning, match=f"Two may bend at {name}"):
        sign_codes(Two(STEPS[name]), torch.randn(3, 6, generator=generator))
    recurrent = nn.Sequential(nn.RNN(6, 5, nonlinearity="relu"), First(), nn.ReLU())
    with pytest.warns(UserWarning, match="may bend at rnn_relu"):
        sign_codes(recurrent, torch.randn(3, 4, 6, generator=generator))


class First(nn.Module):
    def forward(self, values):
        return values[0][:, -1]
