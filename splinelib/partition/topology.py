"""Who borders on whom: neighbours across every edge, shared vertices, Euler's formula."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from splinelib.checks import check_fields, checked
from splinelib.errors import SettingError, SplineError
from splinelib.partition.engine.geometry import OPTIONS
from splinelib.partition.engine.layout import Floats, Ints
from splinelib.partition.engine.points import spacing
from splinelib.partition.partition import Partition

# Edges of two regions are the same if their midpoints are closer than this share of the slice's extent.
_SAME_POINT = 1e-10
# A partition that leaves out more than this share of the slice is one in part; areas add up to 1e-12.
_ALL = 1e-9


@dataclass(frozen=True, eq=False)
class Topology:
    """The partition as a planar map.

    Args:
        twin: ``[V]`` for each edge the same edge seen from the region on its other side, -1 at the slice's border.
        vertex: ``[V]`` the shared vertex at each edge's start.
        neighbour: ``[V]`` the region across each edge, -1 at the slice's border.
        regions, edges, vertices: how many there are, each counted once.
    """

    twin: Ints
    vertex: Ints
    neighbour: Ints
    regions: int
    edges: int
    vertices: int

    def __post_init__(self) -> None:
        check_fields(self)

    def check_of(self, partition: Partition) -> None:
        """Raise :class:`SettingError` if this cannot be the topology of ``partition``."""
        if (self.regions, len(self.twin)) != (len(partition), len(partition.vertices)):
            raise SettingError(
                f"topology has {self.regions} regions with {len(self.twin)} corners, partition {len(partition)} with "
                f"{len(partition.vertices)}: give topology(partition)"
            )

    @property
    def euler(self) -> int:
        """Vertices - edges + regions: 1 for a polygon cut into polygons that meet edge to edge."""
        return self.vertices - self.edges + self.regions


@checked
def topology(partition: Partition) -> Topology:
    """Match every edge with its other side and number the shared vertices.

    Crossing the boundary of a unit changes its bit alone, so the neighbour's key is known and found in a hash table.
    Where units bend along the same line several bits change at once; such edges are matched by their midpoints.

    In a partition in part, regions that were not found are beyond the border.

    Raises:
        SplineError: an edge inside the slice has no other side (the partition is damaged).

    >>> from splinelib.partition import Slice2D, compute_partition
    >>> found = topology(compute_partition(nn.ReLU(), Slice2D.axis_aligned()))
    >>> found.euler
    1
    """
    border = partition.edge_lane < 0
    flip = np.where(border, np.uint64(0), partition.lane_key[partition.edge_lane])
    if len(partition.edge_other):
        has_other = partition.edge_other >= 0
        flip[has_other] ^= partition.lane_key[partition.edge_other[has_other]]
    region, end = partition.edge_region, partition.edge_end
    twin = _match_by_key(
        partition.key, partition.offsets, flip, partition.vertices, end, border, _reach(partition)
    )
    _match_by_midpoint(
        partition.vertices, region, end, np.flatnonzero((twin < 0) & ~border), twin, _reach(partition)
    )
    lost = np.flatnonzero((twin < 0) & ~border)
    if len(lost) and partition.covered > 1 - _ALL:
        raise SplineError(
            f"{len(lost)} of {len(twin)} edges have no other side, the first one in region {region[lost[0]]}; "
            "the polygons were changed, or lie closer together than double precision resolves"
        )
    vertex = _shared_vertices(twin, end)
    vertices = int(vertex.max()) + 1
    edges = int(border.sum() + (~border).sum() // 2)
    return Topology(twin, vertex, np.where(twin >= 0, region[twin], -1), len(partition), edges, vertices)


def _reach(partition: Partition) -> float:
    polygon = partition.slice.polygon
    # Far from the origin the numbers themselves lie farther apart than that.
    return max(_SAME_POINT * float(np.ptp(polygon, axis=0).max()), spacing(polygon))


@njit(**OPTIONS)
def _fill_table(key, table, mask):  # type: ignore[no-untyped-def]
    """Open addressing: slot = key, next slots on collision."""
    for region in range(len(key)):
        slot = np.int64(key[region] & mask)
        while table[slot] >= 0:
            slot = np.int64(np.uint64(slot + 1) & mask)
        table[slot] = region


@njit(**OPTIONS)
def _find_twins(key, offsets, flip, vertices, end, border, reach, table, mask, twin):  # type: ignore[no-untyped-def]
    for region in range(len(key)):
        for edge in range(offsets[region], offsets[region + 1]):
            if border[edge] or twin[edge] >= 0:
                continue
            wanted = key[region] ^ flip[edge]
            slot = np.int64(wanted & mask)
            while table[slot] >= 0 and key[table[slot]] != wanted:
                slot = np.int64(np.uint64(slot + 1) & mask)
            other = table[slot]
            if other < 0:
                continue
            there = end[edge]
            for back in range(offsets[other], offsets[other + 1]):
                far = end[back]
                gap = (
                    abs(vertices[back, 0] - vertices[there, 0])
                    + abs(vertices[back, 1] - vertices[there, 1])
                    + abs(vertices[far, 0] - vertices[edge, 0])
                    + abs(vertices[far, 1] - vertices[edge, 1])
                )
                if flip[back] == flip[edge] and not border[back] and gap < reach and twin[back] < 0:
                    twin[edge], twin[back] = back, edge
                    break


def _match_by_key(
    key: NDArray[np.uint64],
    offsets: Ints,
    flip: NDArray[np.uint64],
    vertices: Floats,
    end: Ints,
    border: NDArray[np.bool_],
    reach: float,
) -> Ints:
    size = 1 << max(4, int(np.ceil(np.log2(2 * len(key) + 1))))
    table = np.full(size, -1, dtype=np.int64)
    twin = np.full(len(flip), -1, dtype=np.int64)
    mask = np.uint64(size - 1)
    _fill_table(key, table, mask)
    _find_twins(key, offsets, flip, vertices, end, border, reach, table, mask, twin)
    return twin


def _match_by_midpoint(
    vertices: Floats, region: Ints, end: Ints, left: Ints, twin: Ints, reach: float
) -> None:
    """Pair what is left, in place: edges whose midpoints share a box in one of four shifted grids."""
    for shift_x in (0.0, 0.5):
        for shift_y in (0.0, 0.5):
            left = left[twin[left] < 0]
            if not len(left):
                return
            middle = (vertices[left] + vertices[end[left]]) / 2
            box = np.floor(middle / (2 * reach) + (shift_x, shift_y))
            order = np.lexsort((box[:, 1], box[:, 0]))
            same = (box[order[1:]] == box[order[:-1]]).all(axis=1)
            _pair_runs(left, order, same, vertices, region, end, reach, twin)


@njit(**OPTIONS)
def _pair_runs(left, order, same, vertices, region, end, reach, twin):  # type: ignore[no-untyped-def]
    """Within each run of equal boxes pair edges of different regions that run in opposite directions."""
    for i in range(len(order)):
        here = left[order[i]]
        if twin[here] >= 0:
            continue
        best, best_gap = -1, 4 * reach
        j = i
        while j < len(same) and same[j]:
            j += 1
            there = left[order[j]]
            if twin[there] >= 0 or region[there] == region[here]:
                continue
            gap = (
                abs(vertices[there, 0] - vertices[end[here], 0])
                + abs(vertices[there, 1] - vertices[end[here], 1])
                + abs(vertices[end[there], 0] - vertices[here, 0])
                + abs(vertices[end[there], 1] - vertices[here, 1])
            )
            if gap < best_gap:
                best, best_gap = there, gap
        if best >= 0:
            twin[here], twin[best] = best, here


@njit(**OPTIONS)
def _union(parent, i, j):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    while parent[j] != j:
        parent[j] = parent[parent[j]]
        j = parent[j]
    if i < j:
        parent[j] = i
    else:
        parent[i] = j


def _shared_vertices(twin: Ints, end: Ints) -> Ints:
    root = np.arange(len(twin))
    _flatten_sets(twin, end, root)
    return (np.cumsum(root == np.arange(len(root))) - 1)[root]


@njit(**OPTIONS)
def _flatten_sets(twin, end, parent):  # type: ignore[no-untyped-def]
    for edge in range(len(twin)):
        if twin[edge] >= 0:
            _union(parent, edge, end[twin[edge]])
    for corner in range(len(parent)):
        # Parents have smaller numbers, so theirs is already the root.
        parent[corner] = parent[parent[corner]]
