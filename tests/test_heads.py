"""Attention loses whole heads; the numbers that modules keep of heads and channels follow."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from splinelib import prune, read_layers, remove_units
from splinelib.criteria import FilterNorm
from splinelib.errors import SettingError
from splinelib.pruning import carry_optimizer, cut_of, load, mask_units, report_of, save

TOKENS, WIDE = 7, 24  # length of a sequence, width of the stream
Linear = nn.Linear


class Separate(nn.Module):
    """Separate queries, keys and values, as many heads as features of each."""

    def __init__(self):
        super().__init__()
        self.features, self.many = 4, 4
        self.q, self.k, self.v = (Linear(WIDE, 16) for _ in range(3))
        self.o = Linear(16, WIDE)

    def forward(self, x):
        q, k, v = (
            f(x).view(*x.shape[:2], self.many, self.features).transpose(1, 2)
            for f in (self.q, self.k, self.v)
        )
        weights = (q @ k.mT / self.features**0.5).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class Fused(nn.Module):
    """One module for all three, norms that heads share, a gain of each head and a table of biases."""

    def __init__(self):
        super().__init__()
        self.heads, self.size, self.inner = 3, 8, 24
        self.qkv, self.o = Linear(WIDE, 72), Linear(24, WIDE)
        self.q_norm, self.k_norm = nn.LayerNorm(8), nn.RMSNorm(8)
        self.gain, self.table = nn.Parameter(torch.rand(3, 1, 1)), nn.Parameter(torch.rand(13, 3))
        self.register_buffer("index", torch.arange(TOKENS)[:, None] - torch.arange(TOKENS) + 6)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, self.size)).permute(2, 0, 3, 1, 4)
        weights = self.q_norm(q) @ self.k_norm(k).mT * self.gain + self.table[self.index].permute(2, 0, 1)
        y = (weights.softmax(-1) @ v).transpose(1, 2)
        return self.o(y.reshape(*x.shape[:2], self.inner))


class Grouped(nn.Module):
    """Eight heads of queries, two for each head of keys and values."""

    def __init__(self):
        super().__init__()
        self.n_heads, self.n_kv = 8, 4
        self.q, self.k, self.v = (Linear(WIDE, n) for n in (16, 8, 8))
        self.o = Linear(16, WIDE)

    def forward(self, x):
        q, k, v = (
            f(x).unflatten(-1, (n, 2)).transpose(1, 2)
            for f, n in ((self.q, self.n_heads), (self.k, self.n_kv), (self.v, self.n_kv))
        )
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.o(y.transpose(1, 2).flatten(2))


class Split(nn.Module):
    """A module of its own that takes heads apart."""

    def __init__(self, heads):
        super().__init__()
        self.h = heads

    def forward(self, x):
        return x.unflatten(-1, (self.h, -1)).transpose(1, 2)


class Nested(nn.Module):
    """Keys and values in one, heads taken apart elsewhere, a gate on what comes out."""

    def __init__(self):
        super().__init__()
        self.split = Split(4)
        self.q, self.kv, self.gate = (Linear(WIDE, n) for n in (12, 24, 12))
        self.o = Linear(12, WIDE)

    def forward(self, x):
        k, v = self.kv(x).chunk(2, -1)
        y = F.scaled_dot_product_attention(self.split(self.q(x)), self.split(k), self.split(v))
        return self.o(y.transpose(1, 2).flatten(2) * self.gate(x).sigmoid())


class Literal(Separate):
    """The number of heads stands in the code."""

    def forward(self, x):
        q, k, v = (f(x).view(*x.shape[:2], 4, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Scaled(Separate):
    """The scale follows the number of heads, so a network with fewer computes something else."""

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (self.many, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        weights = (q @ k.mT * (self.many / 16) ** 0.5).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.attention, self.norm = attention, nn.LayerNorm(WIDE)
        self.mlp = nn.Sequential(Linear(WIDE, 10), nn.GELU(), Linear(10, WIDE))

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.mlp(self.norm(x))


class Transformer(nn.Module):
    def __init__(self, attention, blocks=2):
        super().__init__()
        self.embed, self.place = Linear(5, WIDE), nn.Parameter(torch.rand(TOKENS, WIDE))
        self.blocks = nn.Sequential(*(Block(attention()) for _ in range(blocks)))
        self.head = Linear(WIDE, 3)

    def forward(self, x):
        return self.head(self.blocks(self.embed(x) + self.place).mean(1))


def built(attention):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return Transformer(attention).double().eval(), torch.randn(2, TOKENS, 5, dtype=torch.float64)


def without_heads(model, inputs, heads, size):
    """What the network gives if no output projection reads these heads, which lie side by side there."""
    lost = [head * size + place for head in heads for place in range(size)]
    hooks = []
    for block in model.blocks:

        def silence(_, args):
            return (args[0].index_fill(-1, torch.tensor(lost), 0),)

        hooks.append(block.attention.o.register_forward_pre_hook(silence))
    given = model(inputs)
    for hook in hooks:
        hook.remove()
    return given


# The attention, its units, how many features of each the output projection reads, and the numbers that follow.
HEADS = {
    "separate": (Separate, 4, 4, {"many": 4}),
    "fused": (Fused, 3, 8, {"heads": 3, "inner": 24}),
    "grouped": (Grouped, 4, 4, {"n_heads": 8, "n_kv": 4}),
    "nested": (Nested, 4, 3, {"split.h": 4}),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("lost", [[1], [0, 2]])
def test_a_network_without_heads_is_one_that_does_not_read_them(name, lost):
    attention, units, size, numbers = HEADS[name]
    model, inputs = built(attention)
    layers = read_layers(model, inputs)
    heads = [layer for layer in layers if ".attention." in layer.name and not layer.name.endswith(".o")]
    assert [layer.units for layer in heads] == [units, units]
    selection = {layer.name: lost for layer in heads}
    smaller = remove_units(model, inputs, selection, layers)
    wanted = without_heads(model, inputs, lost, size)
    torch.testing.assert_close(smaller(inputs), wanted)
    assert not torch.allclose(wanted, model(inputs))
    if name != "fused":  # where a norm that heads share is no obstacle to removal alone
        torch.testing.assert_close(mask_units(model, inputs, selection, layers)(inputs), wanted)
    for block in smaller.blocks:
        for number, before in numbers.items():
            path, _, last = number.rpartition(".")
            left = getattr(block.attention.get_submodule(path), last)
            assert left == before - len(lost) * before // units


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_pruned_in_steps_applied_again_saved_and_loaded(name, tmp_path):
    attention, units, _, _ = HEADS[name]
    model, inputs = built(attention)
    smaller = prune(model, inputs, 0.6, criterion=FilterNorm(1), steps=2)
    layer = next(one for one in report_of(smaller).units if ".attention." in one)
    assert report_of(smaller).units[layer] == (units, units - round(0.6 * units))
    torch.testing.assert_close(cut_of(smaller).apply_to(model)(inputs), smaller(inputs))
    save(smaller, tmp_path / "a.safetensors")
    fresh, _ = built(attention)
    torch.testing.assert_close(load(tmp_path / "a.safetensors", into=fresh)(inputs), smaller(inputs))
    with pytest.raises(SettingError, match="the cut is of another network"):
        cut_of(smaller).apply_to(smaller)


def test_an_optimiser_follows_a_network_without_heads():
    model, inputs = built(Fused)
    optimizer = torch.optim.Adam(model.parameters())
    model(inputs).sum().backward()
    optimizer.step()
    smaller = prune(model, inputs, 0.5)
    moved = carry_optimizer(optimizer, model, smaller)
    state = moved.state[smaller.blocks[0].attention.gain]["exp_avg"]
    kept = [0, 1, 2]
    for head in cut_of(smaller).selection["blocks.0.attention.qkv"]:
        kept.remove(head)
    torch.testing.assert_close(state, optimizer.state[model.blocks[0].attention.gain]["exp_avg"][kept])


@pytest.mark.parametrize("attention", [Literal, Scaled])
def test_heads_that_cannot_go_are_left_whole_by_name(attention):
    model, inputs = built(attention)
    with pytest.warns(UserWarning, match="left whole") as caught:
        layers = read_layers(model, inputs)
    said = " ".join(str(warning.message) for warning in caught)
    assert all(f"'blocks.{block}.attention.v'" in said for block in range(2))
    names = [layer.name for layer in layers]
    assert {"blocks.0.mlp.0", "blocks.1.mlp.0"} <= set(names)
    assert not {"blocks.0.attention.q", "blocks.0.attention.k", "blocks.0.attention.v"} & {
        writer.module for layer in layers for writer in layer.writers
    }


def test_the_fused_attention_of_torch_keeps_its_heads_and_its_neighbours_are_pruned():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        model = nn.Sequential(Linear(5, 8), encoder, Linear(8, 6), nn.ReLU(), Linear(6, 2)).eval()
        inputs = torch.randn(2, TOKENS, 5)
    with pytest.warns(UserWarning, match="its heads share one width with what it reads"):
        smaller = prune(model, inputs, 0.5, criterion=FilterNorm(1))
    assert smaller[1].linear1.out_features == smaller[1].linear2.in_features == 8
    with torch.no_grad():  # PyTorch's one kernel for the whole layer
        fast = smaller(inputs)
    torch.testing.assert_close(fast, smaller(inputs))
