"""The exact partition of a slice: what it holds, and computing it."""

import functools
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from splinelib.checks import Count, Within, check_fields, checked, count_cores
from splinelib.errors import SettingError
from splinelib.partition.decision import DecisionBoundary, find_segments
from splinelib.partition.engine.assemble import join, join_segments, places
from splinelib.partition.engine.job import Piece, Wanted
from splinelib.partition.engine.layout import Floats, Ints
from splinelib.partition.engine.points import as_numbers
from splinelib.partition.engine.program import Int32s, Network, compile_network
from splinelib.partition.engine.search import search
from splinelib.partition.engine.unit_layers import UnitLayer
from splinelib.partition.locate import locate
from splinelib.partition.slices import Slice2D

Threads = Annotated[int, Within("[1, 1024]")]


@dataclass(frozen=True, eq=False)
class Partition:
    """The regions of a slice on which a network is affine: convex polygons in contiguous arrays.

    Region r has the corners ``vertices[offsets[r] : offsets[r + 1]]``, counter-clockwise, in the slice's coordinates.
    The edge from corner i to the next lies on the boundary of unit ``edge_unit[i]``.

    Args:
        slice: where the network was looked at.
        layers: the layers of units; unit numbers run through them in this order, and within a layer in the order of
            its flattened tensor.
        vertices: ``[V, 2]`` float64.
        offsets: ``[R + 1]`` int64.
        area: ``[R]``, in the slice's coordinates.
        key: ``[R]`` uint64, the exclusive-or of random keys of the active units (and of each max unit's winning
            piece): equal codes have equal keys, different codes differ up to collisions of 64-bit keys.
        edge_lane: ``[V]`` int32, the engine's number for the unit (for a max unit: its piece on this side), -1 at the
            slice's border; ``edge_other`` the piece on the other side of a max unit's edge, -1 elsewhere (empty
            without max units).
        lane_unit, lane_key: unit and key of each such number.
        codes: ``[R, words]`` uint64 or None. Bit u is set where unit u is active; a max unit has one bit for each
            piece. Layers follow one another: see :meth:`code_bits`.
        outputs: ``[R, K, 3]`` or None: output k is ``outputs[r, k] @ (s, t, 1)`` on region r.
        boundary: the decision boundary, or None.
        left_out: names the last steps of the network that ``outputs`` are without, such as a softmax or a sigmoid.

    >>> partition = compute_partition(nn.ReLU(), Slice2D.axis_aligned(), codes=True)
    >>> partition.code_bits()[partition.locate([[0.5, -0.5]])].tolist()
    [[True, False]]
    """

    slice: Slice2D
    layers: tuple[UnitLayer, ...]
    vertices: Floats
    offsets: Ints
    area: Floats
    key: NDArray[np.uint64]
    edge_lane: Int32s
    edge_other: Int32s
    lane_unit: Int32s
    lane_key: NDArray[np.uint64]
    codes: NDArray[np.uint64] | None
    outputs: Floats | None
    boundary: DecisionBoundary | None
    left_out: str = ""

    def __post_init__(self) -> None:
        check_fields(self)

    def __repr__(self) -> str:
        return f"<Partition: {len(self):,} regions by {self.units:,} units in {len(self.layers)} layers>"

    def __len__(self) -> int:
        """Number of regions."""
        return len(self.area)

    @property
    def covered(self) -> float:
        """How much of the slice the regions fill, all but rounding, unless it is a partition in part."""
        return float(self.area.sum()) / self.slice.area

    @property
    def units(self) -> int:
        """Number of units of the network."""
        return sum(layer.units for layer in self.layers)

    @property
    def edge_unit(self) -> Int32s:
        """Unit on whose boundary each edge lies, ``[V]``; -1 at the slice's border."""
        return np.where(self.edge_lane >= 0, self.lane_unit[self.edge_lane], np.int32(-1))

    @property
    def unit_layer(self) -> Ints:
        """Layer of each unit, ``[units]``."""
        return np.repeat(np.arange(len(self.layers)), [layer.units for layer in self.layers])

    @property
    def edge_region(self) -> Ints:
        """Region of each edge (and corner), ``[V]``."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def edge_end(self) -> Ints:
        """Index of the corner that each edge leads to, ``[V]``."""
        end = np.arange(1, len(self.vertices) + 1)
        end[self.offsets[1:] - 1] = self.offsets[:-1]
        return end

    @property
    def edge_length(self) -> Floats:
        """Length of each edge, ``[V]``, in the slice's coordinates."""
        return np.linalg.norm(self.vertices[self.edge_end] - self.vertices, axis=1)

    @checked
    def polygon(self, region: int) -> Floats:
        """Corners ``[n, 2]`` of one region.

        Raises:
            SettingError: there is no such region.
        """
        if not 0 <= region < len(self):
            raise SettingError(f"region {region} does not exist; regions are 0 … {len(self) - 1}")
        return self.vertices[self.offsets[region] : self.offsets[region + 1]]

    def centroids(self) -> Floats:
        """Centre of gravity of each region, ``[R, 2]``: always strictly inside."""
        first = self.vertices[self.offsets[:-1]][self.edge_region]
        here, there = self.vertices - first, self.vertices[self.edge_end] - first
        cross = here[:, 0] * there[:, 1] - here[:, 1] * there[:, 0]
        moment = np.add.reduceat((here + there) * cross[:, None], self.offsets[:-1], axis=0)
        twice = np.add.reduceat(cross, self.offsets[:-1])
        return self.vertices[self.offsets[:-1]] + moment / (3 * twice[:, None])

    def locate(self, points: ArrayLike) -> Ints:
        """The region that each point ``[N, 2]`` of the plane lies in, ``[N]``; -1 outside the polygon.

        A point on a shared edge belongs to one of the regions beside it. Give many points at once: each call sorts the
        regions into a grid first.

        Raises:
            SettingError: these are no finite points.
        """
        return locate(self.vertices, self.offsets, as_numbers("points", points, -1, 2))

    def code_bits(self) -> NDArray[np.bool_]:
        """The codes as booleans ``[R, bits]``: for each layer its units, for max units times pieces.

        Raises:
            SettingError: the partition was computed without ``codes=True``.
        """
        return code_bits(self.codes, self.layers)

    @checked
    def unit_name(self, unit: int) -> str:
        """Module and index of a unit, such as ``features.2[3, 10, 7]``."""
        for layer in self.layers:
            if layer.first <= unit < layer.first + layer.units:
                index = np.unravel_index(unit - layer.first, layer.shape)
                return f"{layer.name}{[int(i) for i in index]}"
        raise SettingError(f"unit {unit} does not exist; units are 0 … {self.units - 1}")


