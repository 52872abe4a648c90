import copy
import subprocess
import sys

import pytest
import torch
import torch_pruning as tp
from torch import nn

from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.layers.selection_pruner import ChannelSelectionPruner
from splinestudy.models import ARCHITECTURES, CHAINS, ChannelSelection, build_model, mlp

VGG_CHANNELS = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]


def small(arch, in_channels=3, seed=0):
    """The architecture at a quarter of its width where it has one."""
    width = 1.0 if arch == "resnet18" else 0.25
    return build_model(arch, num_classes=7, in_channels=in_channels, width=width, seed=seed)


def scatter_batch_norms(model, seed=0):
    """Give batch norms statistics and weights that no two channels share."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model


def images(in_channels=3, size=32, count=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, in_channels, size, size, generator=generator)


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_outputs_and_gradients(arch, in_channels):
    model = small(arch, in_channels)
    outputs = model(images(in_channels))
    assert outputs.shape == (2, 7)
    outputs.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.dtype == torch.float32 and p.device.type == "cpu" for p in model.parameters())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_nothing_works_in_place(arch):
    assert not [name for name, module in small(arch).named_modules() if getattr(module, "inplace", False)]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_fx_can_trace(arch):
    model = small(arch).eval()
    inputs = images()
    with torch.no_grad():
        torch.testing.assert_close(torch.fx.symbolic_trace(model)(inputs), model(inputs), rtol=0, atol=0)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_weights_follow_from_the_seed_alone(arch):
    torch.manual_seed(123)
    state = torch.get_rng_state()
    first = small(arch, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(321)
    second, other = small(arch, seed=5), small(arch, seed=6)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_vgg_units_parameters_and_weights():
    model = build_model("vgg16_bn", num_classes=10, seed=0)
    units = []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, inputs, __: units.append(inputs[0][0].numel()))
    model(images(count=2))
    assert sum(units) == 276_480
    before = [3, *VGG_CHANNELS[:-1]]
    convolutions = sum(9 * a * b for a, b in zip(before, VGG_CHANNELS, strict=True))
    expected = convolutions + 2 * sum(VGG_CHANNELS) + 512 * 10 + 10
    assert sum(p.numel() for p in model.parameters()) == expected

    # He normal, fan_out = 9 · 512: a million draws pin the deviation to well under a percent.
    assert model.conv4_1.weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert model.head.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not model.head.bias.any()
    assert model.bn1_1.weight.eq(1).all()
    assert not model.bn1_1.bias.any()


@pytest.mark.parametrize(("width", "first", "last"), [(0.25, 16, 128), (0.3, 19, 154), (0.001, 1, 1)])
def test_width_is_rounded_to_at_least_one_channel(width, first, last):
    model = build_model("vgg16_bn", num_classes=10, width=width, seed=0)
    assert model.conv1_1.out_channels == first
    assert model.head.in_features == last


@pytest.mark.parametrize(("arch", "blocks"), [("preresnet20", 2), ("preresnet101", 11)])
def test_preresnet_depth_and_parameters(arch, blocks):
    model = build_model(arch, num_classes=10, seed=0)
    main_path = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(main_path) == int(arch.removeprefix("preresnet"))

    expected, stream = 3 * 16 * 9, 16
    for planes in (16, 32, 64):
        for block in range(blocks):
            expected += 2 * stream + stream * planes  # bn1, conv1
            expected += 2 * planes + 9 * planes * planes  # bn2, conv2
            expected += 2 * planes + planes * 4 * planes  # bn3, conv3
            if block == 0:
                expected += stream * 4 * planes
            stream = 4 * planes
    expected += 2 * stream + stream * 10 + 10
    assert sum(p.numel() for p in model.parameters()) == expected
    assert sum(isinstance(module, ChannelSelection) for module in model.modules()) == 3 * blocks + 1


@pytest.mark.parametrize(
    ("arch", "size", "side"),
    [
        ("resnet18", 32, 4),
        ("resnet18", 64, 8),
        ("resnet18", 72, 3),
        ("mobilenet_v2", 32, 4),
        ("mobilenet_v2", 72, 3),
    ],
)
def test_stem_fits_the_image(arch, size, side):
    model = build_model(arch, num_classes=2, image_size=size, seed=0).eval()
    shapes = []
    last = model.layer4 if arch == "resnet18" else model.features
    last.register_forward_hook(lambda _, __, output: shapes.append(output.shape[-2:]))
    with torch.no_grad():
        model(images(size=size, count=1))
    assert shapes == [(side, side)]


def test_simple_cnn_filters_and_picture_size():
    model = build_model("simple_cnn", num_classes=2, image_size=40, seed=0)
    assert [m.kernel_size for m in model if isinstance(m, nn.Conv2d)] == [(21, 21), (5, 5)]
    assert model(images(size=40)).shape == (2, 2)


def test_mlp_for_the_toy():
    state = torch.get_rng_state()
    model = mlp((2, 20, 2), seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert [type(module) for module in model] == [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear]
    assert sum(p.numel() for p in model.parameters()) == 2 * 20 + 20 + 20 * 2 + 2
    assert torch.equal(model.head.weight, mlp((2, 20, 2), seed=4).head.weight)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        assert torch.equal(model.linear1.weight, nn.Linear(2, 20).weight)  # PyTorch's own initialisation
    assert [type(module) for module in mlp([3, 1], seed=0)] == [nn.Flatten, nn.Linear]


def test_unknown_architecture_lists_the_known_ones():
    with pytest.raises(SettingError, match="vgg11") as caught:
        build_model("vgg11", num_classes=10, seed=0)
    assert all(arch in str(caught.value) for arch in ARCHITECTURES)


@pytest.mark.parametrize(
    ("arch", "settings", "named"),
    [
        ("vgg16_bn", {"width": 0.0}, "width is 0.0"),
        ("mobilenet_v2", {"width": -1.0}, "width is -1.0"),
        ("mlp", {"width": float("nan")}, "width is nan"),
        ("mlp", {"width": float("inf")}, "width is inf"),
        ("resnet18", {"width": 0.5}, "resnet18 .* width 0.5"),
        ("vgg16_bn", {"image_size": 15}, "image_size is 15 .* 16"),
        ("alexnet", {"image_size": 7}, "image_size is 7 .* 8"),
        ("simple_cnn", {"image_size": 24}, "image_size is 24 .* 25"),
        ("mlp", {"in_channels": 0}, "in_channels is 0"),
        ("mlp", {"num_classes": 0}, "num_classes is 0"),
    ],
)
def test_numbers_out_of_range_are_named(arch, settings, named):
    with pytest.raises(SettingError, match=named):
        build_model(arch, **{"num_classes": 10, "seed": 0, **settings})


@pytest.mark.parametrize(("arch", "size"), [("vgg16_bn", 16), ("alexnet", 8), ("simple_cnn", 25)])
def test_smallest_images_work(arch, size):
    model = build_model(arch, num_classes=3, width=0.1, image_size=size, seed=0)
    assert model(images(size=size)).shape == (2, 3)


@pytest.mark.parametrize("widths", [(2,), (), (2, 0, 2)])
def test_mlp_widths_out_of_range(widths):
    with pytest.raises(SettingError, match="widths is"):
        mlp(widths, seed=0)


def test_importing_the_models_leaves_the_heavy_libraries_alone():
    code = "import sys, splinestudy.models; print({'torchvision', 'torch_pruning'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_selection_keeps_channels_in_order():
    selection = ChannelSelection(4)
    x = images(4, 5)
    assert selection(x).data_ptr() == x.data_ptr()  # no copy while nothing is dropped
    torch.testing.assert_close(selection(x), x, rtol=0, atol=0)
    selection.indexes = torch.tensor([0, 3])
    torch.testing.assert_close(selection(x), torch.stack([x[:, 0], x[:, 3]], dim=1), rtol=0, atol=0)
    assert selection.half().state_dict()["indexes"].dtype == torch.int64
    assert repr(selection) == "ChannelSelection(4, kept=2)"


def dependency_graph(model):
    return tp.DependencyGraph().build_dependency(
        model, (images(),), customized_pruners={ChannelSelection: ChannelSelectionPruner()}
    )


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_torch_pruning_reads_every_layer(arch):
    model = small(arch)
    graph = dependency_graph(model)
    wanted = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, ChannelSelection)
    assert {m for m in model.modules() if isinstance(m, wanted)} <= set(graph.module2node)


def pruner_of(graph):
    return graph.CUSTOMIZED_PRUNERS[ChannelSelection]


def members(group):
    """(pruning function, module, indices) of a group, without the modules that have no weights."""
    kept = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, ChannelSelection)
    return [
        (dep.handler.__name__, dep.target.module, sorted(idxs))
        for dep, idxs in group
        if isinstance(dep.target.module, kept)
    ]


@pytest.mark.parametrize("path", ["stage1.0", "stage2.1", ""])
def test_dropping_selected_channels_touches_only_their_reader(path):
    model = scatter_batch_norms(small("preresnet20"))
    owner = model.get_submodule(path)
    reader = owner.conv1 if path else model.head
    masked = copy.deepcopy(model).eval()
    graph = dependency_graph(model)
    group = graph.get_pruning_group(owner.select, pruner_of(graph).prune_out_channels, [1, 3])
    assert members(group) == [
        ("prune_out_channels", owner.select, [1, 3]),
        ("prune_in_channels", reader, [1, 3]),
    ]
    group.prune()
    assert owner.select.indexes.tolist() == [i for i in range(owner.select.channels) if i not in (1, 3)]
    masked_owner = masked.get_submodule(path)
    (masked_owner.conv1 if path else masked.head).weight.data[:, [1, 3]] = 0
    torch.testing.assert_close(model(images()), masked(images()), rtol=1e-5, atol=1e-5)


def test_the_stream_stays_whole():
    model = small("preresnet20")
    graph = dependency_graph(model)
    group = graph.get_pruning_group(model.stage1[0].conv3, tp.prune_conv_out_channels, [2])
    with pytest.raises(UnsupportedModuleError, match=r"channels \[2\] of the stream .*prune the selections"):
        group.prune()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_chains_are_flat_and_sequential(arch):
    model = build_model(arch, num_classes=2, width=1.0, image_size=32, seed=0)
    flat = isinstance(model, nn.Sequential) and not any(any(module.children()) for module in model)
    assert flat == (arch in CHAINS)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_selected_channels_keep_their_memory_format(memory_format):
    selection = ChannelSelection(6)
    selection.indexes = torch.tensor([1, 4])
    images = torch.randn(3, 6, 5, 5).contiguous(memory_format=memory_format).requires_grad_()
    kept = selection(images)
    assert torch.equal(kept, images[:, [1, 4]])
    assert kept.is_contiguous(memory_format=memory_format)
    (slope,) = torch.autograd.grad(kept.sum(), images)
    assert slope.is_contiguous(memory_format=memory_format)
    assert slope.sum(dim=(0, 2, 3)).tolist() == [0, 75, 0, 0, 75, 0]
    assert selection(torch.ones(2, 6)).shape == (2, 2)
