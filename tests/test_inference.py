import copy

import pytest
import torch
from test_saving import IMAGES, plain, streams
from torch import nn

import splinelib
from splinelib.criteria import FilterNorm
from splinelib.layers import ChannelSelection
from splinelib.layers.channel_selection import select_channels
from splinelib.pruning import compact_streams, cost, cut_of, fuse_norms
from splinestudy.models import build_model


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def alive(model):
    """Batch norms with scales, shifts and statistics that count."""
    for norm in norms(model):
        for values in (norm.weight.data, norm.running_var):
            values.uniform_(0.5, 2)
        for values in (norm.bias.data, norm.running_mean):
            values.normal_()
    return model.double().eval()


class Apart(nn.Module):
    """Norms that must stay: of sums, of outputs, of what is read elsewhere too, without statistics."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(6))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3, track_running_stats=n != 4) for n in range(6))
        self.last = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        one, two, three, four, five, six = (conv(x) for conv in self.convs)
        out = self.norms[0](one + 1) + self.norms[1](two) + two.sigmoid() + self.norms[2](three)
        out = out + self.norms[3](four.relu()) + self.norms[4](five)
        return self.last(out * self.norms[5](six)), three


@pytest.mark.parametrize(("build", "left"), [(plain, 0), (streams, 7)])
def test_fused_networks_compute_the_same(build, left):
    pruned = alive(splinelib.prune(build(), IMAGES, 0.5, criterion=FilterNorm(1)))
    x = IMAGES.double()
    before = copy.deepcopy(pruned.state_dict())
    fused = fuse_norms(pruned.train(), x)
    torch.testing.assert_close(fused(x), pruned.eval()(x))
    assert all(torch.equal(values, before[name]) for name, values in pruned.state_dict().items())
    assert len(norms(fused)) == left < len(norms(pruned))
    assert cost(fused, x).flops <= cost(pruned, x).flops
    kept = [len(module.indexes) for module in fused.modules() if isinstance(module, ChannelSelection)]
    assert [norm.num_features for norm in norms(fused)] == kept


def test_norms_that_are_read_or_written_elsewhere_stay():
    model = alive_apart = Apart()
    for norm in norms(model):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    x = IMAGES[:, :, :5, :5].double()
    model.double().eval()
    fused = fuse_norms(model, x)
    for found, wanted in zip(fused(x), alive_apart(x), strict=True):
        torch.testing.assert_close(found, wanted)
    assert [isinstance(norm, nn.BatchNorm2d) for norm in fused.norms] == [True, True, True, True, True, False]


def test_a_network_that_casts_is_fused(generator):
    """Which is checked in float64, where a cast to float32 would meet weights that are not."""

    class Casting(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.norm(self.conv(x)).relu().amax((2, 3)).float())

    model, images = Casting().eval(), torch.randn(4, 3, 7, 7, generator=generator)
    fused = fuse_norms(model, images)
    assert isinstance(fused.norm, nn.Identity)
    torch.testing.assert_close(fused(images), model(images), rtol=1e-4, atol=1e-5)


def test_a_norm_of_two_modules_stays():
    norm = nn.BatchNorm1d(4)
    nn.init.uniform_(norm.weight, 0.5, 2)
    model = nn.Sequential(
        nn.Linear(3, 4), norm, nn.ReLU(), nn.Linear(4, 4), norm, nn.ReLU(), nn.Linear(4, 2)
    ).eval()
    fused = fuse_norms(model, torch.zeros(2, 3))
    assert len(norms(fused)) == 1
    torch.testing.assert_close(fused(torch.ones(2, 3)), model(torch.ones(2, 3)))


def selections(model):
    return [module for module in model.modules() if isinstance(module, ChannelSelection)]


@pytest.mark.parametrize(("depth", "slices"), [(20, True), pytest.param(101, False, marks=pytest.mark.long)])
def test_compact_streams_train_alike_with_what_is_read(depth, slices):
    dense = alive(build_model(f"preresnet{depth}", num_classes=4, width=0.25, seed=0))
    pruned = splinelib.prune(dense, IMAGES.double(), 0.5, criterion=FilterNorm(1))
    compact = compact_streams(pruned, IMAGES.double())
    for one, other in ((pruned.train(), compact.train()), (pruned.eval(), compact.eval())):
        x, y = (IMAGES[:, :, :8, :8].double().requires_grad_() for _ in range(2))
        outputs = [
            model(given.contiguous(memory_format=torch.channels_last))
            for model, given in ((one, x), (other, y))
        ]
        torch.testing.assert_close(*outputs)
        for values in outputs:
            values.square().sum().backward()
        torch.testing.assert_close(x.grad, y.grad)
    assert [one.consecutive is not None for one in selections(compact)][-2] == slices
    behind = [norm.num_features for norm in norms(compact)[::3]]
    assert behind == [len(one.indexes) for one in selections(compact)]
    unread = set(range(64)).difference(
        *(
            one.indexes.tolist()
            for name, one in pruned.named_modules()
            if name in ("select", "stage3.1.select")
        )
    )
    if depth == 20:
        assert compact.stage3[0].conv3.out_channels == 64 - len(unread) < 64
        assert compact.stage2[0].conv3.out_channels == 32  # which a convolution reads whole


def test_a_compact_network_is_loaded_into_one_made_anew():
    pruned = splinelib.prune(streams(), IMAGES, 0.5, criterion=FilterNorm(1))
    compact = compact_streams(pruned, IMAGES)
    fresh = compact_streams(
        cut_of(pruned).apply_to(build_model("preresnet20", num_classes=4, width=0.5, seed=1)), IMAGES
    )
    fresh.load_state_dict(compact.state_dict())
    torch.testing.assert_close(fresh.eval()(IMAGES), compact.eval()(IMAGES), rtol=0, atol=0)


class Counted(nn.Module):
    """A stream whose channels' places count: an output holds them."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)
        self.selection = ChannelSelection(6)
        self.selection.indexes = torch.tensor([0, 2, 4])
        self.last = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        stream = self.first(x)
        return self.last(self.selection(self.norm(stream)).relu()), stream


