"""Contours of rasters, evolutions over training, animations, and the studies that become records."""

import base64
import dataclasses
import io
import re

import numpy as np
import oracles_partition as oracles
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from test_partition import CASES, PLANE, mlp

from splinelib.errors import SettingError
from splinelib.partition import compute_partition, raster_distance, trace_boundary
from splinestudy.analysis import contours, toy, watch
from splinestudy.analysis import image_slices as images
from splinestudy.analysis.evolution import evolution
from splinestudy.data import load_dataset, subset
from splinestudy.models import build_model
from splinestudy.plots import animation as animate
from splinestudy.plots import partition as draw
from splinestudy.results import boundary as boundary_study
from splinestudy.results import toy as toy_study
from splinestudy.runs.boundary import boundary_runs, traces
from splinestudy.runs.profiles import get_profile
from splinestudy.runs.store import RecordStore
from splinestudy.runs.sweep import sweep
from splinestudy.runs.toy import ToyRun
from splinestudy.training.settings import TrainSettings


def test_the_level_set_of_an_affine_function_is_its_line():
    x, y = np.linspace(-1, 2, 13), np.linspace(0, 3, 9)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    values = grid @ [0.7, -1.1] + 0.83
    found = contours.marching_squares(values, x, y)
    assert np.abs(found @ [0.7, -1.1] + 0.83).max() < 1e-12
    # From the left border, where y = 0.13 / 1.1, to the right one, where y = 2.23 / 1.1.
    expected = np.hypot(3.0, 2.1 / 1.1)
    assert np.linalg.norm(found[:, 1] - found[:, 0], axis=1).sum() == pytest.approx(expected, rel=1e-12)