@checked
def compute_partition(
    model: nn.Module,
    slice: Slice2D,
    *,
    codes: bool = False,
    outputs: bool = False,
    boundary: bool = False,
    max_regions: Count = 20_000_000,
    max_bytes: Count = 2 * 1024**3,
    partial: bool = False,
    threads: Threads | None = None,
    progress: bool = False,
) -> Partition:
    """The exact partition of a slice by all units of a piecewise affine network, in float64.

    Every unit of every activation (ReLU, leaky ReLU, PReLU, abs, clamps) and every max pool bends the map; two
    points belong to one region if no unit separates them (Balestriero & Baraniuk, "A Spline Theory of Deep Learning",
    ICML 2018). The result does not depend on the number of threads. The model is not changed. Last steps that keep the
    order of a point's outputs (softmax, sigmoid, argmax and the like) are left out: ``outputs`` are what they get.

    Args:
        model: in eval mode; see ``splinelib.partition.supported_modules``.
        slice: the polygon, and how it lies in the input space.
        codes: keep the packed code of each region (memory: units / 8 bytes for each).
        outputs: keep the affine map of each region on the slice (24 bytes for each output).
        boundary: compute the decision boundary; the model's output must then be one vector of scores. A single score
            is that of class 1 against 0 for class 0: its zero level set.
        max_regions, max_bytes: limits on the number of regions and on the memory for results and search.
        partial: where a limit is reached, or you interrupt (Ctrl-C), return the regions that were found by then, as
            many as it allows and those that tipped it (up to 16 MB a thread). Which ones hangs on the search, on
            several threads on chance.
            ``Partition.covered`` says how much of the slice they fill.
        threads: by default as many as this process may use; fewer where their working memory, a part for each, would
            take more than half of ``max_bytes``.
        progress: show a bar of the area done, with the time left.

    Raises:
        UnsupportedModuleError: names the module, its type and path.
        SettingError: training mode, weights that are not finite, or an input the model cannot read.
        LimitError: a limit is exceeded; says how far the search had come. Nothing is returned, unless ``partial``.

    >>> partition = compute_partition(nn.ReLU(), Slice2D.axis_aligned())
    >>> len(partition), partition.area.tolist()
    (4, [1.0, 1.0, 1.0, 1.0])
    """
    threads = thread_count(threads)
    network = compile_network(model, slice.plane, outputs or boundary, scores=boundary)
    wanted = Wanted(True, codes, outputs or boundary, max_regions, max_bytes, threads, partial)
    reduce = functools.partial(find_segments, lanes=len(network.program.slope)) if boundary else None
    pieces = search(
        network, slice.polygon, wanted, "partition" if progress else "", reduce, drop_outputs=not outputs
    )
    return joined(slice, network, pieces, codes, outputs, boundary)


