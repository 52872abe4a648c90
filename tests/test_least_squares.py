import copy

import pytest
import torch
from oracles_scores import seen
from tiny_nets import INPUT, batch, images, scatter, small_network, tiny_cnn
from torch import nn

from splinelib import read_layers, remove_units
from splinelib.errors import SettingError
from splinelib.layers.patches import group_weights, output_positions, outputs_at, patches
from splinelib.pruning import reconstruct
from splinelib.pruning.least_squares import reestimate_norms


def residual_cnn(generator):
    """A stream that two blocks write, normalised again where it is read."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.bn = nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5)
            self.inner, self.inner_bn, self.outer = (
                nn.Conv2d(5, 6, 3, padding=1),
                nn.BatchNorm2d(6),
                nn.Conv2d(6, 5, 1),
            )
            self.last, self.head = nn.BatchNorm2d(5), nn.Linear(5, 3)

        def forward(self, x):
            x = self.stem(x)
            x = x + self.outer(self.inner_bn(self.inner(self.bn(x).relu())).relu())
            return self.head(self.last(x).relu().mean((2, 3)))

    return scatter(Residual(), generator).eval()


@pytest.mark.parametrize("build", [tiny_cnn, residual_cnn])
def test_norms_follow_what_their_inputs_become(build, generator):
    model, data = build(generator), batch(generator)
    layers = read_layers(model, data[:2])
    selection = {layer.name: [1, 3] for layer in layers}
    smaller = reconstruct(model, selection, data)
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    kept = {
        name: [unit for unit in range(model.get_submodule(name).num_features) if unit not in (1, 3)]
        for name in norms
    }
    for name in norms:
        old, new = model.get_submodule(name), smaller.get_submodule(name)
        before, now = (seen(net, data, name, "input").transpose(0, 1).flatten(1) for net in (model, smaller))
        before = before[kept[name]]
        mean = old.running_mean[kept[name]] + now.mean(1) - before.mean(1)
        variance = old.running_var[kept[name]] * now.var(1) / before.var(1)
        torch.testing.assert_close(new.running_mean, mean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(new.running_var, variance, rtol=1e-4, atol=1e-4)


def test_selections_keep_the_norms_of_their_stream(generator):
    model, data = small_network("preresnet20", generator), images("preresnet20", generator, count=24)
    layer = next(layer for layer in read_layers(model, data[:2]) if layer.name == "stage2.1.select")
    smaller = reconstruct(model, {layer.name: [0, 2]}, data)
    norm, whole = smaller.stage2[1].bn1, model.stage2[1].bn1
    torch.testing.assert_close(norm.running_mean, whole.running_mean)  # nothing in front of it has changed
    torch.testing.assert_close(norm.running_var, whole.running_var)


def test_channels_that_are_constant_on_the_images_keep_their_variance(generator):
    model, data = tiny_cnn(generator), batch(generator)
    model[0].weight.data[2] = 0.0
    model[3].weight.data[4] = 0.0
    smaller = reconstruct(model, {"0": [0]}, data)
    assert smaller[1].running_var[1] == model[1].running_var[2]
    assert smaller[4].running_var[4] == model[4].running_var[4]
    assert smaller(data).isfinite().all()


def test_least_squares_is_that_of_the_textbook(generator):
    model = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 4))
    data = torch.randn(300, 5, generator=generator)
    smaller = reconstruct(model, {"0": [1, 2, 6]}, data, ridge=0.0)
    hidden = smaller[1](smaller[0](data)).detach().double()
    rows = torch.cat([hidden, torch.ones(300, 1).double()], dim=1)
    best = torch.linalg.lstsq(rows, model(data).detach().double()).solution
    torch.testing.assert_close(smaller[2].weight.double(), best[:-1].T, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(smaller[2].bias.double(), best[-1], rtol=1e-3, atol=1e-4)


def test_least_squares_ends_where_removed_units_are_written_as_affine_functions_of_the_others(generator):
    # As CORP (arXiv 2602.05243) does it: fit the activations that go to those that stay, fold the fit into the reader.
    model = scatter(nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 3)), generator).double()
    data = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    gone, stays = [1, 4, 6], [0, 2, 3, 5, 7, 8]
    active = model[:2](data).detach()
    known = torch.cat([active[:, stays], torch.ones(200, 1, dtype=torch.float64)], 1)
    fit = torch.linalg.lstsq(known, active[:, gone]).solution
    weight = model[2].weight[:, stays] + model[2].weight[:, gone] @ fit[:-1].T
    bias = model[2].bias + model[2].weight[:, gone] @ fit[-1]
    smaller = reconstruct(model, {"0": gone}, data, ridge=1e-12)
    torch.testing.assert_close(smaller[2].weight, weight, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(smaller[2].bias, bias, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("groups", [2, 6])
def test_least_squares_takes_groups_one_by_one(groups, generator):
    """Each group of a convolution, and each depthwise filter, gets the textbook's solution for what it reads."""
    model = scatter(
        nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=groups), nn.Conv2d(6, 2, 1)),
        generator,
    )
    data, gone = torch.randn(60, 2, 5, 5, generator=generator), [0, 3]
    smaller = reconstruct(model, {read_layers(model, data)[0].name: gone}, data, ridge=0.0)
    kept = [unit for unit in range(6) if unit not in gone]
    outputs = model[:3](data)[
        :, kept if groups == 6 else slice(None)
    ]  # a depthwise filter goes with its channel
    patches = nn.functional.unfold(smaller[:2](data), 3).unflatten(1, (smaller[2].groups, -1))
    for group, wanted in enumerate(outputs.unflatten(1, (smaller[2].groups, -1)).unbind(1)):
        rows = patches[:, group].transpose(1, 2).flatten(0, 1).detach().double()
        rows = torch.cat([rows, torch.ones(len(rows), 1).double()], dim=1)
        best = torch.linalg.lstsq(
            rows, wanted.flatten(2).transpose(1, 2).flatten(0, 1).detach().double()
        ).solution
        own = slice(group * wanted.shape[1], (group + 1) * wanted.shape[1])
        torch.testing.assert_close(
            smaller[2].weight[own].flatten(1).double(), best[:-1].T, rtol=1e-3, atol=1e-4
        )
        torch.testing.assert_close(smaller[2].bias[own].double(), best[-1], rtol=1e-3, atol=1e-4)


