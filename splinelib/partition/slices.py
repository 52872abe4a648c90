"""Where a partition is looked at: a convex polygon of a plane, or a segment, laid into the input space."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from splinelib.checks import NonNegative, Positive, check, check_finite, checked
from splinelib.errors import SettingError
from splinelib.partition.engine.points import as_numbers

# Corners closer than this share of the polygon's extent, along both axes, are one corner up to rounding.
_SAME_CORNER = 1e-14
# Sines below this are those of a straight angle, up to the rounding of the corners.
_STRAIGHT = 1e-12
LARGEST = 1e100


class Plane(NamedTuple):
    """What the engine needs of a slice: inputs ``origin + s first + t second`` for (s, t) in a convex polygon."""

    origin: Tensor
    first: Tensor
    second: Tensor
    polygon: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Slice2D:
    """A convex polygon in a plane and the affine map of that plane into the input space.

    The point ``(s, t)`` of the plane is the input ``origin + s * first + t * second``.

    Args:
        origin: one input, without a batch dimension; shape ``[*input]``.
        first, second: two directions of the same shape, linearly independent.
        polygon: the corners ``[n, 2]`` in the plane's coordinates, convex, in either orientation
            (kept counter-clockwise).

    Raises:
        SettingError: shapes differ, values are not finite, the directions are parallel, or the
            polygon is not convex or has no area.

    >>> where = Slice2D.axis_aligned(((0.0, 2.0), (0.0, 1.0)))
    >>> where.area, where.at([[2.0, 1.0]]).tolist()
    (2.0, [[2.0, 1.0]])
    """

    origin: Tensor
    first: Tensor
    second: Tensor
    polygon: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("origin", "first", "second"):
            object.__setattr__(self, name, _as_float64(getattr(self, name), f"Slice2D.{name}"))
        shapes = {tuple(t.shape) for t in (self.origin, self.first, self.second)}
        if len(shapes) != 1:
            raise SettingError(f"Slice2D: origin and directions have shapes {sorted(shapes)}; give one shape")
        if self.origin.numel() < 2:
            raise SettingError(
                f"Slice2D: inputs of shape {tuple(self.origin.shape)} have no plane; use a Segment of them"
            )
        basis = torch.stack([self.first.flatten(), self.second.flatten()])
        lengths = torch.linalg.vector_norm(basis, dim=1)
        if min(lengths) == 0 or torch.linalg.svdvals(basis / lengths[:, None])[-1] < 1e-9:
            raise SettingError("Slice2D: the two directions are parallel or zero; choose independent ones")
        object.__setattr__(self, "polygon", _convex(self.polygon))

    @classmethod
    @checked
    def axis_aligned(
        cls,
        bounds: ArrayLike = ((-1.0, 1.0), (-1.0, 1.0)),
        origin: Tensor | None = None,
        axes: tuple[int, int] = (0, 1),
    ) -> "Slice2D":
        """The rectangle ``bounds = ((x_min, x_max), (y_min, y_max))`` along two axes of the input space.

        Args:
            origin: the other coordinates; by default the input space is the plane itself.
            axes: the two axes, as indices into the flattened input.
        """
        origin = torch.zeros(2, dtype=torch.float64) if origin is None else origin
        if not all(-origin.numel() <= axis < origin.numel() for axis in axes):
            raise SettingError(f"axes are {axes}: the input has those from 0 to {origin.numel() - 1}")
        directions = torch.zeros(2, origin.numel(), dtype=torch.float64)
        directions[0, axes[0]] = directions[1, axes[1]] = 1.0
        base = origin.detach().cpu().double().flatten().clone()
        base[list(axes)] = 0.0
        shape = origin.shape
        first, second = directions.reshape(2, *shape)
        return cls(base.reshape(shape), first, second, _rectangle(bounds))

    @classmethod
    @checked
    def through(
        cls,
        x0: Tensor,
        x1: Tensor,
        x2: Tensor,
        margin: NonNegative = 0.0,
        polygon: ArrayLike | None = None,
    ) -> "Slice2D":
        """The plane through three inputs, with orthonormal coordinates: lengths and areas are those of inputs.

        ``x0`` lies at (0, 0) and ``x1`` on the first axis.

        Args:
            margin: the default polygon is the bounding box of the three points, grown on each side by
                this share of its size.
            polygon: corners to use instead, in the plane's coordinates.
        """
        origin = _as_float64(x0, "Slice2D.through: x0")
        others = [_as_float64(x, f"Slice2D.through: {name}") for x, name in ((x1, "x1"), (x2, "x2"))]
        if not x0.shape == x1.shape == x2.shape:
            shapes = [tuple(x.shape) for x in (x0, x1, x2)]
            raise SettingError(f"Slice2D.through: the inputs have shapes {shapes}; give one shape")
        legs = torch.stack([(x - origin).flatten() for x in others])
        length = torch.linalg.vector_norm(legs[0])
        first = legs[0] / length
        along = legs[1] @ first
        rest = legs[1] - along * first
        # Once more: where the inputs are nearly collinear, what rounding leaves along the first axis is a large part.
        rest = rest - (rest @ first) * first
        height = torch.linalg.vector_norm(rest)
        if length == 0 or height <= 1e-9 * torch.linalg.vector_norm(legs[1]):
            raise SettingError("Slice2D.through: the three inputs lie on one line; choose other inputs")
        second = rest / height
        low, high = min(0.0, float(along)), max(float(length), float(along))
        pad_x, pad_y = margin * (high - low), margin * float(height)
        box = _rectangle(((low - pad_x, high + pad_x), (-pad_y, float(height) + pad_y)))
        corners = box if polygon is None else as_numbers("polygon", polygon, -1, 2)
        return cls(origin, first.reshape(origin.shape), second.reshape(origin.shape), corners)

    @classmethod
    @checked
    def canvas(cls, x0: Tensor, x1: Tensor) -> "Slice2D":
        """The two-image canvas of the paper's released code: ``α x0 + β x1`` for α, β in [0, 1]."""
        return cls(torch.zeros_like(x0), x0, x1, _rectangle(((0.0, 1.0), (0.0, 1.0))))

    @property
    def plane(self) -> Plane:
        """The slice without its methods."""
        return Plane(self.origin, self.first, self.second, self.polygon)

    @property
    def area(self) -> float:
        """Area of the polygon, in the plane's coordinates."""
        x, y = (self.polygon - self.polygon[0]).T
        return float(0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))

    def at(self, points: ArrayLike | Tensor) -> Tensor:
        """Inputs ``[N, *input]`` (float64, on the CPU) at the plane's points ``[N, 2]``."""
        where = torch.from_numpy(as_numbers("points", points, -1, 2))
        basis = torch.stack([self.first.flatten(), self.second.flatten()])
        return (self.origin.flatten() + where @ basis).reshape(-1, *self.origin.shape)

    @checked
    def coordinates(self, inputs: Tensor) -> NDArray[np.float64]:
        """The plane's coordinates ``[N, 2]`` of inputs ``[N, *input]``, projected orthogonally onto the plane."""
        if inputs.shape[1:] != self.origin.shape or not len(inputs):
            raise SettingError(
                f"inputs have shape {tuple(inputs.shape)}: give a batch of those of shape {tuple(self.origin.shape)}"
            )
        check_finite("inputs", inputs)
        basis = torch.stack([self.first.flatten(), self.second.flatten()], dim=1)
        offsets = inputs.detach().cpu().double().reshape(len(inputs), -1) - self.origin.flatten()
        return torch.linalg.lstsq(basis, offsets.T).solution.T.numpy()

    @checked
    def same_as(self, other: "Slice2D") -> bool:
        """Whether the other slice is this one: the same inputs at the same coordinates."""
        pairs = [(getattr(self, name), getattr(other, name)) for name in ("origin", "first", "second")]
        return all(torch.equal(a, b) for a, b in pairs) and np.array_equal(self.polygon, other.polygon)

    def within(self, polygon: ArrayLike) -> "Slice2D":
        """The same plane with another polygon ``[n, 2]``."""
        return Slice2D(self.origin, self.first, self.second, as_numbers("polygon", polygon, -1, 2))

    @checked
    def zoomed(self, share: Positive) -> "Slice2D":
        """The same plane, the polygon shrunk to ``share`` of its size about the mean of its corners."""
        middle = self.polygon.mean(axis=0)
        return self.within(middle + share * (self.polygon - middle))