def test_a_saddle_gives_two_pieces():
    saddle = np.array([[1.0, -1.0], [-1.0, 1.0]])
    found = contours.marching_squares(saddle, np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(sorted(found.mean(axis=1).tolist()), [[0.25, 0.25], [0.75, 0.75]])
    assert contours.marching_squares(np.ones((3, 3)), np.arange(3.0), np.arange(3.0)).shape == (0, 2, 2)


@pytest.mark.parametrize("name", ["mlp-2-16-16-3", "strided"])
def test_contours_of_a_fine_raster_approach_the_exact_boundaries(name):
    model, where = CASES[name]
    partition = compute_partition(model, where)
    coarse, fine = (
        contours.missed(partition, contours.raster_contours(model, where, side)) for side in (8, 90)
    )
    assert fine["length seen"] == pytest.approx(fine["length"], rel=0.03)
    assert abs(fine["length seen"] - fine["length"]) < abs(coarse["length seen"] - coarse["length"])
    assert coarse["units seen"] <= fine["units seen"] <= fine["units"]
    assert coarse["regions seen"] < fine["regions seen"] <= fine["regions"] == len(partition)
    found = contours.raster_contours(model, where, 90)
    middle, step = found.segments.mean(axis=1)[::37], np.ptp(where.polygon, axis=0).max() / 89
    assert oracles.distance_to_kinks(partition, middle, found.unit[::37]).max() < step


def test_code_distance_counts_bits_on_the_grid_inside_the_slice():
    first, second = mlp(2, 8, 2, seed=1), mlp(2, 8, 2, seed=1)
    with torch.no_grad():
        second[0].weight[:3] *= -1
        second[0].bias[:3] *= -1
    triangle = PLANE.within(PLANE.polygon[:3])
    parts = [compute_partition(model, triangle, codes=True) for model in (first, second)]
    assert raster_distance(parts[0], parts[1], side=40) == pytest.approx(3 / 8)
    with pytest.raises(SettingError, match="codes=True"):
        raster_distance(parts[0], compute_partition(first, triangle))


def test_training_is_watched_epoch_by_epoch():
    data = load_dataset("digits")
    data = dataclasses.replace(data, train=subset(data.train, 200, seed=0))
    settings, where = TrainSettings(2, batch_size=64, lr=0.02), watch.canvas_of(data, 0)

    def fresh():
        return build_model("simple_cnn", num_classes=10, in_channels=1, width=0.07, image_size=32, seed=0)

    model = fresh()
    before = compute_partition(fresh().eval(), where)
    found, rows = watch.train_watched(model, data, settings, where, seed=0)
    assert found.epochs == (0, 1, 2)
    assert len(rows) == len(found.distances) == 2
    assert found.regions[0] == len(before)
    np.testing.assert_array_equal(
        found.partitions[2].vertices, compute_partition(model.eval(), where).vertices
    )
    assert found.distances[1] == raster_distance(found.partitions[1], found.partitions[2])


def test_animations_stand_still_until_they_are_opened():
    parts = [compute_partition(mlp(2, 6, 2, seed=s), PLANE, codes=True, boundary=True) for s in (1, 2, 3)]
    frames = animate.evolution_frames(evolution([0, 1, 30], parts, side=20), size=(3, 1.2))
    assert len(frames) == 3
    html = animate.player(frames, "A & B", 'say "so"', seconds=0.5)
    assert html.startswith("<details><summary>")
    assert "open>" not in html
    assert "<script" not in html
    assert 'alt="say &quot;so&quot;"' in html
    assert "A &amp; B" in html
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.n_frames == 3
        assert picture.info["duration"] == 500
        assert picture.size == frames[0].shape[1::-1]
        shown = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(shown - frames[0]).mean() < 8
    with pytest.raises(SettingError, match="frames of shapes"):
        animate.animated_png([frames[0], frames[1][:-1]])


def test_the_toy_study_is_computed_once(tmp_path):
    run = ToyRun(toy.ToySettings(runs=2, hidden=6, epochs=2, points=100, ratios=(0.5, 0.75)))
    store = RecordStore(tmp_path)
    (record,), (again,) = (sweep([run], store, profile="tiny", progress=False).records for _ in range(2))
    assert again == record
    assert store.load_all("toy") == [record]
    assert len(record.results["dense"]) == 2
    assert len(record.results["pruning"]) == 2 * 2 * 2
    assert len(record.results["retraining"]) == 2 * 2 * 4 * 2
    claim = toy_study.pruning_claim(record.results["pruning"], "tiny")
    vanished = [
        row["vanished"] for row in record.results["pruning"] if (row["kind"], row["ratio"]) == ("node", 0.75)
    ]
    assert f"node 75%: {100 * np.mean(vanished):.0f} % of boundaries vanish" in claim["ours"]


def test_the_boundary_study_measures_trained_networks(tmp_path):
    store = RecordStore(tmp_path)
    run = boundary_runs(get_profile("smoke"), slices=2)[0]
    assert (run.dense.arch, run.dense.dataset) == ("simple_cnn", "digits")
    small = dataclasses.replace(
        run.dense, images=100, width=0.07, train=TrainSettings(1, batch_size=50, lr=0.02)
    )
    run = dataclasses.replace(run, dense=small, grid=16)
    assert run.needs(store) == (small,)
    (record,), (again,) = (sweep([run], store, profile="tiny", progress=False).records for _ in range(2))
    assert again == record
    assert run.needs(store) == ()
    table = boundary_study.boundary_table([record])
    assert list(table["layer"]) == ["relu1", "relu2", "all"] * 2
    assert (table["touching"] <= table["crossing"]).all()
    (one,) = traces(run, store, only=1)
    assert table["touching"][2] == pytest.approx(len(one.touching) / one.units)
    summary = boundary_study.boundary_summary(table)
    assert summary["slices"].tolist() == [2]
    (claim,) = boundary_study.touching_claim(table, "tiny")
    share = table[table["layer"] == "all"]["touching"].mean()
    assert claim["ours"].endswith("; holds" if share <= boundary_study.TINY else "; does not hold")


def test_touching_rows_are_the_same_for_a_trace_and_a_partition():
    model, where = CASES["strided"]
    partition, trace = compute_partition(model, where, boundary=True), trace_boundary(model, where, grid=60)
    for one, other in zip(images.touching_rows(partition, 0), images.touching_rows(trace, 0), strict=True):
        assert one["touching"] == other["touching"]
        assert one["channels_touching"] == other["channels_touching"] <= 1
        assert other["crossing"] <= one["crossing"]


def test_new_drawings_show_what_they_are_given():
    model, where = CASES["strided"]
    trace = trace_boundary(model, where)
    axes = draw.draw_classes(Figure().add_subplot(), trace, ["a", "b", "c"], list("ABCD"))
    assert sum(len(lines.get_segments()) for lines in axes.collections) == len(trace.boundary.segments)
    assert [text.get_text() for text in axes.texts] == list("ABCD")
    partition, found = compute_partition(model, where), contours.raster_contours(model, where, 20)
    axes = draw.draw_contours(Figure().add_subplot(), found, partition)
    assert sum(len(lines.get_segments()) for lines in axes.collections) == len(found.segments)
    table = boundary_study.pd.DataFrame(images.touching_rows(trace, 0))
    axes = draw.draw_shares(Figure().add_subplot(), table)
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, [*table["crossing"], *table["touching"]])
