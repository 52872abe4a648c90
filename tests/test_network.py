import pytest
import torch
import torch.nn.functional as F
from tiny_nets import Net, images, scatter, small_network, tiny_cnn
from torch import nn

from splinelib import read_layers, remove_units
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.layers import Layer, Writer, folded
from splinelib.layers.hyperplanes import raw_rows, unit_scales
from splinelib.pruning import fuse_norms
from splinestudy.models import ChannelSelection, build_model
from splinestudy.runs.profiles import get_profile


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def hooks_of(model):
    return [
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()
    ]


def test_layers_of_a_chain(generator):
    model = tiny_cnn(generator)
    first, second, third = read_layers(model, torch.zeros(2, 2, 6, 6))
    assert [(layer.name, layer.units, layer.norm) for layer in (first, second, third)] == [
        ("0", 6, None),
        ("3", 5, None),
        ("7", 8, None),
    ]
    assert [(w.module, w.norm) for w in (*first.writers, *second.writers, *third.writers)] == [
        ("0", "1"),
        ("3", "4"),
        ("7", None),
    ]
    assert (first.readers, second.readers, third.readers) == (("3",), ("7",), ("9",))


def test_reading_works_on_frozen_parameters_and_leaves_the_model_alone(generator):
    model = tiny_cnn(generator).train()
    model[4].eval()
    model[:9].requires_grad_(False)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    with torch.no_grad():
        layers = read_layers(model, torch.zeros(1, 2, 6, 6))
    assert [layer.name for layer in layers] == ["0", "3", "7"]
    assert [module.training for module in model.modules()] == modes
    assert not model[3].weight.requires_grad
    assert model[9].weight.requires_grad
    assert hooks_of(model) == [0] * len(hooks_of(model))
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_inputs_that_do_not_fit_leave_nothing_behind(generator):
    model = tiny_cnn(generator).train()
    with pytest.raises(SettingError, match="does not take the example inputs .*shapes cannot be multiplied"):
        read_layers(model, torch.zeros(2, 2, 7, 7))
    assert hooks_of(model) == [0] * len(hooks_of(model))
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    "tail", [nn.Softmax(1), nn.LogSoftmax(1), nn.Identity(), nn.BatchNorm1d(3), nn.Unflatten(1, (3, 1))]
)
def test_the_output_layer_stays(tail):
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3), tail)
    assert [layer.name for layer in read_layers(model, torch.zeros(3, 2))] == ["0"]


def test_a_model_without_prunable_layer_is_named():
    with pytest.raises(UnsupportedModuleError, match="Sequential has no layer that can be pruned"):
        read_layers(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(1, 4))


def test_one_input_is_enough():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    assert [layer.units for layer in read_layers(model, torch.zeros(1, 4))] == [8]


def test_a_batch_is_one_argument():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x, shortcut=None):
            return x if shortcut is not None else self.head(self.first(x).relu())

    assert [layer.name for layer in read_layers(Optional(), torch.zeros(2, 4))] == ["first"]


