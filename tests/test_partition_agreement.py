"""A model whose graph tells another story than its forward pass is refused, and so are numbers that are none."""

import pytest
import torch
import torch.nn.functional as F
from test_partition import PLANE, mlp, randomise
from torch import nn

from splinelib.errors import UnsupportedModuleError
from splinelib.partition import (
    Segment,
    Slice2D,
    compute_partition,
    compute_segment,
    count_regions,
    trace_boundary,
)

ENTRANCES = {
    "partition": compute_partition,
    "count": count_regions,
    "trace": trace_boundary,
    "segment": lambda model, where: compute_segment(model, Segment(*where.at(where.polygon[:2]))),
}


class Steps(nn.Module):
    """A dense layer, what a test does to it, and another dense layer."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b = nn.Linear(2, 6), nn.Linear(6, 6)
        self.identity, self.relu = nn.Identity(), nn.ReLU(inplace=True)
        self.register_buffer("factor", torch.ones(6), persistent=False)
        self.function = function

    def forward(self, x):
        return self.function(self, self.a(x))


def shortcut_of_a_module(net, y):
    skip = net.identity(y)
    return net.b(net.relu(y)) + skip


def shortcut_of_a_view(net, y):
    skip = y.view(y.size(0), 6)
    return net.b(F.relu(y, inplace=True)) + skip


def shortcut_of_a_name(net, y):
    z = y
    y += 1.0
    return torch.relu(net.b(y) + z)


def shortcut_of_a_difference(net, y):
    z = y.flatten(1)
    y -= 1.0
    return torch.relu(net.b(y) + z)


def shortcut_of_a_method(net, y):
    skip = net.identity(y)
    y.add_(0.5)
    return torch.relu(net.b(y)) - skip


def dropout_in_between(net, y):
    skip = F.dropout(y, training=False)
    return net.b(torch.relu_(y)) + skip


ALIASES = [shortcut_of_a_module, shortcut_of_a_view, shortcut_of_a_name, shortcut_of_a_difference,
           shortcut_of_a_method, dropout_in_between]  # fmt: skip


def outputs_agree(model):
    partition = compute_partition(model, PLANE, outputs=True)
    centres = torch.from_numpy(partition.centroids())
    mine = torch.einsum("rkc,rc->rk", torch.from_numpy(partition.outputs), F.pad(centres, (0, 1), value=1.0))
    torch.testing.assert_close(mine, model(PLANE.at(centres)), rtol=1e-12, atol=1e-12)
    return partition


@pytest.mark.parametrize("function", ALIASES)
def test_every_name_of_what_is_changed_in_place_stands_for_the_result(function):
    assert len(outputs_agree(randomise(Steps(function), 3))) > 3


@pytest.mark.parametrize(
    "function",
    [
        lambda net, y: net.b(y[:, :3].relu_().repeat(1, 2)) + y,
        lambda net, y: (lambda skip: net.b(torch.relu_(y)) + torch.cat([skip, skip], 1))(y[:, ::2]),
        lambda net, y: (lambda skip: net.b(net.relu(y)) + skip.reshape(-1, 6))(
            y.view(-1, 2, 3).transpose(1, 2)
        ),
    ],
)
def test_parts_of_what_is_changed_in_place_are_named(function):
    with pytest.raises(UnsupportedModuleError, match=r"changes in place what '\w+' reads again"):
        compute_partition(Steps(function).double().eval(), PLANE)


def test_parts_that_lie_apart_may_be_changed():
    def function(net, y):
        left, right = y[:, :3], y[:, 3:]
        return net.b(torch.cat([left.relu_(), right], 1))

    assert len(outputs_agree(randomise(Steps(function), 3))) > 3


def test_the_same_operations_on_a_copy_are_read():
    model = Steps(lambda net, y: net.b(net.relu(y.clone())) + y).double().eval()
    outputs_agree(model)


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_entrance_sees_a_hook(entrance):
    model = mlp(2, 8, 3)
    ENTRANCES[entrance](model, PLANE)
    model[0].register_forward_hook(lambda module, inputs, output: output + 5)
    with pytest.raises(UnsupportedModuleError, match="forward hooks"):
        ENTRANCES[entrance](model, PLANE)


@pytest.mark.parametrize(
    "hook",
    [
        lambda module, inputs, output: output[:, :2],
        lambda module, inputs, output: (output,),
        lambda module, inputs, output: 1.001 * output,
    ],
)
def test_a_hook_on_the_whole_model_is_seen(hook):
    model = mlp(2, 8, 3)
    model.register_forward_hook(hook)
    with pytest.raises(UnsupportedModuleError, match="forward hooks"):
        compute_partition(model, PLANE)


def test_hooks_that_only_look_do_no_harm():
    model, seen = mlp(2, 8, 3), []
    expected = len(compute_partition(model, PLANE))
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    assert len(compute_partition(model, PLANE)) == expected


def overflowing():
    model = mlp(2, 4, 4, 2)
    with torch.no_grad():
        model[0].weight *= 1e200
        model[2].weight *= 1e200
    return model


def with_negative_variance():
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU()).double().eval()
    model[1].running_var.fill_(-1.0)
    return model


def with_buffer(value):
    model = Steps(lambda net, y: torch.relu(y * net.factor)).double().eval()
    model.factor[3] = value
    return model


NOT_FINITE = {
    "nan in a buffer": lambda: with_buffer(float("nan")),
    "infinity in a buffer": lambda: with_buffer(float("inf")),
    "division by zero": lambda: Steps(lambda net, y: torch.relu(y / 0.0)).double().eval(),
    "division of the output by zero": lambda: Steps(lambda net, y: torch.relu(y) / 0.0).double().eval(),
    "overflow": overflowing,
    "negative variance": with_negative_variance,
}


@pytest.mark.parametrize("name", NOT_FINITE)
def test_numbers_that_are_not_finite_are_refused(name):
    with pytest.raises(UnsupportedModuleError, match="not finite"):
        compute_partition(NOT_FINITE[name](), PLANE)


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e9])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_rounding_is_not_taken_for_another_network(offset, scale):
    model = mlp(2, 32, 32, 32, 32, 32, 32, 32, 3, seed=4)
    with torch.no_grad():
        model[0].weight *= scale
        model[0].bias -= model[0].weight.sum(1) * offset
    count_regions(model, Slice2D.axis_aligned(((offset - 1, offset + 1),) * 2))
