"""Local complexity and who touches the decision boundary, against slow versions and exact partitions."""

import itertools

import numpy as np
import pytest
import torch
from oracles_analysis import grid_complexity, hidden_signs, pair_rates, slow_complexity, slow_distance
from tiny_nets import tiny_cnn
from torch import nn

from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.layers.network import read_layers
from splinelib.partition import Slice2D, compute_partition
from splinestudy.analysis.boundary_share import (
    BoundaryPoints,
    boundary_points,
    few_hold,
    touch_rates,
    touching_share,
    turning,
    unit_rates,
    window_around,
    window_rows,
)
from splinestudy.analysis.local_complexity import (
    crossing_units,
    exact_local_complexity,
    local_complexity,
    random_directions,
)
from splinestudy.analysis.overlap import nearest_boundary, region_summary
from splinestudy.analysis.pre_activations import tap_of_layer

SQUARE = Slice2D.axis_aligned()


@pytest.fixture
def mlp(generator):
    """2–12–8–3 in float64."""
    model = nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.6, generator=generator)
    return model.eval()


def plane(seed):
    return random_directions((2,), 2, seed)


# --- local complexity ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.05, 0.5])
def test_complexity_matches_corner_by_corner(mlp, generator, radius):
    points = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    counts = local_complexity(mlp, points, plane(1), radius)
    assert counts.tolist() == [slow_complexity(mlp, x, plane(1), radius) for x in points]


def test_complexity_of_a_convolutional_network_does_not_depend_on_batches(generator):
    model = tiny_cnn(generator)
    points = torch.randn(70, 2, 6, 6, generator=generator)
    directions = random_directions((2, 6, 6), 5, seed=0)
    counts = local_complexity(model, points, directions, 0.3)
    assert counts.shape == (70, 3)
    assert counts.sum() > 0
    for number in (0, 24, 25, 69):
        alone = local_complexity(model, points[number : number + 1], directions, 0.3)
        assert alone[0].tolist() == counts[number].tolist()


def test_first_layer_is_exact_and_deeper_ones_are_bounded(mlp, generator):
    points = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    missed = 0
    for number, point in enumerate(points):
        first, second = plane(number)
        exact = list(exact_local_complexity(mlp, point, first, second, 0.8).values())
        fast = local_complexity(mlp, point[None], plane(number), 0.8)[0].tolist()
        assert fast[0] == exact[0] > 0
        assert fast[1] <= exact[1]
        grid = grid_complexity(mlp, point, first, second, 0.8)
        assert all(seen <= true for seen, true in zip(grid, exact, strict=True))
        missed += sum(exact) - sum(grid)
    assert missed <= 1  # a boundary may cut off less of a corner than the grid sees


def test_directions_are_orthonormal():
    directions = random_directions((3, 2, 2), 7, seed=3)
    torch.testing.assert_close(directions.flatten(1) @ directions.flatten(1).T, torch.eye(7).double())
    assert torch.equal(directions, random_directions((3, 2, 2), 7, seed=3))


# --- the decision boundary ------------------------------------------------------------------------------------------


def test_boundary_points_have_two_equal_outputs(mlp, generator):
    ends = 3 * torch.randn(2, 60, 2, generator=generator, dtype=torch.float64)
    points = boundary_points(mlp, ends[0], ends[1], steps=45)
    assert len(points.inputs) == int((mlp(ends[0]).argmax(1) != mlp(ends[1]).argmax(1)).sum()) > 5
    best = mlp(points.inputs).topk(2)
    torch.testing.assert_close(best.values[:, 0], best.values[:, 1], atol=1e-9, rtol=0)
    assert torch.equal(best.indices.sort().values, points.classes)


def test_touch_rates_match_every_pair(mlp, generator):
    ends = 3 * torch.randn(2, 60, 2, generator=generator, dtype=torch.float64)
    points = boundary_points(mlp, ends[0], ends[1])
    codes = [sum(code, []) for code in hidden_signs(mlp, points.inputs)]
    slow = pair_rates(codes, points.classes.tolist(), least=4)
    fast = torch.cat(touch_rates(mlp, points))
    np.testing.assert_allclose(fast.numpy(), slow, atol=1e-12)


def test_sampled_units_touch_in_the_exact_partition_too(generator):
    model = nn.Sequential(nn.Linear(2, 15), nn.ReLU(), nn.Linear(15, 2)).double()
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator)
    exact = compute_partition(model.eval(), SQUARE, boundary=True)
    assert len(exact.boundary.polylines()) == 1  # connected: sampling can miss nothing in between
    corners = [segment for line in exact.boundary.polylines() for segment in line.points]
    points = torch.from_numpy(np.array([(a + b) / 2 for a, b in itertools.pairwise(corners)]))
    rates = touch_rates(model, BoundaryPoints(points, torch.tensor([[0, 1]]).expand(len(points), 2)))
    assert (rates[0] > 0).nonzero()[:, 0].tolist() == exact.boundary.touching.tolist()
    assert 0 < len(exact.boundary.touching) < 15