def test_folding_by_hand():
    # σ = √(3.99999 + 1e-5) = 2, so w = 6/2 · (1, -2) = (3, -6) and b = 5 + 3 · (0.5 - 1.5) = 2.
    model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1), nn.ReLU(), nn.Linear(1, 1)).eval()
    model[0].weight.data = torch.tensor([[1.0, -2.0]])
    model[0].bias.data = torch.tensor([0.5])
    model[1].weight.data, model[1].bias.data = torch.tensor([6.0]), torch.tensor([5.0])
    model[1].running_mean, model[1].running_var = torch.tensor([1.5]), torch.tensor([3.99999])
    (layer,) = read_layers(model, torch.zeros(1, 2))
    weight, bias = folded(model, layer)
    torch.testing.assert_close(weight, torch.tensor([[3.0, -6.0]], dtype=torch.float64), rtol=1e-6, atol=0)
    torch.testing.assert_close(bias, torch.tensor([2.0], dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("step", [nn.ReLU(), nn.Hardtanh(), nn.LeakyReLU(inplace=True), nn.PReLU()])
def test_a_batch_norm_behind_a_bend_is_not_folded(step, generator):
    model = scatter(
        nn.Sequential(nn.Linear(4, 5), step, nn.BatchNorm1d(5), nn.Linear(5, 2)), generator
    ).eval()
    (layer,) = read_layers(model, torch.zeros(2, 4))
    assert [writer.norm for writer in layer.writers] == [None]
    torch.testing.assert_close(folded(model, layer), (model[0].weight.double(), model[0].bias.double()))
    torch.testing.assert_close(unit_scales(model, layer), model[2].weight.abs().double())
    model[0].bias.data.uniform_(0.1, 0.9, generator=generator)  # on which the step does nothing
    inputs = torch.randn(9, 4, generator=generator)
    torch.testing.assert_close(fuse_norms(model, torch.zeros(2, 4))(inputs), model(inputs))


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.permute(0, 2, 3, 1).clone().permute(0, 3, 1, 2),
        lambda x: torch.cat(x.flatten(2).chunk(2, 1), 1).unflatten(2, x.shape[2:]).float(),
        lambda x: F.dropout2d(x, training=False),
    ],
)
def test_a_batch_norm_behind_what_only_moves_numbers_is_folded(step):
    model = Net(
        lambda s, x: s.h(s.n(step(s.c(x))).relu()),
        c=nn.Conv2d(3, 4, 1),
        n=nn.BatchNorm2d(4),
        h=nn.Conv2d(4, 2, 1),
    )
    (layer,) = read_layers(model, torch.zeros(2, 3, 4, 4))
    assert [writer.norm for writer in layer.writers] == ["n"]


CONVOLUTIONS = {
    "plain": nn.Conv2d(4, 6, 3, bias=False),
    "bias": nn.Conv2d(4, 6, (3, 2), stride=2, padding=1),
    "groups": nn.Conv2d(4, 6, 3, groups=2),
    "multiplier": nn.Conv2d(4, 8, 3, groups=4),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_folded_convolution_gives_what_the_batch_norm_puts_out(name, generator):
    convolution = CONVOLUTIONS[name]
    model = nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())
    model.append(nn.Conv2d(convolution.out_channels, 2, 1))
    model = scatter(model, generator).double().eval()
    inputs = torch.randn(3, 4, 7, 7, generator=generator, dtype=torch.float64)
    weight, bias = folded(model, read_layers(model, inputs)[0])
    expected = model[:2](inputs)
    patches = F.unfold(
        inputs, convolution.kernel_size, padding=convolution.padding, stride=convolution.stride
    )
    actual = torch.einsum("kd,ndp->nkp", weight, patches) + bias[:, None]
    close(actual.view_as(expected), expected)


@pytest.mark.parametrize("groups", [1, 2])
def test_folded_transposed_convolution(groups, generator):
    model = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, groups=groups), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)
    )
    model = scatter(model, generator).double().eval()
    # Output (2, 2) of a 3×3 kernel reads the one input pixel through the kernel's last place.
    pixel = torch.randn(5, 4, 1, 1, generator=generator, dtype=torch.float64)
    weight, bias = folded(model, read_layers(model, pixel)[0])
    last = weight.view(6, -1, 9)[:, :, 8]
    close(pixel.flatten(1) @ last.T + bias, model[:2](pixel)[:, :, 2, 2])


@pytest.mark.parametrize("affine", [True, False])
def test_folded_linear(affine, generator):
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7, affine=affine), nn.ReLU(), nn.Linear(7, 2))
    model[1].running_mean.normal_(generator=generator)
    model[1].running_var.uniform_(0.5, 2, generator=generator)
    if affine:
        scatter(model, generator)
    model = model.double().eval()
    inputs = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    weight, bias = folded(model, read_layers(model, inputs)[0])
    close(inputs @ weight.T + bias, model[:2](inputs))


def test_folding_works_in_float64_on_float32_weights(generator):
    model = tiny_cnn(generator)
    for layer in read_layers(model, torch.zeros(1, 2, 6, 6)):
        weight, bias = folded(model, layer)
        assert (weight.dtype, bias.dtype) == (torch.float64, torch.float64)
        assert len(weight) == len(bias) == layer.units


