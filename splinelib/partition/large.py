"""Slices with more regions than memory holds: their partition in parts, and the part around a point."""

import math
import sys
from collections.abc import Callable, Iterator

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
_FEW = 16  # regions of a first look, which is cheap also where one region takes a second


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
    cores = thread_count(threads)

    def part(share: float) -> NDArray[np.float64]:
        return place + share * (slice.polygon - place)

    def count(share: float, most: int) -> int:
        """Regions of a part of that size; one more than ``most`` where there are more."""
        try:
            wanted = Wanted(False, max_regions=most, threads=cores)
            return sum(piece.regions for piece in search(network, part(share), wanted))
        except LimitError:
            return most + 1

    low, found = _first(count, regions)
    if found > regions:
        raise SettingError(
            f"more than {regions} regions meet in the point {place.tolist()}; raise the number"
        )
    high = math.inf
    while 2 * found < regions and low < 1 and high > _CLOSE * low:
        # Regions grow with the area; where the guess is known to be too large, the middle will do.
        guess = min(low * math.sqrt(0.75 * regions / max(found, 1)), 1.0)
        guess = guess if guess < high else math.sqrt(low * high)
        if (seen := count(guess, regions)) <= regions:
            low, found = guess, seen
        else:
            high = guess
    return slice.within(part(low))


def _first(count: Callable[[float, int], int], regions: int) -> tuple[float, int]:
    """A share of the slice with few regions, and how many: small looks tell how large a large one may be.

    Where more than a few meet in the point, the limit is all of ``regions``; where even these do, one more is returned.
    """
    for most in dict.fromkeys((min(_FEW, regions), regions)):
        share = 1.0
        while share >= _LEAST_SHARE:
            if (found := count(share, most)) <= most:
                return share, found
            share /= 10
    return share, regions + 1
