"""Slices, segments, measures, decision boundaries, rasters, files and drawings."""

import itertools
import json
import subprocess
import sys

import numpy as np
import oracles_partition as oracles
import pytest
import torch
from test_partition import CASES, PLANE, mlp
from torch import nn

from splinelib.errors import RecordError, SettingError
from splinelib.partition import (
    Segment,
    Slice2D,
    area_distance,
    axis_parallel_share,
    bordering_regions,
    boundary_length,
    compare,
    compute_partition,
    compute_path,
    compute_segment,
    load_partition,
    raster,
    raster_distance,
    save_partition,
    separated_pairs,
    share_of_units_touching,
    topology,
    write_geojson,
)

BENDING = ["mlp-2-24-3", "mlp-2-16-16-3", "relu_then_pool", "overlapping_pools", "strided"]


def quarter():
    """Two units whose boundaries are the axes; the classes swap along the diagonal of the first quadrant."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[2].weight.copy_(torch.eye(2))
        for layer, bias in ((0, [0.0, 0.0]), (2, [0.0, 0.5])):
            model[layer].bias.copy_(torch.tensor(bias))
    return model


def test_importing_the_package_needs_no_compiler():
    script = "import sys, splinelib; assert 'numba' not in sys.modules and 'splinelib.partition' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_slices_map_points_to_inputs_and_back():
    x = torch.randn(3, 1, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    where = Slice2D.through(*x)
    points = where.coordinates(x)
    torch.testing.assert_close(where.at(points), x)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    torch.testing.assert_close(torch.from_numpy(distances), (x[:, None] - x).flatten(2).norm(dim=2))
    canvas = Slice2D.canvas(x[0], x[1])
    torch.testing.assert_close(canvas.at([[0.25, 0.5]])[0], 0.25 * x[0] + 0.5 * x[1])
    box = Slice2D.axis_aligned(((0, 2), (1, 4)), origin=x[0], axes=(1, 4))
    expected = x[0].clone().flatten()
    expected[[1, 4]] = torch.tensor([2.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(box.at([[2.0, 1.0]])[0].flatten(), expected)
    assert box.area == 6


@pytest.mark.parametrize(
    "polygon", [[[0, 0], [1, 0], [2, 0]], [[0, 0], [1, 1], [1, 0], [0, 1]], [[0, 0], [1, 0]]]
)
def test_polygons_must_be_convex(polygon):
    with pytest.raises(SettingError, match="polygon"):
        PLANE.within(polygon)


def test_clockwise_polygons_with_straight_corners_are_put_right():
    where = PLANE.within([[0, 0], [0, 1], [0, 2], [2, 2], [2, 0]])
    assert where.area == 4
    assert where.polygon.shape == (4, 2)
    assert compute_partition(mlp(2, 8, 2), where).area.sum() == pytest.approx(4, rel=1e-12)


def test_slices_refuse_parallel_directions_and_mixed_shapes():
    with pytest.raises(SettingError, match="parallel"):
        Slice2D(torch.zeros(2), torch.ones(2), 2 * torch.ones(2), PLANE.polygon)
    with pytest.raises(SettingError, match="one line"):
        Slice2D.through(torch.zeros(2), torch.ones(2), 2 * torch.ones(2))
    with pytest.raises(SettingError, match="shapes"):
        Slice2D(torch.zeros(2), torch.ones(3), torch.ones(2), PLANE.polygon)
    with pytest.raises(SettingError, match="not finite"):
        Slice2D(torch.zeros(2) / 0, torch.ones(2), torch.ones(2), PLANE.polygon)


def test_a_path_is_its_segments():
    model, where = CASES["mlp-2-16-16-3"]
    corners = where.at(where.polygon[[0, 1, 2]])
    path = compute_path(model, corners, codes=True)
    for found, (start, end) in zip(path, itertools.pairwise(corners), strict=True):
        alone = compute_segment(model, Segment(start, end), codes=True)
        np.testing.assert_array_equal(found.breaks, alone.breaks)
        np.testing.assert_array_equal(found.codes, alone.codes)
    assert path[0].key[-1] == path[1].key[0]
    with pytest.raises(SettingError, match="1 points are no path"):
        compute_path(model, corners[:1])
    with pytest.raises(SettingError, match="no codes"):
        compute_segment(model, Segment(*corners[:2])).code_bits()


@pytest.mark.parametrize("name", BENDING)
def test_a_segment_has_the_breaks_of_the_network_along_it(name):
    model, where = CASES[name]
    segment = Segment(where.at([where.polygon[0]])[0], where.at([where.polygon[2]])[0])
    pieces = compute_segment(model, segment, codes=True, outputs=True, threads=2)
    assert pieces.breaks[0] == 0
    assert pieces.breaks[-1] == pytest.approx(1, abs=1e-15)
    assert (np.diff(pieces.breaks) > 0).all()
    middle = (pieces.breaks[1:] + pieces.breaks[:-1]) / 2
    signs = oracles.unit_signs(model, segment.at(middle))
    np.testing.assert_array_equal(pieces.code_bits(), signs)
    assert (signs[1:] != signs[:-1]).any(axis=1).all()
    dense = oracles.unit_signs(model, segment.at((np.arange(5000) + 0.5) / 5000))
    assert {row.tobytes() for row in dense} <= {row.tobytes() for row in signs}
    mine = pieces.outputs[:, :, 0] * middle[:, None] + pieces.outputs[:, :, 1]
    torch.testing.assert_close(torch.from_numpy(mine), model(segment.at(middle)), rtol=1e-10, atol=1e-10)
    if all(layer.kind == "piece" for layer in pieces.layers):
        flips = [np.flatnonzero(a != b) for a, b in zip(signs[1:], signs[:-1], strict=True)]
        assert all(unit in flip for unit, flip in zip(pieces.units, flips, strict=True))


@pytest.mark.parametrize("name", BENDING)
def test_the_decision_boundary_is_where_two_classes_tie_above_all_others(name):
    model, where = CASES[name]
    partition = compute_partition(model, where, boundary=True, threads=1)
    boundary = partition.boundary
    assert len(boundary.segments) > 0
    scores = model(where.at(boundary.segments.mean(axis=1)))
    top = scores.topk(2, dim=1)
    torch.testing.assert_close(top.values[:, 0], top.values[:, 1], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(np.sort(top.indices.numpy(), axis=1), boundary.classes)
    for end in (0, 1):
        inner = boundary.units[:, end] >= 0
        kinks = oracles.distance_to_kinks(
            partition, boundary.segments[inner, end], boundary.units[inner, end]
        )
        assert kinks.max(initial=0.0) < 1e-9


@pytest.mark.parametrize("name", BENDING)
def test_the_decision_boundary_misses_no_change_of_class(name):
    model, where = CASES[name]
    partition = compute_partition(model, where, boundary=True, threads=1)
    low, high = where.polygon.min(axis=0), where.polygon.max(axis=0)
    generator = np.random.default_rng(0)
    ends = generator.uniform(low, high, (150, 2, 2))
    classes = [model(where.at(ends[:, i])).argmax(dim=1).numpy() for i in (0, 1)]
    crossings = np.array([oracles.crossings(partition.boundary.segments, a, b) for a, b in ends])
    assert (crossings[classes[0] != classes[1]] > 0).all()
    if model(where.at(ends[:1, 0])).shape[1] == 2:
        np.testing.assert_array_equal(crossings % 2, classes[0] != classes[1])


@pytest.mark.parametrize("name", BENDING)
def test_polylines_hold_every_segment_once(name):
    model, where = CASES[name]
    boundary = compute_partition(model, where, boundary=True).boundary
    lines = boundary.polylines()
    assert sum(len(line.points) - 1 for line in lines) == len(boundary.segments)
    steps = np.concatenate([np.linalg.norm(np.diff(line.points, axis=0), axis=1) for line in lines])
    assert steps.sum() == pytest.approx(boundary.length, rel=1e-9)
    assert len(lines) < len(boundary.segments) or len(boundary.segments) == len(lines)


def test_boundary_measures_of_a_network_whose_answer_is_known():
    partition = compute_partition(quarter(), PLANE, boundary=True, outputs=True)
    shape = topology(partition)
    assert len(partition) == 4
    np.testing.assert_array_equal(boundary_length(partition), [2.0, 2.0])
    np.testing.assert_array_equal(bordering_regions(partition), [4, 4])
    assert len(separated_pairs(partition, shape, 0)) == 2
    assert axis_parallel_share(partition) == 1.0
    # Score 0 exceeds score 1 where relu(x) > relu(y) + 0.5: the boundary bends once, at the x axis (unit 1).
    assert partition.boundary.touching.tolist() == [1]
    assert share_of_units_touching(partition) == 0.5
    (line,) = partition.boundary.polylines()
    points = line.points[np.argsort(line.points[:, 1])]
    np.testing.assert_allclose(points, [[0.5, -1.0], [0.5, 0.0], [1.0, 0.5]], atol=1e-12)


def test_a_network_without_units_has_measures_of_none():
    model = nn.Sequential(nn.Linear(2, 2))
    partition = compute_partition(model, PLANE, boundary=True)
    assert np.isnan(share_of_units_touching(partition))
    assert area_distance(model, model, PLANE).shape == (0,)
    with pytest.raises(SettingError, match="layer is 0: the partition has no layers of units"):
        axis_parallel_share(partition)


def test_node_pruning_removes_a_boundary_and_weight_pruning_turns_it():
    model = mlp(2, 6, 2, seed=3)
    before = compute_partition(model, PLANE)
    node, weight = mlp(2, 6, 2, seed=3), mlp(2, 6, 2, seed=3)
    crossing = int(np.argmax(boundary_length(before)))
    with torch.no_grad():
        node[0].weight[crossing], node[0].bias[crossing] = 0, 0
        weight[0].weight[crossing, 0] = 0
        weight[0].bias[crossing] = 0.1 * weight[0].weight[crossing, 1]
    pruned = compare(before, compute_partition(node, PLANE))
    assert pruned.vanished.tolist() == [crossing]
    assert pruned.regions[1] < pruned.regions[0]
    assert pruned.length_kept < 1
    turned = compute_partition(weight, PLANE)
    assert compare(before, turned).vanished.tolist() == []
    assert axis_parallel_share(before) == 0.0
    lengths = boundary_length(turned)
    assert axis_parallel_share(turned) == pytest.approx(lengths[crossing] / lengths.sum())
    with pytest.raises(SettingError, match="kept_units"):
        compare(before, compute_partition(mlp(2, 5, 2), PLANE))


def test_the_raster_shows_the_region_under_each_pixel():
    model, where = CASES["mlp-2-16-16-3"]
    partition = compute_partition(model, where, codes=True)
    image = raster(partition, 40, 30)
    assert image.shape == (30, 40)
    assert image.min() >= 0
    steps = [(np.arange(n) + 0.5) / n * 2 - 1 for n in (40, 30)]
    centres = np.stack(np.meshgrid(*steps), axis=-1).reshape(-1, 2)
    np.testing.assert_array_equal(
        partition.code_bits()[image.reshape(-1)], oracles.unit_signs(model, where.at(centres))
    )
    with pytest.raises(SettingError, match=r"layers of \[16, 16\] and of \[3\] bits cannot be compared"):
        raster_distance(partition, compute_partition(mlp(2, 3, 1), where, codes=True))
    triangle = compute_partition(model, where.within([[0, 0], [1, 0], [0, 1]]))
    columns, rows = np.meshgrid((np.arange(20) + 0.5) / 20, (np.arange(10) + 0.5) / 10)
    np.testing.assert_array_equal(raster(triangle, 20, 10) == -1, columns + rows > 1)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_no_pixel_on_an_edge_falls_between_its_regions(scale):
    """Lines of small integers go through many pixels' centres: each is in a region that it touches."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        model = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).double()
        model[0].weight.data = torch.randint(-3, 4, (3, 2), generator=generator).double() / scale
        model[0].bias.data = torch.randint(-2, 3, (3,), generator=generator).double()
        where = PLANE.within(scale * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]))
        partition = compute_partition(model, where, codes=True)
        image = raster(partition, 6, 6)
        assert image.min() >= 0
        steps = scale * ((np.arange(6) + 0.5) / 3 - 1)
        centres = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        with torch.no_grad():
            z = model[0](where.at(centres)).numpy()
        away = np.abs(z) > 1e-9
        assert (partition.code_bits()[image.reshape(-1)] == (z > 0))[away].all()


