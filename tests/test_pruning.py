import copy
from functools import partial

import pytest
import timm
import torch
import torchvision
from tiny_nets import images, scatter, small_network, tiny_cnn
from torch import nn
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import VGG, make_layers

from splinelib import Spline, prune, read_layers, remove_units
from splinelib.criteria import FilterNorm, Random, ReconstructionCost
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.layers import Layer
from splinelib.pruning import cost, mask_units, select_budget, select_units
from splinestudy.models import ARCHITECTURES, ChannelSelection

SCOPES = ("layerwise", "global")


def snapshot(model):
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return tensors, hooks, [m.training for m in model.modules()]


def assert_unchanged(model, before):
    tensors, hooks, modes = snapshot(model)
    assert hooks == before[1] == [0] * len(hooks)
    assert modes == before[2]
    assert tensors.keys() == before[0].keys()
    assert all(torch.equal(tensor, before[0][name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("ratio", [0.05, 0.4, 0.8])
def test_flops_are_met_with_the_fewest_units(scope, ratio, generator):
    model, inputs = tiny_cnn(generator), torch.randn(2, 2, 6, 6, generator=generator)
    layers = read_layers(model, inputs)
    scores = FilterNorm(1)(model, layers)
    units = sum(layer.units for layer in layers)

    def flops_without(count):
        selection = select_units(layers, scores, count / units, scope)
        return selection, cost(remove_units(model, inputs, selection), inputs).flops

    most = (1 - ratio) * cost(model, inputs).flops
    slow = next(chosen for chosen, flops in map(flops_without, range(1, units)) if flops <= most)
    assert select_budget(model, inputs, layers, scores, ratio, scope) == slow
    small = prune(model, inputs, ratio, scope, FilterNorm(1), ratio_of="flops")
    assert cost(small, inputs).flops <= most


def test_shares_of_flops_that_cannot_be_met_are_named(generator):
    model, inputs = tiny_cnn(generator), torch.randn(2, 2, 6, 6, generator=generator)
    with pytest.raises(SettingError, match="0.999999 of the FLOPs: with one unit in every layer"):
        prune(model, inputs, 0.999999, "global", ratio_of="flops")
    with pytest.raises(SettingError, match="ratio_of is 'flop': choose 'units', 'flops', 'parameters' or"):
        prune(model, inputs, 0.5, ratio_of="flop")


def deep_ones_later(names):
    """Large networks take five to fifteen seconds each, and show little that others of their kind do not."""
    deep = ("preresnet101", "resnet18", "resnet50", "mobilenet_v2", "regnetx_002", "regnety_002", "vgg16")
    return [pytest.param(name, marks=pytest.mark.long) if name in deep else name for name in names]


@pytest.mark.parametrize("arch", deep_ones_later(ARCHITECTURES))
def test_pruned_network_equals_masked_network(arch, generator):
    model = small_network(arch, generator).train()
    before = snapshot(model)
    example, inputs = images(arch, generator), images(arch, generator, count=3)
    layers = read_layers(model, example)
    scores = Spline()(model, layers)
    full = cost(model, example)
    outputs = []
    for scope, ratio in (("layerwise", 0.5), ("global", 0.4)):
        selection = select_units(layers, scores, ratio, scope)
        pruned = remove_units(model, example, selection)
        masked = mask_units(model, example, selection)
        assert pruned.training
        assert masked.training
        with torch.no_grad():
            outputs.append(pruned.eval()(inputs))
            torch.testing.assert_close(outputs[-1], masked.eval()(inputs), rtol=1e-5, atol=1e-5)
        smaller = cost(pruned, example)
        assert smaller.parameters < full.parameters
        assert smaller.flops < full.flops
        assert cost(masked, example) == full
        sizes = {layer.name: layer.units for layer in layers}
        assert {layer.name: layer.units for layer in read_layers(pruned, example)} == {
            name: units - len(selection.get(name, [])) for name, units in sizes.items()
        }
    with torch.no_grad():
        whole = copy.deepcopy(model).eval()(inputs)
    assert not any(torch.allclose(output, whole, rtol=1e-3, atol=1e-3) for output in outputs)
    assert_unchanged(model, before)


@pytest.mark.parametrize("criterion", [Spline(offset="geometric"), FilterNorm(1), Random(0), None])
def test_prune_is_its_parts_in_one(criterion, generator):
    model, example = tiny_cnn(generator), torch.randn(3, 2, 6, 6, generator=generator)
    layers = read_layers(model, example)
    scores = (criterion or Spline())(model, layers)
    for scope in SCOPES:
        wanted = remove_units(model, example, select_units(layers, scores, 0.4, scope))
        pruned = prune(model, example, 0.4, scope, criterion)
        assert pruned.state_dict().keys() == wanted.state_dict().keys()
        assert all(
            torch.equal(tensor, wanted.state_dict()[name]) for name, tensor in pruned.state_dict().items()
        )


def test_pruning_again_goes_on(generator):
    model = small_network("preresnet20", generator)
    example = images("preresnet20", generator)
    once = prune(model, example, 0.5)
    layers = read_layers(once, example)
    selection = select_units(layers, Spline()(once, layers), 0.3)
    pruned, masked = remove_units(once, example, selection), mask_units(once, example, selection)
    with torch.no_grad():
        torch.testing.assert_close(pruned(example), masked(example), rtol=1e-5, atol=1e-5)
    assert any(
        m.indexes.numel() < m.channels // 2 for m in pruned.modules() if isinstance(m, ChannelSelection)
    )


def test_layerwise_twins_leave_the_function_as_it_was(generator):
    # Unit 1 of each pair is unit 0 with another name; their readers' weights add up in one and vanish in the other.
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    model[0].weight.data[2:], model[0].bias.data[2:] = model[0].weight.data[:2], model[0].bias.data[:2]
    model[2].weight.data[:, 2:] = 0
    inputs = torch.randn(5, 3, generator=generator)
    pruned = prune(model, inputs, 0.5)
    assert pruned[0].out_features == 2
    torch.testing.assert_close(pruned(inputs), model(inputs))


def test_a_pruned_network_trains(generator):
    model = small_network("alexnet", generator)
    model(images("alexnet", generator)).sum().backward()
    example = images("alexnet", generator)
    pruned = prune(model, example, 0.5)
    assert all(parameter.grad is None for parameter in pruned.parameters())
    assert all(parameter.grad is not None for parameter in model.parameters())
    pruned.train()(example).square().sum().backward()
    assert all(parameter.grad.shape == parameter.shape for parameter in pruned.parameters())


def test_a_mask_silences_writers_and_readers(generator):
    model = tiny_cnn(generator)
    masked = mask_units(model, torch.zeros(2, 2, 6, 6), {"0": [1, 4], "3": [0]})
    expected = copy.deepcopy(model)
    for tensor in (
        expected[0].weight,
        expected[1].weight,
        expected[1].bias,
        expected[3].weight.transpose(0, 1),
    ):
        tensor.data[[1, 4]] = 0
    for tensor in (expected[3].weight, expected[3].bias, expected[4].weight, expected[4].bias):
        tensor.data[0] = 0
    expected[7].weight.data[:, :4] = 0  # channel 0 of the flattened 2×2 images
    for name, tensor in expected.state_dict().items():
        assert torch.equal(masked.state_dict()[name], tensor), name


class Concatenated(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
        self.norm, self.last, self.head = nn.BatchNorm2d(10), nn.ConvTranspose2d(10, 6, 3), nn.Linear(6, 2)

    def forward(self, x):
        x = self.first(x).relu()
        x = torch.cat([x, self.second(x).relu()], dim=1)
        return self.head(self.last(self.norm(x).relu()).relu().mean((2, 3)))


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.value, self.gate, self.head = nn.Linear(72, 8), nn.Linear(72, 8), nn.Linear(8, 2)

    def forward(self, x):
        x = x.flatten(1)
        return self.head(self.value(x) * self.gate(x).sigmoid())


def with_activation(activation):
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), activation, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)
    )


@pytest.mark.parametrize(
    "model",
    [
        Concatenated,
        Gated,
        lambda: with_activation(nn.PReLU()),
        lambda: with_activation(nn.PReLU(6)),
        lambda: with_activation(nn.Sequential(nn.InstanceNorm2d(6, affine=True), nn.ReLU())),
    ],
)
def test_other_structures_equal_their_masks(model, generator):
    model, inputs = scatter(model(), generator).eval(), torch.randn(3, 2, 6, 6, generator=generator)
    layers = read_layers(model, inputs)
    selection = select_units(layers, Spline()(model, layers), 0.5)
    pruned, masked = remove_units(model, inputs, selection), mask_units(model, inputs, selection)
    torch.testing.assert_close(pruned(inputs), masked(inputs), rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("middle", "named"),
    [
        (nn.Conv2d(6, 6, 3, padding=1, groups=2), "'1' .Conv2d. has 2 groups"),
        (nn.GroupNorm(3, 6), "'1' .GroupNorm. has 3 groups"),
    ],
)
@pytest.mark.parametrize("surgery", [remove_units, mask_units])
def test_groups_of_channels_must_stay_equally_large(surgery, middle, named):
    model = with_activation(middle)
    with pytest.raises(
        UnsupportedModuleError, match=rf"{named}.*without units \[1\] of layer '0'.*as many from each"
    ):
        surgery(model, torch.zeros(2, 2, 6, 6), {"0": [1]})


def test_every_group_of_channels_loses_its_own_lowest():
    layer = Layer("0", 6, (), None, (), groups=2)
    scores = [torch.tensor([0.0, 1.0, 2.0, 9.0, 7.0, 8.0])]
    assert select_units([layer], scores, 0.3) == {"0": [0, 4]}
    assert select_units([layer], scores, 0.9) == {"0": [0, 1, 4, 5]}  # one of each group stays
    assert select_units([layer], scores, 0.5, "global") == {"0": [0, 1, 4, 5]}


@pytest.mark.parametrize("units", [[0, 4], [1, 2, 3, 5]])
def test_grouped_convolutions_keep_the_columns_of_each_group(units, generator):
    middle = nn.Sequential(
        nn.Conv2d(6, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1), nn.ReLU()
    )
    model, inputs = (
        scatter(with_activation(middle), generator).eval(),
        torch.randn(3, 2, 6, 6, generator=generator),
    )
    pruned, masked = (surgery(model, inputs, {"0": units}) for surgery in (remove_units, mask_units))
    torch.testing.assert_close(pruned(inputs), masked(inputs))
    assert pruned[1][0].weight.shape == (4, (6 - len(units)) // 2, 3, 3)
    assert mask_units(model, inputs, {"1.0": [0, 2]})[1][0].weight.shape == model[1][0].weight.shape
    outputs = [surgery(model, inputs, {"1.0": [1, 2]})(inputs) for surgery in (remove_units, mask_units)]
    torch.testing.assert_close(*outputs)


@pytest.mark.parametrize("name", deep_ones_later(["regnetx_002", "regnety_002"]))
@pytest.mark.parametrize("scope", SCOPES)
def test_regnets_equal_their_masks(name, scope, generator):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = scatter(timm.create_model(name, num_classes=4), generator).eval()
    inputs = torch.randn(2, 3, 32, 32, generator=generator)
    layers = read_layers(model, inputs)
    assert {layer.groups for layer in layers} > {1}
    assert sum(writer.norm is None for layer in layers for writer in layer.writers) <= sum(
        ".se." in writer.module for layer in layers for writer in layer.writers
    )
    selection = select_units(layers, Spline()(model, layers), 0.4, scope)
    pruned, masked = remove_units(model, inputs, selection), mask_units(model, inputs, selection)
    torch.testing.assert_close(pruned(inputs), masked(inputs), rtol=1e-4, atol=1e-4)
    assert cost(pruned, inputs).flops < 0.5 * cost(model, inputs).flops


@pytest.mark.long
def test_a_regnet_is_cut_by_greedy_reconstruction(generator):
    """Its grouped convolutions are what alone reads half of its layers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = scatter(timm.create_model("regnety_002", num_classes=4), generator).eval()
    data = torch.randn(24, 3, 32, 32, generator=generator)
    layers = read_layers(model, data[:2])
    scores = ReconstructionCost(data)(model, layers)
    pruned = prune(model, data[:2], 0.3, "layerwise", lambda *_: scores, "least_squares", data)
    plain = remove_units(model, data[:2], select_units(layers, scores, 0.3))
    assert all(
        after.units < before.units
        for after, before in zip(read_layers(pruned, data[:2]), layers, strict=True)
    )
    with torch.no_grad():
        errors = [(net(data) - model(data)).square().mean().item() for net in (plain, pruned)]
    assert errors[1] < 0.5 * errors[0]


def short_vgg(build, channels):
    """A VGG of torchvision with a classifier of 512 units: its own holds a hundred million weights."""
    with torch.device("meta"):
        model = build(num_classes=10)
        model.avgpool = nn.AdaptiveAvgPool2d(2)
        model.classifier[0], model.classifier[3] = nn.Linear(4 * channels, 512), nn.Linear(512, 512)
        model.classifier[6] = nn.Linear(512, 10)
    return model.to_empty(device="cpu")


OTHERS_NETWORKS = {
    "vgg_bn": lambda: short_vgg(partial(VGG, make_layers([16, "M", 32, 32, "M", 64, "M"], True)), 64),
    "resnet": lambda: torchvision.models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10),
    "mobilenet": lambda: torchvision.models.MobileNetV2(
        num_classes=10, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 2]]
    ),
    "vgg16": lambda: short_vgg(torchvision.models.vgg16, 512),
    "resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "resnet50": lambda: torchvision.models.resnet50(num_classes=10),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=10),
    "regnety_002": lambda: timm.create_model("regnety_002", num_classes=10),
}


@pytest.mark.parametrize("name", deep_ones_later(OTHERS_NETWORKS))
def test_one_call_prunes_the_networks_of_others(name, generator):
    model, inputs = OTHERS_NETWORKS[name](), torch.randn(3, 3, 32, 32, generator=generator).double()
    for module in model.modules():  # weights with which values keep their size from layer to layer
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=generator)
    # In float64, so that what an image adds to deep, saturated outputs is far above rounding.
    model = scatter(model, generator).double().eval()
    layers = read_layers(model, inputs[:2])
    scores = Spline()(model, layers)
    with torch.no_grad():
        whole = model(inputs)
        for scope in SCOPES:
            pruned = prune(model, inputs[:2], 0.4, scope, round_to=1)(inputs)
            masked = mask_units(model, inputs[:2], select_units(layers, scores, 0.4, scope))(inputs)
            scale = masked.std(dim=0).min().item()  # of what changes from image to image
            assert scale > 1e-5
            assert (masked - whole).abs().mean() > scale
            torch.testing.assert_close(pruned, masked, rtol=0, atol=1e-6 * scale)


def test_norms_over_channels_can_be_cut_but_not_masked():
    model = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2))
    assert remove_units(model, torch.zeros(2, 3), {"0": [1]})[1].normalized_shape == (5,)
    with pytest.raises(UnsupportedModuleError, match="LayerNorm.*use remove_units"):
        mask_units(model, torch.zeros(2, 3), {"0": [1]})


def test_a_model_that_counts_on_its_width_is_named():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.first(x).relu().view(-1, 6))

    with (
        pytest.warns(UserWarning, match="left whole: 'first'"),
        pytest.raises(
            UnsupportedModuleError, match="'first': behind 'first' the network counts on its width"
        ),
    ):
        remove_units(Fixed(), torch.ones(2, 3), {"first": [1]})


def test_numbers_beside_the_modules_are_cut_with_the_units(generator):
    class Gains(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
            self.register_buffer("gain", torch.arange(1.0, 7.0))

        def forward(self, x):
            return self.head(self.first(x).relu() * self.gain)

    model, inputs = Gains(), torch.randn(5, 3, generator=generator)
    smaller = remove_units(model, inputs, {"first": [1, 4]})
    assert smaller.gain.tolist() == [1, 3, 4, 6]
    hidden = model.first(inputs).relu() * model.gain
    hidden[:, [1, 4]] = 0
    torch.testing.assert_close(smaller(inputs), model.head(hidden))


@pytest.mark.parametrize(
    ("selection", "named"),
    [
        ({"9": [0]}, r"layer '9' cannot be pruned.*\['0', '3', '7'\]"),
        ({"0": [6]}, r"units \[6\] of layer '0': .* from 0 to 5"),
        ({"0": [-1]}, r"units \[-1\]"),
        ({"0": [1, 1]}, "distinct"),
        ({"3": [0, 1, 2, 3, 4]}, "all 5 units of layer '3'"),
    ],
)
@pytest.mark.parametrize("surgery", [remove_units, mask_units])
def test_selections_that_do_not_fit_are_named(surgery, selection, named, generator):
    with pytest.raises(SettingError, match=named):
        surgery(tiny_cnn(generator), torch.zeros(2, 2, 6, 6), selection)


@pytest.mark.parametrize("units", [[2.7], torch.tensor([0, 0]), torch.tensor([1.0]), "12", 3])
def test_selections_hold_distinct_whole_numbers(units, generator):
    with pytest.raises(SettingError, match="selection is|distinct"):
        remove_units(tiny_cnn(generator), torch.zeros(2, 2, 6, 6), {"0": units})


def test_selections_may_hold_numpy_and_torch_numbers(generator):
    model, example = tiny_cnn(generator), torch.randn(2, 2, 6, 6, generator=generator)
    wanted = remove_units(model, example, {"0": [1, 4]})(example)
    assert torch.equal(remove_units(model, example, {"0": torch.tensor([1, 4])})(example), wanted)


@pytest.mark.parametrize("scope", SCOPES)
def test_ratios_that_remove_nothing_are_named(scope, generator):
    model, example = tiny_cnn(generator), torch.randn(2, 2, 6, 6, generator=generator)
    with pytest.raises(SettingError, match="ratio is 0.02: that is no whole unit.*largest layer '7' with 8 "):
        prune(model, example, 0.02, scope)
    single = nn.Sequential(nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    with pytest.raises(SettingError, match="ratio is 0.9.*largest layer '0' with 1 .*wider network"):
        prune(single, torch.zeros(2, 3), 0.9, scope)


def test_frozen_parameters_stay_frozen():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    model[0].requires_grad_(False)
    model[2].bias.requires_grad_(False)
    inputs = torch.randn(3, 4)
    for compensate in ("none", "merge", "least_squares"):
        smaller = prune(model, inputs, 0.5, compensate=compensate, data=inputs)
        flags = [parameter.requires_grad for parameter in smaller.parameters()]
        assert flags == [False, False, True, False, True, True]


def test_weights_stay_laid_out_as_they_were(generator):
    model = tiny_cnn(generator)
    example = torch.randn(2, 2, 6, 6, generator=generator)
    wanted = remove_units(model, example, {"0": [1, 4], "3": [0]})
    last = remove_units(model.to(memory_format=torch.channels_last), example, {"0": [1, 4], "3": [0]})
    for place in (0, 3):
        assert last[place].weight.is_contiguous(memory_format=torch.channels_last)
        assert wanted[place].weight.is_contiguous()
        assert torch.equal(last[place].weight, wanted[place].weight)
