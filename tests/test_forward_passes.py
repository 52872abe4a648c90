"""What forward passes may do between modules: cast, draw, stop gradients, pack, hide outputs, keep odd attributes."""

import threading
import types

import pytest
import torch
import torch.nn.functional as F
from oracles_cut import without_units
from tiny_nets import Net
from torch import nn
from torch.utils.checkpoint import checkpoint

import splinelib
from splinelib import read_layers, remove_units
from splinelib.criteria import Taylor
from splinelib.errors import SettingError, UnsupportedModuleError

Linear = nn.Linear


def chain(forward, **modules):
    """The network whose forward pass is ``forward``, with units in ``a`` and ``b``."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(forward, **({"a": Linear(10, 8), "b": Linear(8, 6), "o": Linear(6, 3)} | modules)).eval()


def pooled(net, x):
    hidden = net.a(x).relu()
    sums = torch.zeros(2, hidden.shape[1]).index_add(0, torch.tensor([0, 1, 1]), hidden)
    return net.o(net.b(sums).relu())


def mixed(net, x):
    with torch.autocast("cpu", torch.bfloat16):
        hidden = net.a(x).relu().float()
    return net.o(net.b(hidden.bfloat16()).relu().to(torch.float32))


def scaled(net, x):
    steps = torch.arange(8, dtype=torch.float32)
    return net.o(net.b(net.a(x).type(torch.float64).float() + net.e(steps.exp().neg())).relu())


def frozen(net, x):
    with torch.no_grad():
        hidden = net.b(net.a(x).relu()).relu()
    return net.o(hidden)


@torch.no_grad()
def predicted(net, x):
    return net.o(net.b(net.a(x).relu()).relu())


def propagated(net, x):
    graph = torch.eye(3).to_sparse()
    return net.o(torch.sparse.mm(graph, net.b(torch.sparse.mm(graph, net.a(x))).relu()))


FORWARDS = {
    "index_add into float32": (lambda: chain(pooled), ["a", "b"]),
    "autocast and casts": (lambda: chain(mixed, b=Linear(8, 6).bfloat16()), ["a", "b"]),
    "float32 constants": (lambda: chain(scaled, e=Linear(8, 8)), ["b", "e"]),
    "a part without gradients": (lambda: chain(frozen), ["a", "b"]),
    "no gradients at all": (lambda: chain(predicted), ["a", "b"]),
    "sparse": (lambda: chain(propagated), ["a", "b"]),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_code_that_casts_or_stops_gradients_is_cut_right(name):
    make, names = FORWARDS[name]
    model, inputs = make(), torch.randn(3, 10)
    layers = read_layers(model, inputs)
    assert [layer.name for layer in layers] == names
    selection = {name: [1, 2] for name in names}
    smaller = remove_units(model, inputs, selection, layers)
    near = {"rtol": 0.05, "atol": 0.01} if "autocast" in name else {}
    torch.testing.assert_close(smaller(inputs), without_units(model, inputs, layers, selection), **near)


def sampled(net, x):
    mean = net.b(net.a(x).relu())
    return net.o(mean + torch.randn_like(mean) * torch.rand(1))


DRAWS = {
    "latent": sampled,
    "distribution": lambda net, x: net.o(torch.distributions.Normal(net.b(net.a(x).relu()), 1.0).rsample()),
    "dropout that never stops": lambda net, x: net.o(F.dropout(net.b(F.dropout(net.a(x).relu())), 0.1)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_what_is_drawn_at_random_hides_no_layer(name):
    model, inputs, state = chain(DRAWS[name]), torch.randn(3, 10), torch.get_rng_state()
    assert [layer.name for layer in read_layers(model, inputs)] == ["a", "b"]
    assert remove_units(model, inputs, {"a": [0], "b": [1]})(inputs).shape == (3, 3)
    torch.set_rng_state(state)


def test_sequences_may_be_packed_and_states_of_float32():
    def forward(net, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(net.a(x).relu(), lengths, batch_first=True)
        sums = nn.utils.rnn.pad_packed_sequence(net.r(packed, torch.zeros(1, 2, 5))[0], batch_first=True)[0]
        return net.o(net.b(sums.sum(1)).relu())

    model = chain(forward, r=nn.GRU(8, 5, batch_first=True), b=Linear(5, 6))
    inputs = torch.randn(2, 4, 10), torch.tensor([4, 2])
    smaller = remove_units(model, inputs, {"a": [3], "b": [0]})
    model.r.weight_ih_l0.data[:, 3] = 0
    model.o.weight.data[:, 0] = 0
    torch.testing.assert_close(smaller(*inputs), model(*inputs))


def test_complex_modules_are_left_whole():
    def forward(net, x):
        z = torch.view_as_complex(net.a(x).unflatten(1, (4, 2)))
        return net.o(net.b(torch.view_as_real(net.c(z)).flatten(1)).relu())

    model = chain(forward, c=Linear(4, 4, dtype=torch.complex64))
    with pytest.warns(UserWarning, match=r"'a': each channel depends on all others at 'c' \(Linear\)"):
        assert [layer.name for layer in read_layers(model, torch.randn(3, 10))] == ["b"]


class Slotted:
    __slots__ = ("hidden", "logits")


def slotted(net, x):
    given = Slotted()
    given.hidden = net.a(x).relu()
    given.logits = net.o(net.b(given.hidden))
    return given


HIDDEN = {
    "slots": (slotted, ["b"]),
    "array": (lambda net, x: net.o(net.b(net.a(x).relu()).relu()).detach().numpy(), ["a", "b"]),
    "classes": (lambda net, x: net.o(net.b(net.a(x).relu()).relu()).argmax(1), ["a", "b"]),
}


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.filterwarnings("ignore:left whole. 'o'. (nothing is seen to read it|argmax chooses by them)")
def test_outputs_that_are_hidden_stay(name):
    forward, names = HIDDEN[name]
    assert [layer.name for layer in read_layers(chain(forward), torch.randn(3, 10))] == names


def test_objects_that_hold_themselves_are_no_trouble_and_what_cannot_be_copied_is_named():
    model = chain(lambda net, x: net.o(net.b(net.a(x).relu()).relu()))
    model.settings = types.SimpleNamespace(model=model, hidden=model.a(torch.zeros(1, 10)))
    model.settings.settings = model.settings
    assert len(read_layers(model, torch.randn(3, 10))) == 2
    model.lock = threading.Lock()
    with pytest.raises(SettingError, match="Net cannot be copied .*lock"):
        read_layers(model, torch.randn(3, 10))


def test_forward_passes_that_cannot_be_observed_are_named():
    def recomputed(net, x):
        return net.o(checkpoint(lambda x: net.b(net.a(x).relu()).relu(), x, use_reentrant=False))

    with pytest.raises(UnsupportedModuleError, match="behind 'a' .*: turn gradient checkpointing off"):
        read_layers(chain(recomputed), torch.randn(3, 10))

    def asserted(net, x):
        assert x.dtype == torch.float32
        return net.o(net.b(net.a(x)))

    with pytest.raises(UnsupportedModuleError, match="Net cannot be observed behind 'its inputs' .Assert"):
        read_layers(chain(asserted), torch.randn(3, 10))


class Counting(nn.Module):
    """Counts what it has seen in one buffer, and keeps it in another."""

    def __init__(self):
        super().__init__()
        self.a, self.o = Linear(10, 8), Linear(8, 3)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("last", torch.zeros(3, 10))

    def forward(self, x):
        self.seen += len(x)
        self.last[: len(x)] = x[:3]
        return self.o(self.a(x).relu())


def test_buffers_that_a_forward_pass_writes_are_as_they_were():
    model, rows = Counting(), torch.randn(3, 10)
    labels = torch.zeros(3, dtype=torch.long)
    splinelib.prune(model, rows, 0.5, compensate="least_squares", data=rows)
    splinelib.prune(model, rows, 0.5, criterion=Taylor(rows, labels))
    splinelib.sign_codes(model, rows)
    assert model.seen == 0
    assert not model.last.any()
    model(rows)
    assert model.seen == 3


@pytest.mark.filterwarnings("ignore:input's size at dim=1 does not match num_features")
@pytest.mark.parametrize("width", [8, 32])
def test_instance_norms_of_another_width_are_named(width):
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.InstanceNorm2d(width), nn.ReLU(), nn.Conv2d(16, 4, 3))
    with pytest.raises(SettingError, match=rf"'1' is InstanceNorm2d\({width}.*make it with num_features=16"):
        read_layers(model, torch.randn(2, 3, 8, 8))


def fixed_mask(net, hidden):
    return net.b(hidden * (torch.rand(len(hidden), 8) > 0.1))


def centred(net, hidden):
    return net.b(hidden - hidden.mean(1, keepdim=True))


def with_features(net, hidden):
    return net.b(hidden), hidden.mean(0)


def dropped(net, hidden):
    return net.b(hidden * torch.empty(len(hidden), 1).bernoulli_(0.8).div_(0.8))


def noisy(net, hidden):
    return net.b(F.dropout(hidden + torch.randn_like(hidden), 0.3))


def wanting_targets(net, hidden):
    raise ValueError("give targets")


TRAINING = {fixed_mask: False, centred: False, dropped: True, noisy: True, wanting_targets: True}


@pytest.mark.parametrize(("training", "cut"), TRAINING.items())
@pytest.mark.filterwarnings("ignore:left whole")
def test_what_a_network_does_in_train_mode_alone_is_looked_at(training, cut):
    def forward(net, x):
        hidden = net.a(x).relu()
        return net.o(training(net, hidden) if net.training else net.b(hidden))

    model = chain(forward)
    assert ("a" in {layer.name for layer in read_layers(model, torch.randn(4, 10))}) == cut
    assert not model.training


@pytest.mark.filterwarnings("ignore:left whole")
def test_features_that_are_given_in_train_mode_alone_stay():
    def forward(net, x):
        hidden = net.a(x).relu()
        return with_features(net, hidden) if net.training else net.b(hidden)

    with pytest.raises(UnsupportedModuleError, match="no layer that can be pruned"):
        read_layers(chain(forward), torch.randn(4, 10))
