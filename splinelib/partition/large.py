"""Slices with more regions than memory holds: their partition in parts."""

import sys
from collections.abc import Iterator

from torch import nn

from splinelib.checks import checked
from splinelib.partition.engine.job import Wanted
from splinelib.partition.engine.program import compile_network
from splinelib.partition.engine.search import stream
from splinelib.partition.partition import Partition, Threads, joined, thread_count
from splinelib.partition.slices import Slice2D


@checked
def stream_partition(
    model: nn.Module,
    slice: Slice2D,
    *,
    codes: bool = False,
    outputs: bool = False,
    threads: Threads | None = None,
) -> Iterator[Partition]:
    """The exact partition in parts, each with up to some ten thousand regions, for what is larger than memory.

    A part is found while the one before is looked at, so that memory holds a few parts for each thread; to stop, leave
    the loop. Together the parts are the whole, each region once; their order hangs on the threads.

    Args:
        codes, outputs, threads: as of :func:`compute_partition`.

    Raises:
        UnsupportedModuleError, SettingError: as :func:`compute_partition`.

    >>> import torch
    >>> from splinelib.partition import count_regions
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.ReLU())
    >>> where = Slice2D.axis_aligned()
    >>> sum(len(part) for part in stream_partition(model, where)) == count_regions(model, where)
    True
    """
    network = compile_network(model, slice.plane, outputs)
    wanted = Wanted(True, codes, outputs, max_regions=sys.maxsize, threads=thread_count(threads))
    return (
        joined(slice, network, [piece], codes, outputs)
        for piece in stream(network, slice.polygon, wanted)
        if piece.regions
    )