def test_many_columns_are_solved_by_rows(monkeypatch, generator):
    model, data = tiny_cnn(generator), batch(generator)
    model.insert(3, scatter(nn.Conv2d(6, 6, 3, padding=1, groups=2), generator))
    by_columns = reconstruct(model, {"0": [1, 3], "4": [2]}, data, ridge=0.01)
    monkeypatch.setattr("splinelib.regression._PRIMAL", 0)
    by_rows = reconstruct(model, {"0": [1, 3], "4": [2]}, data, ridge=0.01)
    torch.testing.assert_close(by_rows(data), by_columns(data), rtol=1e-3, atol=1e-3)


def test_a_network_that_keeps_an_activation_gets_its_norms_anew(generator):
    model, data = tiny_cnn(generator), batch(generator)
    plain = reestimate_norms(model, data)(data)
    model.kept = model(data)
    torch.testing.assert_close(reestimate_norms(model, data)(data), plain)


@pytest.mark.parametrize("network", [tiny_cnn, lambda g: small_network("preresnet20", g).eval()])
def test_one_pass_of_all_images_does_what_a_pass_for_each_module_does(network, monkeypatch, generator):
    model = network(generator)
    data = batch(generator) if network is tiny_cnn else images("preresnet20", generator, count=60)
    layers = read_layers(model, data[:2])
    selection = {layer.name: list(range(0, layer.units, 3)) for layer in layers}
    together = reconstruct(model, selection, data), reestimate_norms(model, data)
    monkeypatch.setattr("splinelib.layers.visits.HELD", 1)
    apart = reconstruct(model, selection, data), reestimate_norms(model, data)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one(data), other(data), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(3, 5),
        nn.Conv1d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)),
        nn.Conv2d(4, 6, 3, groups=2, padding="same", dilation=2),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 6, 4, padding="same", padding_mode="reflect"),
        nn.Conv3d(2, 3, (1, 2, 3), padding=(0, 1, 1), padding_mode="replicate"),
    ],
    ids=lambda module: type(module).__name__,
)
def test_patches_times_weights_are_what_a_module_writes(module, generator):
    axes = {nn.Linear: 0, nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}[type(module)]
    channels = () if axes == 0 else (module.in_channels,)
    inputs = torch.randn(3, *channels, *(5, 7, 6)[:axes], *([4, 3] if axes == 0 else []), generator=generator)
    outputs = module(inputs)
    positions = torch.randperm(output_positions(module, outputs), generator=generator)[:4]
    rows = patches(module, inputs, positions)
    found = (rows @ group_weights(module)).transpose(0, 1).flatten(1) + module.bias
    torch.testing.assert_close(found, outputs_at(module, outputs, positions))


