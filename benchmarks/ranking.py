"""Speed of ranking all layers of ImageNet-size networks: ``python -m benchmarks.ranking`` prints a table, writes JSON.

Criteria take turns, round after round, and the least time of each counts; CPU time stands beside wall time, since other
work on the machine stretches only the latter (and, with several threads, adds waiting to the former). Weights are
random: no download is needed, and only the order of the ranking's few repeated searches depends on them.
"""

import argparse
import sys
import time

import torch
import torch_pruning

from benchmarks.kept import RESULTS, write_result
from benchmarks.machine import machine, timed
from splinelib import Spline, read_layers
from splinelib.criteria import rank_units, spline_distance
from splinelib.criteria.weights import FPGM, FilterNorm
from splinelib.layers.hyperplanes import folded
from splinelib.layers.tracing import dependency_graph, unit_group
from splinestudy.models import build_model

OUTPUT = RESULTS / "ranking.json"


def criteria(model, example_inputs):
    """Name -> a call that scores every unit of the network once."""
    layers = read_layers(model, example_inputs)
    graph = dependency_graph(model, example_inputs)
    groups = [unit_group(graph, layer) for layer in layers]
    theirs = torch_pruning.importance.FPGMImportance(p=1, group_reduction="first")
    chosen = {
        "Spline": Spline(),
        "Spline, geometric": Spline(offset="geometric"),
        "Spline, closer second": Spline(drop="closer_second"),
        "FPGM": FPGM(),
        "FilterNorm": FilterNorm(),
    }
    calls = {name: lambda c=criterion: c(model, layers) for name, criterion in chosen.items()}
    # In float32, and for the first of several writers only.
    calls["FPGM of Torch-Pruning"] = lambda: [theirs(group) for group in groups]
    return layers, calls


def parts(model, layers):
    """The steps of ``Spline()``, each with its inputs at hand."""
    planes = [folded(model, layer) for layer in layers]
    distances = [spline_distance(*plane) for plane in planes]
    norms = [weight.norm(dim=1) for weight, _ in planes]
    return {
        "  folding": lambda: [folded(model, layer) for layer in layers],
        "  distances": lambda: [spline_distance(*plane) for plane in planes],
        "  all products W Wᵀ alone": lambda: [weight @ weight.T for weight, _ in planes],
        "  ranking": lambda: [rank_units(*pair) for pair in zip(distances, norms, strict=True)],
    }


def measure(calls, rounds):
    """Least wall and CPU seconds of each call, taken in turn."""
    rows = {name: {"wall": float("inf"), "cpu": float("inf")} for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            _, wall, cpu = timed(call)
            row = rows[name]
            row["wall"], row["cpu"] = min(row["wall"], wall), min(row["cpu"], cpu)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--networks", nargs="+", default=["resnet50", "mobilenet_v2"])
    arguments = parser.parse_args()
    start, networks = time.perf_counter(), {}
    lines = [f"{'network, threads':28}{'criterion':28}{'wall s':>9}{'cpu s':>9}"]
    for arch in arguments.networks:
        model = build_model(arch, num_classes=1000, image_size=224, seed=0).eval()
        layers, calls = criteria(model, torch.zeros(1, 3, 224, 224))
        calls |= parts(model, layers)
        units = sum(layer.units for layer in layers)
        networks[arch] = {"layers": len(layers), "units": units, "threads": {}}
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            rows = networks[arch]["threads"][str(threads)] = measure(calls, arguments.rounds)
            for name, row in rows.items():
                lines.append(f"{f'{arch}, {threads}':28}{name:28}{row['wall']:>9.3f}{row['cpu']:>9.3f}")
    result = {"machine": machine(arguments.threads), "rounds": arguments.rounds, "networks": networks}
    write_result(result, OUTPUT)
    lines.append(f"machine: {result['machine']}\n{time.perf_counter() - start:.0f} s, written to {OUTPUT}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
