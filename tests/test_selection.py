import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import brute_force_selection
from torch import nn

from splinelib import prune
from splinelib.errors import SettingError
from splinelib.layers import Layer
from splinelib.pruning import select_units

SCOPES = ("layerwise", "global")


def layers_of(*sizes):
    return [Layer(f"layer{place}", size, (), None, ()) for place, size in enumerate(sizes)]


def chosen(selection, count):
    return [set(selection.get(f"layer{place}", [])) for place in range(count)]


@pytest.mark.parametrize("scope", SCOPES)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    ratio=st.floats(0.01, 0.99),
    seed=st.integers(0, 10**6),
)
def test_selection_is_that_of_brute_force(scope, sizes, ratio, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.rand(size, generator=generator, dtype=torch.float64) + 0.01 for size in sizes]
    selection = select_units(layers_of(*sizes), scores, ratio, scope)
    assert chosen(selection, len(sizes)) == brute_force_selection([s.tolist() for s in scores], ratio, scope)
    assert all(units == sorted(units) and units for units in selection.values())


def test_selection_by_hand():
    scores = [torch.tensor([3.0, 1.0, 2.0, 6.0]), torch.tensor([40.0, 10.0, 50.0, 20.0])]
    assert select_units(layers_of(4, 4), scores, 0.5) == {"layer0": [1, 2], "layer1": [1, 3]}
    # Divided by the means 3 and 30: 1, 1/3, 2/3, 2 and 4/3, 1/3, 5/3, 2/3.
    assert select_units(layers_of(4, 4), scores, 0.5, "global") == {"layer0": [1, 2], "layer1": [1, 3]}
    scores[0] = torch.tensor([1.0, 1.0, 1.0, 97.0])
    assert select_units(layers_of(4, 4), scores, 0.5, "global") == {"layer0": [0, 1, 2], "layer1": [1]}


def test_global_scope_divides_by_the_mean():
    # By means 8 and 6: 0.5, 0.5, 2 and 0.42, 1.6. By the largest of each layer the first would fall before the fourth.
    scores = [torch.tensor([4.0, 4.0, 16.0]), torch.tensor([2.5, 9.5])]
    assert select_units(layers_of(3, 2), scores, 0.2, "global") == {"layer1": [0]}


def test_layers_compare_by_rank_or_as_they_are():
    # Ranks 1, 1/3, 2/3 and 1/2, 1: the second falls, then the fourth. As they are, all of the first but its best.
    scores = [torch.tensor([-1.0, -3.0, -2.0]), torch.tensor([5.0, 9.0])]
    assert select_units(layers_of(3, 2), scores, 0.4, "global", normalize="rank") == {
        "layer0": [1],
        "layer1": [0],
    }
    assert select_units(layers_of(3, 2), scores, 0.4, "global", normalize="none") == {"layer0": [1, 2]}
    with pytest.raises(SettingError, match="normalize='rank'"):
        select_units(layers_of(3, 2), scores, 0.4, "global")


def test_ties_fall_by_index():
    scores = [torch.ones(4), torch.ones(2)]
    assert select_units(layers_of(4, 2), scores, 0.5) == {"layer0": [0, 1], "layer1": [0]}
    assert select_units(layers_of(4, 2), scores, 0.5, "global") == {"layer0": [0, 1, 2]}


@pytest.mark.parametrize("scope", SCOPES)
def test_every_layer_keeps_its_best_unit(scope, generator):
    scores = [torch.rand(size, generator=generator) for size in (1, 2, 9, 30)]
    selection = select_units(layers_of(1, 2, 9, 30), scores, 0.999, scope)
    kept = [set(range(len(s))) - units for s, units in zip(scores, chosen(selection, 4), strict=True)]
    assert kept == [{score.argmax().item()} for score in scores]


def test_scores_of_zero_are_no_trouble():
    assert select_units(layers_of(3, 2), [torch.zeros(3), torch.ones(2)], 0.4, "global") == {"layer0": [0, 1]}


@pytest.mark.parametrize("ratio", [0, 1, 1.5, -0.1, float("nan")])
def test_ratios_outside_are_named_before_any_work(ratio, generator):
    with pytest.raises(SettingError, match=f"ratio is {ratio}.*strictly between 0 and 1"):
        select_units(layers_of(2), [torch.ones(2)], ratio)

    class Untouchable(nn.Module):
        def forward(self, x):
            raise AssertionError("this is work")

    with pytest.raises(SettingError, match=f"ratio is {ratio}"):
        prune(Untouchable(), torch.zeros(1, 2), ratio)


@pytest.mark.parametrize(
    ("scores", "scope", "named"),
    [
        ([torch.ones(2)], "local", "scope is 'local'"),
        ([torch.ones(3)], "layerwise", r"layer 'layer0' have shape \(3,\).* 2 finite numbers"),
        ([torch.tensor([1.0, torch.nan])], "global", "finite: False"),
        ([torch.ones(2), torch.ones(2)], "global", "2 tensors of scores for 1 layers"),
        ([], "layerwise", "0 tensors of scores for 1 layers"),
        ([torch.tensor([-1.0, 2.0])], "global", "go down to -1.0"),
    ],
)
def test_scores_that_do_not_fit_are_named(scores, scope, named):
    with pytest.raises(SettingError, match=named):
        select_units(layers_of(2), scores, 0.5, scope)