def test_every_kind_of_convolution_is_re_solved(generator):
    """A twin that is gone leaves no error where its reader is solved, however the reader pads."""
    readers = {
        1: nn.Conv1d(4, 3, 3, padding=1),
        2: nn.Conv2d(4, 3, 3, padding="same", padding_mode="circular"),
        3: nn.Conv3d(4, 3, 2),
    }
    for axes, reader in readers.items():
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        model = nn.Sequential(kind(3, 4, 1), nn.ReLU(), reader).eval()
        # The last unit is a mixture of two others wherever those are on: merging cannot make it good.
        model[0].weight.data.abs_()
        model[0].bias.data.abs_()
        model[0].weight.data[3] = 0.5 * model[0].weight.data[0] + 0.25 * model[0].weight.data[1]
        model[0].bias.data[3] = 0.5 * model[0].bias.data[0] + 0.25 * model[0].bias.data[1]
        data = torch.rand(40, 3, *[5] * axes, generator=generator)
        smaller = reconstruct(model, {"0": [3]}, data, ridge=1e-7)
        torch.testing.assert_close(smaller(data), model(data), rtol=1e-3, atol=1e-3)


class Tokens(nn.Module):
    """A perceptron for each of nine tokens of an image, which lie as ``arrange`` puts them."""

    def __init__(self, arrange, back):
        super().__init__()
        self.a, self.b, self.o = nn.Linear(5, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.arrange, self.back = arrange, back

    def forward(self, x):
        return self.back(self.o(self.b(self.a(self.arrange(x)).relu()).relu()), len(x))


LAYOUTS = {
    "time first": (lambda x: x.transpose(0, 1), lambda y, n: y.transpose(0, 1)),
    "windows": (lambda x: x.reshape(-1, 3, 5), lambda y, n: y.reshape(n, 9, 3)),
    "rows": (lambda x: x.reshape(-1, 5), lambda y, n: y.reshape(n, 9, 3)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tokens_may_lie_anywhere(layout, generator):
    images = torch.randn(120, 9, 5, generator=generator)
    plain = Tokens(lambda x: x, lambda y, n: y)
    other = Tokens(*LAYOUTS[layout])
    other.load_state_dict(plain.state_dict())
    selection = {"a": list(range(8)), "b": list(range(8))}
    wanted, given = (reconstruct(model, selection, images)(images) for model in (plain, other))
    torch.testing.assert_close(given, wanted, rtol=1e-3, atol=1e-4)


def test_modules_that_read_some_images_alone_keep_their_weights(generator):
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.o = (nn.Linear(*sizes) for sizes in ((5, 8), (8, 6), (8, 6), (6, 2)))

        def forward(self, x):
            h, first = self.a(x).relu(), x[:, 0] > 0
            y = x.new_zeros(len(x), self.o.in_features)
            y[first], y[~first] = self.b(h[first]).relu(), self.c(h[~first]).relu()
            return self.o(y)

    images = torch.randn(61, 5, generator=generator)
    images[0, 0], images[1, 0] = 1, -1
    with pytest.warns(UserWarning, match=r"leaves the weights of 'b' \(Linear\), 'c' \(Linear\) as they are"):
        smaller = reconstruct(Routed(), {"a": [0, 1]}, images)
    assert smaller.b.in_features == 6


def test_readers_that_least_squares_leaves_alone_are_named(generator):
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2)).eval()
    data = torch.randn(8, 2, 4, 4, generator=generator)
    with pytest.warns(UserWarning, match=r"leaves the weights of '2' \(ConvTranspose2d\) as they are"):
        reconstruct(model, {"0": [1]}, data)


@pytest.mark.parametrize(
    "arch",
    [
        "vgg16_bn",
        "preresnet20",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("resnet18", "mobilenet_v2")),
    ],
)
def test_least_squares_reduces_the_error_of_any_network(arch, generator):
    model, data = small_network(arch, generator), images(arch, generator, count=24)
    model = reestimate_norms(model, data)
    layers = read_layers(model, data[:2])
    selection = {layer.name: list(range(0, layer.units, 3)) for layer in layers if layer.units > 1}
    removed, solved = remove_units(model, data[:2], selection), reconstruct(model, selection, data)
    errors = [(net(data) - model(data)).square().mean().item() for net in (removed, solved)]
    assert errors[1] < 0.7 * errors[0]