def test_streams_whose_order_counts_stay_in_order():
    model, x = alive(Counted()), IMAGES[:, :, :5, :5].double()
    compact = compact_streams(model, x)
    for found, wanted in zip(compact(x), model(x), strict=True):
        torch.testing.assert_close(found, wanted)
    assert (compact.first.out_channels, compact.norm[1].num_features) == (6, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("channels", [16, 200])
def test_channels_are_selected_as_by_indexing(dtype, channels):
    x = torch.randn(2, channels, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    for chosen in (torch.tensor([1, 2, 7]), slice(3, 9)):
        for values in (x, x.contiguous()):
            one, other = values.clone().requires_grad_(), values.clone().requires_grad_()
            found, wanted = select_channels(one, chosen), other[:, chosen]
            weight = torch.randn_like(wanted)
            assert torch.equal(found, wanted)
            found.backward(weight)
            wanted.backward(weight)
            assert torch.equal(one.grad, other.grad)
            assert found.is_contiguous(memory_format=torch.channels_last) or values is not x


class Skipping(nn.Module):
    """What a norm reads is read beside it: added to its output, or given out."""

    def __init__(self, add):
        super().__init__()
        self.conv, self.norm, self.add = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), add

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y if self.add else (y, self.norm(y))


@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_an_example_of_zeros_hides_no_use(add, scale):
    model = Skipping(add).eval()
    nn.init.constant_(model.norm.weight, scale)
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    for found, wanted in zip(fuse_norms(model, torch.zeros(1, 3, 5, 5))(x), model(x), strict=True):
        torch.testing.assert_close(found, wanted)


class Rescaling(Skipping):
    """The norm's own weight is read outside of it."""

    def forward(self, x):
        return self.norm(self.conv(x)) * self.norm.weight[:, None, None]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(4)), (2, 4, 3)),
        (lambda: nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4)), (2, 3, 5, 5)),
        (lambda: Rescaling(True), (2, 3, 5, 5)),
    ],
)
def test_norms_that_no_module_can_take_over_stay(build, shape):
    model = alive(build())
    x = torch.randn(shape, dtype=torch.float64)
    fused = fuse_norms(model, x)
    assert len(norms(fused)) == 1
    torch.testing.assert_close(fused(x), model(x))


@pytest.mark.parametrize("one", [nn.Linear(3, 4), nn.Linear(3, 4, bias=False), nn.Conv1d(3, 4, 1)])
def test_norms_without_scales_are_taken_over(one):
    convolution = isinstance(one, nn.Conv1d)
    model = nn.Sequential(one, nn.BatchNorm1d(4, affine=False)).double().eval()
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    x = torch.randn((5, 3, 2) if convolution else (5, 3), dtype=torch.float64)
    fused = fuse_norms(model, x)
    assert norms(fused) == []
    torch.testing.assert_close(fused(x), model(x))
