"""Sign codes of a network on a canvas: which side of every unit's boundary each canvas point lies on.

The code q(x) of a point holds one bit for each unit, 1 where the pre-activation is positive (zero counts as
inactive). Codes are bit-packed (:mod:`splinelib.early_bird.distances` compares them).
"""

import contextlib
import functools
import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.checks import Count, check_finite, checked
from splinelib.early_bird.distances import PackedCode, pack_bits
from splinelib.errors import SettingError, SplineError, TrainingError, UnsupportedModuleError
from splinelib.hooks import evaluating, own_state, tapped, tensors_in
from splinelib.layers.network import unwrapped

_FEW = (2, 4)  # points of the passes that tell what runs over points: even, since some networks pair them
_CHUNK = 256  # canvas points in one forward pass: bounds memory, leaves the result as it is


def _sample(total: int, bits: int, layer: int) -> np.ndarray:
    """Positions, in order, of a fixed random sample of ``bits`` out of more, ``total``: int64 [bits].

    One position from each of ``bits`` equally long stretches: in order without sorting, which took half as long as
    reading the signs, and with a standard error at most that of positions drawn anywhere. The sample depends on
    (total, bits, layer) alone, so codes of different epochs and processes compare.
    """
    generator = torch.Generator().manual_seed(layer)
    positions = torch.rand(bits, generator=generator, dtype=torch.float64).numpy()
    positions += np.arange(bits)
    positions *= total / bits
    return np.minimum(positions.astype(np.int64), total - 1)


Places = dict[tuple[Any, ...], Tensor]


@checked
def sign_codes(
    model: nn.Module, canvas: Tensor, bits: Count = 2**17, places: Places | None = None
) -> PackedCode:
    """Codes of ``model`` on ``canvas`` [points, ...] (any input shape), in eval mode, at most ``bits`` a layer.

    A layer with more (point, unit) pairs than ``bits`` is represented by a fixed random sample of that many.
    The standard error of a distance d estimated so is at most sqrt(d(1 - d) / bits): 0.0014 at d = 0.5 by default.
    Layers are the non-linearities with a kink at zero (ReLU and its kin, abs, clips) in execution order, each read at
    its input [points, ...], or where the points lie on another axis (time first); smooth ones (GELU) have no code and
    are left out, as is what does not run over the points (the absolute value of a parameter, say), which passes of two
    and of four points tell first. A sample holds the same entries in the same order whatever a layer's memory format.

    ``places``, an empty dict at first, keeps for further calls where in memory the sampled entries lie, 4 bytes for
    each: finding them takes longer than reading them. A detector has one of its own. With places known, codes add
    little to the forward pass of wide layers on a large canvas, and more where either is small
    (``python -m benchmarks.detection`` measures it).

    Raises :class:`SettingError` for a canvas that is empty or not finite, one that the network cannot take, or no bits,
    :class:`UnsupportedModuleError` if the forward pass meets no piecewise linear non-linearity, or not the same ones
    all over the canvas, and :class:`TrainingError` if a pre-activation is NaN. Warns of operations that may rectify
    but are no known non-linearity (``torch.maximum``, ``torch.where``, ``x * (x > 0)``), of layers with several rows
    for each point, and of networks that mix the points of a canvas which runs in parts.

    >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
    >>> model[0].weight.data = torch.tensor([[1.0], [-1.0]])
    >>> code = sign_codes(model, canvas=torch.tensor([[-1.0], [1.0]]))
    >>> code.bits, np.unpackbits(code.layers[0], count=4).tolist()
    ((4,), [0, 1, 1, 0])
    """
    if canvas.ndim < 2 or len(canvas) == 0:
        raise SettingError(f"canvas has shape {tuple(canvas.shape)}: pass a non-empty batch [points, ...]")
    model = unwrapped(model)
    reader = _Reader(len(canvas), bits, {} if places is None else places)
    with evaluating(model), _naming_the_canvas(model, canvas):
        check_finite("canvas", canvas)
        with own_state(model):  # it looks with points that are all alike, which are nobody's first batch
            reader.look(model, canvas)
        pieces = [
            reader.read(model, canvas[first : first + _CHUNK], first)
            for first in range(0, len(canvas), _CHUNK)
        ]
        mixes = len(canvas) > _CHUNK and _mixes_points(model, canvas[:_CHUNK])
    numbers = sorted({len(piece) for piece in pieces})
    if numbers == [0]:
        raise UnsupportedModuleError(
            f"{type(model).__name__} has no piecewise linear non-linearity (ReLU, leaky ReLU, abs) of tensors "
            "[points, ...], hence no codes"
        )
    if reader.unseen:
        warnings.warn(
            f"{type(model).__name__} may bend at {', '.join(sorted(reader.unseen))}, which its codes do not hold: "
            "write rectifiers as torch.relu, leaky ReLU or abs",
            stacklevel=2,
        )
    if len(numbers) > 1:
        raise UnsupportedModuleError(
            f"{type(model).__name__} has {numbers[0]} non-linearities on a part of the canvas and {numbers[1]} on "
            "another: codes need a network that does the same to every point"
        )
    if mixes:
        warnings.warn(
            f"{type(model).__name__} makes something else of a point beside other points, and a canvas of more than "
            f"{_CHUNK} runs in parts: give its norms running statistics, or a smaller canvas",
            stacklevel=2,
        )
    signs = [torch.cat(parts) for parts in zip(*pieces, strict=True)]
    return PackedCode(tuple(pack_bits(s) for s in signs), tuple(s.numel() for s in signs))


