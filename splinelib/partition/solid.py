"""Exact partitions of three-dimensional slices: the convex polyhedra on which a network is affine."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from splinelib.checks import Count, check_fields, checked
from splinelib.errors import LimitError, SettingError, UnsupportedModuleError
from splinelib.partition.engine.agreement import node_sums
from splinelib.partition.engine.ending import check_order
from splinelib.partition.engine.layout import LINEAR, MAX, PIECE, Floats, Ints, Node, Value, needed_nodes
from splinelib.partition.engine.points import as_numbers
from splinelib.partition.engine.polyhedra import Polyhedron, box, half, measure, packed
from splinelib.partition.engine.reader import read_layout
from splinelib.partition.engine.rounding import RELATIVE
from splinelib.partition.engine.unit_layers import UnitLayer, unit_layers
from splinelib.partition.slices import LARGEST, Plane, Slice2D


@dataclass(frozen=True, eq=False)
class Slice3D:
    """A box in a three-dimensional space of inputs: ``(s, t, u)`` is ``origin + s d[0] + t d[1] + u d[2]``.

    Args:
        origin: one input ``[*input]``; ``directions``: three independent ones, ``[3, *input]``.
        bounds: ``[3, 2]`` the least and the largest of each coordinate.

    Raises:
        SettingError: shapes differ, values are not finite, directions are dependent, or the box has no volume.

    >>> Slice3D.axis_aligned().at([[0.0, 1.0, -1.0]]).tolist()
    [[0.0, 1.0, -1.0]]
    """

    origin: Tensor
    directions: Tensor
    bounds: NDArray[np.float64]

    def __post_init__(self) -> None:
        bounds = as_numbers("Slice3D.bounds", self.bounds, 3, 2)
        object.__setattr__(self, "bounds", bounds)
        check_fields(self)
        if self.directions.shape != (3, *self.origin.shape):
            raise SettingError(f"directions have shape {tuple(self.directions.shape)}: give [3, *input]")
        if np.abs(bounds).max() > LARGEST:
            raise SettingError(f"bounds are {bounds.tolist()}: give none beyond {LARGEST}")
        if not (bounds[:, 0] < bounds[:, 1]).all():
            raise SettingError(f"bounds are {bounds.tolist()}: give the lesser one of each coordinate first")
        for pair in ((0, 1), (0, 2), (1, 2)):  # which looks at values, too
            first, second = (self.directions[i] for i in pair)
            Slice2D(self.origin, first, second, np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        for name in ("origin", "directions"):
            object.__setattr__(self, name, getattr(self, name).detach().to("cpu", torch.float64, copy=True))
        flat = self.directions.flatten(1)
        if (
            torch.linalg.matrix_rank(flat / torch.linalg.vector_norm(flat, dim=1, keepdim=True), atol=1e-9)
            < 3
        ):
            raise SettingError("Slice3D: the three directions lie in one plane; choose independent ones")

    @classmethod
    @checked
    def axis_aligned(
        cls,
        bounds: ArrayLike = ((-1, 1),) * 3,
        origin: Tensor | None = None,
        axes: tuple[int, int, int] = (0, 1, 2),
    ) -> "Slice3D":
        """The box along three axes of the flattened input, by default all of a three-dimensional input space."""
        base = torch.zeros(3) if origin is None else origin
        base = base.detach().to("cpu", torch.float64, copy=True).contiguous()
        if len(set(axes)) < 3 or not all(0 <= axis < base.numel() for axis in axes):
            raise SettingError(f"axes are {axes}: give three of those from 0 to {base.numel() - 1}")
        directions = torch.zeros(3, base.numel(), dtype=torch.float64)
        directions[torch.arange(3), list(axes)] = 1.0
        base.view(-1)[list(axes)] = 0.0
        return cls(base, directions.reshape(3, *base.shape), as_numbers("bounds", bounds, 3, 2))

    def at(self, points: ArrayLike) -> Tensor:
        """Inputs ``[N, *input]`` (float64) at the points ``[N, 3]``."""
        where = torch.from_numpy(as_numbers("points", points, -1, 3))
        return self.origin + torch.tensordot(where, self.directions, dims=1)


@dataclass(frozen=True, eq=False)
class SolidPartition:
    """The regions of a box: convex polyhedra in contiguous arrays.

    Region r has the corners ``vertices[corner_start[r] : corner_start[r + 1]]`` and the faces from ``face_start[r]``
    on; face f is the ring ``ring[ring_start[f] : ring_start[f + 1]]`` of corners (numbered within the region),
    counter-clockwise seen from outside.

    Args:
        vertices: ``[V, 3]`` in the slice's coordinates, as ``volume [R]`` and ``face_area [F]``.
        face_unit: ``[F]`` the unit whose boundary the face lies on, -1 at the box's sides.
        codes: ``[R, units]`` which units are active.
        outputs: ``[R, K, 4]`` or None: output k is ``outputs[r, k] @ (s, t, u, 1)`` on region r, before a last softmax.
    """

    slice: Slice3D
    layers: tuple[UnitLayer, ...]
    vertices: Floats
    corner_start: Ints
    ring: Ints
    ring_start: Ints
    face_start: Ints
    face_unit: Ints
    face_area: Floats
    volume: Floats
    codes: NDArray[np.bool_]
    outputs: Floats | None

    def __len__(self) -> int:
        """Number of regions."""
        return len(self.volume)

    @checked
    def faces(self, region: int) -> list[Floats]:
        """The faces of one region as corners ``[n, 3]``, ready for matplotlib's ``Poly3DCollection``."""
        if not 0 <= region < len(self):
            raise SettingError(f"region {region} does not exist; regions are 0 … {len(self) - 1}")
        corners = self.vertices[self.corner_start[region] : self.corner_start[region + 1]]
        faces = range(self.face_start[region], self.face_start[region + 1])
        return [corners[self.ring[self.ring_start[f] : self.ring_start[f + 1]]] for f in faces]


