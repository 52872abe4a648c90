"""The decision boundary alone, followed from region to region: for networks whose whole partition is out of reach."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from torch import nn

from splinelib.checks import Count, Within, check_memory, checked
from splinelib.partition.decision import SLICE_BORDER, THIRD_CLASS, DecisionBoundary
from splinelib.partition.engine.layout import MAX, Floats, Ints
from splinelib.partition.engine.program import compile_network
from splinelib.partition.engine.unit_layers import UnitLayer
from splinelib.partition.slices import Slice2D
from splinelib.partition.walker import Walker


@dataclass(frozen=True, eq=False)
class Trace:
    """The decision boundary of a slice, with the units that it touches and those seen to cross the slice.

    Args:
        slice: where the network was looked at.
        layers: as in :class:`Partition`.
        boundary: every segment that was followed; its ``region`` numbers the regions that were visited.
        key: ``[S]`` uint64, the key of each segment's region, equal to that of the same region in a partition.
        touching: units whose boundary meets the decision boundary, ascending: those of ``boundary.touching``, and such
            as change in the same point where the boundary branches.
        crossing: units seen both active and inactive on the grid, or touching, ascending: a lower bound.
        regions: number of different regions visited.
        grid: points a side of the grid.
    """

    slice: Slice2D
    layers: tuple[UnitLayer, ...]
    boundary: DecisionBoundary
    key: NDArray[np.uint64]
    touching: Ints
    crossing: Ints
    regions: int
    grid: int

    @property
    def units(self) -> int:
        """Number of units of the network."""
        return sum(layer.units for layer in self.layers)


@checked
def trace_boundary(
    model: nn.Module,
    slice: Slice2D,
    *,
    grid: Annotated[int, Within("[2, inf)")] = 48,
    max_segments: Count = 2_000_000,
) -> Trace:
    """The exact decision boundary of a slice without its partition, in float64.

    Wherever two neighbouring points of a grid have different classes, the boundary between them is followed through
    region after region, at branchings in all directions, until it leaves the slice or closes. What is found is exact
    and costs a part of one forward pass for each segment, so networks with very many regions can be treated. Where it
    lies along a unit's boundary, and where several things happen in one point, the exact partition of a tiny square
    around tells how it goes on. A closed piece of boundary that separates no two points of the grid is missed.

    Args:
        model: in eval mode, its output one vector of class scores; a single one is that of class 1 against 0.
        grid: points a side of the grid over the slice's bounding box.
        max_segments: limit on the number of segments.

    Raises:
        UnsupportedModuleError, SettingError: as for :func:`compute_partition`; ``grid`` below 2; scores so large that
            the boundary between points of different classes is lost in their rounding.
        LimitError: more than ``max_segments`` segments; nothing is returned.

    >>> model = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
    >>> len(trace_boundary(model, Slice2D.axis_aligned()).boundary.segments) <= 4
    True
    """
    check_memory(f"a grid of {grid} points a side", 100 * grid**2)
    network = compile_network(model, slice.plane, True, scores=True)
    walker = Walker(network, slice, max_segments)
    points, classes = walker.look(grid)
    for here, there in _changes(points, classes):
        if not walker.crosses(here, there):
            walker.take_up_between(here, there)
    return _result(walker, grid)


def _changes(points: Floats, classes: Ints) -> list[tuple[Floats, Floats]]:
    """Pairs of neighbouring points ``[G, G, 2]`` with different classes ``[G, G]``, -1 outside the slice."""
    pairs = []
    for a, b in (((slice(None), slice(1, None)), (slice(None), slice(-1))),
                 ((slice(1, None), slice(None)), (slice(-1), slice(None)))):  # fmt: skip
        differ = (classes[a] != classes[b]) & (classes[a] >= 0) & (classes[b] >= 0)
        pairs += list(zip(points[a][differ], points[b][differ], strict=True))
    return pairs


def _result(walker: Walker, grid: int) -> Trace:
    """All that was found, in the slice's coordinates."""
    network, p = walker.network, walker.network.program
    empty = (
        np.zeros((0, 2, 2)),
        np.zeros((0, 2), np.int64),
        np.zeros(0, np.uint64),
        np.zeros((0, 2), np.int64),
        np.zeros(0, np.int64),
    )
    ends, pairs, key, tags, along = (np.concatenate(part) for part in zip(*walker.parts, empty, strict=True))
    turned = pairs[:, 0] > pairs[:, 1]  # the lower class lies on the left
    for array in (ends, pairs, tags):
        array[turned] = array[turned, ::-1]
    visited, region = np.unique(key, return_inverse=True)
    units = np.where(tags >= 0, network.lane_unit[tags], np.where(tags == -1, SLICE_BORDER, THIRD_CLASS))
    segments = ends * network.radius + network.centre
    along = np.where(along >= 0, network.lane_unit[along], -1).astype(np.int64)
    boundary = DecisionBoundary(segments, pairs, region, units.astype(np.int64), along)
    touching = np.union1d(network.lane_unit[walker.touched], boundary.touching).astype(np.int64)
    of_max = p.cell_kind[p.lane_cell] == MAX
    pieces = np.bincount(network.lane_unit[of_max & walker.on], minlength=1)
    seen = np.union1d(np.flatnonzero(pieces > 1), network.lane_unit[~of_max & walker.on & walker.off])
    crossing = np.union1d(seen[seen >= 0], touching).astype(np.int64)
    return Trace(walker.slice, network.layers, boundary, key, touching, crossing, len(visited), grid)
