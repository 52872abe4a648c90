"""One search as its threads work on it: what is wanted, the limits, and the pieces that each thread finds."""

import mmap
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splinelib.errors import LimitError
from splinelib.partition.engine import kernel
from splinelib.partition.engine.layout import Floats, Ints
from splinelib.partition.engine.pointers import table_of
from splinelib.partition.engine.program import Network
from splinelib.partition.engine.state import (
    CHORDS,
    REGIONS,
    VERTICES,
    Chunk,
    State,
    grown,
    new_chunk,
    new_state,
    state_bytes,
)

_GROWS = {
    kernel.MORE_FRAMES: "frames",
    kernel.MORE_CORNERS: "corners",
    kernel.MORE_CHORDS: "chords",
    kernel.MORE_WINDOWS: "windows",
    kernel.MORE_LOG: "log",
    kernel.MORE_LOG_DATA: "log_data",
    kernel.MORE_LOG_BITS: "log_bits",
}
# Depth at which subtrees are shared out: enough of them to balance, few enough that all threads can afford to
# walk the top of the tree; less deep for networks of so many lanes, where regions are few and dear.
_SHARED_DEPTH, _SHARED_DEPTH_DEAR, _DEAR = 9, 4, 300_000
_CHUNK_REGIONS = 1 << 15
# Compiled code hands back control after about this many lanes' work (nodes times lanes): seconds at most, so that
# an interrupt is heard also where a single region is dear.
_LANES_A_CALL = 50_000_000

# So many lanes' work is done before there are threads: to start them costs more than a small network takes.
_LANES_ALONE = 2_000_000
# From so many lines on their crossings are estimated, from so many pairs; what is refused is beyond any doubt.
_MANY_LINES, _PAIRS, _FAR_TOO_MANY = 2_000, 4_000, 4
# Chunks are small at first, for what has few regions.
_FIRST_REGIONS = 1 << 11
# Copies up to this size are ordinary arrays.
_SMALL = 1 << 19


@dataclass(frozen=True)
class Wanted:
    """What to keep of each region, and the limits; with ``partial`` also what was found when one is reached."""

    polygons: bool = True
    codes: bool = False
    outputs: bool = False
    max_regions: int = 20_000_000
    max_bytes: int = 2 * 1024**3
    threads: int = 1
    partial: bool = False


@dataclass(eq=False)
class Piece:
    """A chunk cut to size, in the slice's coordinates.

    ``arrays`` is None once they are used up, ``regions`` how many were found (also where none are kept), ``extra`` what
    the caller's ``reduce`` made of the chunk.
    """

    arrays: Chunk | None
    regions: int
    extra: Any = None

    @property
    def held(self) -> Chunk:
        """The arrays, which must still be there."""
        assert self.arrays is not None
        return self.arrays


@dataclass
class Progress:
    """What the threads share: totals for the limits, and whether to stop."""

    wanted: Wanted
    area: float
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    regions: int = 0
    bytes: int = 0
    covered: float = 0.0

    def add(self, regions: int, size: int, covered: float) -> None:
        """Count so many regions, bytes (less are negative) and so much area; raise LimitError beyond the limits."""
        with self.lock:
            self.regions += regions
            self.bytes += size
            self.covered += covered
            share = f"{100 * self.covered / self.area:.1f} % of the slice"
            advice = "nothing is returned; raise the limit, look at a smaller polygon (Slice2D.within), or at a part"
            advice += " (partial=True)"
            if self.regions > self.wanted.max_regions:
                raise LimitError(
                    f"partition: {self.regions} regions found, covering {share}, exceed "
                    f"max_regions={self.wanted.max_regions}; {advice}"
                )
            if self.bytes > self.wanted.max_bytes:
                what, limit = f"{self.regions} regions, covering {share}, take", self.wanted.max_bytes
                if not self.regions:
                    what, advice = "the search of this network alone takes", "raise the limit"
                raise LimitError(
                    f"partition: {what} {self.bytes} bytes, more than max_bytes={limit}; {advice}"
                )


