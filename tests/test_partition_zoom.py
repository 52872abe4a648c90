"""The part of a slice around a point, against the partition of the whole slice."""

import numpy as np
import pytest
import torch
from torch import nn

from splinelib.errors import LimitError, SettingError
from splinelib.partition import Slice2D, compute_partition, count_regions, zoom, zoom_to
from splinelib.partition.engine.program import compile_network

WHERE = Slice2D.axis_aligned()
POINT = (0.21, -0.13)


def network(width=24, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.LeakyReLU(0.3), nn.Linear(width, 2)
    ).eval()


def looks(monkeypatch):
    """A list that grows by what each look finds."""
    seen, search = [], zoom.search

    def counted(*args):
        pieces = search(*args)
        seen.append((sum(piece.regions for piece in pieces), args[-1]))
        return pieces

    monkeypatch.setattr(zoom, "search", counted)
    return seen


@pytest.mark.parametrize("regions", [1, 20, 150])
@pytest.mark.parametrize("threads", [1, 2])
def test_zooming_stops_at_so_many_regions(regions, threads):
    model = network()
    part = zoom_to(model, WHERE, POINT, regions, threads)
    found = compute_partition(model, part)
    assert regions / 2 <= len(found) <= regions
    assert found.locate([POINT])[0] >= 0
    assert part.area < WHERE.area


def test_the_part_has_the_regions_of_the_whole():
    model = network()
    whole, part = compute_partition(model, WHERE), compute_partition(model, zoom_to(model, WHERE, POINT, 60))
    centres = part.centroids()
    np.testing.assert_array_equal(whole.key[whole.locate(centres)], part.key)


def test_lines_that_go_straight_are_guessed_at_once(monkeypatch):
    torch.manual_seed(1)
    model, seen = nn.Sequential(nn.Linear(2, 60), nn.ReLU()), looks(monkeypatch)
    zoom_to(model, WHERE, POINT, 100)
    assert [count for count, _ in seen] == [76]  # three quarters, and the one that the point lies in
    pool = nn.Sequential(nn.Unflatten(1, (1, 2, 1)), nn.MaxPool2d((2, 1)), nn.Flatten(), nn.Linear(1, 1))
    assert zoom_to(pool, WHERE, POINT, 1).area < zoom_to(pool, WHERE, POINT, 2).area == WHERE.area


def test_a_slice_with_few_regions_stays_as_it_is():
    assert zoom_to(network(), WHERE, (0, 0), 10**6).area == WHERE.area
    assert zoom_to(nn.Linear(2, 1), WHERE, (1.0, 1.0), 1).area == WHERE.area


def test_a_point_outside_or_where_too_many_regions_meet():
    with pytest.raises(SettingError, match="within the slice"):
        zoom_to(network(), WHERE, (2.0, 0.0))
    star = nn.Sequential(nn.Linear(2, 40, bias=False), nn.ReLU())
    with pytest.raises(SettingError, match="regions meet in the point"):
        zoom_to(star, WHERE, (0.0, 0.0), 10)
    assert zoom_to(star, WHERE, (0.0, 0.0), 1000).area == WHERE.area
    assert zoom_to(star, WHERE, (0.0, 0.0), count_regions(star, WHERE)).area == WHERE.area


def test_memory_and_time_are_said_before_the_first_look(monkeypatch):
    seen = looks(monkeypatch)
    with pytest.raises(LimitError, match="alone takes .* bytes, more than max_bytes=1000; raise the limit"):
        zoom_to(network(), WHERE, POINT, 20, max_bytes=1000)
    zoom_to(network(), WHERE, POINT, 20, progress=True)
    assert seen[-1][1].startswith("zoom (at most 0 s, 0.0 GB)")
    zoom_to(network(), WHERE, POINT, 20)
    assert seen[-1][1] == ""


def test_networks_with_dear_regions_are_shared_out_less_deep(monkeypatch):
    monkeypatch.setattr("splinelib.partition.engine.job._DEAR", 0)
    one, two = (compute_partition(network(), WHERE, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.vertices, two.vertices)


def test_gauges_are_the_sizes_at_which_lines_and_crossings_come_in():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        model[0].bias[:] = torch.tensor([-0.5, 1.5, 1.0])
    found, _ = zoom._gauges(compile_network(model, WHERE.plane, False), np.zeros(2), WHERE.polygon, 10)
    np.testing.assert_allclose(found, [0.0, 0.5, 0.75, 0.75, np.inf])