def test_saved_partitions_come_back(tmp_path):
    model, where = CASES["relu_then_pool"]
    partition = compute_partition(model, where, codes=True, outputs=True, boundary=True)
    save_partition(partition, tmp_path / "p.npz")
    loaded = load_partition(tmp_path / "p.npz")
    for name in ("vertices", "offsets", "area", "key", "edge_lane", "edge_other", "codes", "outputs"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(partition, name))
    np.testing.assert_array_equal(loaded.boundary.segments, partition.boundary.segments)
    assert loaded.unit_name(3) == partition.unit_name(3)
    assert topology(loaded).euler == 1
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(RecordError, match="not a saved partition"):
        load_partition(tmp_path / "bad.npz")


def test_geojson_holds_all_polygons(tmp_path):
    partition = compute_partition(quarter(), PLANE, boundary=True)
    write_geojson(partition, tmp_path / "p.json")
    features = json.loads((tmp_path / "p.json").read_text())["features"]
    kinds = [feature["geometry"]["type"] for feature in features]
    assert kinds == ["Polygon"] * 4 + ["LineString"]
    assert features[0]["geometry"]["coordinates"][0][:-1] == partition.polygon(0).tolist()
    assert features[1]["properties"]["edge_units"] == partition.edge_unit[partition.edge_region == 1].tolist()


