"""Neighbourhoods, level sets and statistics of regions, against sampling and the network itself."""

import numpy as np
import pytest
import torch
from torch import nn

from splinelib.errors import SettingError
from splinelib.partition import (
    Slice2D,
    compute_partition,
    disc_shares,
    gaussian_shares,
    level_set,
    region_map,
    region_statistics,
)


def network(outputs=1, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, outputs)
    ).eval()


@pytest.fixture(scope="module")
def partition():
    return compute_partition(network(2), Slice2D.axis_aligned(), outputs=True)


def counted(partition, points):
    """Share of the points in each region; points outside of the slice are in none."""
    found = partition.locate(points)
    return np.bincount(found[found >= 0], minlength=len(partition)) / len(points)


@pytest.mark.parametrize(
    ("centre", "radius"), [((0.1, -0.2), 0.4), ((0.9, 0.9), 0.5), ((0.0, 0.0), 3.0), ((2.0, 0.3), 1.5)]
)
def test_disc_shares_are_those_of_evenly_spread_points(partition, centre, radius):
    shares = disc_shares(partition, centre, radius)
    steps = (np.arange(1200) + 0.5) / 600 - 1
    points = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    points = np.array(centre) + radius * points[(points**2).sum(axis=1) <= 1]
    seen = counted(partition, points)
    np.testing.assert_allclose(shares, seen, atol=2e-4)
    assert ((seen > 0) <= (shares > 0)).all()  # a region of which a point lies in the disc meets it


def test_a_disc_that_holds_the_slice_or_lies_in_one_region(partition):
    whole = disc_shares(partition, (0.0, 0.0), 10.0)
    np.testing.assert_allclose(whole, partition.area / (np.pi * 100), rtol=1e-10)
    np.testing.assert_allclose(
        disc_shares(partition, (0.0, 0.0), 1e8), partition.area / (np.pi * 1e16), rtol=1e-6
    )
    region = int(partition.area.argmax())
    inside = disc_shares(partition, partition.centroids()[region], 1e-3)
    assert inside[region] == pytest.approx(1.0, abs=1e-12)
    assert (np.delete(inside, region) == 0).all()


@pytest.mark.parametrize("radius", [0.5, 1e-4, 1e-7, 1e-8, 3e-9])
def test_a_small_disc_is_cut_as_a_large_one(radius):
    # Lines through the centre and at half a radius from it: a half disc, a circular segment, and what is between.
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.6, 0.8], [0.6, 0.8]], dtype=torch.float64))
        model[0].bias.copy_(torch.tensor([0.0, -radius / 2], dtype=torch.float64))
    partition = compute_partition(model, Slice2D.axis_aligned())
    segment = (np.pi / 3 - np.sqrt(3) / 4) / np.pi
    shares = np.sort(disc_shares(partition, (0.0, 0.0), radius))
    np.testing.assert_allclose(shares, np.sort([0.5, segment, 0.5 - segment]), atol=1e-7)


@pytest.mark.parametrize("shares", [disc_shares, gaussian_shares])
def test_neighbourhoods_below_the_rounding_of_corners_are_refused(partition, shares):
    with pytest.raises(SettingError, match=r"is 1e-11: below .* the rounding of corners shows; give more"):
        shares(partition, (0.0, 0.0), 1e-11)


@pytest.mark.parametrize(("centre", "sigma"), [((0.1, -0.2), 0.3), ((1.0, 1.0), 0.2), ((0.3, 0.3), 0.01)])
def test_gaussian_shares_are_those_of_draws(partition, centre, sigma):
    draws = np.random.default_rng(0).normal(size=(400_000, 2)) * sigma + centre
    np.testing.assert_allclose(
        gaussian_shares(partition, centre, sigma), counted(partition, draws), atol=4e-3
    )


@pytest.mark.parametrize("sigma", [1e-8, 1e-6, 0.001, 0.5, 30.0])
def test_gaussian_shares_of_a_square_are_products_of_error_functions(sigma):
    square = compute_partition(nn.Sequential(nn.Linear(2, 1)), Slice2D.axis_aligned())
    for centre in ((0.0, 0.0), (0.97, -0.4), (1.0, 1.0), (1 - 0.7 * sigma, -1 + 0.1 * sigma)):
        ends = (
            (torch.tensor([[-1.0, 1.0]], dtype=torch.float64).T - torch.tensor(centre, dtype=torch.float64))
            / sigma
            / 2**0.5
        )
        expected = float((torch.erf(ends).diff(dim=0) / 2).prod())
        assert gaussian_shares(square, centre, sigma)[0] == pytest.approx(expected, abs=1e-10)


def test_the_zero_level_of_one_logit_is_its_decision_boundary():
    model = network(1)
    with torch.no_grad():
        model[-1].bias -= model(torch.zeros(1, 2))[0]  # so that it goes through the origin
    partition = compute_partition(model, Slice2D.axis_aligned(), outputs=True, boundary=True)
    found, boundary = level_set(partition), partition.boundary
    assert len(found.segments) == len(boundary.segments) > 5
    for ends in (found.segments, boundary.segments):
        ends.sort(axis=1)
    order = [np.lexsort(ends.reshape(-1, 4).T.round(9)) for ends in (found.segments, boundary.segments)]
    np.testing.assert_allclose(found.segments[order[0]], boundary.segments[order[1]], atol=1e-11)


def test_along_a_level_set_the_output_has_that_value_and_is_larger_on_the_left(partition):
    model = network(2).double()
    middle = float(np.median(partition.outputs[:, 1, 2]))
    segments, region = level_set(partition, output=1, level=middle)
    assert len(segments) > 3
    values = model(partition.slice.at(segments.reshape(-1, 2)))[:, 1].detach().numpy()
    np.testing.assert_allclose(values, middle, atol=1e-12)
    step = segments[:, 1] - segments[:, 0]
    slope = partition.outputs[region, 1, :2]
    assert (step[:, 0] * slope[:, 1] - step[:, 1] * slope[:, 0] > 0).all()


def test_a_level_that_is_never_taken_has_no_segments(partition):
    assert len(level_set(partition, level=1e9).segments) == 0
    with pytest.raises(SettingError, match="outputs 0 … 1"):
        level_set(partition, output=2)
    with pytest.raises(SettingError, match="outputs=True"):
        level_set(compute_partition(network(), Slice2D.axis_aligned()))


def test_statistics_of_each_region(partition):
    found = region_statistics(partition)
    for region in (0, len(partition) // 2, len(partition) - 1):
        corners = partition.polygon(region)
        length = sum(np.linalg.norm(a - b) for a, b in zip(corners, np.roll(corners, 1, axis=0), strict=True))
        matrix, _ = region_map(network(2), partition, region)
        assert found["sides"][region] == len(corners)
        assert found["perimeter"][region] == pytest.approx(length)
        assert found["roundness"][region] == pytest.approx(4 * np.pi * partition.area[region] / length**2)
        assert found["stretch"][region] == pytest.approx(float(torch.linalg.svdvals(matrix)[0]))
