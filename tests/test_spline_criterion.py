import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import slow_ranking, slow_spline_distance
from torch import nn

from splinelib import Spline, read_layers
from splinelib.criteria import Random, rank_units, spline_distance
from splinelib.criteria.weights import BatchNormScale, FilterNorm
from splinelib.errors import SettingError, UnsupportedModuleError

OFFSETS = ("raw", "geometric")
DROPS = ("smaller_norm", "closer_second")


def layer_of(units, inputs, generator):
    weight = torch.randn(units, inputs, generator=generator, dtype=torch.float64)
    return weight, torch.randn(units, generator=generator, dtype=torch.float64)


def units(**limits):
    """A layer (weight, bias) of 2 to 7 units whose normals are nowhere near zero."""
    number = st.floats(-4, 4, allow_nan=False).map(lambda x: round(x, 3))
    row = st.lists(number, min_size=3, max_size=3).filter(lambda r: math.hypot(*r) > 0.1)
    layers = st.lists(st.tuples(row, number), min_size=2, max_size=7)
    return layers.map(
        lambda pairs: (
            torch.tensor([row for row, _ in pairs], dtype=torch.float64),
            torch.tensor([offset for _, offset in pairs], dtype=torch.float64),
        )
    )


def test_two_units_by_hand():
    # cos = (3·4 + 4·3) / (5·5) = 24/25, offsets b/‖w‖ are 10/5 = 2 and -5/5 = -1.
    weight, bias = torch.tensor([[3.0, 4.0], [4.0, 3.0]]), torch.tensor([10.0, -5.0])
    raw = spline_distance(weight, bias, rho=0.1)
    geometric = spline_distance(weight, bias, rho=0.1, offset="geometric")
    torch.testing.assert_close(raw, (1 / 25 + 0.1 * 15) * (1 - torch.eye(2, dtype=torch.float64)))
    torch.testing.assert_close(geometric, (1 / 25 + 0.1 * 3) * (1 - torch.eye(2, dtype=torch.float64)))


def test_two_opposed_units_by_hand():
    # As above with the second unit turned round, (w, b) -> (-w, -b): the same two lines, so the same distance.
    weight, bias = torch.tensor([[3.0, 4.0], [-4.0, -3.0]]), torch.tensor([10.0, 5.0])
    geometric = spline_distance(weight, bias, rho=0.1, offset="geometric")
    assert geometric[0, 1].item() == pytest.approx(1 / 25 + 0.1 * 3, abs=1e-15)
    assert spline_distance(weight, bias, rho=0.1)[0, 1].item() == pytest.approx(1 / 25 + 0.1 * 5, abs=1e-15)


@pytest.mark.parametrize("offset", OFFSETS)
@given(layer=units(), rho=st.floats(0, 2))
def test_distance_is_that_of_the_double_loop(layer, rho, offset):
    fast = spline_distance(*layer, rho, offset)
    torch.testing.assert_close(fast, slow_spline_distance(*layer, rho, offset), rtol=0, atol=1e-12)
    assert torch.equal(fast, fast.T)
    assert torch.equal(fast.diagonal(), torch.zeros(len(fast), dtype=torch.float64))


@given(layer=units(), scales=st.lists(st.floats(0.01, 100), min_size=7, max_size=7))
def test_geometric_criterion_ignores_positive_scales(layer, scales):
    weight, bias = layer
    factor = torch.tensor(scales[: len(bias)], dtype=torch.float64)
    scaled = spline_distance(weight * factor[:, None], bias * factor, offset="geometric")
    # A cosine of about 0 may change its sign by rounding; such pairs count neither way.
    normal = nn.functional.normalize(weight)
    clear = (normal @ normal.T).abs() > 1e-9
    torch.testing.assert_close(
        scaled[clear], spline_distance(weight, bias, offset="geometric")[clear], rtol=0, atol=1e-12
    )


