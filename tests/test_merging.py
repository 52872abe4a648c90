"""Twins are merged, and nothing else is."""

import pytest
import torch
from tiny_nets import batch, scatter
from torch import nn

from splinelib import read_layers, remove_units
from splinelib.criteria.spline import spline_distance
from splinelib.layers.hyperplanes import folded
from splinelib.pruning import merge_units


def test_merging_is_that_of_a_double_loop(generator):
    model = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 4))
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator)
    inputs, lost = torch.randn(6, 5, generator=generator), [0, 3, 4, 8]
    (layer,) = read_layers(model, inputs)
    weight, bias = folded(model, layer)
    distance = spline_distance(weight, bias, 0.05, "geometric")
    reader, kept = model[2].weight.detach().clone(), [unit for unit in range(9) if unit not in lost]
    for unit in lost:
        cosine = [float(weight[unit] @ weight[k] / weight[unit].norm() / weight[k].norm()) for k in range(9)]
        facing = [k for k in kept if cosine[k] > 0]
        if facing:
            twin = min(facing, key=lambda k: float(distance[unit, k]))
            factor = cosine[twin] * float(weight[unit].norm() / weight[twin].norm())
            reader[:, twin] += factor * model[2].weight.detach()[:, unit]
    merged = merge_units(model, inputs, {"0": lost})
    torch.testing.assert_close(merged[2].weight, reader[:, kept])
    assert torch.equal(merged[0].weight, model[0].weight[kept])


def test_units_facing_opposite_ways_are_not_merged(generator):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    model[0].weight.data = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    inputs = torch.randn(5, 2, generator=generator)
    merged, removed = (f(model, inputs, {"0": [1]}) for f in (merge_units, remove_units))
    assert torch.equal(merged(inputs), removed(inputs))


def test_streams_that_are_normalised_again_are_not_merged(generator):
    class Stream(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.second = nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
            self.head = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x = self.first(x)
            return self.head((x + self.second(self.norm(x).relu())).relu())

    model, inputs = scatter(Stream(), generator).eval(), torch.randn(3, 2, 5, 5, generator=generator)
    (layer,) = read_layers(model, inputs)
    merged, removed = (f(model, inputs, {layer.name: [1]}) for f in (merge_units, remove_units))
    assert torch.equal(merged(inputs), removed(inputs))


@pytest.mark.parametrize(
    "norm", [nn.InstanceNorm2d(4), nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(4, 4)]
)
def test_units_that_are_normalised_each_by_itself_are_not_merged(norm, generator):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 2, 1))
    for tensor in model[0].parameters():
        tensor.data[1] = 3 * tensor.data[0]  # of which the norm makes the same
    merged, removed = (f(model, batch(generator), {"0": [1]}) for f in (merge_units, remove_units))
    data = batch(generator)
    assert torch.equal(merged(data), removed(data))


def test_groups_are_merged_within(generator):
    model = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )
    model, inputs = scatter(model, generator).eval(), torch.randn(3, 2, 5, 5, generator=generator)
    for tensor in (model[0].weight, model[0].bias):
        tensor.data[[1, 3]] = tensor.data[[0, 2]]
    merged = merge_units(model, inputs, {"0": [1, 3]})
    torch.testing.assert_close(merged(inputs), model(inputs), rtol=1e-5, atol=1e-5)


class Scale(nn.Module):
    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, x):
        return x * self.values


def slopes(*values):
    module = nn.PReLU(len(values))
    module.weight.data = torch.tensor(values)
    return module


@pytest.mark.parametrize(
    ("between", "exact"),
    [
        (nn.Identity(), True),
        (Scale([2.0, 2.0, 2.0, 2.0]), True),
        (Scale([1.0, 4.0, 1.0, 1.0]), False),
        (Scale([1.0, -1.0, 1.0, 1.0]), False),
        (slopes(0.25, 0.25, 0.25, 0.25), True),
        (slopes(0.9, -0.5, 0.25, 0.25), False),
    ],
)
def test_twins_that_meet_numbers_of_their_own_are_not_merged(between, exact, generator):
    last = nn.Linear(4, 2)
    model = nn.Sequential(
        nn.Linear(3, 4), nn.Identity() if isinstance(between, nn.PReLU) else nn.ReLU(), between, last
    )
    for tensor in (model[0].weight, model[0].bias):
        tensor.data[1] = 2 * tensor.data[0]
    data = torch.randn(50, 3, generator=generator)
    merged, removed = (f(model, data, {"0": [0]}) for f in (merge_units, remove_units))
    if exact:
        torch.testing.assert_close(merged(data), model(data), rtol=1e-4, atol=1e-5)
    else:
        assert torch.equal(merged(data), removed(data))


