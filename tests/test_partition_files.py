"""Saved partitions whose numbers do not fit together are refused; pages and graphs hold what partitions hold."""

import base64
import json

import numpy as np
import pytest
import torch
from test_partition import CASES, PLANE, mlp

from splinelib.errors import RecordError
from splinelib.partition import (
    compute_partition,
    dual_graph,
    load_partition,
    save_partition,
    topology,
    write_html,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "p.npz"
    model, where = CASES["relu_then_pool"]
    save_partition(compute_partition(model, where, codes=True, outputs=True, boundary=True, threads=1), path)
    with np.load(path) as file:
        return dict(file)


def shifted(array):
    return array + (np.arange(len(array)) > 0) * 100_000_000


def with_first(value):
    def change(array):
        array = array.copy()
        array.reshape(-1)[0] = value
        return array

    return change


CHANGES = {
    "offsets beyond the vertices": ("offsets", shifted),
    "offsets that start late": ("offsets", with_first(1)),
    "offsets that go back": ("offsets", lambda a: np.concatenate([a[:1], a[1:-1][::-1], a[-1:]])),
    "offsets of another type": ("offsets", lambda a: a.astype(np.int32)),
    "offsets that are negative": ("offsets", lambda a: np.r_[a[0], -a[1], a[2:]]),
    "one vertex less": ("vertices", lambda a: a[:-1]),
    "flat vertices": ("vertices", lambda a: a.reshape(-1)),
    "vertices that are not finite": ("vertices", with_first(np.nan)),
    "areas that are missing": ("area", lambda a: a[:-1]),
    "keys of another type": ("key", lambda a: a.astype(np.int64)),
    "lanes that do not exist": ("edge_lane", with_first(10**6)),
    "lanes below -1": ("edge_lane", with_first(-7)),
    "other pieces that do not exist": ("edge_other", with_first(10**6)),
    "other pieces that are missing": ("edge_other", lambda a: a[:-1]),
    "units that do not exist": ("lane_unit", with_first(10**6)),
    "keys of lanes that are missing": ("lane_key", lambda a: a[:-1]),
    "codes that are missing": ("codes", lambda a: a[:, :-1]),
    "outputs of another shape": ("outputs", lambda a: a[:, :, :2]),
    "segments in regions that do not exist": ("boundary_region", with_first(10**6)),
    "units at ends that do not exist": ("boundary_units", with_first(10**6)),
    "segments that are missing": ("boundary_segments", lambda a: a[:-1]),
    "units along segments that do not exist": ("boundary_along", with_first(10**6)),
    "a polygon without area": ("slice_polygon", lambda a: a[:2]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_files_that_do_not_fit_together_are_refused(name, saved, tmp_path):
    field, change = CHANGES[name]
    arrays = saved | {field: change(saved[field])}
    np.savez(tmp_path / "q.npz", **arrays)
    with pytest.raises(RecordError, match=r"q\.npz is not a saved partition .* save it again"):
        load_partition(tmp_path / "q.npz")


def test_files_that_lack_a_part_of_the_boundary_are_refused(saved, tmp_path):
    np.savez(tmp_path / "q.npz", **{name: array for name, array in saved.items() if name != "boundary_along"})
    with pytest.raises(RecordError, match="'boundary_along'.*save it again"):
        load_partition(tmp_path / "q.npz")


def test_a_partition_of_one_region_comes_back(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()).double().eval()
    with torch.no_grad():
        model[0].bias.fill_(100.0)
    partition = compute_partition(model, PLANE, boundary=True)
    save_partition(partition, tmp_path / "p.npz")
    assert len(load_partition(tmp_path / "p.npz")) == len(partition) == 1


def test_a_file_that_would_not_fit_memory_is_refused_before_it_is_unpacked(saved, tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", **saved, more=np.zeros(2**24))
    assert (tmp_path / "bomb.npz").stat().st_size < 2**21
    monkeypatch.setattr("os.sysconf", lambda name: 2**12)  # a machine of 16 MiB
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("this takes memory"))
    with pytest.raises(
        RecordError, match=r"bomb.npz takes 0\.\d+ GiB, this machine has 0.0156: make it smaller"
    ):
        load_partition(tmp_path / "bomb.npz")


def test_the_page_holds_what_the_partition_holds(tmp_path):
    model = mlp(2, 9, 6, 3)
    partition = compute_partition(model, PLANE, codes=True, outputs=True, boundary=True)
    path = tmp_path / "p.html"
    write_html(partition, path, "</title><b>")
    page = path.read_text(encoding="utf-8")
    assert "http" not in page
    assert "src=" not in page
    assert "<b>" not in page
    data = json.loads(page.split("const data = ", 1)[1].split(";\n", 1)[0])
    held = {name: base64.b64decode(data[name]) for name in data if name != "layers"}
    corners = np.frombuffer(held["vertices"], "<f4").reshape(-1, 2)
    np.testing.assert_allclose(corners, partition.vertices, atol=1e-6)  # the slice is [-1, 1]² itself
    np.testing.assert_array_equal(np.frombuffer(held["offsets"], "<i4"), partition.offsets)
    np.testing.assert_array_equal(np.frombuffer(held["outputs"], "<f8"), partition.outputs.ravel())
    bits = np.unpackbits(
        np.frombuffer(held["codes"], np.uint8).reshape(len(partition), -1), axis=1, bitorder="little"
    )
    np.testing.assert_array_equal(bits[:, :15], partition.code_bits())
    assert data["layers"] == [["1", 9], ["3", 6]]
    assert len(held["segments"]) == 16 * len(partition.boundary.segments)
    write_html(compute_partition(model, PLANE), path)
    assert "segments" not in json.loads(path.read_text().split("const data = ", 1)[1].split(";\n", 1)[0])


def test_the_dual_graph_joins_regions_with_a_common_side():
    partition = compute_partition(mlp(2, 9, 6, 3), PLANE, codes=True)
    shape = topology(partition)
    graph = dual_graph(partition, shape)
    assert graph.number_of_nodes() == len(partition)
    assert {frozenset(e) for e in graph.edges} == {
        frozenset((r, n)) for r, n in zip(partition.edge_region, shape.neighbour, strict=True) if n >= 0
    }
    bits = partition.code_bits()
    for here, there, edge in graph.edges(data=True):
        assert np.flatnonzero(bits[here] != bits[there]).tolist() == edge["units"]
    inner = partition.edge_length[partition.edge_lane >= 0].sum() / 2
    assert sum(length for *_, length in graph.edges(data="length")) == pytest.approx(inner)
    assert sum(area for _, area in graph.nodes(data="area")) == pytest.approx(4.0)