def _mixes_points(model: nn.Module, points: Tensor) -> bool:
    """Whether the outputs for the first two points are others beside more, by more than rounding."""
    pairs = zip(tensors_in(model(points[:2])), tensors_in(model(points)), strict=False)
    return any(
        few.ndim > 0 and len(few) == 2 and not torch.allclose(few, many[:2], 1e-2, 1e-3, equal_nan=True)
        for few, many in pairs
        if few.is_floating_point()
    )


class _Reader:
    """Reads the sampled signs off a canvas of so many points, piece after piece of it."""

    def __init__(self, points: int, bits: int, places: Places) -> None:
        self._points, self._bits, self._places = points, bits, places
        self.unseen: set[str] = set()
        # Of every non-linearity's input: the axis of the points, and its rows for each of them.
        self._layers: list[tuple[int, float]] = []
        self._sample = functools.cache(_sample)  # all pieces share the sample of a layer

    def look(self, model: nn.Module, canvas: Tensor) -> None:
        """See which non-linearities run over the points, and on which axis: it grows with the number of points.

        A weight may have as many rows as a piece of the canvas, and recurrent networks put time first.
        """
        (few, bends), (more, others) = (self._shapes(model, canvas, count) for count in _FEW)
        self.unseen |= {name for (name, one), (_, other) in zip(bends, others, strict=False) if one != other}
        if len(few) != len(more):
            raise self._other(model, len(few), len(more), _FEW[1])
        for one, other in zip(few, more, strict=True):
            grown = [axis for axis, sizes in enumerate(zip(one, other, strict=False)) if sizes[0] != sizes[1]]
            axis = grown[0] if len(one) == len(other) and len(grown) == 1 else 0
            self._layers.append((axis, one[axis] / _FEW[0] if grown else 0.0))

    def _shapes(
        self, model: nn.Module, canvas: Tensor, points: int
    ) -> tuple[list[torch.Size], list[tuple[str, torch.Size]]]:
        """Of what every non-linearity reads for so many points, and, by name, of what may be one."""
        shapes, bends = list[torch.Size](), list[tuple[str, torch.Size]]()
        with tapped(
            lambda _, z: shapes.append(z.shape),
            lambda name, z: bends.append((name, z.shape)) if z.is_floating_point() else None,
        ):
            model(canvas[:1].repeat_interleave(points, 0))
        return shapes, bends

    def _other(self, model: nn.Module, few: int, found: int, points: int) -> UnsupportedModuleError:
        return UnsupportedModuleError(
            f"{type(model).__name__} has {few} non-linearities on a few points of the canvas and {found} on {points}: "
            "codes need a network that does the same to every point"
        )

    def read(self, model: nn.Module, points: Tensor, first: int) -> list[Tensor]:
        """Signs of every layer on ``points``, which begin with number ``first`` of the canvas."""
        signs: list[Tensor] = []
        met = itertools.count()

        def observe(_: int, z: Tensor) -> None:
            number = next(met)
            axis, rows = self._layers[number] if number < len(self._layers) else (0, 0.0)
            if isinstance(z, nn.Parameter) or z.ndim <= axis or z.shape[axis] != rows * len(points):
                return
            z = z.movedim(axis, 0)
            if z.is_complex():
                self.unseen.add("the absolute value of complex numbers")
            elif rows == 1:
                signs.append(self._signs(z, first, layer=len(signs)))
            elif rows > 1:
                self.unseen.add(f"a non-linearity of {rows:g} rows for each point")

        with tapped(observe):
            model(points)
        if (number := next(met)) != len(self._layers):
            raise self._other(model, len(self._layers), number, len(points))
        return signs

    def _signs(self, z: Tensor, first: int, layer: int) -> Tensor:
        width = z.numel() // len(z)
        if width * self._points <= self._bits:
            kept = z.flatten()
        else:  # in memory order, since flattening channels-last memory would copy all of it
            key = (self._points, self._bits, layer, first, z.shape, z.stride(), z.device)
            if key not in self._places:
                sample = self._sample(width * self._points, self._bits, layer)
                self._places[key] = _places_in_memory(sample, z, first * width)
            kept = z.as_strided((_extent(z),), (1,)).index_select(0, self._places[key])
        # Both are NaN where one value is; six times faster than looking at each.
        if kept.numel() and not all(bool(end.isfinite()) for end in kept.aminmax()):
            raise TrainingError(
                f"pre-activation {layer} is NaN or infinite on the canvas: the network has diverged, lower its lr"
            )
        return kept > 0