@dataclass(frozen=True, eq=False)
class Segment:
    """The inputs ``start + t * (end - start)`` for t in [0, 1]; both ends have the shape ``[*input]``.

    Raises:
        SettingError: the ends have different shapes, are not finite, or coincide.

    >>> Segment(torch.tensor([0.0, 0.0]), torch.tensor([3.0, 4.0])).length
    5.0
    """

    start: Tensor
    end: Tensor

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            object.__setattr__(self, name, _as_float64(getattr(self, name), f"Segment.{name}"))
        if self.start.shape != self.end.shape:
            raise SettingError(
                f"Segment: ends have shapes {tuple(self.start.shape)} and {tuple(self.end.shape)}; give one shape"
            )
        if torch.equal(self.start, self.end):
            raise SettingError("Segment: both ends are the same input; choose two different inputs")

    @property
    def plane(self) -> Plane:
        """A strip of the unit square on which inputs depend on the first coordinate alone: the engine's view."""
        square = _rectangle(((0.0, 1.0), (0.0, 1.0)))
        return Plane(self.start, self.end - self.start, torch.zeros_like(self.start), square)

    @property
    def length(self) -> float:
        """Euclidean length in the input space."""
        return float(torch.linalg.vector_norm(self.end - self.start))

    def at(self, positions: ArrayLike) -> Tensor:
        """Inputs ``[N, *input]`` (float64) at the positions t ``[N]``."""
        t = torch.from_numpy(as_numbers("positions", positions, -1)).reshape(-1, *[1] * self.start.ndim)
        return self.start + t * (self.end - self.start)


