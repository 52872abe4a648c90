"""Slices with more regions than memory holds: their partition in parts, and the part around a point."""

import math
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from splinelib.checks import Count, checked
from splinelib.errors import LimitError, SettingError
from splinelib.partition.engine.job import Wanted
from splinelib.partition.engine.points import as_numbers
from splinelib.partition.engine.program import compile_network
from splinelib.partition.engine.search import search, stream
from splinelib.partition.locate import locate
from splinelib.partition.partition import Partition, Threads, joined, thread_count
from splinelib.partition.slices import Slice2D

# Zooming gives up at this share of the slice, and does not tell sizes closer than this ratio apart.
_LEAST_SHARE, _CLOSE = 1e-11, 1.01


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


@checked
def zoom_to(
    model: nn.Module, slice: Slice2D, point: ArrayLike, regions: Count = 1000, threads: Threads | None = None
) -> Slice2D:
    """The part of a slice around ``point (s, t)`` with at most ``regions`` regions, at least half as many if it can.

    The polygon is shrunk towards the point. It is the answer where a whole slice has more regions than could be held:
    the network is read once, and no look goes on beyond so many regions.

    Raises:
        SettingError: the point does not lie within the slice, or more regions meet in it.
        UnsupportedModuleError: as :func:`compute_partition`.

    >>> import torch
    >>> from splinelib.partition import count_regions
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU())
    >>> part = zoom_to(model, Slice2D.axis_aligned(), (0.1, 0.2), regions=50)
    >>> count_regions(model, part) <= 50
    True
    """
    place = as_numbers("point", point, 2)
    if (locate(slice.polygon, np.array([0, len(slice.polygon)]), place[None]) < 0).any():
        raise SettingError(
            f"point {place.tolist()} does not lie within the slice; give one of its points (s, t)"
        )
    network = compile_network(model, slice.plane, False)
    wanted = Wanted(False, max_regions=regions, threads=thread_count(threads))

    def part(share: float) -> NDArray[np.float64]:
        return place + share * (slice.polygon - place)

    def count(share: float) -> int:
        try:
            return sum(piece.regions for piece in search(network, part(share), wanted))
        except LimitError:
            return regions + 1

    high, low, found = 1.0, 1.0, count(1.0)
    while found > regions:
        high, low = low, low / 10
        if low < _LEAST_SHARE:
            raise SettingError(
                f"more than {regions} regions meet in the point {place.tolist()}; raise the number"
            )
        found = count(low)
    while 2 * found < regions and high > _CLOSE * low:
        middle = math.sqrt(low * high)
        if (seen := count(middle)) <= regions:
            low, found = middle, seen
        else:
            high = middle
    return slice.within(part(low))