def joined(
    slice: Slice2D, network: Network, pieces: list[Piece], codes: bool, outputs: bool, boundary: bool = False
) -> Partition:
    """What a search found, with what was asked for, as a partition."""
    place = places(pieces)
    found = join_segments(network, pieces, place) if boundary else None
    rows = join(pieces, place)
    offsets = np.concatenate([[0], np.cumsum(rows.corners, dtype=np.int64)])
    return Partition(
        slice,
        network.layers,
        rows.vertices,
        offsets,
        rows.area,
        rows.key,
        rows.lane,
        rows.other,
        network.lane_unit,
        network.program.key,
        rows.code if codes else None,
        rows.outputs[:, network.fixed_scores :] if outputs else None,
        found,
        network.left_out,
    )


@checked
def count_regions(
    model: nn.Module,
    slice: Slice2D,
    *,
    max_regions: Count = 10**9,
    threads: Threads | None = None,
    progress: bool = False,
) -> int:
    """Number of regions of a slice, without keeping them: memory does not grow. Errors as :func:`compute_partition`.

    >>> count_regions(nn.ReLU(), Slice2D.axis_aligned())
    4
    """
    network = compile_network(model, slice.plane, False)
    wanted = Wanted(polygons=False, max_regions=max_regions, threads=thread_count(threads))
    pieces = search(network, slice.polygon, wanted, "regions" if progress else "")
    return sum(piece.regions for piece in pieces)


def code_bits(codes: NDArray[np.uint64] | None, layers: tuple[UnitLayer, ...]) -> NDArray[np.bool_]:
    """Packed codes ``[R, words]`` as booleans ``[R, bits]``: see :meth:`Partition.code_bits`."""
    if codes is None:
        raise SettingError("this partition holds no codes; compute it with codes=True")
    size = sum(layer.units * layer.pieces for layer in layers)
    return np.unpackbits(codes.view(np.uint8), axis=1, bitorder="little", count=size).astype(bool)


def thread_count(threads: int | None) -> int:
    """As many threads as are asked for, by default as many as this process may use."""
    return count_cores() if threads is None else threads
