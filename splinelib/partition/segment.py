"""Exact partitions of a segment or a polyline: the breakpoints of a network along straight lines of inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from splinelib.checks import Count, check_fields, checked
from splinelib.errors import SettingError
from splinelib.partition.engine.job import Wanted
from splinelib.partition.engine.layout import Floats, Ints
from splinelib.partition.engine.program import compile_network
from splinelib.partition.engine.search import search
from splinelib.partition.engine.unit_layers import UnitLayer
from splinelib.partition.partition import Threads, code_bits, thread_count
from splinelib.partition.slices import Segment


@dataclass(frozen=True, eq=False)
class SegmentPartition:
    """The pieces of a segment on which a network is affine.

    Piece r runs from ``breaks[r]`` to ``breaks[r + 1]`` (positions t in [0, 1]).

    Args:
        breaks: ``[R + 1]``, from 0 to 1.
        units: ``[R - 1]`` the unit that bends at each inner break.
        key: ``[R]`` uint64 as in :class:`Partition`.
        outputs: ``[R, K, 2]`` or None: output k is ``outputs[r, k] @ (t, 1)`` on piece r, before a last softmax or
            sigmoid.
        codes: ``[R, words]`` uint64 or None, as in :class:`Partition`.
    """

    segment: Segment
    layers: tuple[UnitLayer, ...]
    breaks: Floats
    units: Ints
    key: NDArray[np.uint64]
    outputs: Floats | None
    codes: NDArray[np.uint64] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.key)

    def code_bits(self) -> NDArray[np.bool_]:
        """The codes as booleans ``[R, bits]``, as those of :class:`Partition`."""
        return code_bits(self.codes, self.layers)


@checked
def compute_segment(
    model: nn.Module,
    segment: Segment,
    *,
    codes: bool = False,
    outputs: bool = False,
    max_regions: Count = 10_000_000,
    threads: Threads | None = None,
    progress: bool = False,
) -> SegmentPartition:
    """The exact pieces of ``model`` along ``segment``. Settings and errors are those of :func:`compute_partition`.

    >>> from splinelib.partition import Segment
    >>> pieces = compute_segment(nn.ReLU(), Segment(torch.tensor([-1.0, 1.0]), torch.tensor([1.0, 0.5])))
    >>> len(pieces), pieces.breaks.tolist()
    (2, [0.0, 0.5, 1.0])
    """
    plane = segment.plane
    network = compile_network(model, plane, outputs)
    wanted = Wanted(codes=codes, outputs=outputs, max_regions=max_regions, threads=thread_count(threads))
    pieces = search(network, plane.polygon, wanted, "segment" if progress else "")
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
    code = np.concatenate([p.held.code for p in pieces])[order] if codes else None
    return SegmentPartition(segment, network.layers, breaks, unit[order][:-1], key, maps, code)


@checked
def compute_path(
    model: nn.Module, points: Sequence[Tensor] | Tensor, **settings: Any
) -> list[SegmentPartition]:
    """The exact pieces of ``model`` along the polyline through ``points``, inputs ``[*input]``, segment by segment.

    A piece that goes round a corner is there on both sides, with one key. Settings are those of
    :func:`compute_segment`.

    Raises:
        SettingError: there are fewer than two points, or two in a row coincide.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU())
    >>> there, back = compute_path(model, torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))
    >>> bool((there.key == back.key[::-1]).all())
    True
    """
    if isinstance(points, Tensor) and points.ndim < 2:
        raise SettingError(
            f"points are a tensor of shape {tuple(points.shape)}: give inputs [points, *input]"
        )
    if len(points) < 2:
        raise SettingError(f"compute_path: {len(points)} points are no path; give at least 2")
    return [
        compute_segment(model, Segment(start, end), **settings)
        for start, end in zip(points, points[1:], strict=False)
    ]