def _extent(z: Tensor) -> int:
    """Number of entries of memory from the first to the last of ``z``."""
    return 1 + sum((size - 1) * step for size, step in zip(z.shape, z.stride(), strict=True))


def _places_in_memory(sample: np.ndarray, z: Tensor, offset: int) -> Tensor:
    """Where in memory, counted from its first entry, the entries of ``z`` lie that belong to an ordered sample.

    ``offset`` is the position in the layer of the first entry of ``z``, a piece of it.
    """
    low, high = np.searchsorted(sample, [offset, offset + z.numel()])
    # Half the memory and twice the speed wherever they suffice.
    integers = np.int32 if max(z.numel(), _extent(z)) < 2**31 else np.int64
    rest: Any = (sample[low:high] - offset).astype(integers)
    if z.is_contiguous():
        return torch.from_numpy(rest).to(z.device)
    places = np.zeros_like(rest)
    for size, step in zip(reversed(z.shape), reversed(z.stride()), strict=True):
        quotient = rest // size
        places += (rest - quotient * size) * step  # several times faster than divmod
        rest = quotient
    return torch.from_numpy(places).to(z.device)


@contextlib.contextmanager
def _naming_the_canvas(model: nn.Module, canvas: Tensor) -> Iterator[None]:
    """Within the block, turn torch's errors of shape, dtype or device into one that names the canvas."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, LookupError, AssertionError) as error:
        if isinstance(error, SplineError | torch.OutOfMemoryError):
            raise
        raise SettingError(
            f"{type(model).__name__} cannot take the canvas, {canvas.dtype} of shape {tuple(canvas.shape)} on "
            f"{canvas.device}: give it the shape, dtype and device of the network's inputs ({error})"
        ) from error
