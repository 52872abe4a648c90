"""Speed of the exact partition: ``python -m benchmarks.partition [--full]`` prints a table and writes JSON.

Every configuration is timed in turn, round after round, and the least time of each counts; CPU time stands beside
wall time, since other work on the machine stretches only the latter.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.kept import RESULTS, write_result
from benchmarks.machine import machine, timed
from splinelib.partition import Slice2D, compute_partition, count_regions, topology, warm_up
from splinelib.partition.engine import program

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = RESULTS / "partition.json"
COLD_START = (
    "import time; t = time.process_time(); import splinelib.partition as p; a = time.process_time(); "
)
COLD_START += "p.warm_up(); print(a - t, time.process_time() - a)"


MEMORY = """
import json
from benchmarks.machine import peak_memory
from benchmarks.partition import conv_net
from splinelib.partition import compute_partition
model, where = conv_net(0.53)
partition = compute_partition(model, where, threads=2, max_regions=10**8, max_bytes=2**32)
print(json.dumps({"regions": len(partition), "peak_mb": peak_memory()}))
"""


def initialise(model, seed):
    """He-normal weights, biases U(-0.5, 0.5)."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            nn.init.uniform_(layer.bias, -0.5, 0.5, generator=generator)
    return model.eval()


def mlp(width, depth):
    widths = [2] + [width] * depth
    layers = [
        layer for a, b in zip(widths, widths[1:], strict=False) for layer in (nn.Linear(a, b), nn.ReLU())
    ]
    return initialise(nn.Sequential(*layers, nn.Linear(width, 2)), 0), Slice2D.axis_aligned()


def conv_net(share):
    """3→8 3×3, ReLU, 8→16 3×3 stride 2, ReLU, 10 classes, on 3×32×32; ``share`` of a plane through three inputs."""
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU()]
    model = initialise(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4096, 10)), 0)
    inputs = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return model, Slice2D.through(inputs[0], inputs[1], inputs[2]).zoomed(share)


def configurations(full):
    """Name -> (model, slice)."""
    sizes = [(64, 1), (256, 1), (64, 2), (256, 2), (64, 3), (256, 3), (64, 8)]
    if full:
        sizes += [(32, 1), (128, 1), (512, 1), (1024, 1), (32, 3), (128, 3), (64, 4), (64, 16), (64, 32)]
    result = {f"mlp {depth}×{width}": mlp(width, depth) for width, depth in sizes}
    return result | {
        f"conv, {share:.0%} of the slice": conv_net(share) for share in ((0.1, 0.45) if full else (0.1,))
    }


def yardsticks(partition):
    """Seconds to evaluate every unit once at every vertex by the machine's GEMM (the search evaluates fewer), and to
    write the result's bytes.
    """
    rows, width = 20_000, 256
    left, right = (
        torch.randn(rows, width, dtype=torch.float64),
        torch.randn(width, width, dtype=torch.float64),
    )
    rate = 2 * rows * width * width / min(timed(lambda: left @ right)[2] for _ in range(5))
    vertices = len(partition.vertices) / 4
    sizes = [layer.units for layer in partition.layers]
    flops = 2 * vertices * (2 * sizes[0] + sum(a * b for a, b in zip(sizes, sizes[1:], strict=False)))
    arrays = [partition.vertices, partition.offsets, partition.area, partition.key, partition.edge_lane]
    source = np.ones(10_000_000)
    copy_rate = source.nbytes / min(timed(source.copy)[2] for _ in range(3))
    return {"gemm_seconds": flops / rate, "write_seconds": sum(a.nbytes for a in arrays) / copy_rate}


def measure(cases, rounds, threads):
    rows = {
        name: dict.fromkeys(("wall", "cpu", "again_wall", "count_cpu", "topology_cpu"), np.inf)
        for name in cases
    }
    for _ in range(rounds):
        for name, (model, where) in cases.items():
            row = rows[name]
            options = {"threads": threads, "max_regions": 10**8, "max_bytes": 2**32}
            compute = functools.partial(compute_partition, model, where, **options)
            program._read_lately.cache_clear()
            partition, wall, cpu = timed(compute)
            row["wall"], row["cpu"] = min(row["wall"], wall), min(row["cpu"], cpu)
            row["regions"] = len(partition)
            row["area_error"] = abs(float(partition.area.sum()) / where.area - 1)
            if len(partition) < 3_000_000:
                shape, _, cpu = timed(lambda p=partition: topology(p))
                row["topology_cpu"], row["euler"] = min(row["topology_cpu"], cpu), shape.euler
                row["again_wall"] = min(row["again_wall"], timed(compute)[1])
            if "mlp" in name and "gemm_seconds" not in row:
                row |= yardsticks(partition)
            del partition
            _, _, cpu = timed(lambda m=model, w=where: count_regions(m, w, threads=threads))
            row["count_cpu"] = min(row["count_cpu"], cpu)
    for row in rows.values():  # JSON knows no infinity: what was not measured is left out
        if np.isinf(row["topology_cpu"]):
            del row["topology_cpu"], row["again_wall"]
    return rows


def cold_start():
    """Seconds of CPU time to import, and to compile with an empty cache, in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        seconds = []
        for _ in range(2):
            command = [sys.executable, "-c", COLD_START]
            out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            seconds.append([float(part) for part in out.split()])
    return {"import": seconds[1][0], "compile_cold": seconds[0][1], "compile_cached": seconds[1][1]}


def memory():
    """Peak memory of a fresh process that holds more than ten million regions of the convolutional network."""
    out = subprocess.run(
        [sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    return json.loads(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="wider, deeper and larger cases too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-cold-start", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warm_up()
    rows = measure(configurations(arguments.full), arguments.rounds, arguments.threads)
    header = f"{'network':28}{'regions':>10}{'wall s':>9}{'cpu s':>9}{'M/s wall':>10}{'M/s cpu':>9}"
    header += f"{'topology':>10}{'GEMM':>8}"
    lines = [header]
    for name, row in rows.items():
        lines.append(
            f"{name:28}{row['regions']:>10}{row['wall']:>9.3f}{row['cpu']:>9.3f}"
            f"{row['regions'] / row['wall'] / 1e6:>10.3f}{row['regions'] / row['cpu'] / 1e6:>9.3f}"
            f"{row.get('topology_cpu', float('nan')):>10.3f}{row.get('gemm_seconds', float('nan')):>8.3f}"
        )
    result = {"machine": machine(arguments.threads), "rows": rows}
    if not arguments.no_cold_start:
        result["cold_start_seconds"] = cold_start()
        lines.append(f"cold start: {result['cold_start_seconds']}")
    if arguments.full:
        result["memory"] = memory()
        lines.append(f"memory: {result['memory']}")
    write_result(result, OUTPUT)
    sys.stdout.write("\n".join(lines) + f"\nmachine: {result['machine']}\nwritten to {OUTPUT}\n")


if __name__ == "__main__":
    main()
