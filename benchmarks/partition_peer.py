"""The exact partition beside a public peer's on the same weights: ``python -m benchmarks.partition_peer PEER COMMIT``.

The peer is Berzins' ``relu_edge_subdivision`` (ICML 2023), checked out in the folder PEER at COMMIT. It splits edges in
float32 with PyTorch, for fully connected networks. By default it also splits by the zero set of the output; the
comparison is made both ways, on our side with one more unit in place of the output. Each process time is the least of
several, the two programs taking turns on one thread.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.machine import machine, timed
from benchmarks.partition import initialise
from splinelib.files import atomic_path
from splinelib.partition import Slice2D, compute_partition, topology, warm_up

RESULTS = Path(__file__).parent / "results" / "partition_peer.json"
SIZES = [(64, 1), (256, 1), (64, 2), (128, 2), (256, 2), (32, 3), (64, 3), (32, 4)]


def weights(width, depth):
    """One network, as ours (with a unit in place of the output, and without) and as the peer's."""
    sizes = [2] + [width] * depth + [1]
    linears = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False)]
    layers = [layer for linear in linears for layer in (linear, nn.ReLU())]
    model = initialise(nn.Sequential(*layers), 0)
    return sizes, linears, {"with_output": model, "without_output": model[:-2]}


def measure_ours(model):
    partition, _, cpu = timed(lambda: compute_partition(model, Slice2D.axis_aligned(), threads=1))
    shape, _, more = timed(lambda: topology(partition))
    return {"regions": shape.regions, "vertices": shape.vertices, "edges": shape.edges}, cpu + more


def measure_peer(module, sizes, linears, with_output):
    net = module.Net(sizes)
    with torch.no_grad():
        for mine, theirs in zip(linears, net.fcs, strict=True):
            theirs.weight.copy_(mine.weight)
            theirs.bias.copy_(mine.bias)
    if not with_output:
        net.ls = net.ls[:-1]
    with torch.no_grad():
        (points, edges, _), _, cpu = timed(
            lambda: module.skeletal_subdivision(net, bbox=(-1, 1), device=torch.device("cpu"), verbose=False)
        )
    # A planar map of a square: regions = 1 + edges - vertices.
    counts = {"regions": 1 + len(edges) - len(points), "vertices": len(points), "edges": len(edges)}
    return counts, cpu


def load_peer(folder):
    """The peer's two modules as one namespace."""
    sys.path.insert(0, str(folder))
    import edge_subdivision
    import NN

    edge_subdivision.Net = NN.Net
    return edge_subdivision


def compare(module, rounds):
    rows = []
    for width, depth in SIZES:
        sizes, linears, models = weights(width, depth)
        for name, model in models.items():
            times = {"ours": np.inf, "peer": np.inf}
            for _ in range(rounds):
                ours, cpu = measure_ours(model)
                times["ours"] = min(times["ours"], cpu)
                theirs, cpu = measure_peer(module, sizes, linears, name == "with_output")
                times["peer"] = min(times["peer"], cpu)
            row = {"network": f"mlp {depth}×{width}", "output_splits": name == "with_output"}
            rows.append(
                row | {"ours": ours, "peer": theirs, "ours_cpu": times["ours"], "peer_cpu": times["peer"]}
            )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("commit")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warm_up()
    rows = compare(load_peer(arguments.folder), arguments.rounds)
    for row in rows:
        sys.stdout.write(
            f"{row['network']:12} output splits: {row['output_splits']!s:6} regions {row['ours']['regions']:>8} "
            f"{row['peer']['regions']:>8}  cpu s {row['ours_cpu']:.4f} {row['peer_cpu']:.3f}\n"
        )
    about = {
        "peer": "github.com/arturs-berzins/relu_edge_subdivision",
        "commit": arguments.commit,
        "how": " ".join(__doc__.split("\n\n")[1].split()),
        "ours_time": "partition and topology, float64; the peer's: vertices, edges and sign vectors, float32",
    }
    with atomic_path(RESULTS) as temporary:
        temporary.write_text(json.dumps(about | {"machine": machine(1), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