def test_readers_that_do_something_else_with_their_weight_take_no_constant(generator):
    kind = type(
        "Own", (nn.Linear,), {"forward": lambda s, x: nn.functional.linear(x, 0.1 * s.weight, s.bias)}
    )
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), kind(4, 2))
    model[0].weight.data[1], model[0].bias.data[1] = 0, 3.0
    data = torch.randn(50, 3, generator=generator)
    merged, removed = (f(model, data, {"0": [1]}) for f in (merge_units, remove_units))
    assert torch.equal(merged(data), removed(data))


# --- units of several boundaries, and units that do not grow with their writers --------------------------------


def expansion():
    """An expansion and the depthwise convolution behind it; units 0 and 1 are twins stage by stage."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU(), nn.Conv2d(6, 2, 1)
    )
    with torch.no_grad():
        for stage, factor in ((model[0], 2.0), (model[2], 3.0)):
            stage.bias[1] = 0.0
            stage.weight[0], stage.bias[0] = factor * stage.weight[1], factor * stage.bias[1]
    return model.double()


class Gated(nn.Module):
    def __init__(self, per_channel):
        super().__init__()
        self.body, self.gate, self.head = (
            nn.Conv2d(3, 6, 1),
            nn.Conv2d(3, 6 if per_channel else 1, 1),
            nn.Conv2d(6, 2, 1),
        )

    def forward(self, x):
        gate = self.gate(x).sigmoid()
        return self.head(
            self.body(x).relu() * (gate.mean((2, 3), keepdim=True) if gate.shape[1] > 1 else gate)
        )


def residual(norm):
    """Two writers whose sum is rectified, each with a batch norm of its own or without."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.conv, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
            self.norms = nn.ModuleList(nn.BatchNorm2d(6) if norm else nn.Identity() for _ in range(2))

        def forward(self, x):
            return self.head((self.norms[0](self.stem(x)) + self.norms[1](self.conv(x))).relu())

    model = Residual().double().eval()
    for part in model.norms if norm else ():
        for values in (part.running_mean, part.weight, part.bias):
            values.data.uniform_(-1, 1)
    return model


def removed_alike(model, name, units):
    images = torch.randn(4, 3, 6, 6, dtype=torch.float64)
    merged, removed = (f(model, images, {name: units}) for f in (merge_units, remove_units))
    return torch.equal(merged(images), removed(images))


def test_units_in_sequence_are_not_merged_as_if_their_stages_added_up(generator):
    model = expansion()
    assert removed_alike(model, "2", [0])
    assert removed_alike(model, "2", [3, 4])