@checked
def compute_solid(
    model: nn.Module, slice: Slice3D, *, outputs: bool = False, max_regions: Count = 1_000_000
) -> SolidPartition:
    """The exact partition of a three-dimensional slice by all units of a network without max units, in float64.

    Layer by layer each polyhedron is cut by the units that change sign on it; tolerances are bounds of the rounding, as
    in two dimensions. Some thousand regions a second.

    Args:
        outputs: keep the affine map of each region; the output must be one vector.

    Raises:
        UnsupportedModuleError: as :func:`compute_partition`, and for max pooling.
        SettingError: as :func:`compute_partition`.
        LimitError: there are more than ``max_regions`` regions.

    >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
    >>> solid = compute_solid(model, Slice3D.axis_aligned())
    >>> round(float(solid.volume.sum()), 9), solid.codes.shape[1]
    (8.0, 16)
    """
    search = _Search.of(model, slice, outputs)
    corners: list[Floats] = []
    rings: list[Ints] = []
    units: list[Ints] = []
    areas: list[Floats] = []
    volumes: list[float] = []
    codes: list[NDArray[np.bool_]] = []
    maps: list[Floats] = []
    for part in search.regions():
        if len(volumes) == max_regions:
            raise LimitError(
                f"there are more than max_regions={max_regions} regions; raise it, or take a smaller box"
            )
        where = part.corners * search.radius + search.centre
        volume, area = measure(where, part.ring, part.start)
        corners.append(where)
        rings += [part.ring[a:b] for a, b in zip(part.start, part.start[1:], strict=False)]
        units.append(part.lane)
        areas.append(area)
        volumes.append(volume)
        codes.append(search.code())
        maps += [search.maps()] if outputs else []
    (vertices, corner_start), (face_unit, face_start) = packed(corners, float), packed(units, np.int64)
    ring, ring_start = packed(rings, np.int64)
    return SolidPartition(
        slice, search.layers, vertices, corner_start, ring, ring_start, face_start, face_unit, np.concatenate(areas),
        np.array(volumes), np.array(codes), np.array(maps) if outputs else None,
    )  # fmt: skip


