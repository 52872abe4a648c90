"""The one place where compiled code is made ready."""

import time

import torch
from torch import nn

from splinelib.partition.partition import compute_partition, count_regions
from splinelib.partition.raster import raster
from splinelib.partition.slices import Slice2D
from splinelib.partition.topology import topology
from splinelib.partition.trace import trace_boundary


def warm_up() -> float:
    """Compile what slices in the plane need, or load it from numba's cache beside the package; returns the seconds.

    Without this the first call of each function takes that time. What was compiled of other sources is deleted.
    :func:`~splinelib.partition.compute_solid` compiles its own part at its first call.

    >>> warm_up() > 0
    True
    """
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)]
        model = nn.Sequential(*layers).eval()
        inputs = torch.randn(3, 1, 4, 4)
    where = Slice2D.through(inputs[0], inputs[1], inputs[2])
    partition = compute_partition(model, where, codes=True, outputs=True, boundary=True)
    count_regions(model, where)
    topology(partition)
    raster(partition, 8, 8)
    partition.locate(partition.centroids())
    trace_boundary(model, where, grid=8)
    return time.perf_counter() - start
