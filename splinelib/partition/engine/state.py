"""The working memory of one thread of the engine: coefficients, the stack of open nodes, and the undo log."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from splinelib.partition.engine.layout import Floats, Ints, aligned_zeros
from splinelib.partition.engine.pointers import view_of
from splinelib.partition.engine.program import Int32s, Network

# Columns of a frame: where the node's polygon, chords and open max units lie, how far the logs reached before it,
# and how many of its children are done.
POLYGON, CORNERS, CHORD, CHORDS, WINDOW, WINDOWS, LOG, LOG_DATA, LOG_BITS, NEXT, CHILDREN, SPLIT = range(12)
FRAME_WIDTH = 12

# Registers: counters that compiled functions share.
(
    DEPTH,
    SERIAL,
    LOG_AT,
    LOG_DATA_AT,
    LOG_BITS_AT,
    TODO,
    READY,
    CHORD_AT,
    WINDOW_AT,
    TASK,
    REGIONS,
    VERTICES,
) = range(12)
REGISTERS = 12


class State(NamedTuple):
    """Arrays of one thread. ``claims`` is shared by all threads, everything else is private.

    Chords are the units that cross the node's polygon: coefficients, tolerance, lane and balance score. ``peak`` and
    ``noise`` of a cell are the largest size and the largest error of its inputs; ``error`` of a lane is its sharp error
    bound, where ``sharp`` says so of its cell; ``decided`` and ``gain`` tell which lane stands behind a head, and how.
    """

    register: Ints
    hash: NDArray[np.uint64]
    claims: Ints
    coefficients: Floats
    waiting: Int32s
    peak: Floats
    noise: Floats
    stamp: Ints
    code: NDArray[np.uint64]
    frames: Ints
    frame_hash: NDArray[np.uint64]
    poly_x: Floats
    poly_y: Floats
    poly_lane: Int32s
    poly_other: Int32s
    chord_a: Floats
    chord_b: Floats
    chord_c: Floats
    chord_tolerance: Floats
    chord_score: Floats
    chord_lane: Int32s
    windows: Int32s
    log_cell: Int32s
    log_count: Int32s
    log_peak: Floats
    log_noise: Floats
    log_data: Floats
    log_bits: Int32s
    todo_lane: Int32s
    todo_head: Int32s
    todo_slope: Floats
    ready: Int32s
    row_at: Ints
    factor: Floats
    low: Floats
    high: Floats
    scratch: Floats
    scratch_lane: Int32s
    decided: Int32s
    gain: Floats
    error: Floats
    sharp: NDArray[np.bool_]
    sizes: Floats
    squares: Floats
    sign: Ints
    pending: Int32s


class Chunk(NamedTuple):
    """Regions on their way out, at most ``len(key)`` of them."""

    x: Floats
    y: Floats
    lane: Int32s
    other: Int32s
    corners: Int32s
    area: Floats
    key: NDArray[np.uint64]
    task: Int32s
    code: NDArray[np.uint64]
    outputs: Floats


view_state = view_of(State, frames=2, scratch=2, scratch_lane=2)
view_chunk = view_of(Chunk, code=2, outputs=3)

GROWABLE = {
    "frames": ("frames", "frame_hash"),
    "corners": ("poly_x", "poly_y", "poly_lane", "poly_other"),
    "chords": ("chord_a", "chord_b", "chord_c", "chord_tolerance", "chord_score", "chord_lane"),
    "windows": ("windows",),
    "log": ("log_cell", "log_count", "log_peak", "log_noise"),
    "log_data": ("log_data",),
    "log_bits": ("log_bits",),
}


def new_state(network: Network, polygon: Floats, claims: Ints) -> State:
    """Memory for one thread, with the slice's polygon (in the program's coordinates) as the root's."""
    p = network.program
    lanes, cells, corners = len(p.slope), len(p.cell_kind), len(polygon)
    words = (network.code_bits + 63) // 64
    floats, ints = (lambda n: np.zeros(n)), (lambda n: np.zeros(n, dtype=np.int32))
    room = 4096 + 2 * corners
    poly_x, poly_y, poly_lane = floats(room), floats(room), np.full(room, -1, dtype=np.int32)
    poly_x[:corners], poly_y[:corners] = polygon.T
    room = 2 * lanes + 1024
    scratch = 64 + corners + int(p.cell_used.max())
    widest = -(-int(p.cell_width.max()) // 8) * 8
    coefficients = aligned_zeros(len(p.coefficients))
    coefficients[:] = p.coefficients
    return State(
        np.zeros(REGISTERS, dtype=np.int64),
        np.zeros(1, dtype=np.uint64),
        claims,
        coefficients,
        p.cell_count.copy(),
        floats(cells),
        floats(cells),
        np.ones(cells, dtype=np.int64),
        np.zeros(max(words, 1), dtype=np.uint64),
        np.zeros((256, FRAME_WIDTH), dtype=np.int64),
        np.zeros(256, dtype=np.uint64),
        poly_x,
        poly_y,
        poly_lane,
        np.full(len(poly_x), -1, dtype=np.int32),
        floats(room),
        floats(room),
        floats(room),
        floats(room),
        floats(room),
        ints(room),
        ints(room),
        ints(2 * cells + 64),
        ints(2 * cells + 64),
        floats(2 * cells + 64),
        floats(2 * cells + 64),
        floats(4 * lanes + 64),
        ints(2 * lanes + 64),
        ints(lanes),
        ints(lanes),
        floats(lanes),
        ints(cells),
        np.zeros(widest, dtype=np.int64),
        aligned_zeros(3 * widest),
        aligned_zeros(room),
        aligned_zeros(room),
        np.zeros((4, scratch)),
        np.full((4, scratch), -1, dtype=np.int32),
        np.arange(lanes, dtype=np.int32),
        floats(lanes),
        floats(lanes),
        np.zeros(cells, dtype=np.bool_),
        aligned_zeros(widest),
        aligned_zeros(widest),
        np.zeros(widest, dtype=np.int64),
        ints(cells),
    )


def grown(state: State, what: str) -> State:
    """The state with twice the room for ``what`` (a key of GROWABLE); contents are kept."""
    larger = {}
    for name in GROWABLE[what]:
        old = getattr(state, name)
        new = np.zeros((2 * len(old), *old.shape[1:]), dtype=old.dtype)
        new[: len(old)] = old
        larger[name] = new
    state = state._replace(**larger)
    if what == "corners":
        shape = (4, 2 * state.scratch.shape[1])
        state = state._replace(scratch=np.zeros(shape), scratch_lane=np.full(shape, -1, dtype=np.int32))
    if what == "chords":
        extra = len(state.chord_a)
        state = state._replace(low=aligned_zeros(extra), high=aligned_zeros(extra))
    return state


def state_bytes(state: State) -> int:
    """Memory of a state in bytes."""
    return sum(array.nbytes for array in state)


def new_chunk(network: Network, regions: int, codes: bool, outputs: bool, corners: int) -> Chunk:
    """Room for ``regions`` regions of up to 8 corners on average, within a slice of ``corners`` corners."""
    words = (network.code_bits + 63) // 64 if codes else 0
    corners = 8 * regions + 4096 + 2 * corners
    with_other = any(layer.kind == "max" for layer in network.layers)
    return Chunk(
        np.empty(corners),
        np.empty(corners),
        np.empty(corners, dtype=np.int32),
        np.empty(corners if with_other else 0, dtype=np.int32),
        np.empty(regions, dtype=np.int32),
        np.empty(regions),
        np.empty(regions, dtype=np.uint64),
        np.empty(regions, dtype=np.int32),
        np.empty((regions, words), dtype=np.uint64),
        np.empty((regions, network.outputs if outputs else 0, 3)),
    )
