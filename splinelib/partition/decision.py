"""Where the predicted class changes: exact segments inside regions, joined to polylines, and the units they bend at."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from splinelib.checks import check_fields
from splinelib.partition.engine.geometry import OPTIONS, clip_to_winner, magnitude
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

    It lies where the predicted class, the first one of those with the largest score, differs between the two sides:
    inside of regions, and along the boundary of a unit where scores are equal all along it (behind a ReLU they often
    are). Inside of areas where several scores are equal the class is the first of these, and there is no boundary.

    Args:
        segments: end points ``[S, 2, 2]`` in the slice's coordinates; the lower class lies on the left.
        classes: the two classes ``[S, 2]``, ascending.
        region: the region ``[S]`` that each segment lies in; along a unit's boundary that of the higher class, where
            the two scores differ.
        units: at each end ``[S, 2]`` the unit whose boundary it ends at, -1 for the slice's border, -2 for a point
            where a third class takes over.
        along: the unit ``[S]`` along whose boundary the segment runs, -1 inside a region.
    """

    segments: Floats
    classes: Ints
    region: Ints
    units: Ints
    along: Ints

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def length(self) -> float:
        """Total length in the slice's coordinates."""
        return float(np.linalg.norm(self.segments[:, 1] - self.segments[:, 0], axis=1).sum())

    @property
    def touching(self) -> Ints:
        """Units whose boundary meets the decision boundary within the slice, ascending (claim C3)."""
        named = np.concatenate([self.units.reshape(-1), self.along])
        return np.unique(named[named >= 0])

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


class Found(NamedTuple):
    """What a chunk of regions holds of the decision boundary, in the program's coordinates.

    ``ends [S, 2, 2]``, ``classes [S, 2]``, ``region [S]`` and ``tags [S, 2]`` (lanes at the ends) are segments inside
    regions. The fields ``tied_...`` are pieces of regions' edges along which the winning class ties with another: its
    ends counter-clockwise, the class that wins on this side, the region, the lanes at the ends and along it. They are
    boundary if another class wins on the other side.
    """

    ends: Floats
    classes: Ints
    region: Ints
    tags: Ints
    tied_ends: Floats
    tied_class: Ints
    tied_region: Ints
    tied_tags: Ints
    tied_lane: Ints


PLAIN, MIXED, TIED = range(3)


@njit(**OPTIONS)
def _sort_regions(outputs, x, y, corners, count, relative, kind):  # type: ignore[no-untyped-def]
    """Mark regions where the winner differs between corners (MIXED), or may tie along an edge (TIED).

    Returns how many regions are not PLAIN and how many corners these have.
    """
    found = edges = at = 0
    for region in range(count):
        m, f = corners[region], outputs[region]
        scale = 0.0
        for i in range(len(f)):
            scale = max(scale, abs(f[i, 0]) + abs(f[i, 1]) + abs(f[i, 2]))
        kind[region] = PLAIN
        winner, ties, opening = -1, 0, 0
        for k in range(m):
            best, second, index = -np.inf, -np.inf, -1
            for i in range(len(f)):
                v = f[i, 0] * x[at + k] + f[i, 1] * y[at + k] + f[i, 2]
                if v > best:
                    best, second, index = v, best, i
                else:
                    second = max(second, v)
            if k > 0 and index != winner:
                kind[region] = MIXED
                break
            winner = index
            # Ties at two corners on end; the run at the beginning is the one that may go on at the end.
            ties = ties + 1 if best - second <= 2 * relative * scale else 0
            opening = k + 1 if ties == k + 1 else opening
            if ties > 1:
                kind[region] = TIED
        if kind[region] == PLAIN and ties > 0 and opening > 0:
            kind[region] = TIED
        if kind[region] != PLAIN:
            found += 1
            edges += m
        at += m
    return found, edges


@njit(**OPTIONS)
def _ties_along(a, b, c, i, relative, x0, y0, x1, y1):  # type: ignore[no-untyped-def]
    """Whether another function equals function i at both points."""
    for j in range(len(a)):
        if j == i:
            continue
        da, db, dc = a[i] - a[j], b[i] - b[j], c[i] - c[j]
        tolerance = relative * magnitude(a, b, c, i, j)
        if abs(da * x0 + db * y0 + dc) <= tolerance and abs(da * x1 + db * y1 + dc) <= tolerance:
            return True
    return False


@njit(**OPTIONS)
def _beyond(a, b, c, i, j, relative, x0, y0, x1, y1):  # type: ignore[no-untyped-def]
    """The function that is largest beyond an edge of i's cell: of those equal to i there, as j is, the steepest."""
    found, most = j, 0.0
    for k in range(len(a)):
        da, db, dc = a[k] - a[i], b[k] - b[i], c[k] - c[i]
        tolerance = relative * magnitude(a, b, c, i, k)
        if k != i and abs(da * x0 + db * y0 + dc) <= tolerance and abs(da * x1 + db * y1 + dc) <= tolerance:
            rise = da * (y1 - y0) - db * (x1 - x0)
            if rise > most + tolerance:
                found, most = k, rise
    return found


