"""The exact partition beside public peers: ``python -m benchmarks.partition_peer NAME=PYTHON[:FOLDER] ...``.

NAME is one of ``relu_edge_subdivision``, ``regioncam``, ``relucent`` and ``splinecam`` (see ``benchmarks/peers.py``),
PYTHON the interpreter that it runs in, FOLDER its checkout where it is no installed package. All compute the regions of
the hidden units on [-1, 1]² from the same weights, on one thread, taking turns; the least process time of all turns
counts. A peer gets no larger network once it has stopped with an error or taken more
than ``--limit`` seconds.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.kept import RESULTS, write_result
from benchmarks.machine import machine
from benchmarks.partition import initialise
from benchmarks.peers import turn
from splinelib.partition import Slice2D, compute_partition, topology, warm_up
from splinelib.partition.engine import program

OUTPUT = RESULTS / "partition_peer.json"
PEERS = Path(__file__).parent / "peers.py"
# By number of regions.
SIZES = [(8, 2), (32, 2), (64, 1), (32, 3), (64, 2), (32, 4), (64, 3), (128, 2), (256, 1), (64, 8), (256, 2)]
SIZES += [(64, 16)]
LONG = 10.0  # seconds after which one turn is enough


def network(width, depth):
    """Linear layers and ReLUs, and their weights by name as a peer gets them."""
    sizes = [2] + [width] * depth
    linears = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False)]
    model = initialise(nn.Sequential(*(layer for linear in linears for layer in (linear, nn.ReLU()))), 0)
    arrays = {f"weight{i}": linear.weight.detach().numpy() for i, linear in enumerate(linears)}
    return model, arrays | {f"bias{i}": linear.bias.detach().numpy() for i, linear in enumerate(linears)}


class Peer:
    """A peer's process, as given on the command line; it ends with the block that it is opened for."""

    def __init__(self, text):
        self.name, _, where = text.partition("=")
        command = [where.split(":")[0], str(PEERS), self.name, *where.split(":")[1:]]
        quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, **quiet)
        self.version = self._answer()
        self.out = False

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            with self:
                raise RuntimeError(f"{self.name} ended: run `{' '.join(self.process.args)}` to see why")
        return json.loads(line)

    def counts(self, path):
        """Its counts and time for the weights in a file."""
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        return self._answer()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.__exit__(*error)


def ours(model):
    """Counts and the least times of a turn each: network read anew, read before, and the topology."""
    where = Slice2D.axis_aligned()

    def first():
        program._read_lately.cache_clear()
        return compute_partition(model, where, threads=1)

    partition, anew = turn(first)
    _, again = turn(lambda: compute_partition(model, where, threads=1))
    shape, more = turn(lambda: topology(partition))
    counts = {"regions": shape.regions, "vertices": shape.vertices, "edges": shape.edges}
    return {"counts": counts, "cpu": anew, "again": again, "topology": more}


def keep(row, name, found):
    """Of each time the least; or the error, and nothing else."""
    if name not in row or "error" in found:
        row[name] = found
    for key in found.keys() - {"counts", "error"}:
        row[name][key] = min(row[name][key], found[key])


def compare(peers, rounds, limit, folder):
    rows = []
    for width, depth in SIZES:
        model, arrays = network(width, depth)
        path = folder / "weights.npz"
        np.savez(path, **arrays)
        row = {"network": f"mlp {depth}×{width}"}
        asked = [peer for peer in peers if not peer.out]
        for _ in range(rounds):
            keep(row, "ours", ours(model))
            for peer in asked:
                if not peer.out and row.get(peer.name, {"cpu": 0.0})["cpu"] < LONG:
                    found = peer.counts(path)
                    keep(row, peer.name, found)
                    peer.out = "error" in found or found["cpu"] > limit
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        sys.stdout.flush()
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peers", nargs="+", metavar="NAME=PYTHON[:FOLDER]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=40.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warm_up()
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(text)) for text in arguments.peers]
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        rows = compare(peers, arguments.rounds, arguments.limit, Path(folder))
    about = {"peers": {peer.name: peer.version for peer in peers}, "limit": arguments.limit}
    write_result(about | {"machine": machine(1), "rows": rows}, OUTPUT)


if __name__ == "__main__":
    main()