def test_a_constant_of_units_in_sequence_moves_to_its_reader():
    model, images = expansion(), torch.randn(4, 3, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        model[0].weight[3] = model[2].weight[3] = 0.0
        model[2].bias[3] = 1.5
    torch.testing.assert_close(merge_units(model, images, {"2": [3]})(images), model(images))


def test_units_behind_a_gate_of_their_own_are_not_merged():
    (name,) = [layer.name for layer in read_layers(Gated(True), torch.randn(1, 3, 6, 6))]
    assert removed_alike(Gated(True).double(), name, [0, 3])


def test_a_constant_that_a_gate_changes_is_no_constant():
    model = Gated(False).double()
    with torch.no_grad():
        model.body.weight[2], model.body.bias[2] = 0, 1.5
    assert removed_alike(model, "body", [2])
    nn.init.zeros_(model.gate.weight)  # now the gate is the same everywhere
    images = torch.randn(4, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(merge_units(model, images, {"body": [2]})(images), model(images))


@pytest.mark.parametrize("norm", [False, True])
def test_twins_of_writers_that_add_up_are_merged(norm):
    model = residual(norm)
    with torch.no_grad():
        for writer in (model.stem, model.conv):
            for values in (writer.weight, writer.bias):
                values[0] = values[1] if norm else 3 * values[1]
        for part in model.norms if norm else ():
            part.running_mean[0], part.running_var[0] = part.running_mean[1], part.running_var[1]
            part.weight[0], part.bias[0] = 3 * part.weight[1], 3 * part.bias[1]
    images = torch.randn(4, 3, 6, 6, dtype=torch.float64)
    (layer,) = read_layers(model, images)
    assert len(layer.writers) == 2
    torch.testing.assert_close(merge_units(model, images, {layer.name: [0]})(images), model(images))


def test_twins_of_several_channels_are_merged_and_offsets_that_cancel_are_none(generator):
    model = nn.Sequential(nn.Conv2d(3, 12, 1), nn.PixelShuffle(2), nn.ReLU(), nn.Conv2d(3, 2, 1)).double()
    images = torch.randn(4, 3, 6, 6, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        model[0].weight[:4], model[0].bias[:4] = 3 * model[0].weight[4:8], 3 * model[0].bias[4:8]
    (layer,) = read_layers(model, images)
    torch.testing.assert_close(merge_units(model, images, {"0": [0]})(images), model(images))
    assert float(spline_distance(*folded(model, layer), 0.05, "geometric")[0, 1]) < 1e-12
    with torch.no_grad():
        model[0].weight[:4], model[0].bias[:4] = model[0].weight[4:8], torch.tensor([2.0, -2, 2, -2])
        model[0].bias[4:8] = -model[0].bias[:4]
    for offset in ("raw", "geometric"):
        assert float(spline_distance(*folded(model, layer), 0.05, offset)[0, 1]) > 0.1


def test_offsets_of_stages_do_not_cancel():
    model = expansion()
    with torch.no_grad():
        for stage, sign in ((model[0], 1.0), (model[2], -1.0)):
            stage.weight[0] = stage.weight[1]
            stage.bias[:2] = torch.tensor([sign, -sign])
    (layer,) = [
        found for found in read_layers(model, torch.randn(1, 3, 6, 6).double()) if len(found.writers) == 2
    ]
    for offset in ("raw", "geometric"):
        assert float(spline_distance(*folded(model, layer), 0.05, offset)[0, 1]) > 0.1


class Standardising(nn.Module):
    """A network that divides its images by their spread: of zeros it makes nothing."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)
        return self.b(torch.relu(self.a(x)))


def test_constants_do_not_hang_on_the_example(generator):
    model, images = Standardising().eval(), torch.randn(4, 3, 8, 8, generator=generator)
    with torch.no_grad():
        model.a.weight[:4] = 0
        model.a.bias[:4] = torch.arange(4.0)
    for example in (torch.zeros(1, 3, 8, 8), images):
        merged = merge_units(model, example, {"a": [0, 1, 2, 3]})
        torch.testing.assert_close(merged(images), model(images), rtol=1e-4, atol=1e-5)


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.u, self.g, self.o = nn.Linear(5, 8), nn.Linear(5, 1), nn.Linear(8, 4)

    def forward(self, x):
        return self.o(torch.relu(self.u(x)) * torch.sigmoid(20 * self.g(x)))


def test_what_a_gate_lets_through_is_no_constant_even_of_one_example(generator):
    model, images = Gate().eval(), torch.randn(50, 5, generator=generator)
    with torch.no_grad():
        model.u.weight[[2, 5]] = 0
        model.u.bias[[2, 5]] = 3.0
    plain = remove_units(model, images, {"u": [2, 5]})
    for example in (images[model.g(images).argmax()][None], images[model.g(images).argmin()][None], images):
        merged = merge_units(model, example, {"u": [2, 5]})
        torch.testing.assert_close(merged(images), plain(images))


def test_units_that_nearly_grow_with_their_writers_are_merged(generator):
    model = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3)).eval()
    inputs = torch.randn(50, 4, generator=generator)
    with torch.no_grad():
        for values in model[0].parameters():
            values[3] = 4 * values[1]
    wanted = model(inputs)
    merged, plain = (cut(model, inputs, {"0": [3]})(inputs) for cut in (merge_units, remove_units))
    assert (merged - wanted).norm() < 0.5 * (plain - wanted).norm()


@pytest.mark.parametrize(("kind", "merges"), [(nn.ReLU, True), (nn.Sigmoid, False), (nn.Tanh, False)])
def test_twins_are_merged_where_units_grow_with_their_writers(kind, merges, generator):
    model = nn.Sequential(nn.Linear(4, 6), kind(), nn.Linear(6, 3)).eval()
    inputs = torch.randn(20, 4, generator=generator)
    with torch.no_grad():
        for values in model[0].parameters():
            values[3] = 4 * values[1]
    merged = merge_units(model, inputs, {"0": [3]})
    wanted = model if merges else remove_units(model, inputs, {"0": [3]})
    torch.testing.assert_close(merged(inputs), wanted(inputs))
