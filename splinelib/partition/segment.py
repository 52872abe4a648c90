"""Exact partitions of a segment: the breakpoints of a network along a straight line of inputs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from splinelib.partition.engine.layout import Floats, Ints
from splinelib.partition.engine.program import UnitLayer, compile_network
from splinelib.partition.engine.search import Wanted, search
from splinelib.partition.slices import Segment


@dataclass(frozen=True, eq=False)
class SegmentPartition:
    """The pieces of a segment on which a network is affine.

    Piece r runs from ``breaks[r]`` to ``breaks[r + 1]`` (positions t in [0, 1]).

    Args:
        breaks: ``[R + 1]``, from 0 to 1.
        units: ``[R - 1]`` the unit that bends at each inner break.
        key: ``[R]`` uint64 as in :class:`Partition`.
        outputs: ``[R, K, 2]`` or None: output k is ``outputs[r, k] @ (t, 1)`` on piece r.
    """

    segment: Segment
    layers: tuple[UnitLayer, ...]
    breaks: Floats
    units: Ints
    key: NDArray[np.uint64]
    outputs: Floats | None

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.key)


def compute_segment(
    model: nn.Module, segment: Segment, *, outputs: bool = False, max_regions: int = 10_000_000
) -> SegmentPartition:
    """The exact pieces of ``model`` along ``segment``. Errors as for :func:`compute_partition`."""
    plane = segment.plane
    network = compile_network(model, plane, outputs)
    pieces = search(network, plane.polygon, Wanted(outputs=outputs, max_regions=max_regions))
    x, y, lane, corners = (
        np.concatenate([getattr(p.held, name) for p in pieces]) for name in ("x", "y", "lane", "corners")
    )
    start = np.concatenate([[0], np.cumsum(corners[:-1], dtype=np.int64)])
    left, right = np.minimum.reduceat(x, start), np.maximum.reduceat(x, start)
    order = np.argsort(left + right)
    # The strip's pieces are upright rectangles of height 1: the right-hand edge is the one that goes up.
    end = np.arange(1, len(x) + 1)
    end[start + corners - 1] = start
    region = np.repeat(np.arange(len(corners)), corners)
    upright = y[end] - y > 0.5
    unit = np.full(len(corners), -1, dtype=np.int64)
    unit[region[upright]] = np.where(lane[upright] >= 0, network.lane_unit[lane[upright]], -1)
    maps = np.concatenate([p.held.outputs for p in pieces])[order][:, :, [0, 2]] if outputs else None
    key = np.concatenate([p.held.key for p in pieces])[order]
    breaks = np.concatenate([[0.0], right[order]])
    return SegmentPartition(segment, network.layers, breaks, unit[order][:-1], key, maps)
