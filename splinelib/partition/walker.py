"""Following the decision boundary from region to region, with looks at tiny squares where it branches."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splinelib.errors import LimitError, SettingError
from splinelib.partition.decision import SLICE_BORDER, THIRD_CLASS, find_segments
from splinelib.partition.engine import forward
from splinelib.partition.engine import trace_kernel as kernel
from splinelib.partition.engine.assemble import Parts, Rows, boundary_parts, join, places
from splinelib.partition.engine.job import Wanted
from splinelib.partition.engine.layout import Floats, Ints
from splinelib.partition.engine.planar import half, near, regions_at, turned
from splinelib.partition.engine.pointers import table_of
from splinelib.partition.engine.program import Network
from splinelib.partition.engine.rounding import RELATIVE
from splinelib.partition.engine.search import search
from splinelib.partition.slices import Slice2D

# Half the side of the square that is looked at around a point, in the program's coordinates, which span 2: far above
# the rounding of vertices (about 1e-15), far below the distance of vertices that a figure could show.
_LOOK = 1e-6
# Where scores are large all differences in such a square are below their rounding: larger ones are looked at then.
_WIDER = (1e-4, 1e-3, 1e-2)
# Vertices, edges and ends closer to a point than this are there, up to rounding.
_MIDDLE = 1e-11
# A start on the boundary is bracketed down to this share of the distance of two grid points.
_BRACKET = 1e-9
# Coefficients are computed afresh after this many segments, so that rounding does not add up.
_FRESH = 512


@dataclass
class _Start:
    """A point on the boundary between two classes in the region of a code, to be followed one way.

    ``how`` and ``looked`` are those of :func:`splinelib.partition.engine.trace_kernel.walk`; ``begin`` and ``before``
    are the beginning of the segment and the lane there, where they are known.
    """

    place: Floats
    classes: tuple[int, int]
    active: NDArray[np.bool_]
    how: int
    begin: Floats
    before: int = THIRD_CLASS
    looked: bool = True


@dataclass(eq=False)
class Walker:
    """The working memory of a trace, all in the program's coordinates."""

    network: Network
    slice: Slice2D
    limit: int
    starts: list[_Start] = field(default_factory=list)
    parts: list[tuple[Any, ...]] = field(default_factory=list)
    found: int = 0
    ends: Floats = field(default_factory=lambda: np.zeros((0, 2, 2)))
    looked: set[tuple[float, tuple[float, ...]]] = field(default_factory=set)

    def __post_init__(self) -> None:
        p = self.network.program
        lanes = len(p.slope)
        self.coefficients = np.zeros(len(p.coefficients))
        self.active = np.zeros(lanes, dtype=np.bool_)
        self.share, self.errors = np.zeros(lanes), forward.new_errors(p)
        self.dirty = np.zeros(len(p.cell_kind), dtype=np.bool_)
        self.on, self.off, self.touched = (np.zeros(lanes, dtype=np.bool_) for _ in range(3))
        self.table = np.zeros(1 << 14, dtype=np.uint64)
        corners = self._corners()
        step = np.roll(corners, -1, axis=0) - corners
        normal = np.stack([-step[:, 1], step[:, 0]], axis=1)
        self.sides = np.c_[normal, -(normal * corners).sum(axis=1)]
        self.bent = np.flatnonzero(p.bit >= 0)

    def look(self, grid: int) -> tuple[Floats, Ints]:
        """Points ``[G, G, 2]`` over the slice and the class at each, -1 outside."""
        corners = self._corners()
        low, high = corners.min(axis=0), corners.max(axis=0)
        steps = (np.arange(grid) + 0.5) / grid
        points = low + np.stack(np.meshgrid(steps, steps), axis=-1) * (high - low)
        inside = (points @ self.sides[:, :2].T + self.sides[:, 2] >= 0).all(axis=2)
        classes = np.full(inside.shape, -1, dtype=np.int64)
        chosen = np.ascontiguousarray(points[inside])
        found = np.zeros(len(chosen), dtype=np.int64)
        forward.scan(
            table_of(self.network.program), self.coefficients, self.active, table_of(self.errors),
            chosen, found, self.on, self.off,
        )  # fmt: skip
        classes[inside] = found
        return points, classes

    def _corners(self) -> Floats:
        return (self.slice.polygon - self.network.centre) / self.network.radius

    def crosses(self, here: Floats, there: Floats) -> bool:
        """Whether a segment found so far separates the two points."""
        if len(self.ends) != self.found:
            self.ends = np.concatenate([part[0] for part in self.parts])
        a, b = self.ends[:, 0], self.ends[:, 1]
        apart = (turned(a, b, here) != turned(a, b, there)) & (
            turned(here, there, a) != turned(here, there, b)
        )
        return bool(apart.any())

    def _evaluate(self, point: Floats, decide: bool) -> np.uint64:
        return np.uint64(
            forward.evaluate(
                table_of(self.network.program), self.coefficients, self.active, table_of(self.errors),
                decide, point[0], point[1],
            )
        )  # fmt: skip

    def _scores(self, point: Floats) -> Floats:
        p, c = self.network.program, self.coefficients
        at, stride = p.output_address, p.output_stride
        return c[at] * point[0] + c[at + stride] * point[1] + c[at + 2 * stride]

    def _class_at(self, point: Floats) -> int:
        self._evaluate(point, True)
        return int(self._scores(point).argmax())

    def take_up_between(self, here: Floats, there: Floats) -> None:
        """Follow all boundary from a point between the two where the class changes.

        Raises:
            SettingError: none is found there, although the scores are not equal all around the two points.
        """
        middle = self._change(here, there)
        for size in (_LOOK, *_WIDER):
            self.look_around(middle, size)
            self.follow()
            if self._passes(middle, size) or size == _LOOK and self._tied(here, there):
                return
        points = [(point * self.network.radius + self.network.centre).tolist() for point in (here, there)]
        self._evaluate(here, True)
        raise SettingError(
            f"trace: the class changes between the points {points[0]} and {points[1]} of the slice, but scores of "
            f"about {np.abs(self._scores(here)).max():.1g} are too large beside their differences to follow it; "
            "subtract from all of them what they have in common (in the last layer's bias)"
        )

    def _change(self, here: Floats, there: Floats) -> Floats:
        """A point between the two where the class changes."""
        low, high = 0.0, 1.0
        first = self._class_at(here)
        while high - low > _BRACKET:
            middle = (low + high) / 2
            found = self._class_at(here + middle * (there - here))
            low, high = (middle, high) if found == first else (low, middle)
        return here + (low + high) / 2 * (there - here)

    def _passes(self, middle: Floats, size: float) -> bool:
        """Whether a segment found so far comes as near to the point as the square around it is wide."""
        ends = np.concatenate([part[0] for part in self.parts]) if self.parts else self.ends
        return near(ends, middle, 2 * size)

    def _tied(self, here: Floats, there: Floats) -> bool:
        """Whether the scores of the two points' classes are equal all around one of them, up to rounding."""
        classes = [self._class_at(point) for point in (here, there)]
        return any(self._coincide(point, *classes) for point in (here, there))

    def _coincide(self, point: Floats, first: int, second: int) -> bool:
        self._evaluate(point, True)
        p, planes = self.network.program, np.arange(3)
        at, stride = p.output_address, p.output_stride
        one, other = (self.coefficients[at[i] + planes * stride[i]] for i in (first, second))
        size = np.abs(one).sum() + np.abs(other).sum()
        return bool(np.abs(one - other).sum() <= 2 * RELATIVE * size)

    def look_around(self, middle: Floats, size: float = _LOOK) -> None:
        """Take up all boundary in a tiny square, once: what leaves it is to be followed, what ends in it is noted."""
        spot = (size, tuple(np.round(middle, 9).tolist()))
        if spot in self.looked:
            return
        self.looked.add(spot)
        square = middle + size * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
        for side in self.sides:
            square = half(square, side)
        if len(square) < 3:
            return
        rows, found = self._partition(square)
        bits = np.unpackbits(rows.code.view(np.uint8), axis=1, bitorder="little").astype(bool)
        active = np.zeros((len(bits), len(self.active)), dtype=np.bool_)
        active[:, self.bent] = bits[:, self.network.program.bit[self.bent]]
        self._touch(rows, found, active, middle)
        goes_on = (found.tags == SLICE_BORDER) & ~self._on_border(found.ends)
        for k in range(len(found.ends)):
            self._take_up(found, k, goes_on[k], active[found.region[k]], rows.key[found.region[k]])

    def _partition(self, square: Floats) -> tuple[Rows, Parts]:
        network = self.network
        reduce = partial(find_segments, lanes=len(network.program.slope))
        polygon = square * network.radius + network.centre
        pieces = search(network, polygon, Wanted(codes=True, outputs=True), reduce=reduce, drop_outputs=True)
        runs = places(pieces)
        found = boundary_parts(pieces, runs)
        return join(pieces, runs), found

    def _touch(self, rows: Rows, found: Parts, active: NDArray[np.bool_], middle: Floats) -> None:
        """Units that change in the middle of the square, where boundary goes through it, or along boundary."""
        for region, across in zip(found.region, found.across, strict=True):
            if across >= 0:
                self.touched |= active[region] != active[across]
        if (np.abs(found.ends - middle).max(axis=2) < _MIDDLE).any():
            around = active[regions_at(rows, middle, _MIDDLE)]
            self.touched |= around.any(axis=0) & ~around.all(axis=0)

    def _on_border(self, points: Floats) -> NDArray[np.bool_]:
        """Which points lie on the slice's border, up to rounding."""
        height = points @ self.sides[:, :2].T + self.sides[:, 2]
        return (np.abs(height) <= _MIDDLE * np.linalg.norm(self.sides[:, :2], axis=1)).any(axis=-1)

    def _take_up(
        self, found: Parts, k: int, goes_on: NDArray[np.bool_], active: NDArray[np.bool_], key: np.uint64
    ) -> None:
        """One segment of a square: ``goes_on`` tells at which of its ends it is cut off by the square."""
        low, high = (int(i) for i in found.classes[k])
        ends, place = found.ends[k], found.ends[k].mean(axis=0)
        # From the first end to the second the lower class lies on the left.
        if goes_on.all():
            self.starts.append(_Start(place, (high, low), active, kernel.KNOWN, place))
            self.starts.append(_Start(place, (low, high), active, kernel.WITHIN, place))
        elif goes_on.any():
            inner = int(goes_on[0])
            classes = (high, low) if inner else (low, high)
            self.starts.append(
                _Start(place, classes, active, kernel.GIVEN, ends[inner], int(found.tags[k, inner]))
            )
        else:
            self._make_room()
            if not kernel.visited(self.table, key, low, high):
                one = slice(k, k + 1)
                self._keep(
                    found.ends[one], found.classes[one], np.array([key]), found.tags[one], found.along[one]
                )

    def follow(self) -> None:
        """Follow all starts, and the branches met on the way, to their ends."""
        while self.starts:
            start = self.starts.pop()
            self.active[:] = start.active
            place = start.place.copy()
            number = np.array([*start.classes, 0, start.how, start.before, start.looked])
            status = kernel.FULL
            while status == kernel.FULL:
                status, third = self._walk(place, start.begin, number)
            if status == kernel.THIRD:
                i, j = int(number[0]), int(number[1])
                for pair in ((i, third), (third, j)):
                    active = self.active.copy()
                    self.starts.append(_Start(place.copy(), pair, active, kernel.ON, place, looked=False))
            elif status == kernel.LOOK and not number[5]:
                self.look_around(place)

    def _walk(self, place: Floats, begin: Floats, number: Ints) -> tuple[int, int]:
        """Follow up to a fixed number of segments with fresh coefficients."""
        key = np.array([self._evaluate(place, False)], dtype=np.uint64)
        ends, pairs = np.empty((_FRESH, 2, 2)), np.empty((_FRESH, 2), dtype=np.int64)
        names, tags = np.empty(_FRESH, dtype=np.uint64), np.empty((_FRESH, 2), dtype=np.int64)
        along = np.empty(_FRESH, dtype=np.int64)
        number[2] = 0
        self._make_room()
        status, third = kernel.walk(
            table_of(self.network.program), self.coefficients, self.active, self.errors.noise, self.share, self.dirty,
            self.sides, self.table, place, begin, number, key, ends, pairs, names, tags, along, self.touched,
        )  # fmt: skip
        count = int(number[2])
        self._keep(*(part[:count].copy() for part in (ends, pairs, names, tags, along)))
        return status, third

    def _keep(self, *parts: Any) -> None:
        """Note segments: ends, classes, keys of their regions, lanes at the ends and along them."""
        self.parts.append(parts)
        self.found += len(parts[0])
        if self.found > self.limit:
            raise LimitError(
                f"trace: more than max_segments={self.limit} segments of decision boundary; raise the limit, or look "
                "at a smaller polygon (Slice2D.within)"
            )

    def _make_room(self) -> None:
        """Keep the table of visited regions at most half full."""
        if 2 * (self.found + _FRESH) > len(self.table):
            old = self.table[self.table > 0]
            self.table = np.zeros(4 * len(self.table), dtype=np.uint64)
            kernel.note(self.table, old)
