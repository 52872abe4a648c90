"""Costs of shipping the partition engine compiled: ``python -m benchmarks.portable`` prints a table and writes JSON.

Each process compiles everything with an empty cache, for one kind of processor or at one level of LLVM, and then
computes the same partitions; the least CPU time of several counts.
"""

import json
import os
import subprocess
import sys
import tempfile

from benchmarks.kept import RESULTS, load, write_result
from benchmarks.machine import machine
from benchmarks.page import machine_text, write_text
from benchmarks.partition import ROOT
from splinestudy.results.tables import markdown_table

AVX2 = "+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2,+lzcnt,+movbe,+f16c"
TARGETS = {
    "the processor at hand": {},
    "any with AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": AVX2},
    "any x86-64": {"NUMBA_CPU_NAME": "generic"},
    "the processor at hand, LLVM's level 1": {"NUMBA_OPT": "1"},
}
MEASURE = """
import json, time
from benchmarks.machine import timed
from benchmarks.partition import conv_net, mlp
from splinelib.partition import compute_partition, warm_up
start = time.process_time()
warm_up()
row = {"compiling": time.process_time() - start, "cpu": {}}
cases = {"mlp 2×256": mlp(256, 2), "mlp 16×64": mlp(64, 16), "conv, 10% of the slice": conv_net(0.1)}
for _ in range(5):
    for name, (model, where) in cases.items():
        seconds = timed(lambda: compute_partition(model, where, threads=1, max_regions=10**8))[2]
        row["cpu"][name] = min(seconds, row["cpu"].get(name, seconds))
print(json.dumps(row))
"""


def measure(target):
    """Seconds of compiling, and of each partition, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder, "PYTHONPATH": str(ROOT)} | target
        command = [sys.executable, "-c", MEASURE]
        out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def page_of(result):
    """By target: how long it takes to compile, and how many times as fast the search is as for this processor."""
    rows = result["rows"]
    own = rows["the processor at hand"]["cpu"]
    lines = [
        [name, f"{row['compiling']:.1f}", *(f"{own[net] / row['cpu'][net]:.2f}" for net in own)]
        for name, row in rows.items()
    ]
    columns = {"compiled for": "---"} | dict.fromkeys(("seconds of compiling", *own), "--:")
    return [machine_text(result["machine"]), "", *markdown_table(columns, lines)]


def main():
    rows = {}
    for name, target in TARGETS.items():
        rows[name] = measure(target)
        sys.stdout.write(f"{name:40}{rows[name]}\n")
        sys.stdout.flush()
    write_result({"machine": machine(1), "rows": rows}, RESULTS / "portable.json")
    write_text(page_of(load("portable.json")), "portable.txt")


if __name__ == "__main__":
    main()
