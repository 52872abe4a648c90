"""Joining what the threads found, in an order that does not depend on them."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from splinelib.partition.decision import DecisionBoundary, Found, empty_segments, matched_edges
from splinelib.partition.engine.job import Piece
from splinelib.partition.engine.layout import Floats, Ints
from splinelib.partition.engine.program import Int32s, Network


class Run(NamedTuple):
    """Regions ``start .. stop`` of a piece, and their corners ``first .. last``, that follow on in the final order.

    ``place`` is the final number of the first region.
    """

    piece: int
    start: int
    stop: int
    first: int
    last: int
    place: int


class Rows(NamedTuple):
    """The joined arrays, as in :class:`splinelib.partition.engine.state.Chunk`, with x and y side by side."""

    vertices: Floats
    lane: Int32s
    other: Int32s
    corners: Int32s
    area: Floats
    key: NDArray[np.uint64]
    code: NDArray[np.uint64]
    outputs: Floats


_BY_CORNER, _BY_REGION = ("lane", "other"), ("corners", "area", "key", "code", "outputs")


def places(pieces: list[Piece]) -> list[Run]:
    """The pieces' runs in the order of tasks, which is the same for any number of threads."""
    found = [_tasks(number, piece) for number, piece in enumerate(pieces) if len(piece.held.task)]
    if not found:
        return []
    runs = np.concatenate(found, axis=1)
    _, piece, start, stop, first, last = runs[:, runs[0].argsort(kind="stable")]
    goes_on = (piece[1:] == piece[:-1]) & (start[1:] == stop[:-1])
    begin, end = np.flatnonzero(np.r_[True, ~goes_on]), np.flatnonzero(np.r_[~goes_on, True])
    sizes = stop[end] - start[begin]
    columns = (piece[begin], start[begin], stop[end], first[begin], last[end], sizes.cumsum() - sizes)
    return [Run(*row) for row in np.stack(columns, axis=1).tolist()]


def _tasks(number: int, piece: Piece) -> Ints:
    """Of each task of a piece: task, piece, first region and the one behind the last, the same of corners."""
    task = piece.held.task
    corner = np.concatenate([[0], np.cumsum(piece.held.corners, dtype=np.int64)])
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(task)) + 1, [len(task)]])
    start, stop = bounds[:-1], bounds[1:]
    return np.stack([task[start], np.full(len(start), number), start, stop, corner[start], corner[stop]])


def join(pieces: list[Piece], runs: list[Run]) -> Rows:
    """One array for each field. A piece is let go once its last run is copied, so memory hardly grows."""
    regions, corners = sum(run.stop - run.start for run in runs), sum(run.last - run.first for run in runs)
    model = pieces[0].held
    sizes = dict.fromkeys(_BY_CORNER, corners) | dict.fromkeys(_BY_REGION, regions)
    for name in ("other", "outputs"):
        if not any(len(getattr(piece.held, name)) for piece in pieces):
            sizes[name] = 0
    joined = {
        name: np.empty((size, *getattr(model, name).shape[1:]), getattr(model, name).dtype)
        for name, size in sizes.items()
    }
    rows = Rows(vertices=np.empty((corners, 2)), **joined)
    left = np.bincount([run.piece for run in runs], minlength=len(pieces))
    region = corner = 0
    for run in runs:
        piece = pieces[run.piece]
        here = slice(corner, corner + run.last - run.first)
        rows.vertices[here, 0] = piece.held.x[run.first : run.last]
        rows.vertices[here, 1] = piece.held.y[run.first : run.last]
        for name in _BY_CORNER:
            if sizes[name]:
                joined[name][here] = getattr(piece.held, name)[run.first : run.last]
        for name in _BY_REGION:
            if sizes[name]:
                joined[name][region : region + run.stop - run.start] = getattr(piece.held, name)[
                    run.start : run.stop
                ]
        region, corner = region + run.stop - run.start, here.stop
        left[run.piece] -= 1
        if left[run.piece] == 0:
            piece.arrays = None
    return rows


class Parts(NamedTuple):
    """Segments of decision boundary of all pieces, in the program's coordinates; regions have their final numbers.

    As in :class:`splinelib.partition.decision.DecisionBoundary`, with lanes in place of units; ``across`` is the region
    on the other side of a segment along a unit's boundary, -1 elsewhere.
    """

    ends: Floats
    classes: Ints
    region: Ints
    tags: Ints
    along: Ints
    across: Ints


def boundary_parts(pieces: list[Piece], runs: list[Run]) -> Parts:
    """What the pieces found of the decision boundary, both sides of edges compared, ascending by region."""
    place: list[Ints] = [np.empty(len(piece.held.task), dtype=np.int64) for piece in pieces]
    for run in runs:
        place[run.piece][run.start : run.stop] = np.arange(run.place, run.place + run.stop - run.start)
    parts = [piece.extra if piece.extra is not None else empty_segments() for piece in pieces]
    found = Found(*(np.concatenate([getattr(part, name) for part in parts]) for name in Found._fields))
    region, tied_region = (
        np.concatenate([where[getattr(part, name)] for where, part in zip(place, parts, strict=True)])
        for name in ("region", "tied_region")
    )
    low, high = matched_edges(found.tied_ends, found.tied_class)
    inside = np.full(len(region), -1)
    # The side of the higher class has it on the left, so its ends and what lies there change places.
    joined = Parts(
        np.concatenate([found.ends, found.tied_ends[high, ::-1]]),
        np.concatenate([found.classes, np.stack([found.tied_class[low], found.tied_class[high]], axis=1)]),
        np.concatenate([region, tied_region[high]]),
        np.concatenate([found.tags, found.tied_tags[high, ::-1]]),
        np.concatenate([inside, found.tied_lane[high]]),
        np.concatenate([inside, tied_region[low]]),
    )
    # What matching found comes in an order that depends on the threads.
    place_x, place_y = (np.where(joined.along >= 0, joined.ends[:, 0, axis], 0.0) for axis in (0, 1))
    order = np.lexsort((place_y, place_x, joined.along, joined.region))
    ordered: list[Any] = [part[order] for part in joined]
    return Parts(*ordered)


def join_segments(network: Network, pieces: list[Piece], runs: list[Run]) -> DecisionBoundary:
    """The decision boundary of all pieces, in the slice's coordinates."""
    found = boundary_parts(pieces, runs)
    units, along = (
        np.where(lanes >= 0, network.lane_unit[lanes], lanes).astype(np.int64)
        for lanes in (found.tags, found.along)
    )
    segments = found.ends * network.radius + network.centre
    return DecisionBoundary(segments, found.classes, found.region, units, along)
