"""A public peer in its own Python: ``python benchmarks/peers.py NAME [FOLDER]``, asked by ``partition_peer``.

Prints its version, then answers each line of standard input, the path of an ``.npz`` with the weights and biases of a
fully connected network, by its counts for the square [-1, 1]² and the least process time of a turn. The peer's own
form of the weights is made before the clock starts; what it reads and checks of them itself is timed.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version

import numpy as np
import torch
from torch import nn

TURN = 0.3  # seconds of process time, after which a turn is over


def sequential(weights, dtype, output):
    """Linear layers with ReLUs between, and one more linear unit where the peer wants an output."""
    layers = []
    for weight, bias in weights:
        layers += [nn.Linear(weight.shape[1], len(weight)), nn.ReLU()]
        layers[-2].weight.data, layers[-2].bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
    layers += [nn.Linear(len(bias), 1)] if output else []
    return nn.Sequential(*layers).to(dtype).eval()


def planar(regions, vertices, edges):
    return {"regions": regions, "vertices": vertices, "edges": edges}


def relu_edge_subdivision():
    import edge_subdivision
    from NN import Net

    def prepare(weights):
        net = Net([2, *(len(bias) for _, bias in weights), 1])
        for (weight, bias), layer in zip(weights, net.fcs, strict=False):
            layer.weight.data, layer.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        net.ls = net.ls[:-1]  # the zero set of the output splits nothing in the other programs
        return net

    def run(net):
        with torch.no_grad():
            points, edges, _ = edge_subdivision.skeletal_subdivision(net, (-1, 1), torch.device("cpu"), False)
        return planar(1 + len(edges) - len(points), len(points), len(edges))  # Euler's formula, for a square

    return prepare, run


def regioncam():
    import regioncam

    def prepare(weights):
        return [(np.ascontiguousarray(weight.T), bias) for weight, bias in weights]

    def run(weights):
        found = regioncam.Regioncam(size=1.0)
        for weight, bias in weights:
            found.linear(weight, bias)
            found.relu()
        return planar(found.num_faces, found.num_vertices, found.num_edges)

    return prepare, run


def relucent():
    import relucent
    from relucent.search import engine

    class Here:
        """Its pool of processes, in this one, which takes less process time."""

        def __init__(self, _, initializer, initargs):
            initializer(*initargs)

        imap_unordered = staticmethod(map)

    engine.worker_pool = lambda *args, **options: contextlib.nullcontext(Here(*args, **options))

    def run(model):
        cells = relucent.Complex(model)
        options = {"cube_radius": 1.0, "cube_mode": "intersect", "nworkers": 1, "verify": False, "verbose": 0}
        if not cells.bfs(**options).complete:
            raise RuntimeError("relucent did not finish")
        return {"regions": len(cells)}

    return lambda weights: sequential(weights, torch.float64, True), run


def splinecam():
    os.environ["TQDM_DISABLE"] = "1"
    from splinecam import compute, wrappers

    compute.to_next_layer_partition_batched = None  # the decision boundary, sought after the regions
    square = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]], dtype=torch.float64)
    plane = torch.eye(2, 3, dtype=torch.float64)

    def run(model):
        wrapped = wrappers.model_wrapper(model, input_shape=(2,), T=plane, dtype=torch.float64, device="cpu")
        return {"regions": len(compute.get_partitions_with_db(square, plane, wrapped)[0])}

    return lambda weights: sequential(weights, torch.float64, True), run


def turn(action):
    """(result, least process time): the action again and again until the turn is over."""
    start = time.process_time()
    least, used = float("inf"), 0.0
    while used < TURN:
        before = time.process_time()
        result = action()
        after = time.process_time()
        least, used = min(least, after - before), after - start
    return result, least


def main():
    name, folder = sys.argv[1], (sys.argv[2:] or [None])[0]
    torch.set_num_threads(1)
    if folder:
        sys.path.insert(0, folder)
        command = ["git", "-C", folder, "rev-parse", "--short=10", "HEAD"]
        found = "commit " + subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    else:
        found = version(name)
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        peers = (relu_edge_subdivision, regioncam, relucent, splinecam)
        prepare, run = {peer.__name__: peer for peer in peers}[name]()
        out.write(json.dumps(found) + "\n")
        out.flush()
        for line in sys.stdin:
            with np.load(line.strip()) as arrays:
                half = len(arrays.files) // 2
                given = prepare([(arrays[f"weight{i}"], arrays[f"bias{i}"]) for i in range(half)])
            try:
                counts, cpu = turn(lambda given=given: run(given))
                answer = {"counts": counts, "cpu": cpu}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            out.write(json.dumps(answer) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