@given(layer=units(), signs=st.lists(st.sampled_from([-1.0, 1.0]), min_size=7, max_size=7))
def test_geometric_criterion_ignores_the_side(layer, signs):
    weight, bias = layer
    sign = torch.tensor(signs[: len(bias)], dtype=torch.float64)
    normal = nn.functional.normalize(weight)
    clear = (normal @ normal.T).abs() > 1e-9
    turned = spline_distance(weight * sign[:, None], bias * sign, offset="geometric")
    torch.testing.assert_close(
        turned[clear], spline_distance(weight, bias, offset="geometric")[clear], rtol=0, atol=1e-12
    )


def test_raw_criterion_does_not_ignore_scales():
    weight, bias = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([1.0, 1.0])
    scale = torch.tensor([1.0, 3.0])
    assert spline_distance(weight * scale[:, None], bias * scale, rho=0.05)[0, 1].item() == pytest.approx(0.1)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("drop", DROPS)
def test_permuting_units_permutes_scores(generator, offset, drop):
    weight, bias = layer_of(12, 5, generator)
    order = torch.randperm(12, generator=generator)
    score = Spline(offset=offset, drop=drop).layer_score
    torch.testing.assert_close(
        score(weight[order], bias[order]), score(weight, bias)[order], rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("drop", [*DROPS, "random"])
@pytest.mark.parametrize(("sign", "offset"), [(1, "raw"), (1, "geometric"), (-1, "geometric")])
def test_a_planted_twin_falls_first(generator, sign, offset, drop):
    weight, bias = layer_of(10, 6, generator)
    weight[7], bias[7] = sign * weight[2], sign * bias[2]
    distance = spline_distance(weight, bias, offset=offset)
    assert distance[2, 7].item() < 1e-15
    ranking = rank_units(distance, weight.norm(dim=1), drop)
    assert ranking.order[0] in (2, 7)
    assert ranking.distance[0] == distance[2, 7].item()
    assert Spline(offset=offset, drop=drop).layer_score(weight, bias).argmin().item() in (2, 7)


def test_a_scaled_twin_falls_before_its_larger_self(generator):
    weight, bias = layer_of(8, 4, generator)
    weight[1], bias[1] = 0.25 * weight[5], 0.25 * bias[5]
    assert Spline(offset="geometric").layer_score(weight, bias).argmin().item() == 1


def test_a_unit_without_weights_is_redundant(generator):
    weight, bias = layer_of(6, 4, generator)
    weight[3] = 0
    geometric = spline_distance(weight, bias, offset="geometric")
    assert torch.equal(geometric[3], torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(spline_distance(weight, bias, rho=0.3)[3], 0.3 * (bias - bias[3]).abs())
    ranking = rank_units(geometric, weight.norm(dim=1))
    assert (ranking.order[0], ranking.distance[0]) == (3, 0.0)


def test_dead_layer_and_single_unit_get_finite_scores():
    assert Spline().layer_score(torch.zeros(3, 2), torch.zeros(3)).isfinite().all()
    assert Spline().layer_score(torch.ones(1, 2), torch.ones(1)).isfinite().all()


@pytest.mark.parametrize("drop", DROPS)
@pytest.mark.parametrize("count", [1, 2, 3, 9, 24])
def test_ranking_is_that_of_all_pairs(generator, drop, count):
    weight, bias = layer_of(count, 3, generator)
    distance = spline_distance(weight, bias)
    norm = weight.norm(dim=1)
    order, fell = slow_ranking(distance, norm, drop)
    ranking = rank_units(distance, norm, drop)
    assert ranking.order.tolist() == order
    assert ranking.distance.tolist() == fell
    assert (np.diff(ranking.distance[:-1]) >= 0).all()


@pytest.mark.parametrize("drop", DROPS)
@given(data=st.data())
def test_ranking_with_ties_is_that_of_all_pairs(drop, data):
    count = data.draw(st.integers(2, 9))
    small = st.lists(st.integers(0, 2), min_size=count * count, max_size=count * count)
    half = torch.tensor(data.draw(small), dtype=torch.float64).view(count, count).triu(1)
    norm = torch.tensor(
        data.draw(st.lists(st.integers(1, 2), min_size=count, max_size=count)), dtype=torch.float64
    )
    ranking = rank_units(half + half.T, norm, drop)
    assert (ranking.order.tolist(), ranking.distance.tolist()) == slow_ranking(half + half.T, norm, drop)


def test_random_drop_takes_closest_pairs_and_follows_its_seed(generator):
    distance = spline_distance(*layer_of(20, 3, generator))
    first, again, other = (rank_units(distance, torch.ones(20), "random", seed) for seed in (1, 1, 2))
    assert first.order.tolist() == again.order.tolist() != other.order.tolist()
    assert sorted(first.order.tolist()) == list(range(20))
    left = set(range(20))
    for unit, fell in zip(first.order[:-1], first.distance, strict=False):
        assert fell == min(distance[a, b].item() for a in left for b in left if a != b)
        left.remove(unit)


def test_ranking_leaves_its_arguments_alone(generator):
    weight, bias = layer_of(5, 3, generator)
    distance = spline_distance(weight, bias)
    kept = distance.clone()
    rank_units(distance, weight.norm(dim=1))
    assert torch.equal(distance, kept)


def test_scores_follow_the_ranking(generator):
    weight, bias = layer_of(15, 3, generator)
    weight[4:7], bias[4:7] = weight[3], bias[3]  # four units on one line tie at distance 0
    ranking = rank_units(spline_distance(weight, bias), weight.norm(dim=1))
    score = Spline().layer_score(weight, bias)
    assert score.argsort(stable=True).tolist() == ranking.order.tolist()
    assert len(score.unique()) == 15
    np.testing.assert_allclose(score[ranking.order[:-1]], ranking.distance[:-1], rtol=0, atol=1e-300)
    assert score.max().item() == pytest.approx(2 * spline_distance(weight, bias).max().item())


def test_criteria_score_every_layer_of_a_network(generator):
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20, 4),
        nn.ReLU(),
    )
    model.append(nn.Linear(4, 3))
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator)
    layers = read_layers(model, torch.zeros(2, 2, 4, 4))
    weight = model[0].weight.detach().double().flatten(1)
    scores = FilterNorm(1)(model, layers)
    assert [len(score) for score in scores] == [5, 4]
    torch.testing.assert_close(scores[0], weight.abs().sum(1))
    torch.testing.assert_close(FilterNorm(2)(model, layers)[0], weight.square().sum(1).sqrt())
    torch.testing.assert_close(
        BatchNormScale()(model, layers[:1])[0], model[1].weight.detach().abs().double()
    )
    with pytest.raises(UnsupportedModuleError, match="layer '4' has no batch norm"):
        BatchNormScale()(model, layers)
    state = torch.get_rng_state()
    drawn, again, other = (Random(seed)(model, layers) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    assert not torch.equal(drawn[0], other[0])


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda w, b: spline_distance(w, b, rho=-1), "rho is -1"),
        (lambda w, b: spline_distance(w, b, offset="exact"), "offset is 'exact'"),
        (lambda w, b: rank_units(torch.zeros(2, 2), b, drop="larger"), "drop is 'larger'"),
        (lambda w, b: FilterNorm(3), "order is 3"),
    ],
)
def test_unknown_settings_are_named(call, named):
    with pytest.raises(SettingError, match=named):
        call(torch.ones(2, 2), torch.ones(2))


@pytest.mark.parametrize(("place", "values"), [("weight", "weights"), ("bias", "offsets")])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_named_with_their_layer(place, values, number):
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    getattr(model[2], place).data[1] = number
    with pytest.raises(SettingError, match=f"{values} of layer '2' of shape .* not finite: .*diverged"):
        Spline()(model, read_layers(model, torch.zeros(2, 3)))
