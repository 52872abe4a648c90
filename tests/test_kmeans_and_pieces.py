"""K-means and one-dimensional networks: thinning, knots and training against slow versions."""

import numpy as np
import pytest
import torch
from oracles_analysis import (
    least_squares_error,
    one_network,
    plain_adam,
    slow_drop,
    slow_elimination,
    slow_error,
)

from splinelib.errors import SettingError
from splinelib.partition import Segment, compute_segment
from splinestudy.analysis import kmeans, piecewise

# --- k-means ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_dropping_centres_matches_trying_every_removal(seed):
    random = np.random.default_rng(seed)
    points, centres = random.normal(size=(40, 2)), random.normal(size=(9, 2))
    for keep in (1, 2, 4, 8):
        assert kmeans.drop_centres(points, centres, keep).tolist() == slow_drop(points, centres, keep)
    assert kmeans.drop_centres(points, centres, 9).tolist() == list(range(9))


def test_a_centre_without_points_falls_first():
    points = np.array([[0.0, 0], [1, 0], [5, 0]])
    centres = np.array([[0.5, 0.0], [99, 99], [5, 0]])
    assert kmeans.drop_centres(points, centres, 2).tolist() == [0, 2]


def test_mixture_and_fit_from_the_truth():
    mixture = kmeans.gaussian_mixture(9, 20, 0.01, 0.15, seed=1)
    gaps = np.linalg.norm(mixture.means[:, None] - mixture.means, axis=2) + 9 * np.eye(9)
    assert gaps.min() >= 0.15
    assert mixture.points.shape == (180, 2)
    centres, error = kmeans.fit_centres(mixture.points, mixture.means)
    np.testing.assert_allclose(error, slow_error(mixture.points, centres) / 180, rtol=1e-9)
    assert len(kmeans.missed_means(mixture, centres)) == 0
    missed = kmeans.missed_means(mixture, mixture.means[:7])
    assert sorted(missed.tolist()) == sorted(mixture.means[7:].tolist())


def test_all_starts_are_compared_on_one_mixture():
    mixture = kmeans.gaussian_mixture(6, 12, 0.01, 0.2, seed=0)
    rows = kmeans.kmeans_rows(kmeans.compare_starts(mixture, (1, 2, 4), seed=3), seed=3)
    assert [(row["start"], row["factor"]) for row in rows] == [
        *[(name, 1) for name in ("random", "kmeans++", "truth")],
        *[(name, factor) for factor in (2, 4) for name in ("pruned", "restarts")],
    ]
    assert rows[2]["error"] == 1
    assert rows == kmeans.kmeans_rows(kmeans.compare_starts(mixture, (1, 2, 4), seed=3), seed=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kmeans.gaussian_mixture(50, 2, 0.1, 0.9, 0), "lower one"),
        (lambda: kmeans.drop_centres(np.zeros((3, 2)), np.zeros((2, 2)), 3), "keep is 3 of 2"),
        (
            lambda: kmeans.random_start(np.zeros((3, 2)), 4, np.random.default_rng(0)),
            "4 centres for 3 points",
        ),
        (lambda: piecewise.cheapest_units(nets(4), *data(), 5), "keep is 5 of 4"),
        (lambda: piecewise.curvature_knots(*data(), 1), "width is 1"),
    ],
)
def test_wrong_sizes_are_named(call, message):
    with pytest.raises(SettingError, match=message):
        call()


# --- networks of one variable ---------------------------------------------------------------------------------------


def data(count=3):
    x = torch.linspace(-1, 1, 60, dtype=torch.float64)
    return x, torch.stack([f(x) for f in piecewise.TARGETS.values()])[:count]


def nets(width, count=3):
    return piecewise.random_nets(count, width, torch.Generator().manual_seed(0))