def test_norms_get_the_statistics_of_the_images(generator):
    model, data = tiny_cnn(generator), batch(generator)
    corrected = reestimate_norms(model, data)
    trained = copy.deepcopy(model).train()
    for module in trained.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    trained(data)
    for place, size in ((1, 16), (4, 4)):
        count = len(data) * size
        torch.testing.assert_close(
            corrected[place].running_mean, trained[place].running_mean, rtol=1e-4, atol=1e-4
        )
        unbiased = corrected[place].running_var * count / (count - 1)
        torch.testing.assert_close(unbiased, trained[place].running_var, rtol=1e-4, atol=1e-4)
        assert torch.equal(corrected[place].weight, model[place].weight)


def test_images_without_a_batch_are_named(generator):
    model = tiny_cnn(generator)
    with pytest.raises(SettingError, match=r"does not take images of shape \(2, 6, 6\)"):
        reconstruct(model, {"0": [1]}, torch.randn(INPUT, generator=generator))


@pytest.mark.parametrize("primal", [0, 100])
def test_images_that_do_not_determine_the_weights_are_named(primal, monkeypatch, generator):
    model = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 4))
    data = torch.randn(4, 5, generator=generator)
    monkeypatch.setattr("splinelib.regression._PRIMAL", primal)
    with pytest.raises(SettingError, match="cannot be re-solved with ridge 0: what it reads on the 4 images"):
        reconstruct(model, {"0": [1]}, data, ridge=0.0)


def own(forward):
    return type("Own", (nn.Linear,), {"forward": forward})


def error(model, smaller, data):
    return (smaller(data) - model(data)).square().mean().item()


@pytest.mark.parametrize("gain", [0.1, 3.0])
def test_modules_that_do_something_else_with_their_weight_are_left_and_named(gain, generator):
    """The output is no weight times a patch, so its equations would be of another module."""
    kind = own(lambda s, x: nn.functional.linear(x, gain * s.weight, s.bias))
    model = nn.Sequential(kind(12, 32), nn.ReLU(), kind(32, 32), nn.ReLU(), nn.Linear(32, 5))
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator, std=0.3)
    data = torch.randn(300, 12, generator=generator)
    with pytest.warns(UserWarning, match=r"leaves the weights of '2' \(Own\) as they are"):
        solved = reconstruct(model, {"0": [0, 1, 2]}, data)
    assert torch.equal(solved[0].weight, model[0].weight[3:])  # nothing changes in front of the cut
    assert error(model, solved, data) < error(model, remove_units(model, data[:2], {"0": [0, 1, 2]}), data)


