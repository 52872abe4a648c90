"""What a forward pass writes, into its modules, its weights or its inputs, changes neither them nor what is read."""

import collections
import dataclasses
import functools
import random
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from splinelib import prune, read_layers, remove_units
from splinelib.criteria import FilterNorm
from splinelib.early_bird import sign_codes
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import evaluating, tensors_in
from splinelib.pruning import mask_units

pytestmark = pytest.mark.filterwarnings("ignore:left whole")


class Pair(nn.Module):
    """Two linear modules; ``way`` says what happens between them and around."""

    def __init__(self, way=lambda self, x: self.q(F.relu(self.p(x)))):
        super().__init__()
        torch.manual_seed(0)
        self.p, self.q, self.way = nn.Linear(4, 8), nn.Linear(8, 3), way

    def forward(self, *inputs, **named):
        return self.way(self, *inputs, **named)


@pytest.fixture
def rows(generator):
    return torch.randn(5, 4, generator=generator)


# --- the network -------------------------------------------------------------------------------------------------


class Remembering(nn.Module):
    """Counts, caches, keeps, draws, and sets its own weight by the first batch, as an ActNorm does."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.ones(8))
        self.register_buffer("begun", torch.zeros(()))
        self.calls, self.cache, self.seen, self.ring = 0, {}, [1], collections.deque([2], 3)

    def forward(self, x):
        z = self.first(x)
        if not self.begun:
            self.scale.data = 1 / z.detach().std(0)
            self.begun.fill_(1)
        self.calls += 1
        self.cache[self.calls] = z.shape
        self.seen.append(random.random())
        self.ring.append(self.calls)
        return self.last(F.relu(z * self.scale))


@pytest.mark.parametrize(
    "use", [sign_codes, lambda m, x: prune(m, x, 0.5, compensate="least_squares", data=x)]
)
def test_the_network_holds_what_it_held(use, rows):
    model = Remembering().eval()
    before, scale = random.getstate(), model.scale
    use(model, rows)
    assert (model.calls, model.cache, model.seen, list(model.ring)) == (0, {}, [1], [2])
    assert model.scale is scale
    assert torch.equal(model.scale, torch.ones(8))
    assert not model.begun
    assert random.getstate() == before


def test_rows_that_an_embedding_shortens_stay_long():
    model = nn.Sequential(nn.Embedding(6, 8, max_norm=0.1), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2))
    weight = model[0].weight.detach().clone()
    with evaluating(model):
        model(torch.arange(6))
        assert not torch.equal(model[0].weight, weight)
    assert torch.equal(model[0].weight, weight)


def test_lazy_modules_become_what_they_are():
    model = nn.Sequential(nn.LazyLinear(3), nn.ReLU())
    with evaluating(model):
        model(torch.zeros(2, 4))
    assert model(torch.zeros(2, 4)).shape == (2, 3)


# --- its inputs --------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Batch:
    x: torch.Tensor


@pytest.mark.parametrize(
    ("wrap", "take"),
    [
        (lambda x: collections.UserDict(x=x), lambda self, x: x),
        (lambda x: (Batch(x),), lambda self, batch: batch.x),
        (lambda x: [types.SimpleNamespace(deep=[x])], lambda self, one: one.deep[0]),
    ],
)
def test_inputs_in_containers_of_others_stay_the_caller_s(wrap, take, rows):
    model = Pair(lambda self, *inputs, **named: self.q(F.relu(self.p(take(self, *inputs, **named)))))
    layers = read_layers(model.eval(), wrap(rows))
    assert [layer.units for layer in layers] == [8]
    assert (rows.requires_grad, rows.dtype) == (False, torch.float32)


def test_arrays_among_the_inputs_stay_arrays(rows):
    gains = np.arange(1.0, 4.0, dtype=np.float32)
    model = Pair(lambda self, x, gains: self.q(F.relu(self.p(x))) * torch.from_numpy(gains)).eval()
    assert [id(tensor) for tensor in tensors_in([gains, {"x": rows}])] == [id(rows)]
    smaller, masked = (cut(model, (rows, gains), {"p": [0, 3]}) for cut in (remove_units, mask_units))
    torch.testing.assert_close(smaller(rows, gains), masked(rows, gains))


def test_a_pass_that_writes_into_its_inputs_changes_them_nowhere(rows):
    model = Pair(lambda self, x: self.q(F.relu(self.p(x.sub_(0.5)))))
    before = rows.clone()
    smaller = prune(model.eval(), rows, 0.5, criterion=FilterNorm(1), round_to=1)
    assert smaller.p.out_features == 4
    assert torch.equal(rows, before)


# --- weights that are not the module's own -----------------------------------------------------------------------


def _normalised(self, x):
    weight = self.q.weight / self.q.weight.norm(dim=1, keepdim=True)
    return torch.func.functional_call(self.q, {"weight": weight, "bias": self.q.bias}, (F.relu(self.p(x)),))


def _in_place(self, x):
    with torch.no_grad():
        self.q.weight.div_(self.q.weight.abs().amax(1, keepdim=True))
    return self.q(F.relu(self.p(x)))


def _swapped(self, x):
    held = self.q.weight.data
    self.q.weight.data = held.softmax(1)
    y = self.q(F.relu(self.p(x)))
    self.q.weight.data = held
    return y


def _hooked(module, inputs):
    module.weight.data.div_(module.weight.data.norm())


@pytest.mark.parametrize("way", [_normalised, _in_place, _swapped, "hook"])
def test_weights_that_the_pass_computes_keep_what_they_read(way, rows):
    model = Pair() if way == "hook" else Pair(way)
    if way == "hook":
        model.q.register_forward_pre_hook(_hooked)
    with pytest.raises(UnsupportedModuleError, match="its weights are set while the network runs"):
        read_layers(model.eval(), rows)


def test_an_embedding_that_keeps_its_rows_short_keeps_its_width(rows):
    class Sum(Pair):
        def __init__(self, short):
            super().__init__()
            self.e = nn.Embedding(9, 8, max_norm=short)

        def forward(self, at, x):
            return self.q(F.relu(self.e(at) + self.p(x)))

    inputs = (torch.arange(5), rows)
    assert [layer.units for layer in read_layers(Sum(None).eval(), inputs)] == [8]
    with pytest.raises(UnsupportedModuleError, match="keeps the norm of its rows"):
        read_layers(Sum(1.0).eval(), inputs)


@pytest.mark.parametrize("how", ["method", "partial"])
def test_a_forward_pass_that_was_put_in_place_of_another_is_the_one_that_counts(how, rows):
    def layer_norm(module, x):
        return F.layer_norm(F.linear(x, module.weight, module.bias), (len(module.weight),))

    def gain(module, x):
        return 3 * F.linear(x, module.weight, module.bias)

    for forward, fine in ((layer_norm, False), (gain, True)):
        model = Pair(lambda self, x: self.q(self.p(x))).eval()
        bind = types.MethodType if how == "method" else functools.partial
        model.p.forward = bind(forward, model.p)
        if not fine:
            with pytest.raises(UnsupportedModuleError, match="computes something else"):
                read_layers(model, rows)
        elif how == "method":
            smaller, masked = (cut(model, rows, {"p": [0, 3]}) for cut in (remove_units, mask_units))
            torch.testing.assert_close(smaller(rows), masked(rows))
            assert torch.equal(model.p(rows), gain(model.p, rows))


def test_what_is_decided_in_numpy_keeps_the_channels_that_decide(rows):
    def gated(self, x):
        h = F.relu(self.p(x))
        return self.q(h) * float(h.detach().mean(1, keepdim=True).numpy().max())

    with pytest.raises(UnsupportedModuleError, match="numpy chooses by them"):
        read_layers(Pair(gated).eval(), rows)


# --- what is kept, and what comes out ----------------------------------------------------------------------------


class Kept(nn.Module):
    """A tower of its own whose answer is kept from the first pass on."""

    def __init__(self, kept):
        super().__init__()
        torch.manual_seed(0)
        self.t, self.u, self.v = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(4, 6)
        self.kept, self.cache = kept, {}

    def forward(self, x):
        if not self.kept or "tower" not in self.cache:
            width = self.t.weight.shape[0]
            self.cache["tower"] = self.u(F.relu(self.t(torch.eye(4)) + torch.arange(width) / width))
        return self.v(x) @ self.cache["tower"].T


@pytest.mark.parametrize("kept", [False, True])
def test_what_was_computed_once_is_tried_as_often_as_it_was_seen(kept, rows):
    with pytest.raises((UnsupportedModuleError, SettingError), match="'t'"):
        remove_units(Kept(kept).eval(), rows, {"t": [0, 3]})


@pytest.mark.parametrize(
    "out",
    [
        lambda h: h.detach().numpy(),
        lambda h: {"kept": h.tolist()},
        lambda h: [types.SimpleNamespace(first=h[0].tolist())],
    ],
)
def test_outputs_that_are_no_tensors_keep_their_width(out, rows):
    model = Pair(lambda self, x: (self.q(F.relu(self.p(x))), out(F.relu(self.p(x)))))
    with pytest.raises(UnsupportedModuleError, match="outputs change"):
        read_layers(model.eval(), rows)
