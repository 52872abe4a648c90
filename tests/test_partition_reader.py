"""Which networks can be read, and what the others are told."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_partition import Residual, mlp, randomise
from torch import nn

from splinelib.errors import LimitError, SettingError, UnsupportedModuleError
from splinelib.partition import Slice2D, compute_partition, count_regions, topology
from splinestudy.models import ChannelSelection

PLANE = Slice2D.axis_aligned()


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.head = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.tensor([0.5, -2.0])[:, None, None])

    def forward(self, x):
        x = F.relu6(self.conv(x.view(x.size(0), 1, 2, 2)) * 4.0 + 1.0)
        x = torch.cat([x, torch.abs(x - 1.0)], dim=1)[:, 1:3]
        x = F.max_pool2d(x * self.scale, 2, stride=1, padding=1)
        x = F.hardtanh(x, -0.5, 0.75) - F.leaky_relu(x, 0.3) / 2
        x = x + x
        return self.head(F.dropout(x.mean((2, 3)), training=self.training))


def outputs_agree(model, where, share=None):
    partition = compute_partition(model, where, outputs=True)
    centres = partition.centroids()
    mine = (torch.from_numpy(partition.outputs) * torch.tensor([*centres[0], 1.0])).sum(2)[:1]
    torch.testing.assert_close(mine, model(where.at(centres[:1])), rtol=1e-10, atol=1e-10)
    ones = torch.ones(len(partition), 1)
    points = torch.cat([torch.from_numpy(centres), ones], dim=1)
    mine = torch.einsum("rkc,rc->rk", torch.from_numpy(partition.outputs), points)
    torch.testing.assert_close(mine, model(where.at(centres)), rtol=1e-10, atol=1e-10)
    return partition


def test_functions_methods_and_arithmetic_are_read():
    model = randomise(Functional(), 0)
    basis = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    partition = outputs_agree(model, Slice2D.through(*basis))
    assert len(partition) > 5


class OneStep(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x):
        return F.relu(self.step(x.reshape(-1, 2, 3, 3)))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    "step",
    [
        nn.AvgPool2d(2, 1),
        nn.AvgPool2d(3, 2, padding=1),
        nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        nn.AvgPool2d(2, 2, ceil_mode=True),
        nn.AdaptiveAvgPool2d(2),
        nn.AdaptiveMaxPool2d(2),
        nn.MaxPool2d(2, 2, padding=1),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d(2, 1, dilation=2),
        nn.Conv2d(2, 2, 2, padding="same"),
        nn.Conv2d(2, 4, (1, 3), stride=(2, 1), padding=(0, 1), groups=2),
        nn.Hardtanh(-0.3, 0.4),
        nn.Identity(),
    ],
    ids=str,
)
def test_every_affine_and_pooling_step_gives_the_networks_outputs(step):
    model = nn.Sequential(OneStep(step), nn.Flatten())
    model = nn.Sequential(nn.Linear(2, 18), nn.ReLU(), model)
    model.append(nn.Linear(model.double()(torch.zeros(1, 2).double()).shape[1], 2))
    outputs_agree(randomise(model, 3), PLANE)


@pytest.mark.parametrize(
    ("module", "name"), [(nn.GELU(), "GELU"), (nn.SiLU(), "SiLU"), (nn.LayerNorm(8), "LayerNorm")]
)
def test_an_unsupported_module_is_named_with_its_path(module, name):
    block = nn.Sequential(nn.Linear(8, 8), module)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), block).eval()
    with pytest.raises(UnsupportedModuleError, match=rf"{name} at '2\.1'"):
        compute_partition(model, PLANE)


class Odd(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x * x, "product of two activations"),
        (lambda x: torch.sigmoid(x) + 1, "function 'sigmoid'"),
        (lambda x: x.softmax(1) - x, "method 'softmax'"),
        (lambda x: x if x.sum() > 0 else -x, "traced by torch.fx"),
        (lambda x: (x, x), "something other than one tensor"),
        (lambda x: F.dropout(x, training=True), "dropout in training mode"),
    ],
)
def test_unsupported_functions_are_named(function, message):
    with pytest.raises(UnsupportedModuleError, match=message):
        compute_partition(Odd(function).eval(), PLANE)


def test_training_mode_is_refused():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU())
    with pytest.raises(SettingError, match="BatchNorm1d at '1' is in training mode"):
        compute_partition(model, PLANE)


def test_weights_must_be_finite_and_inputs_must_fit():
    model = mlp(2, 3, 2)
    with pytest.raises(SettingError, match="cannot read one input of shape"):
        compute_partition(model, Slice2D.axis_aligned(origin=torch.zeros(3)))
    model[0].weight.data[0, 0] = float("nan")
    with pytest.raises(SettingError, match=r"'0\.weight'"):
        compute_partition(model, PLANE)


def test_the_model_is_left_as_it_was():
    model = randomise(Residual(), 1).float()
    before = copy.deepcopy(model.state_dict())
    inputs = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    compute_partition(model, Slice2D.through(*inputs))
    assert all(
        torch.equal(before[k], v) and before[k].dtype == v.dtype for k, v in model.state_dict().items()
    )
    assert all(p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_limits_say_how_far_the_search_came():
    model = mlp(2, 60, 60, 2)
    with pytest.raises(
        LimitError, match=r"covering [\d.]+ % of the slice, exceed max_regions=100; nothing is returned"
    ):
        compute_partition(model, PLANE, max_regions=100)
    with pytest.raises(LimitError, match="max_bytes=100000"):
        compute_partition(model, PLANE, max_bytes=100_000)
    with pytest.raises(LimitError):
        count_regions(model, PLANE, max_regions=10, threads=2)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("limit", [100, 1000])
def test_what_was_found_can_be_had_in_part(threads, limit):
    model = mlp(2, 60, 60, 2)
    options = {"codes": True, "boundary": True, "threads": threads}
    whole = compute_partition(model, PLANE, **options)
    part = compute_partition(model, PLANE, partial=True, **options, max_regions=limit)
    assert limit < len(part) <= threads * (limit + 1) < len(whole)
    assert whole.covered == pytest.approx(1, abs=1e-12)
    assert part.covered == pytest.approx(part.area.sum() / 4)
    assert part.covered < 0.99
    # Each is a region of the whole, as it is there.
    number = {key: region for region, key in enumerate(whole.key.tolist())}
    same = [number[key] for key in part.key.tolist()]
    np.testing.assert_array_equal(part.area, whole.area[same])
    np.testing.assert_array_equal(part.codes, whole.codes[same])
    assert part.boundary.length <= whole.boundary.length
    shape = topology(part)
    assert shape.regions == len(part)
    assert ((shape.twin >= 0).sum() > 0) & ((shape.neighbour < 0).sum() > 0)
    assert len(compute_partition(model, PLANE, partial=True, **options)) == len(whole)


def test_nothing_at_all_is_no_part():
    with pytest.raises(LimitError, match="max_bytes=1000"):
        compute_partition(mlp(2, 60, 60, 2), PLANE, partial=True, max_bytes=1000)


def test_an_interrupt_stops_all_threads(monkeypatch):
    from splinelib.partition.engine import search as engine

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compute_partition(mlp(2, 200, 200, 2), PLANE, threads=2)


def test_selected_channels_are_read():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, last = nn.Conv2d(1, 4, 3), nn.Linear(2 * 16, 2)
    selection = ChannelSelection(4)
    selection.indexes = torch.tensor([0, 3])
    selecting = nn.Sequential(first, selection, nn.ReLU(), nn.Flatten(), last).double().eval()
    narrow = nn.Conv2d(1, 2, 3).double()
    with torch.no_grad():
        narrow.weight.copy_(first.weight[[0, 3]])
        narrow.bias.copy_(first.bias[[0, 3]])
    equal = nn.Sequential(narrow, nn.ReLU(), nn.Flatten(), last).double().eval()
    images = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    partitions = [compute_partition(model, Slice2D.through(*images)) for model in (selecting, equal)]
    assert len(partitions[0]) == len(partitions[1]) > 10
