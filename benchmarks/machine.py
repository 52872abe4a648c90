"""What every benchmark shares: the clock, the peak of memory, and a note of what the numbers were taken on."""

import os
import platform
import resource
import sys
import time
from pathlib import Path

import torch

CPU = torch.device("cpu")


def timed(action, device=CPU):
    """(result, wall seconds, CPU seconds of all threads)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    result = action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - wall, time.process_time() - cpu


def least(row, seconds, prefix=""):
    """Keep the lesser of ``row``'s times and ``seconds``, wall and CPU, under these names with ``prefix``."""
    for kind, value in zip(("wall", "cpu"), seconds, strict=True):
        row[prefix + kind] = min(row.get(prefix + kind, value), value)


def peak_memory():
    """Peak resident memory of this process in MB."""
    status = Path("/proc/self/status")
    if (
        status.exists()
    ):  # on Linux ``ru_maxrss`` would include what the parent held when it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def machine(threads, device=CPU):
    """What the numbers were taken on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cores": os.cpu_count(),
        "threads": threads,
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "peak_memory_mb": peak_memory(),
    }
