"""Hooks that may bend the map somewhere are refused wherever they do; those that only look may stay."""

import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_partition import PLANE, mlp
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from splinelib.errors import UnsupportedModuleError
from splinelib.partition import (
    Segment,
    Slice3D,
    compute_partition,
    compute_segment,
    compute_solid,
    count_regions,
    trace_boundary,
)

# No sum of the hidden units of the networks here is as large on more than a small part of the slice.
RARE = 1.2
KEPT = []


def branches(module, inputs, output):
    return output / 2 if float(output.max()) > RARE else None


def picks(module, inputs, output):
    for row in (output > RARE).nonzero():
        output.data[tuple(row)] = RARE


def replaces(module, inputs, output):
    module.bias = nn.Parameter(module.bias - (output.max() - RARE).relu())


def through_numpy(module, inputs, output):
    np.minimum(output.numpy(), RARE, out=output.numpy())


BENDING = {
    "returns": lambda module, inputs, output: output.clamp(max=RARE),
    "branches": branches,
    "in place": lambda module, inputs, output: KEPT.append(output.clamp_(max=RARE)),
    "in place on data": lambda module, inputs, output: KEPT.append(output.data.clamp_(max=RARE)),
    "in place on a view": lambda module, inputs, output: KEPT.append(output.view(-1)[:3].clamp_(max=RARE)),
    "picks": picks,
    "through numpy": through_numpy,
    "weights in place": lambda module, inputs, output: KEPT.append(module.weight.clamp_(max=RARE)),
    "replaces": replaces,
}
LOOKING = {
    "shape": lambda module, inputs, output: KEPT.append(output.shape),
    "copy": lambda module, inputs, output: KEPT.append(output.detach().clone().relu_()),
    "statistics": lambda module, inputs, output: KEPT.append((output.abs().mean(), inputs[0].amax())),
    "attribute": lambda module, inputs, output: setattr(module, "seen", output),
    "count": lambda module, inputs, output: setattr(module, "calls", getattr(module, "calls", 0) + 1),
}


def hooked(hook, inputs=2):
    model = mlp(inputs, 7, 6, 3, seed=11)
    model[2].register_forward_hook(hook)
    return model


@pytest.mark.parametrize("name", BENDING)
def test_hooks_that_may_bend_are_refused(name):
    message = r"hook \S+ of Linear at '2' .*remove forward hooks"
    for ask in (count_regions, trace_boundary):
        with pytest.raises(UnsupportedModuleError, match=message):
            ask(hooked(BENDING[name]), PLANE)
    with pytest.raises(UnsupportedModuleError, match=message):
        compute_segment(hooked(BENDING[name]), Segment(torch.zeros(2), torch.ones(2)))
    with pytest.raises(UnsupportedModuleError, match=message):
        compute_solid(hooked(BENDING[name], inputs=3), Slice3D.axis_aligned())


@pytest.mark.parametrize("name", LOOKING)
def test_hooks_that_look_change_nothing(name):
    plain = compute_partition(mlp(2, 7, 6, 3, seed=11), PLANE, outputs=True)
    found = compute_partition(hooked(LOOKING[name]), PLANE, outputs=True)
    np.testing.assert_array_equal(plain.outputs, found.outputs)


@pytest.mark.parametrize("within", [lambda m: m[0], lambda m: m[1], lambda m: m])
def test_hooks_before_a_module_are_refused_at_any_place(within):
    model = nn.Sequential(mlp(2, 7, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    within(model).register_forward_pre_hook(lambda module, inputs: (inputs[0].clamp(max=0.999),))
    with pytest.raises(UnsupportedModuleError, match="returns something.*remove forward hooks"):
        count_regions(model, PLANE)


def test_hooks_with_keywords_are_refused():
    model = mlp(2, 7, 3)
    model[0].register_forward_hook(
        lambda module, args, kwargs, output: output.clamp(max=RARE), with_kwargs=True
    )
    with pytest.raises(UnsupportedModuleError, match="remove forward hooks"):
        count_regions(model, PLANE)


@pytest.mark.parametrize("register", [register_module_forward_hook, register_module_forward_pre_hook])
def test_hooks_of_all_modules_are_refused_for_networks_read_before_too(register):
    model = mlp(2, 7, 3, seed=12)
    expected = count_regions(model, PLANE)
    handle = register(lambda module, *_: None)
    try:
        with pytest.raises(UnsupportedModuleError, match="hook on the forward passes of all modules"):
            count_regions(model, PLANE)
    finally:
        handle.remove()
    assert count_regions(model, PLANE) == expected


def test_hooks_around_a_parallel_model_are_refused():
    model = nn.DataParallel(mlp(2, 7, 3))
    count_regions(model, PLANE)
    model.register_forward_hook(lambda module, inputs, output: output.clamp(max=RARE))
    with pytest.raises(UnsupportedModuleError, match="DataParallel around the model"):
        count_regions(model, PLANE)


@pytest.mark.parametrize("place", ["1", "2", "4.1"])
def test_a_forward_of_ones_own_on_a_known_module_is_refused(place):
    model = nn.Sequential(*mlp(2, 7, 6, 3)[:4], nn.Sequential(nn.Linear(6, 3), nn.ReLU())).double()
    module = model.get_submodule(place)
    module.forward = types.MethodType(lambda self, x: type(self).forward(self, x).clamp(max=RARE), module)
    with pytest.raises(
        UnsupportedModuleError, match=f"{type(module).__name__} at '{place}' has another forward"
    ):
        count_regions(model, PLANE)


def test_a_forward_of_ones_own_on_a_model_that_is_traced_is_read():
    class Traced(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(2, 7, 3)

        def forward(self, x):
            return self.body(x)

    model = Traced()
    model.forward = types.MethodType(lambda self, x: F.hardtanh(self.body(x), -0.1, 0.2), model)
    expected = count_regions(nn.Sequential(*model.body, nn.Hardtanh(-0.1, 0.2)), PLANE)
    assert count_regions(model, PLANE) == expected > count_regions(model.body, PLANE)
