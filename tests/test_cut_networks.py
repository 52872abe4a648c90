"""Networks cut as wholes: inputs and outputs, weights that are tied or computed, what is left out or never runs."""

import copy
import dataclasses
import warnings

import pytest
import torch
import torch.nn.utils.prune
from oracles_cut import without_units
from tiny_nets import Net, built, normed
from torch import nn

from splinelib import prune, read_layers, remove_units
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import run
from splinelib.pruning import cost, mask_units, merge_units, reconstruct

Conv, Linear, Chain = nn.Conv2d, nn.Linear, nn.Sequential
IMAGES, ROWS, TOKENS = (2, 3, 8, 8), (3, 10), (2, 7, 5)


@dataclasses.dataclass
class Answer:
    logits: torch.Tensor
    embedding: torch.Tensor


@pytest.mark.parametrize("pack", [dict, tuple, Answer])
def test_units_that_are_outputs_stay(pack):
    def forward(net, x):
        e = net.a(net.z(x).relu()).relu().mean((2, 3))
        return (net.h(e), e) if pack is tuple else pack(logits=net.h(e), embedding=e)

    model, inputs = built(lambda: Net(forward, z=Conv(3, 6, 1), a=Conv(6, 16, 3), h=Linear(16, 4)), IMAGES)
    assert [layer.name for layer in read_layers(model, inputs)] == ["z"]


def test_auxiliary_heads_lose_what_the_network_loses():
    def forward(net, x):
        x = net.a(x).relu()
        return (net.h(x), net.aux(x)) if net.training else net.h(x)

    model, inputs = built(lambda: Net(forward, a=Linear(10, 8), h=Linear(8, 2), aux=Linear(8, 2)), ROWS)
    (layer,) = read_layers(model, inputs)
    assert set(layer.readers) == {"h", "aux"}
    smaller = remove_units(model, inputs, {"a": [3]}).train()
    hidden = model.a(inputs).relu()
    hidden[:, 3] = 0
    torch.testing.assert_close(smaller(inputs), (model.h(hidden), model.aux(hidden)))


@pytest.mark.parametrize("computed", [normed, lambda m: nn.utils.prune.random_unstructured(m, "weight", 0.2)])
def test_weights_that_are_computed_take_over_twins_and_those_of_a_norm_are_solved(computed):
    model, inputs = built(lambda: Chain(Linear(10, 8), nn.ReLU(), computed(Linear(8, 3))), (40, 10))
    with torch.no_grad():
        for tensor in model[0].parameters():
            tensor[1] = tensor[0]
        if computed is not normed:
            model[2].weight_mask[:, :2] = 1
    dense = model(inputs)
    torch.testing.assert_close(merge_units(model, inputs, {"0": [1]})(inputs), dense)
    if computed is normed:
        smaller, solved = remove_units(model, inputs, {"0": [3]}), reconstruct(model, {"0": [3]}, inputs)
        assert (solved(inputs) - dense).norm() < 0.9 * (smaller(inputs) - dense).norm()


def test_what_never_runs_is_told():
    model, inputs = built(
        lambda: Net(
            lambda s, x: s.h(s.a(x)),
            a=Linear(10, 8),
            h=Linear(8, 2),
            spare=Linear(8, 2),
        ),
        ROWS,
    )
    with pytest.warns(UserWarning, match="'spare': did not run"):
        read_layers(model, inputs)


def test_tied_weights_stay_tied():
    def forward(net, x):
        return net.h(torch.cat([net.b(x).relu(), net.c(x.flip(1)).relu()], 1))

    def make():
        net = Net(forward, b=Linear(10, 4), c=Linear(10, 4), h=Linear(8, 3))
        net.c.weight = net.b.weight
        return net

    model, inputs = built(make, ROWS)
    (layer,) = read_layers(model, inputs)
    smaller = remove_units(model, inputs, {layer.name: [0]})
    assert smaller.b.weight is smaller.c.weight
    assert smaller.b.weight.shape == (3, 10)
    torch.testing.assert_close(smaller(inputs), without_units(model, inputs, [layer], {layer.name: [0]}))


def test_tied_readers_take_over_an_exact_twin_once():
    def make():
        net = Net(
            lambda s, x: s.p(y := s.a(x).relu()) + s.q(y), a=Linear(10, 8), p=Linear(8, 3), q=Linear(8, 3)
        )
        net.q.weight = net.p.weight
        net.a.weight.data[1], net.a.bias.data[1] = net.a.weight.data[0], net.a.bias.data[0]
        return net

    model, inputs = built(make, ROWS)
    torch.testing.assert_close(merge_units(model, inputs, {"a": [1]})(inputs), model(inputs))


@pytest.mark.parametrize("keywords", [False, True])
def test_several_inputs(keywords):
    model, first = built(
        lambda: Net(
            lambda s, x, y: s.h((s.a(x) - s.b(y)).abs()), a=Linear(10, 6), b=Linear(4, 6), h=Linear(6, 1)
        ),
        ROWS,
    )
    second = torch.randn(3, 4, dtype=torch.float64)
    inputs = {"y": second, "x": first} if keywords else (first, second)
    for options in ({}, {"compensate": "merge"}, {"ratio_of": "flops"}):
        smaller = prune(model, inputs, 0.5, **options)
        assert smaller.h.in_features < 6
        assert run(smaller, inputs).shape == (3, 1)
    assert cost(smaller, inputs).flops <= 0.5 * cost(model, inputs).flops