@dataclass(eq=False)
class _Search:
    """A depth-first walk through nodes: ``passed [4, lanes]`` holds the functions of the region at hand.

    Coordinates are those of the box scaled to [-1, 1]³.
    """

    nodes: list[Node]
    layers: tuple[UnitLayer, ...]
    result: Value | None
    centre: Floats
    radius: Floats
    passed: Floats
    error: Floats
    active: list[NDArray[np.bool_]]

    @classmethod
    def of(cls, model: nn.Module, where: Slice3D, outputs: bool) -> "_Search":
        low, high = where.bounds.T
        centre, radius = (low + high) / 2, (high - low) / 2
        middle = where.at(centre[None])[0]
        directions = where.directions * torch.from_numpy(radius).reshape(3, *[1] * where.origin.ndim)
        square = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
        for other in directions[1:]:  # both planes are looked at, so that every direction is
            layout, result, ending = read_layout(model, Plane(middle, directions[0], other, square))
        check_order(ending if outputs else None)
        if outputs and len(result.shape) != 1:
            raise UnsupportedModuleError(f"the output has shape {result.shape}; outputs must be one vector")
        nodes = needed_nodes(layout, result if outputs else None)
        if any(node.kind == MAX for node in nodes):
            raise UnsupportedModuleError("max units have no partition in three dimensions here; use Slice2D")
        passed = np.zeros((4, layout.size))
        passed[:, nodes[0].first : nodes[0].first + nodes[0].size] = torch.cat(
            [directions, middle[None]]
        ).flatten(1)
        active = [np.zeros(node.size, dtype=bool) for node in nodes]
        kept = result if outputs else None
        return cls(nodes, unit_layers(nodes), kept, centre, radius, passed, 2e-16 * np.abs(passed), active)

    def regions(self) -> Iterator[Polyhedron]:
        """Every region in turn; codes and maps are those of the one at hand."""
        yield from self._below(1, 0, box(-np.ones(3), np.ones(3)))

    def _below(self, number: int, unit: int, part: Polyhedron) -> Iterator[Polyhedron]:
        """Regions within ``part``, on which all nodes before ``number`` are affine; they have ``unit`` units."""
        if number == len(self.nodes):
            yield part
            return
        node = self.nodes[number]
        own = np.s_[:, node.first : node.first + node.size]
        sums, error = node_sums(node, self.passed, self.error, np.array([0.0, 0.0, 0.0, 1.0]))
        if node.kind == LINEAR:
            self.passed[own], self.error[own] = sums, error
            yield from self._below(number + 1, unit, part)
            return
        assert node.kind == PIECE
        tolerance = RELATIVE * np.abs(sums).sum(axis=0) + error.sum(axis=0)
        order = np.argsort(node.local(node.lanes).reshape(-1))  # the unit of each lane
        for piece, active in _cut(part, sums, tolerance, unit + order):
            slope = np.where(active, 1.0, node.slope)
            self.active[number] = active
            self.passed[own], self.error[own] = sums * slope, error * np.abs(slope)
            yield from self._below(number + 1, unit + node.lanes.size, piece)

    def code(self) -> NDArray[np.bool_]:
        """Which units are active."""
        bent = [
            (n.local(n.lanes).reshape(-1), on)
            for n, on in zip(self.nodes, self.active, strict=True)
            if n.kind
        ]
        return np.concatenate([on[lanes] for lanes, on in bent]) if bent else np.zeros(0, dtype=bool)

    def maps(self) -> Floats:
        """Output maps ``[K, 4]`` in the slice's coordinates."""
        assert self.result is not None
        found = self.passed[:, self.result.lanes].T * self.result.scale[:, None]
        found[:, 3] += self.result.shift
        found[:, :3] /= self.radius
        found[:, 3] -= found[:, :3] @ self.centre
        return found


def _cut(
    whole: Polyhedron, sums: Floats, tolerance: Floats, units: Ints
) -> Iterator[tuple[Polyhedron, NDArray[np.bool_]]]:
    """The parts of a polyhedron on which no function of ``sums [4, lanes]`` changes sign, and which are positive."""
    value = whole.corners @ sums[:3] + sums[3]
    active = value.max(axis=0) > tolerance
    crossing = np.flatnonzero(active & (value.min(axis=0) < -tolerance))
    open_parts = [(whole, active, 0)]
    while open_parts:
        part, active, begin = open_parts.pop()
        for place in range(begin, len(crossing)):
            lane = crossing[place]
            value = part.corners @ sums[:3, lane] + sums[3, lane]
            if value.min() < -tolerance[lane] and value.max() > tolerance[lane]:
                for sign in (1.0, -1.0):
                    side = active.copy()
                    side[lane] = sign > 0
                    cut = Polyhedron(*half(*part, sign * value, tolerance[lane], units[lane]))
                    open_parts.append((cut, side, place + 1))
                break
            active = active.copy()
            active[lane] = value.max() > tolerance[lane]
        else:
            yield part, active


@checked
def face_areas(partition: SolidPartition) -> Floats:
    """Area of each unit's boundary within the box, ``[units]``; every face is there on both sides, and counts once.

    >>> face_areas(compute_solid(nn.ReLU(), Slice3D.axis_aligned())).tolist()
    [4.0, 4.0, 4.0]
    """
    inner = partition.face_unit >= 0
    return np.bincount(partition.face_unit[inner], partition.face_area[inner], partition.codes.shape[1]) / 2
