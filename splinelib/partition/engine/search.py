"""Runs the compiled search on threads, collects what it finds, and keeps to the caller's limits."""

import mmap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from splinelib.errors import LimitError
from splinelib.partition.engine import kernel
from splinelib.partition.engine.layout import Floats
from splinelib.partition.engine.program import Network
from splinelib.partition.engine.state import (
    REGIONS,
    VERTICES,
    Chunk,
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
# walk the top of the tree.
_SHARED_DEPTH = 9
_CHUNK_REGIONS = 1 << 15
# Compiled code hands back control after about this many lanes' work (nodes times lanes): seconds at most, so that
# an interrupt is heard also where a single region is dear.
_LANES_A_CALL = 50_000_000


# Seconds after which further threads join: to start them costs more than a small network takes.
_HEAD_START = 0.004


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
class _Progress:
    """What the threads share: totals for the limits, and whether to stop."""

    wanted: Wanted
    area: float
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    regions: int = 0
    bytes: int = 0
    covered: float = 0.0

    def add(self, regions: int, size: int, covered: float) -> None:
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
                raise LimitError(
                    f"partition: {self.regions} regions, covering {share}, take {self.bytes} bytes, more than "
                    f"max_bytes={self.wanted.max_bytes}; {advice}"
                )


def search(
    network: Network,
    polygon: Floats,
    wanted: Wanted,
    progress: bool = False,
    reduce: Callable[[Chunk, int], Any] | None = None,
    drop_outputs: bool = False,
) -> list[Piece]:
    """All regions of the network within ``polygon`` (the slice's coordinates), as pieces in no fixed order.

    Args:
        reduce: called on each full chunk with the number of regions in it, in the thread that filled it.
        drop_outputs: the outputs are for ``reduce`` only.

    Raises:
        LimitError: ``wanted.max_regions`` or ``wanted.max_bytes`` is exceeded, and nothing is kept: none is wanted
            in part, or none was found.
    """
    local = np.ascontiguousarray((polygon - network.centre) / network.radius)
    area = float(kernel.polygon_area(np.ascontiguousarray(local[:, 0]), np.ascontiguousarray(local[:, 1])))
    shared = _Progress(wanted, area * network.radius**2)
    wanted = replace(wanted, threads=_affordable_threads(network, local, wanted))
    claims = np.zeros(1 << 16 if wanted.threads > 1 else 1, dtype=np.int64)
    found: list[list[Piece]] = [[] for _ in range(wanted.threads)]

    def work(thread: int) -> None:
        for piece in _thread_pieces(network, local, wanted, claims, thread, shared, reduce, drop_outputs):
            found[thread].append(piece)

    with tqdm(total=100, unit="%", disable=not progress, desc="partition", leave=False) as bar:
        try:
            _run_threads(work, wanted.threads, shared, bar)
        except LimitError:
            if not wanted.partial or not any(found):
                raise
    return [piece for pieces in found for piece in pieces]


def _affordable_threads(network: Network, polygon: Floats, wanted: Wanted) -> int:
    """So many threads that their working memory leaves half of ``max_bytes`` for results; what is found is the same."""
    if wanted.threads == 1:
        return 1
    each = state_bytes(new_state(network, polygon, np.zeros(1, dtype=np.int64)))
    return max(1, min(wanted.threads, wanted.max_bytes // (2 * each)))


def _run_threads(work: Callable[[int], None], threads: int, shared: _Progress, bar: tqdm) -> None:
    """Run all threads to their end; on any exception (an interrupt too) tell the others to stop, then raise it."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            pending = {pool.submit(work, 0)}
            if threads > 1 and wait(pending, timeout=_HEAD_START).not_done:
                pending |= {pool.submit(work, thread) for thread in range(1, threads)}
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                bar.update(100 * shared.covered / shared.area - bar.n)
                bar.set_postfix_str(f"{shared.regions} regions", refresh=False)
        finally:
            shared.stop.set()


def _thread_pieces(
    network: Network,
    polygon: Floats,
    wanted: Wanted,
    claims: NDArray[np.int64],
    thread: int,
    shared: _Progress,
    reduce: Callable[[Chunk, int], Any] | None,
    drop_outputs: bool,
) -> Iterator[Piece]:
    state = new_state(network, polygon, claims)
    shared.add(0, state_bytes(state), 0.0)
    chunk = new_chunk(network, _chunk_size(network, wanted), wanted.codes, wanted.outputs, len(polygon))
    top = _SHARED_DEPTH if wanted.threads > 1 else 0
    budget = max(8, _LANES_A_CALL // len(network.program.slope))
    kernel.start(network.program, state, len(polygon), wanted.codes)
    status, filled = kernel.FLUSH, 0
    while status != kernel.DONE and not shared.stop.is_set():
        status = kernel.advance(
            network.program, state, chunk, top, wanted.threads, thread, budget, wanted.codes, wanted.polygons
        )
        if status in _GROWS:
            before = state_bytes(state)
            state = grown(state, _GROWS[status])
            shared.add(0, state_bytes(state) - before, 0.0)
            continue
        count, corners = int(state.register[REGIONS]), int(state.register[VERTICES])
        if status == kernel.PAUSED and count == 0:
            continue
        extra = reduce(chunk, count) if reduce is not None else None
        piece = _cut(network, chunk, count, corners, wanted, extra, drop_outputs)
        size = sum(array.nbytes for array in piece.held)
        covered = network.radius**2 * float(chunk.area[:count].sum())
        yield piece
        # The chunk itself takes memory as far as it was ever filled.
        shared.add(count, size + max(0, size - filled), covered)
        filled = max(filled, size)
        state.register[REGIONS] = state.register[VERTICES] = 0


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
    sizes = dict.fromkeys(("x", "y", "lane"), corners) | {"other": others}
    sizes["outputs"] = 0 if drop_outputs else keep
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
    places = np.cumsum([0] + [-(-array.nbytes // 64) * 64 for array in arrays])
    block = mmap.mmap(-1, max(int(places[-1]), 1))
    copies: list[Any] = []
    for array, place in zip(arrays, places[:-1], strict=True):
        copy = np.frombuffer(block, array.dtype, array.size, int(place)).reshape(array.shape)
        copy[...] = array
        copies.append(copy)
    return Chunk(*copies)
