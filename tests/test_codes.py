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

from splinelib import (
    PackedCode,
    SettingError,
    TrainingError,
    UnsupportedModuleError,
    code_distance,
    sign_codes,
    two_image_canvas,
)
from splinelib.codes import pack_bits


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


def test_distances_by_hand():
    first = PackedCode((pack_bits(torch.tensor([True, False, True])), pack_bits(torch.ones(9) > 0)), (3, 9))
    second = PackedCode((pack_bits(torch.tensor([True, True, False])), pack_bits(torch.zeros(9) > 0)), (3, 9))
    assert code_distance(first, second).tolist() == [2 / 3, 1.0]
    assert code_distance(first, first).tolist() == [0.0, 0.0]


@given(data=st.data())
def test_packed_distance_is_the_unpacked_one(data):
    shapes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    pair = [
        [data.draw(st.lists(st.booleans(), min_size=count, max_size=count)) for count in shapes]
        for _ in range(2)
    ]
    packed = [PackedCode(tuple(pack_bits(torch.tensor(b)) for b in layers), tuple(shapes)) for layers in pair]
    assert code_distance(*packed).tolist() == slow_code_distance(*pair)


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


@pytest.mark.parametrize("function", [torch.sigmoid, F.gelu, nn.Hardtanh(-1, 1), nn.Identity()])
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
    assert seen == [True]


def test_a_sample_holds_entries_of_the_full_code(generator):
    model, canvas = tiny_cnn(generator), torch.randn(300, 2, 6, 6, generator=generator)
    full, sample = sign_codes(model, canvas), sign_codes(model, canvas, bits=64)
    assert full.bits == (300 * 96, 300 * 20, 300 * 8)
    assert sample.bits == (64, 64, 64)
    for layer, (few, count) in enumerate(zip(bits_of(sample), full.bits, strict=True)):
        positions = torch.randint(count, (64,), generator=torch.Generator().manual_seed(layer)).sort().values
        assert np.array_equal(few, bits_of(full)[layer][positions.numpy()])


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
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
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
    ],
)
def test_a_canvas_that_cannot_be_used_is_named(canvas, bits, named, generator):
    with pytest.raises(SettingError, match=named):
        sign_codes(tiny_cnn(generator), canvas, bits)


def test_canvas_by_hand():
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 10.0]])
    canvas = two_image_canvas(first, second, side=3)
    assert canvas.shape == (9, 1, 2)
    expected = [[a, 10 * b] for a in (0, 0.5, 1) for b in (0, 0.5, 1)]
    assert canvas[:, 0].tolist() == expected
    assert two_image_canvas(first.double(), second.double()).shape == (10_000, 1, 2)
    assert two_image_canvas(first.double(), second.double(), 2).dtype == torch.float64


@pytest.mark.parametrize(
    ("first", "second", "side", "named"),
    [
        (torch.zeros(1, 2), torch.zeros(2, 1), 3, r"\(1, 2\) and \(2, 1\)"),
        (torch.zeros(2), torch.zeros(2), 1, "side is 1"),
        (torch.zeros(2, dtype=torch.uint8), torch.zeros(2, dtype=torch.uint8), 3, "torch.uint8: normalise"),
    ],
)
def test_canvas_images_that_do_not_fit_are_named(first, second, side, named):
    with pytest.raises(SettingError, match=named):
        two_image_canvas(first, second, side)