def test_two_modules_of_one_weight_are_left_and_named(generator):
    model = nn.Sequential(*(nn.Linear(32 if at else 12, 32) for at in range(3)), nn.Linear(32, 5))
    model = nn.Sequential(*[part for layer in model for part in (layer, nn.ReLU())][:-1])
    model[4].weight = model[2].weight
    data = torch.randn(500, 12, generator=generator)
    (layer,) = (one for one in read_layers(model, data[:2]) if "4" in dict(one.reading()))
    selection = {layer.name: list(range(0, 32, 2))}
    with pytest.warns(UserWarning, match="leaves the weights of .*'4' .* a weight of their own"):
        solved = reconstruct(model, selection, data)
    assert solved[4].weight is solved[2].weight
    assert error(model, solved, data) < error(model, remove_units(model, data[:2], selection), data)


def test_modules_that_run_several_times_are_named(generator):
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.i, self.r, self.o = nn.Linear(12, 24), nn.Linear(24, 24), nn.Linear(24, 5)

        def forward(self, x):
            z = self.i(x).relu()
            return self.o(self.r(self.r(z).relu()).relu())

    model, data = Steps(), torch.randn(300, 12, generator=generator)
    (layer,) = read_layers(model, data[:2])
    with pytest.warns(UserWarning, match=r"solves 'r' \(Linear\) for the first of several runs alone"):
        reconstruct(model, {layer.name: [0, 5]}, data)


def test_modules_called_by_keyword_are_solved(generator):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 9), nn.Linear(9, 3)

        def forward(self, x):
            return self.b(input=self.a(input=x).relu())

    model, data = Named(), torch.randn(200, 6, generator=generator)
    solved = reconstruct(model, {"a": [0, 4]}, data)
    assert error(model, solved, data) < error(model, remove_units(model, data[:2], {"a": [0, 4]}), data)


class Views(nn.Module):
    """Two views of each image go through one trunk, one behind the other: not image by image."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 12), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        hidden = torch.relu(self.a(torch.cat([x[:, :4], x[:, 4:]])))
        one, other = self.c(torch.relu(self.b(hidden))).chunk(2)
        return one - other


def test_rows_that_do_not_lie_image_by_image_are_paired(monkeypatch):
    model, data = Views().eval(), torch.randn(120, 8)
    together = reconstruct(model, {"a": [0, 1, 2, 3], "b": [4, 5]}, data)
    monkeypatch.setattr("splinelib.layers.visits.HELD", 1)  # module by module, chunk by chunk
    apart = reconstruct(model, {"a": [0, 1, 2, 3], "b": [4, 5]}, data)
    torch.testing.assert_close(together(data), apart(data), rtol=1e-3, atol=1e-3)


class Levels(nn.Module):
    """A head that runs on two levels, and reads nothing that is cut."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 12), nn.Linear(12, 5), nn.Linear(4, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.b(torch.relu(self.a(x)))), self.head(3 * self.c(x))


def test_a_head_of_several_levels_is_not_fitted_to_the_first():
    model, data = Levels().eval(), torch.randn(60, 4)
    smaller = reconstruct(model, {"a": [0, 1, 2, 3, 4, 5]}, data)
    torch.testing.assert_close(smaller(data)[1], model(data)[1])
    assert torch.equal(smaller.head.weight, model.head.weight)
    assert not torch.equal(smaller.b.bias, model.b.bias)


def test_a_masked_weight_is_left_as_it_is_and_named(generator):
    model, data = tiny_cnn(generator), batch(generator)
    torch.nn.utils.prune.random_unstructured(model[3], "weight", 0.6)
    with pytest.warns(UserWarning, match=r"leaves the weights of '3' \(Conv2d\) as they are"):
        smaller = reconstruct(model, {"0": [1, 3]}, data)
    kept = [unit for unit in range(6) if unit not in (1, 3)]
    assert (smaller[3].weight != 0).sum() <= (model[3].weight[:, kept] != 0).sum()