@pytest.mark.parametrize("kept", [slice(None), [0, 2, 3]])
def test_folded_selection_gives_what_the_batch_norm_after_the_skip_puts_out(kept, generator):
    model = small_network("preresnet20", generator).double()
    model.stage2[1].select.indexes = model.stage2[1].select.indexes[kept]
    model.stage2[1].conv1.weight.data = model.stage2[1].conv1.weight.data[:, kept]
    model.stage2[1].conv1.in_channels = model.stage2[1].conv1.weight.shape[1]
    inputs = images("preresnet20", generator).double()
    layer = next(layer for layer in read_layers(model, inputs) if layer.name == "stage2.1.select")
    assert [(w.module, w.norm) for w in layer.writers] == [
        ("stage2.0.conv3", None),
        ("stage2.0.shortcut", None),
    ]
    assert layer.norm == "stage2.1.bn1"
    assert layer.units == len(model.stage2[1].select.indexes)
    # Both writers are 1×1 convolutions: the unit's normal acts on their stacked inputs.
    seen = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: (inputs[0], output)})
        )
        for name in ("stage2.0.conv3", "stage2.0.shortcut", "stage2.1.select")
    ]
    model(inputs)
    for handle in handles:
        handle.remove()
    stride = model.stage2[0].shortcut.stride[0]
    stacked = torch.cat(
        [seen["stage2.0.conv3"][0], seen["stage2.0.shortcut"][0][:, :, ::stride, ::stride]], dim=1
    )
    weight, bias = folded(model, layer)
    close(torch.einsum("kd,ndhw->nkhw", weight, stacked) + bias[:, None, None], seen["stage2.1.select"][1])


def test_the_last_selection_reads_every_writer_of_the_stream_once(generator):
    model = small_network("preresnet20", generator)
    layers = {layer.name: layer for layer in read_layers(model, images("preresnet20", generator))}
    assert [w.module for w in layers["select"].writers] == [
        "stage3.1.conv3",
        "stage3.0.conv3",
        "stage3.0.shortcut",
    ]
    # The stem feeds the shortcut, too, so the norm behind it is the layer's and not its own.
    assert [(w.module, w.norm) for w in layers["stage1.0.select"].writers] == [("conv1", None)]
    assert layers["stage1.0.select"].norm == "stage1.0.bn1"
    assert not any("conv3" in name or "shortcut" in name for name in layers)  # the stream itself stays


def test_resnet_stream_is_one_layer_of_all_its_writers(generator):
    model = build_model("resnet18", num_classes=2, image_size=16, seed=0)
    layers = {layer.name: layer for layer in read_layers(model, torch.zeros(1, 3, 16, 16))}
    stream = next(layer for layer in layers.values() if any(w.module == "conv1" for w in layer.writers))
    assert {(w.module, w.norm) for w in stream.writers} == {
        ("conv1", "bn1"),
        ("layer1.0.conv2", "layer1.0.bn2"),
        ("layer1.1.conv2", "layer1.1.bn2"),
    }
    assert {"layer1.0.conv1", "layer2.0.conv1", "layer2.0.downsample.0"} <= set(stream.readers)
    weight, _ = folded(model, stream)
    assert weight.shape == (64, 3 * 9 + 2 * 64 * 9)
    scales = sum(model.get_submodule(w.norm).weight.detach().abs() for w in stream.writers)
    close(unit_scales(model, stream), scales.double())


def test_a_network_of_one_width_is_named_before_any_run():
    with pytest.raises(SettingError, match=r"arch is 'resnet18' and width 0.25.*set width=1 .*-p width 1"):
        get_profile("smoke", arch="resnet18")
    assert get_profile("smoke", arch="resnet18", width=1).width == 1
    assert get_profile("smoke", arch="resnet50").width == 1 / 4


def test_coupled_expansion_and_depthwise_convolution_stand_side_by_side(generator):
    model = small_network("mobilenet_v2", generator)
    inputs = images("mobilenet_v2", generator)
    layer = next(
        layer
        for layer in read_layers(model, inputs)
        if {w.module for w in layer.writers} == {"features.3.conv.0.0", "features.3.conv.1.0"}
    )
    expansion, depthwise = (model.get_submodule(w.module).weight.double().flatten(1) for w in layer.writers)
    torch.testing.assert_close(raw_rows(model, layer), torch.cat([expansion, depthwise], dim=1).detach())