@njit(**OPTIONS)
def _cross(  # type: ignore[no-untyped-def]
    outputs, x, y, lane, corners, count, kind, error, base, relative, scratch, scratch_lane,
    ends, classes, region, tags, tied_ends, tied_class, tied_region, tied_tags, tied_lane,
):  # fmt: skip
    """Fill the arrays; returns how many segments and how many tied edges there are."""
    found = tied = at = 0
    size = len(error)
    for number in range(count):
        m, f = corners[number], outputs[number]
        a, b, c = f[:, 0], f[:, 1], f[:, 2]
        px, py, pl = x[at : at + m], y[at : at + m], lane[at : at + m]
        at += m
        if kind[number] == PLAIN:
            continue
        for i in range(size):
            row, n = clip_to_winner(
                a, b, c, i, error, relative, base, px, py, pl, pl,
                scratch[:2], scratch[2:], scratch_lane[:2], scratch_lane[2:],
            )  # fmt: skip
            for k in range(n):
                here = scratch_lane[row, k]
                if here < 0:
                    continue
                then = k + 1 if k + 1 < n else 0
                before, after = scratch_lane[row, k - 1 if k > 0 else n - 1], scratch_lane[row, then]
                before, after = before if before < base else -2, after if after < base else -2
                x0, y0 = scratch[row, k], scratch[2 + row, k]
                x1, y1 = scratch[row, then], scratch[2 + row, then]
                if here >= base:
                    j = _beyond(a, b, c, i, scratch_lane[2 + row, k] - base, relative, x0, y0, x1, y1)
                    if j <= i:
                        continue
                    ends[found, 0, 0], ends[found, 0, 1] = x0, y0
                    ends[found, 1, 0], ends[found, 1, 1] = x1, y1
                    classes[found, 0], classes[found, 1], region[found] = i, j, number
                    tags[found, 0], tags[found, 1] = before, after
                    found += 1
                elif _ties_along(a, b, c, i, relative, x0, y0, x1, y1):
                    tied_ends[tied, 0, 0], tied_ends[tied, 0, 1] = x0, y0
                    tied_ends[tied, 1, 0], tied_ends[tied, 1, 1] = x1, y1
                    tied_class[tied], tied_region[tied], tied_lane[tied] = i, number, here
                    tied_tags[tied, 0], tied_tags[tied, 1] = before, after
                    tied += 1
    return found, tied


def find_segments(chunk: Chunk, count: int, lanes: int) -> Found:
    """The decision boundary in and around ``count`` regions with outputs; regions are numbered within the chunk.

    ``lanes`` is the number of lanes of the program.
    """
    kind = np.empty(count, dtype=np.int8)
    marked, edges = _sort_regions(chunk.outputs, chunk.x, chunk.y, chunk.corners, count, _RELATIVE, kind)
    classes = chunk.outputs.shape[1]
    # A region's classes form a planar map of at most K cells, hence fewer than 3 K borders; each cuts two edges.
    found = _room(3 * classes * marked, edges + 6 * classes * marked)
    widest = int(chunk.corners[:count].max(initial=3)) + classes + 8
    segments, tied = _cross(
        chunk.outputs, chunk.x, chunk.y, chunk.lane, chunk.corners, count, kind, np.zeros(classes), lanes, _RELATIVE,
        np.empty((4, widest)), np.empty((4, widest), dtype=np.int32), *found,
    )  # fmt: skip
    sizes = [segments] * 4 + [tied] * 5
    filled: list[Any] = [part[:size].copy() for part, size in zip(found, sizes, strict=True)]
    return Found(*filled)


def _room(segments: int, tied: int) -> Found:
    def ints(*shape: int) -> Ints:
        return np.empty(shape, dtype=np.int64)

    return Found(
        np.empty((segments, 2, 2)), ints(segments, 2), ints(segments), ints(segments, 2),
        np.empty((tied, 2, 2)), ints(tied), ints(tied), ints(tied, 2), ints(tied),
    )  # fmt: skip


def empty_segments() -> Found:
    """No segment at all."""
    return _room(0, 0)


def matched_edges(ends: Floats, winner: Ints) -> tuple[Ints, Ints]:
    """Pairs of tied edges ``[n, 2, 2]`` that are the two sides of one and differ in their winner, the lower one first.

    Along an edge the functions of both sides agree, so that the winner changes at the same points on both sides and
    the two pieces have the same ends, up to rounding.
    """
    node = merge_points(ends.reshape(-1, 2)).reshape(-1, 2)
    pair = np.sort(node, axis=1)
    order = np.lexsort((winner, pair[:, 1], pair[:, 0]))
    first, second = order[:-1], order[1:]
    same = (pair[first] == pair[second]).all(axis=1) & (node[first, 0] == node[second, 1])
    chosen = same & (node[first, 0] != node[first, 1]) & (winner[first] != winner[second])
    return first[chosen], second[chosen]
