"""Where the predicted class changes: exact segments inside regions, joined to polylines, and the units they bend at."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from splinelib.partition.engine.geometry import OPTIONS, clip_to_winner, winner_at
from splinelib.partition.engine.layout import Floats, Ints
from splinelib.partition.engine.points import merge_points
from splinelib.partition.engine.state import Chunk

SLICE_BORDER, THIRD_CLASS = -1, -2
# As for units: differences of scores within this share of their scale count as zero.
_RELATIVE = 1e-13


@dataclass(frozen=True, eq=False)
class Polyline:
    """One connected piece of the decision boundary between two classes.

    ``points [n, 2]`` in order (the first one repeated at the end of a closed line), ``units [n]`` the unit whose
    boundary bends the line at that point: -1 at the slice's border, -2 where a third class meets the line.
    """

    classes: tuple[int, int]
    points: Floats
    units: Ints


@dataclass(frozen=True, eq=False)
class DecisionBoundary:
    """The decision boundary as segments, one or more for each region that it crosses.

    Args:
        segments: end points ``[S, 2, 2]`` in the slice's coordinates; the lower class lies on the left.
        classes: the two classes ``[S, 2]``, ascending.
        region: the region ``[S]`` that each segment lies in.
        units: at each end ``[S, 2]`` the unit whose boundary it ends at, -1 for the slice's border, -2 for a point
            where a third class takes over.
    """

    segments: Floats
    classes: Ints
    region: Ints
    units: Ints

    @property
    def length(self) -> float:
        """Total length in the slice's coordinates."""
        return float(np.linalg.norm(self.segments[:, 1] - self.segments[:, 0], axis=1).sum())

    @property
    def touching(self) -> Ints:
        """Units whose boundary meets the decision boundary within the slice, ascending (claim C3)."""
        return np.unique(self.units[self.units >= 0])

    def polylines(self) -> tuple[Polyline, ...]:
        """The segments of each two classes joined at their common end points."""
        if not len(self.segments):
            return ()
        nodes = merge_points(self.segments.reshape(-1, 2)).reshape(-1, 2)
        lines = []
        for pair in np.unique(self.classes, axis=0):
            members = np.flatnonzero((self.classes == pair).all(axis=1))
            for chain in _chains(nodes[members]):
                ends = [(members[segment], end) for segment, end in chain]
                points = np.array([self.segments[s, e] for s, e in ends])
                units = np.array([self.units[s, e] for s, e in ends])
                lines.append(Polyline((int(pair[0]), int(pair[1])), points, units))
        return tuple(lines)


def _chains(nodes: Ints) -> list[list[tuple[int, int]]]:
    """Split a graph of segments (node pairs ``[S, 2]``) into paths, each a list of (segment, end) in walking order."""
    at: dict[int, list[tuple[int, int]]] = {}
    for segment, pair in enumerate(nodes.tolist()):
        for end, node in enumerate(pair):
            at.setdefault(node, []).append((segment, end))
    used = np.zeros(len(nodes), dtype=bool)
    # Open paths first, from nodes where they must end; what is left are closed lines.
    starts = [visits for visits in at.values() if len(visits) != 2] + list(at.values())
    chains = []
    for visits in starts:
        for segment, end in visits:
            if used[segment]:
                continue
            chain = [(segment, end)]
            while not used[segment]:
                used[segment] = True
                chain.append((segment, 1 - end))
                onward = at[int(nodes[segment, 1 - end])]
                if len(onward) == 2:
                    segment, end = onward[0] if onward[0] != (segment, 1 - end) else onward[1]
            chains.append(chain)
    return chains


@njit(**OPTIONS)
def _mixed_regions(outputs, x, y, corners, count):  # type: ignore[no-untyped-def]
    """Number of regions whose corners do not all have the same winning class."""
    mixed = at = 0
    for region in range(count):
        m, f = corners[region], outputs[region]
        first = winner_at(f[:, 0], f[:, 1], f[:, 2], x[at], y[at])
        for k in range(1, m):
            if winner_at(f[:, 0], f[:, 1], f[:, 2], x[at + k], y[at + k]) != first:
                mixed += 1
                break
        at += m
    return mixed


@njit(**OPTIONS)
def _cross(  # type: ignore[no-untyped-def]
    outputs, x, y, lane, corners, count, base, relative, scratch, scratch_lane, ends, classes, region, tags
):
    """Fill the segment arrays; returns how many there are."""
    found = at = 0
    size = outputs.shape[1]
    for number in range(count):
        m, f = corners[number], outputs[number]
        a, b, c = f[:, 0], f[:, 1], f[:, 2]
        px, py, pl = x[at : at + m], y[at : at + m], lane[at : at + m]
        at += m
        first = winner_at(a, b, c, px[0], py[0])
        same = True
        for k in range(1, m):
            same = same and winner_at(a, b, c, px[k], py[k]) == first
        if same:
            continue
        for i in range(size - 1):
            row, n = clip_to_winner(
                a, b, c, i, 0.0, relative, base, px, py, pl, pl,
                scratch[:2], scratch[2:], scratch_lane[:2], scratch_lane[2:],
            )  # fmt: skip
            for k in range(n):
                j = scratch_lane[2 + row, k] - base
                if scratch_lane[row, k] != base + i or j <= i:
                    continue
                then = k + 1 if k + 1 < n else 0
                before = scratch_lane[row, k - 1 if k > 0 else n - 1]
                after = scratch_lane[row, then]
                ends[found, 0, 0], ends[found, 0, 1] = scratch[row, k], scratch[2 + row, k]
                ends[found, 1, 0], ends[found, 1, 1] = scratch[row, then], scratch[2 + row, then]
                classes[found, 0], classes[found, 1], region[found] = i, j, number
                tags[found, 0] = before if before < base else -2
                tags[found, 1] = after if after < base else -2
                found += 1
    return found


def find_segments(chunk: Chunk, count: int, lanes: int) -> tuple[Floats, Ints, Ints, Ints]:
    """Segments, classes, regions (within the chunk) and lanes at the ends, for ``count`` regions with outputs.

    Coordinates are the program's. ``lanes`` is the number of lanes of the program.
    """
    mixed = _mixed_regions(chunk.outputs, chunk.x, chunk.y, chunk.corners, count)
    classes = chunk.outputs.shape[1]
    # A region's classes form a planar map of at most K cells, hence fewer than 3 K borders.
    room = 3 * classes * mixed
    ends, pairs = np.empty((room, 2, 2)), np.empty((room, 2), dtype=np.int64)
    region, tags = np.empty(room, dtype=np.int64), np.empty((room, 2), dtype=np.int64)
    widest = int(chunk.corners[:count].max(initial=3)) + classes + 8
    found = _cross(
        chunk.outputs, chunk.x, chunk.y, chunk.lane, chunk.corners, count, lanes, _RELATIVE,
        np.empty((4, widest)), np.empty((4, widest), dtype=np.int32), ends, pairs, region, tags,
    )  # fmt: skip
    return ends[:found].copy(), pairs[:found].copy(), region[:found].copy(), tags[:found].copy()


def empty_segments() -> tuple[Floats, Ints, Ints, Ints]:
    """No segment at all."""
    pairs: NDArray[np.int64] = np.zeros((0, 2), dtype=np.int64)
    return np.zeros((0, 2, 2)), pairs, np.zeros(0, dtype=np.int64), pairs.copy()