class Straddling(nn.Module):
    """The middle one of three filters reads the last channel of ``a`` and the first one of ``b``."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(4, 1, 1)
        self.sizes = [1, 2, 1]
        self.filters = nn.ModuleList(nn.Conv2d(n, n, 1, groups=n) for n in self.sizes)

    def forward(self, x):
        parts = torch.cat([self.a(x[:, :1]), self.b(x[:, 1:])], 1).split(self.sizes, 1)
        return self.last(torch.cat([f(y) for f, y in zip(self.filters, parts, strict=True)], 1))


def test_units_of_several_writers_have_zeros_where_one_does_not_write_them():
    model = Straddling().double().eval()
    layers = read_layers(model, torch.randn(3, 3, 2, 2).double())
    (layer,) = [layer for layer in layers if layer.units == 2]
    assert [writer.module for writer in layer.writers] == ["a", "b", "filters.1"]
    weight, bias = folded(model, layer)
    own = model.filters[1].weight.flatten().detach()
    first, second = model.a.weight[1].flatten().detach(), model.b.weight[0].flatten().detach()
    zero = torch.zeros(2).double()
    close(
        weight[:, :4],
        torch.stack([torch.cat([first, zero, own[:1]]), torch.cat([zero[:1], second, own[1:]])]),
    )
    # And so do their offsets: a unit has the boundaries of its writer and of the filter behind it.
    behind, nothing = model.filters[1].bias.detach(), zero[0]
    close(weight[0, 4:], torch.stack([model.a.bias[1].detach(), nothing, behind[0]]))
    close(weight[1, 4:], torch.stack([nothing, model.b.bias[0].detach(), behind[1]]))
    close(bias, zero)


def test_writers_of_different_widths_are_named():
    class ZeroPadded(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Linear(2, 3), nn.Linear(3, 5), nn.Linear(5, 2)

        def forward(self, x):
            x = self.first(x).relu()
            return self.head((self.second(x) + F.pad(x, (1, 1))).relu())

    # The units of the first module are the middle ones of the second: they go together, the padded ones stay.
    model, inputs = ZeroPadded().eval(), torch.randn(3, 2)
    (layer,) = read_layers(model, inputs)
    assert (layer.name, layer.units, layer.written("second").tolist()) == ("first", 3, [[1], [2], [3]])
    smaller, hidden = remove_units(model, inputs, {"first": [0]}), model.first(inputs).relu()
    hidden[:, 0] = 0
    stream = (model.second(hidden) + F.pad(hidden, (1, 1))).relu()
    stream[:, 1] = 0
    close(smaller(inputs).double(), model.head(stream).double())
    layer = Layer("second", 5, (Writer("first", None), Writer("second", None)), None, ("head",))
    with pytest.raises(UnsupportedModuleError, match=r"different widths \[[35], [35]\]"):
        folded(model, layer)


def test_batch_norm_without_statistics_is_named():
    model = nn.Sequential(
        nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False), nn.ReLU(), nn.Linear(3, 2)
    )
    (layer,) = read_layers(model, torch.zeros(4, 2))
    with pytest.raises(UnsupportedModuleError, match="track_running_stats=True"):
        folded(model, layer)


def test_a_selection_must_follow_a_batch_norm():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), ChannelSelection(3), nn.Linear(3, 2))
    with (
        pytest.warns(UserWarning, match="left whole: '2': a ChannelSelection must follow a batch norm"),
        pytest.raises(UnsupportedModuleError, match="'2'.* must follow a batch norm"),
    ):
        read_layers(model, torch.zeros(2, 2))


def test_a_selection_that_dropped_channels_reads_alike_in_channels_last():
    model = build_model("preresnet20", num_classes=10, width=0.25, seed=0)
    example = torch.zeros(2, 3, 32, 32)
    for module in model.modules():
        if isinstance(module, ChannelSelection):
            module.indexes = module.indexes[::2].clone()
    for block in model.modules():
        if hasattr(block, "select") and hasattr(block, "conv1") and block is not model:
            half = nn.Conv2d(block.conv1.in_channels // 2, block.conv1.out_channels, 1, bias=False)
            block.conv1 = half
    model.head = nn.Linear(model.head.in_features // 2, 10)
    usual = read_layers(model, example)
    assert usual == read_layers(model.to(memory_format=torch.channels_last), example)
    assert "bn" in {layer.norm for layer in usual}