def test_networks_are_what_they_say():
    x, _ = data()
    some = nets(5)
    values = some(x)
    for number in range(3):
        torch.testing.assert_close(values[number].tolist(), one_network(some, number, x.tolist()))
        torch.testing.assert_close(some.model(number)(x[:, None])[:, 0], values[number])
    index = torch.tensor([[0, 2], [1, 4], [3, 4]])
    assert some.units(index).knots[1].tolist() == some.knots[1, [1, 4]].tolist()


def test_knots_are_the_breaks_of_the_exact_partition():
    some = nets(7, count=1)
    exact = compute_segment(some.model(0), Segment(torch.tensor([-1.0]), torch.tensor([1.0])))
    inside = some.knots[0][some.knots[0].abs() < 1].sort().values
    assert len(inside) > 2
    np.testing.assert_allclose(2 * exact.breaks[1:-1] - 1, inside.numpy(), atol=1e-12)


def test_training_matches_autograd():
    x, y = data()
    start = nets(4)
    trained = piecewise.train_nets(start, x, y, steps=12, lr=0.02)
    assert not torch.equal(trained.weight, start.weight)
    for number in range(3):
        slow = plain_adam(start, number, x, y[number], steps=12, lr=0.02)
        fast = [part[number] for part in (trained.weight, trained.bias, trained.out, trained.shift)]
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


def test_outer_weights_are_those_of_least_squares():
    x, y = data()
    some = nets(5)
    fitted = piecewise.fit_outer(some, x, y)
    for number in range(3):
        features = torch.relu(x[:, None] * some.weight[number] + some.bias[number]).numpy()
        error = float((fitted(x)[number] - y[number]).square().sum())
        np.testing.assert_allclose(error, least_squares_error(features, y[number].numpy()), rtol=1e-4)


def test_cheapest_units_match_trying_every_removal():
    x, y = data()
    some = nets(7)
    for keep in (2, 5):
        kept = piecewise.cheapest_units(some, x, y, keep)
        for number in range(3):
            features = torch.relu(x[:, None] * some.weight[number] + some.bias[number]).numpy()
            slow = slow_elimination(features, y[number].numpy(), keep)
            # Units that bend outside the interval are straight lines there, and any of them may fall.
            errors = [
                least_squares_error(features[:, units], y[number].numpy()) for units in (kept[number], slow)
            ]
            np.testing.assert_allclose(errors[0], errors[1], rtol=1e-6)


def test_spline_units_drop_the_nearer_of_two_knots():
    knots = torch.tensor([[-0.5, 0.0, 0.01, 0.9]], dtype=torch.float64)
    some = piecewise.Nets(
        torch.tensor([[1.0, 1.0, 2.0, 1.0]]).double(), -knots * torch.tensor([1, 1, 2, 1]), knots, knots[:, 0]
    )
    assert piecewise.spline_units(some, 3).tolist() == [[0, 2, 3]]


def test_curvature_knots_sit_at_kinks_and_spread_on_parabolas():
    x = torch.linspace(-1, 1, 401, dtype=torch.float64)
    two_kinks = (x - 0.25).abs() + (x + 0.5).abs()
    knots = piecewise.curvature_knots(x, torch.stack([two_kinks, x**2]), 5)
    assert (knots[:, 0] == -1).all()
    torch.testing.assert_close(
        knots[0, 1:], torch.tensor([-0.5, -0.5, 0.25, 0.25]).double(), atol=0.0051, rtol=0
    )
    torch.testing.assert_close(
        knots[1, 1:], torch.tensor([-0.75, -0.25, 0.25, 0.75]).double(), atol=0.0051, rtol=0
    )


def test_relative_error_is_one_for_the_mean():
    zeros = torch.zeros(3, 2, dtype=torch.float64)
    x = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    means = torch.stack([f(x).mean() for f in piecewise.TARGETS.values()])
    constant = piecewise.Nets(zeros + 1, zeros, zeros, means)
    torch.testing.assert_close(
        piecewise.relative_error(constant, list(piecewise.TARGETS)), torch.ones(3).double()
    )