def test_an_interrupted_export_leaves_the_old_file(tmp_path, monkeypatch):
    partition = compute_partition(quarter(), PLANE)
    path = tmp_path / "p.json"
    path.write_text("old")

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("splinelib.partition.export._feature", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_geojson(partition, path)
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]
    assert path.read_text() == "old"


def test_drawings_show_every_polygon_edge_and_segment():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    from splinelib.partition import draw_boundary, draw_edges, draw_regions

    partition = compute_partition(CASES["mlp-2-16-16-3"][0], PLANE, boundary=True)
    axes = Figure().add_subplot()
    assert draw_regions(axes, partition) is axes
    assert sum(len(c.get_paths()) for c in axes.collections) == len(partition)
    axes = Figure().add_subplot()
    assert draw_edges(axes, partition) is axes
    assert sum(len(c.get_segments()) for c in axes.collections) == (partition.edge_lane >= 0).sum()
    assert draw_boundary(axes, partition.boundary) is axes
    assert len(axes.collections[-1].get_segments()) == len(partition.boundary.segments)
    axes.figure.canvas.draw()


def test_curves_and_rasters_draw_the_numbers_they_are_given():
    import matplotlib

    matplotlib.use("Agg")
    import pandas as pd
    from matplotlib.figure import Figure

    from splinestudy.plots import partition as draw

    figure = Figure()
    table = pd.DataFrame(
        {"ratio": [0.2, 0.2, 0.8, 0.8], "kind": ["node", "node", "node", "node"], "v": [1, 3, 5, 5]}
    )
    axes = draw.draw_curves(figure.add_subplot(), table, "v", "kind", "label")
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [2, 5])
    axes = draw.draw_steps(figure.add_subplot(), [0, 1, 10], [5, 6, 7], [0.1, 0.2])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [5, 6, 7])
    np.testing.assert_allclose(figure.axes[-1].lines[0].get_ydata(), [0.1, 0.2 / 9])
    axes = draw.draw_points(figure.add_subplot(), np.arange(6.0).reshape(3, 2), np.array([0, 1, 1]))
    assert [len(c.get_offsets()) for c in axes.collections] == [1, 2]
    axes = draw.draw_seen(figure.add_subplot(), [10, 100], [0.1, 0.5])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [0.1, 0.5])
    partition = compute_partition(quarter(), PLANE, boundary=True)
    axes = draw.draw_partition(figure.add_subplot(), partition, "four")
    assert axes.get_title() == "four"
    figure.canvas.draw()