@dataclass(frozen=True, eq=False)
class Job:
    """One search: what all of its threads work on. ``polygon`` is in the program's coordinates."""

    network: Network
    polygon: Floats
    wanted: Wanted
    claims: NDArray[np.int64]
    shared: Progress
    reduce: Callable[[Chunk, int], Any] | None
    drop_outputs: bool

    @classmethod
    def of(
        cls,
        network: Network,
        polygon: Floats,
        wanted: Wanted,
        reduce: Callable[[Chunk, int], Any] | None = None,
        drop_outputs: bool = False,
    ) -> "Job":
        """The search of a polygon in the slice's coordinates, on as many threads as memory allows."""
        local = np.ascontiguousarray((polygon - network.centre) / network.radius)
        x, y = (polygon - polygon[0]).T
        area = float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
        shared = Progress(wanted, area)
        wanted = replace(wanted, threads=_affordable_threads(network, local, wanted))
        claims = np.zeros(1 << 16 if wanted.threads > 1 else 1, dtype=np.int64)
        return cls(network, local, wanted, claims, shared, reduce, drop_outputs)

    def _check_lines(self, state: State) -> None:
        """Raise LimitError at once where the units that are affine on all of the slice cut it into far too many parts.

        n lines that cross each other k times within a convex polygon cut it into 1 + n + k parts; all other units only
        add to these. k is estimated from pairs drawn at random.
        """
        count = int(state.frames[0, CHORDS])
        if count < _MANY_LINES or self.wanted.partial:
            return
        first, second = np.random.default_rng(0).integers(count, size=(2, _PAIRS))
        a, b, c = (
            np.stack([part[first], part[second]]) for part in (state.chord_a, state.chord_b, state.chord_c)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = np.stack([b[0] * c[1] - b[1] * c[0], c[0] * a[1] - c[1] * a[0]]) / (
                a[0] * b[1] - a[1] * b[0]
            )
        step = np.roll(self.polygon, -1, axis=0) - self.polygon
        off = np.stack([x, y], axis=1)[:, None] - self.polygon
        inside = (step[:, 0] * off[..., 1] - step[:, 1] * off[..., 0] > 0).all(axis=1)
        least = 1 + count + inside.mean() * count * (count - 1) / 2
        if least > _FAR_TOO_MANY * self.wanted.max_regions:
            raise LimitError(
                f"partition: {count} units cross the slice along straight lines, which cut it into about {least:.2g} "
                f"regions, far more than max_regions={self.wanted.max_regions}; look at a part, such as that which "
                "splinelib.partition.zoom_to finds around a point, or follow the decision boundary (trace_boundary)"
            )

    def pieces(self, thread: int) -> Iterator[Piece | None]:
        """What one thread finds, as it does; and once, after the first work, None."""
        state = new_state(self.network, self.polygon, self.claims)
        self.shared.add(0, state_bytes(state), 0.0)
        size = _chunk_size(self.network, self.wanted)
        chunk = new_chunk(
            self.network, min(size, _FIRST_REGIONS), self.wanted.codes, self.wanted.outputs, len(self.polygon)
        )
        tables = [table_of(arrays) for arrays in (self.network.program, state, chunk)]
        self._advance(tables, thread, 0)
        self._check_lines(state)
        status, filled, lanes, alone = kernel.FLUSH, 0, len(self.network.program.slope), True
        while status != kernel.DONE and not self.shared.stop.is_set():
            budget = max(8, (_LANES_ALONE if alone else _LANES_A_CALL) // lanes)
            status = self._advance(tables, thread, budget)
            if alone and status == kernel.PAUSED:
                alone = False
                yield None
                continue
            if status in _GROWS:
                before = state_bytes(state)
                state = grown(state, _GROWS[status])
                tables[1] = table_of(state)
                self.shared.add(0, state_bytes(state) - before, 0.0)
                continue
            count, corners = int(state.register[REGIONS]), int(state.register[VERTICES])
            if status == kernel.PAUSED and count == 0:
                continue
            extra = self.reduce(chunk, count) if self.reduce is not None else None
            piece = _cut(self.network, chunk, count, corners, self.wanted, extra, self.drop_outputs)
            held = sum(array.nbytes for array in piece.held)
            covered = self.network.radius**2 * float(chunk.area[:count].sum())
            yield piece
            # The chunk itself takes memory as far as it was ever filled.
            self.shared.add(count, held + max(0, held - filled), covered)
            filled = max(filled, held)
            state.register[REGIONS] = state.register[VERTICES] = 0
            if len(chunk.key) < size:
                chunk = new_chunk(
                    self.network, size, self.wanted.codes, self.wanted.outputs, len(self.polygon)
                )
                tables[2] = table_of(chunk)

    def _advance(self, tables: list[Ints], thread: int, budget: int) -> int:
        """Search on with the tables of network, state and chunk; the first time open the root."""
        threads = self.wanted.threads
        top = _SHARED_DEPTH if len(self.network.program.slope) < _DEAR else _SHARED_DEPTH_DEAR
        status: int = kernel.advance(
            *tables, len(self.polygon),
            top if threads > 1 else 0, threads, thread, budget, self.wanted.codes, self.wanted.polygons,
        )  # fmt: skip
        return status


def _affordable_threads(network: Network, polygon: Floats, wanted: Wanted) -> int:
    """So many threads that their working memory leaves half of ``max_bytes`` for results; what is found is the same."""
    if wanted.threads == 1:
        return 1
    return max(1, min(wanted.threads, wanted.max_bytes // (2 * _thread_bytes(network, polygon))))


def _thread_bytes(network: Network, polygon: Floats) -> int:
    return state_bytes(new_state(network, polygon, np.zeros(1, dtype=np.int64)))


def working_bytes(network: Network, polygon: Floats, wanted: Wanted) -> int:
    """Memory of the network and of the threads that search it, in bytes."""
    threads = _affordable_threads(network, polygon, wanted)
    return sum(array.nbytes for array in network.program) + threads * _thread_bytes(network, polygon)


def _chunk_size(network: Network, wanted: Wanted) -> int:
    """Fewer regions at a time where each carries much, so that a chunk stays near 16 MB."""
    each = (
        300
        + (network.code_bits // 8 if wanted.codes else 0)
        + (24 * network.outputs if wanted.outputs else 0)
    )
    size = max(256, min(_CHUNK_REGIONS, (16 << 20) // each))
    # No more than what reaches the limit, so that this much is found in part.
    return min(size, wanted.max_regions + 1) if wanted.partial else size


def _cut(
    network: Network, chunk: Chunk, count: int, corners: int, wanted: Wanted, extra: Any, drop_outputs: bool
) -> Piece:
    """The filled part of the chunk, in the slice's coordinates."""
    keep = count if wanted.polygons else 0
    others = corners if len(chunk.other) else 0
    (centre_x, centre_y), radius = network.centre, network.radius
    sizes = dict.fromkeys(("x", "y", "lane"), corners)
    sizes |= {"other": others, "outputs": 0 if drop_outputs else keep}
    parts: list[Any] = [array[: sizes.get(name, keep)] for name, array in chunk._asdict().items()]
    arrays = _copied(parts)
    for array, centre in ((arrays.x, centre_x), (arrays.y, centre_y)):
        array *= radius
        array += centre
    arrays.area[:] *= radius**2
    arrays.outputs[:, :, 2] -= (
        centre_x * arrays.outputs[:, :, 0] + centre_y * arrays.outputs[:, :, 1]
    ) / radius
    arrays.outputs[:, :, :2] /= radius
    return Piece(arrays, count, extra)


def _copied(arrays: list[Any]) -> Chunk:
    """A chunk of copies in one block of memory of its own, which goes back to the system as soon as the copy is let go.

    Ordinary arrays of this size come from the heap, which keeps what is freed: joining them would need all twice.
    """
    if sum(array.nbytes for array in arrays) <= _SMALL:
        return Chunk(*(array.copy() for array in arrays))
    places = np.cumsum([0] + [-(-array.nbytes // 64) * 64 for array in arrays])
    block = mmap.mmap(-1, max(int(places[-1]), 1))
    copies: list[Any] = []
    for array, place in zip(arrays, places[:-1], strict=True):
        copy = np.frombuffer(block, array.dtype, array.size, int(place)).reshape(array.shape)
        copy[...] = array
        copies.append(copy)
    return Chunk(*copies)
