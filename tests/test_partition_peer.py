"""What is asked of public peers, and what the book says of their answers; a small program stands in for a peer."""

import sys

import numpy as np
import pytest

from benchmarks import partition_page, partition_peer

# Counts the sign patterns of the hidden units on a grid that is fine enough for a few lines.
GRID = """
import json, sys
import numpy as np
print(json.dumps("1.0"), flush=True)
x, y = np.meshgrid(*[np.linspace(-1, 1, 1000)] * 2)
for line in sys.stdin:
    arrays, values, signs = np.load(line.strip()), np.stack([x.ravel(), y.ravel()], axis=1), []
    if len(arrays.files) == 6:
        print(json.dumps({"error": "too deep"}), flush=True)
        continue
    for i in range(len(arrays.files) // 2):
        values = values @ arrays[f"weight{i}"].T + arrays[f"bias{i}"]
        signs.append(values > 0)
        values = values.clip(0)
    counts = {"regions": len(np.unique(np.packbits(np.hstack(signs), axis=1), axis=0))}
    print(json.dumps({"counts": counts, "cpu": 2.0}), flush=True)
"""


@pytest.fixture
def grid(tmp_path, monkeypatch):
    monkeypatch.setattr(partition_peer, "PEERS", tmp_path / "peers.py")
    partition_peer.PEERS.write_text(GRID)
    with partition_peer.Peer(f"grid={sys.executable}") as peer:
        yield peer


def test_peers_get_the_same_weights_and_leave_when_they_are_slow(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(partition_peer, "SIZES", [(3, 2), (4, 1)])
    assert grid.version == "1.0"
    rows = partition_peer.compare([grid], 1, 1.0, tmp_path)
    assert rows[0]["grid"]["counts"]["regions"] == rows[0]["ours"]["counts"]["regions"]
    assert [("grid" in row) for row in rows] == [True, False]


def test_peers_leave_when_they_stop(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(partition_peer, "SIZES", [(3, 3), (4, 1)])
    rows = partition_peer.compare([grid], 2, 9.0, tmp_path)
    assert rows[0]["grid"] == {"error": "too deep"}
    assert "grid" not in rows[1]


def test_a_peer_that_ends_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(partition_peer, "PEERS", tmp_path / "none.py")
    with pytest.raises(RuntimeError, match=r"grid ended: run `.*none\.py grid`"):
        partition_peer.Peer(f"grid={sys.executable}")


def test_weights_of_a_network_are_those_of_the_model():
    model, arrays = partition_peer.network(4, 2)
    np.testing.assert_array_equal(arrays["weight1"], model[2].weight.detach().numpy())
    assert arrays["bias0"].shape == (4,)
    assert len(arrays) == 4


def test_the_page_says_where_a_peer_differs_and_where_it_is_faster():
    ours = {"counts": {"regions": 5, "vertices": 9}, "cpu": 0.2, "again": 0.1, "topology": 0.2}
    rows = [
        {"network": "a", "ours": ours, "other": {"counts": {"regions": 4, "vertices": 9}, "cpu": 2.0}},
        {"network": "b", "ours": ours, "other": {"counts": {"regions": 5, "vertices": 9}, "cpu": 0.3}},
        {"network": "c", "ours": ours, "other": {"error": "E: no"}},
    ]
    peer = {"peers": {"other": "1.2"}, "rows": rows}
    text = partition_page.verdict(peer, "other")
    assert "agree in 1 of 2 networks (a: {'regions': 4}" in text
    assert (
        "0.750 to 5.00 times as long as ours, less on b; on c it stops: E: no." in text
    )  # 0.3 and 2.0 over 0.2 + 0.2
    assert partition_page.peer_table(peer)[-1] == "| c | 5 | 200 | 100 | 200 |  |"