def test_modules_are_left_out_by_name_object_and_type():
    model, inputs = built(
        lambda: Chain(Conv(3, 6, 1), nn.ReLU(), Conv(6, 5, 1), nn.Flatten(), Linear(320, 4), Linear(4, 2)),
        IMAGES,
    )

    def names(*ignore):
        return [layer.name for layer in read_layers(model, inputs, ignore)]

    assert names() == ["0", "2", "4"]
    assert names("2") == ["0", "4"]
    assert names(model[0], model[4]) == ["2"]
    assert names(nn.Conv2d) == ["4"]
    assert prune(model, inputs, 0.5, ignore=["0"])[0].out_channels == 6
    with pytest.raises(SettingError, match="ignore names 'stem', which Sequential does not have"):
        names("stem")


def test_compiled_models_are_unwrapped_and_others_refused():
    model, inputs = built(lambda: Chain(Linear(10, 6), nn.ReLU(), Linear(6, 2)), ROWS)
    compiled = torch.compile(model, backend="eager")
    assert isinstance(prune(compiled, inputs, 0.5), nn.Sequential)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(model)
    exported = torch.export.export(model.eval(), (inputs,)).module()
    for network, named in (
        (scripted, "is scripted"),
        (Chain(scripted, Linear(2, 2)), "'0' of .* is scripted"),
        (exported, "GraphModule is exported, so its modules cannot be read"),
    ):
        with pytest.raises(UnsupportedModuleError, match=named):
            prune(network, inputs, 0.5)
    with torch.inference_mode(), pytest.raises(SettingError, match="inference_mode is on"):
        prune(model, inputs, 0.5)


def test_embeddings_go_with_the_stream():
    def forward(net, x):
        return net.h(net.a(net.e(x) + net.p(torch.arange(x.shape[1]))).relu().mean(1))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Net(
            forward, e=nn.Embedding(11, 8), p=nn.Embedding(7, 8), a=Linear(8, 6), h=Linear(6, 3)
        ).eval()
    assert [layer.name for layer in read_layers(model, torch.randint(11, (2, 7)))] == ["a"]


def test_inputs_that_are_none_are_named():
    model = Chain(Conv(3, 8, 3), nn.ReLU(), Conv(8, 2, 1))
    with pytest.raises(SettingError, match="example_inputs is None: give"):
        prune(model, None, 0.5)
    with pytest.raises(SettingError, match="hold no image"):
        prune(model, torch.zeros(0, 3, 8, 8), 0.5)
    with pytest.raises(SettingError, match="'0.weight' of Sequential holds no values yet"):
        prune(model.to("meta"), torch.zeros(2, 3, 8, 8), 0.5)
    with pytest.raises(SettingError, match="'0.weight' of Sequential holds no values yet"):
        prune(Chain(nn.LazyLinear(4), nn.LazyLinear(2)), torch.zeros(2, 3), 0.5)
    model = Chain(Conv(3, 8, 3), nn.ReLU(), Conv(8, 2, 1))
    for wrong in ((1, 3, 8, 8), torch.zeros(2, 4, 8, 8)):
        with pytest.raises(SettingError, match="Sequential does not take the example inputs"):
            prune(model, wrong, 0.5)


def test_group_norms_of_one_channel_each_lose_groups():
    model, inputs = built(
        lambda: Chain(Conv(3, 6, 3), nn.GroupNorm(6, 6), nn.ReLU(), Conv(6, 2, 1)),
        IMAGES,
    )
    smaller, masked = remove_units(model, inputs, {"0": [1, 2]}), mask_units(model, inputs, {"0": [1, 2]})
    assert smaller[1].num_groups == smaller[1].num_channels == 4
    model[3].weight.data[:, [1, 2]] = 0
    torch.testing.assert_close(smaller(inputs), model(inputs))
    torch.testing.assert_close(masked(inputs), model(inputs))


def test_groups_of_one_unit_stay():
    def make():
        return Chain(Conv(3, 4, 3), nn.ReLU(), Conv(4, 4, 1), nn.GroupNorm(2, 4), nn.GLU(1), Conv(2, 3, 1))

    model, inputs = built(make, IMAGES)
    with pytest.warns(UserWarning, match="'2': 2 units in 2 groups of channels, which must stay equally"):
        assert [layer.name for layer in read_layers(model, inputs)] == ["0"]


def test_compiled_parts_are_solved_like_plain_ones(generator):
    plain = nn.Sequential(
        nn.Sequential(nn.Linear(5, 8), nn.ReLU()), nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    ).eval()
    compiled, images = copy.deepcopy(plain), torch.randn(60, 5, generator=generator)
    for place in (0, 1):
        compiled[place] = torch.compile(compiled[place], backend="eager")
    with torch.no_grad():
        compiled(images)  # as it was trained
    wanted = reconstruct(plain, {"0.0": [1, 4]}, images)(images)
    with torch.no_grad():
        solved = reconstruct(compiled, {"0._orig_mod.0": [1, 4]}, images)(images)
    torch.testing.assert_close(solved, wanted)