def test_touching_share_counts_channels_and_positions():
    rate = torch.zeros(4, 2, 2).double()
    rate[0, 0, 1] = rate[2, 1, 1] = rate[2, 0, 0] = 0.1
    assert touching_share([rate]) == [
        {"units": 4, "positions": 16, "units_touching": 0.5, "positions_touching": 3 / 16}
    ]


def test_layers_find_their_non_linearity(generator):
    model = tiny_cnn(generator)
    example = torch.randn(2, 2, 6, 6, generator=generator)
    layers = read_layers(model, example)
    assert [layer.units for layer in layers] == [6, 5, 8]
    assert tap_of_layer(model, layers, example) == [0, 1, 2]
    assert tap_of_layer(model, layers[1:], example) == [1, 2]
    ends = 3 * torch.randn(2, 200, 2, 6, 6, generator=generator)
    points = boundary_points(model, ends[0], ends[1])
    rates = unit_rates(model, layers, example, points)
    torch.testing.assert_close(rates[0], touch_rates(model, points)[0].mean((1, 2)))
    with pytest.raises(UnsupportedModuleError, match="of 6 units has no non-linearity"):
        tap_of_layer(model, [*layers, layers[0]], example)


def bent():
    """Class 1 above ``y = max(x, 0)``: one unit bends the decision boundary, by 45°; another does not touch it."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0], [0, 1], [0, 1]]))
        model[0].bias.copy_(torch.tensor([0.0, 5, 0.9]))
        model[2].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
        model[2].bias.copy_(torch.tensor([5.0, 0]))
    return model.eval()


def test_turning_is_the_angle_at_the_unit_that_bends():
    partition = compute_partition(bent(), SQUARE, boundary=True)
    np.testing.assert_allclose(turning(partition), [np.pi / 4, 0, 0], atol=1e-9)
    rows = {row["layer"]: row for row in window_rows(partition)}
    assert rows["all"]["crossing"] == pytest.approx(2 / 3)
    assert rows["all"]["touching"] == pytest.approx(1 / 3)
    assert rows["all"]["few"] == 1


def test_few_hold():
    assert few_hold(np.array([0.0, 8, 1, 1])) == 0.5
    assert few_hold(np.array([1.0, 1, 1, 1]), share=0.5) == 0.5
    assert np.isnan(few_hold(np.zeros(3)))


# --- windows and regions --------------------------------------------------------------------------------------------


def test_windows_hold_about_as_many_regions_as_wanted(mlp):
    point = torch.tensor([0.1, -0.2]).double()
    for regions in (4, 20):
        found = compute_partition(mlp, window_around(mlp, point, *plane(0), regions))
        assert regions / 2 <= len(found) <= 2 * regions
        np.testing.assert_allclose(found.slice.polygon.mean(axis=0), 0, atol=1e-12)


def test_nearest_boundary_is_that_of_the_nearest_edge(mlp):
    partition = compute_partition(mlp, SQUARE)
    inner = partition.edge_lane >= 0
    starts, ends = partition.vertices[inner], partition.vertices[partition.edge_end][inner]
    for point in ([0.3, 0.1], [-0.9, 0.8], [5.0, 5.0]):
        slow = min(slow_distance(np.array(point), a, b) for a, b in zip(starts, ends, strict=True))
        np.testing.assert_allclose(nearest_boundary(partition, point), slow, atol=1e-3)
    inside = SQUARE.within([[0.1, 0], [0.2, 0], [0.2, 0.1]])
    assert nearest_boundary(compute_partition(bent(), inside), [0.1, 0]) == np.inf


def test_max_pools_are_no_boundaries_here(generator):
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2)
    ).eval()
    flat = torch.zeros(1, 6, 6)
    partition = compute_partition(
        model, Slice2D(flat, *random_directions((1, 6, 6), 2, seed=0), SQUARE.polygon)
    )
    pools = {layer.name for layer in partition.layers} - set(crossing_units(partition))
    assert len(pools) == 1
    assert nearest_boundary(partition, [0.0, 0.0]) > 0


def test_region_summary_of_four_quarters():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[0].bias.zero_()
    found = region_summary(compute_partition(model.eval(), SQUARE), np.array([[0.5, 0.25], [-0.75, 0.9]]))
    assert found == {
        "regions": 4,
        "area_median": pytest.approx(np.log10(0.25)),
        "area_spread": pytest.approx(0),
        "nearest": pytest.approx(0.5),
    }


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: local_complexity(m, torch.zeros(1, 2), torch.zeros(1, 3), 1.0),
            "directions of the inputs' shape",
        ),
        (lambda m: local_complexity(m, torch.zeros(1, 2), torch.eye(2), 0.0), "radius 0.0"),
        (lambda m: random_directions((2,), 3, 0), "count is 3"),
        (lambda m: boundary_points(m, torch.zeros(1, 2), torch.zeros(2, 2)), "give one shape"),
        (lambda m: touch_rates(m, BoundaryPoints(torch.zeros(1, 2), torch.tensor([[0, 1]]))), "sample more"),
        (lambda m: turning(compute_partition(m, SQUARE)), "boundary=True"),
        (lambda m: window_rows(compute_partition(m, SQUARE)), "boundary=True"),
    ],
)
def test_wrong_arguments_are_named(mlp, call, message):
    with pytest.raises(SettingError, match=message):
        call(mlp)