def _as_float64(tensor: Tensor, name: str) -> Tensor:
    check(name, tensor, Tensor)
    if tensor.is_complex():
        raise SettingError(f"{name} is {tensor.dtype}; give real numbers")
    result = tensor.detach().to("cpu", torch.float64, copy=True)
    # Squares of lengths, and inputs some way beyond the polygon, must not overflow.
    if not (result.abs() < LARGEST).all():
        raise SettingError(
            f"{name} holds values that are not finite, or beyond {LARGEST}; give finite inputs"
        )
    return result


def _rectangle(bounds: ArrayLike) -> NDArray[np.float64]:
    (left, right), (low, high) = as_numbers("bounds", bounds, 2, 2)
    return np.array([[left, low], [right, low], [right, high], [left, high]], dtype=np.float64)


def _once(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners without those that the next one repeats: rings are often closed by their first corner."""
    step = np.abs(corners - np.roll(corners, -1, axis=0))
    return corners[(step > _SAME_CORNER * np.ptp(corners, axis=0)).any(axis=1)]


def _convex(polygon: ArrayLike) -> NDArray[np.float64]:
    """The corners counter-clockwise, each once and without those on a straight line, or an error."""
    corners = as_numbers("Slice2D.polygon", polygon, -1, 2)
    if np.abs(corners).max(initial=0.0) > LARGEST:
        raise SettingError(f"Slice2D.polygon has corners beyond {LARGEST}; give smaller coordinates")
    corners = _once(corners) if len(corners) else corners
    if len(corners) < 3:
        raise SettingError(
            f"Slice2D.polygon has {len(corners)} different corners, {corners.tolist()}; give at least 3"
        )
    before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    onward = (before * after).sum(axis=1)
    # A corner where the outline turns back is no straight one, although its sides are parallel too.
    straight = (onward > 0) & (
        np.abs(turn) <= _STRAIGHT * np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    )
    if straight.any() and (~straight).sum() >= 3:
        return _convex(corners[~straight])
    angle = np.arctan2(turn, onward)
    if straight.any() or abs(abs(angle.sum()) - 2 * np.pi) > 1e-6 or len(set(np.sign(turn))) != 1:
        raise SettingError(
            f"Slice2D.polygon with corners {corners.tolist()} is not a convex polygon with an area: give corners "
            "in their order around one, none of them pointing inwards"
        )
    return np.ascontiguousarray(corners if turn[0] > 0 else corners[::-1])
