"""Sign codes of a network on a canvas: which side of every unit's boundary each canvas point lies on.

The code q(x) of a point holds one bit for each unit, 1 where the pre-activation is positive (zero counts as
inactive). Codes are bit-packed, and two codes are compared by XOR and popcount.

What a training has done to the partition is read from the codes of several *moments* (epochs, or every n steps), such
as a detector keeps in ``detector.codes``: :func:`pairwise_distances` of every two, :func:`distances_to_final`, and
:func:`settled_share`. With a sample of N bits a layer, the standard error of each such share d is
at most sqrt(d(1 - d) / N).
"""

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.checks import Count, check_fields, check_finite, checked, shown
from splinelib.errors import SettingError, SplineError, TrainingError, UnsupportedModuleError
from splinelib.hooks import evaluating, tapped

_CHUNK = 256  # canvas points in one forward pass: bounds memory, leaves the result as it is


@dataclass(frozen=True)
class PackedCode:
    """Bit-packed sign codes of all layers on one canvas.

    ``layers[l]`` is a uint8 array whose bits are the kept (point, unit) signs of layer ``l``; ``bits[l]``
    says how many of them are in use (the last byte is padded with zeros).
    """

    layers: tuple[np.ndarray, ...]
    bits: tuple[Count, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.layers) != len(self.bits) or not all(map(_packed, self.layers, self.bits)):
            raise SettingError(
                f"layers are {[shown(layer) for layer in self.layers]} for {self.bits} bits: give one uint8 array for "
                "each number of bits, an eighth as long"
            )


def _packed(array: np.ndarray, bits: int) -> bool:
    return array.dtype == np.uint8 and array.shape == (-(-bits // 8),)


@checked
def pack_bits(bits: Tensor) -> np.ndarray:
    """Pack a boolean tensor of any shape, in row-major order, into a uint8 array of ``ceil(numel / 8)``."""
    if bits.dtype != torch.bool:
        raise SettingError(f"bits are {shown(bits)}: give booleans")
    return np.packbits(bits.flatten().cpu().numpy())


@checked
def differing_fraction(first: np.ndarray, second: np.ndarray, bits: Count) -> float:
    """Share of ``bits`` in which two packed arrays (as :func:`pack_bits` gives them) differ, in [0, 1]."""
    if not (_packed(first, bits) and _packed(second, bits)):
        raise SettingError(f"{shown(first)} and {shown(second)} are not {bits} packed bits each")
    return int(np.bitwise_count(first ^ second).sum(dtype=np.int64)) / bits


@checked
def code_distance(first: PackedCode, second: PackedCode) -> np.ndarray:
    """Fraction of differing bits, layer by layer: float64 array [layers]. Its mean is the distance of two epochs.

    Raises :class:`SettingError` if the two codes do not come from the same architecture and canvas.

    >>> first, second = PackedCode((np.array([96], np.uint8),), (4,)), PackedCode((np.array([32], np.uint8),), (4,))
    >>> code_distance(first, second).tolist()  # one of four bits
    [0.25]
    """
    if first.bits != second.bits:
        raise SettingError(
            f"two codes with layers of {first.bits} and {second.bits} bits cannot be compared: "
            "use the same architecture and the same canvas for both"
        )
    pairs = zip(first.layers, second.layers, first.bits, strict=True)
    return np.array([differing_fraction(a, b, bits) for a, b, bits in pairs])


@checked
def pairwise_distances(codes: Sequence[PackedCode], block_bytes: Count = 2**20) -> np.ndarray:
    """Distance of every two moments, layer by layer: float64 [moments, moments, layers], symmetric, values in [0, 1].

    ``pairwise_distances(codes).mean(axis=2)`` is the epoch × epoch matrix δ(s, t) of the paper's pictures. All pairs
    are compared at once by XOR and popcount of 64-bit words, block after block of words; a block of all moments' words
    takes ``block_bytes``, and the temporary arrays a small multiple of that, whatever the size of the codes.

    Raises :class:`SettingError` if there are no codes, or if they do not come from one architecture and canvas.
    """
    bits = _common_bits(codes)
    count = len(codes)
    differing = np.zeros((count, count, len(bits)), dtype=np.int64)
    for layer in range(len(bits)):
        for words in _word_blocks([code.layers[layer] for code in codes], block_bytes):
            for late in range(1, count):
                ones = np.bitwise_count(words[:late] ^ words[late])
                differing[late, :late, layer] += ones.sum(axis=1, dtype=np.int64)
    return (differing + differing.transpose(1, 0, 2)) / np.array(bits)


@checked
def distances_to_final(codes: Sequence[PackedCode]) -> np.ndarray:
    """Distance of every moment to the last one, layer by layer: float64 [moments, layers], zero in the last row.

    Small steps make the distance to the *previous* moment small; this one is small only where the network has arrived.
    Raises :class:`SettingError` as :func:`pairwise_distances` does.
    """
    _common_bits(codes)
    return np.array([code_distance(code, codes[-1]) for code in codes])


@checked
def settled_share(codes: Sequence[PackedCode]) -> np.ndarray:
    """Share of bits that never change again after each moment: float64 [moments, layers], one in the last row.

    A bit is settled at moment t if it has the same value at t and at all recorded moments after it, so the share never
    falls with time, and ``1 - settled_share(codes)`` is at least ``distances_to_final(codes)``: the difference is the
    share of bits that leave and come back. Changes between two recorded moments are not seen.
    Raises :class:`SettingError` as :func:`pairwise_distances` does.
    """
    bits = _common_bits(codes)
    share = np.ones((len(codes), len(bits)))
    for layer, count in enumerate(bits):
        changed = np.zeros_like(codes[-1].layers[layer])
        for moment in range(len(codes) - 2, -1, -1):
            changed |= codes[moment].layers[layer] ^ codes[moment + 1].layers[layer]
            share[moment, layer] -= int(np.bitwise_count(changed).sum(dtype=np.int64)) / count
    return share


@checked
@checked
def distance_per_rate(distances: np.ndarray, lrs: Sequence[float] | np.ndarray) -> np.ndarray:
    """Distance to the previous moment per unit of learning rate: float64 [moments - 1] or [moments - 1, layers].

    ``distances`` is a matrix [moments, moments] or [moments, moments, layers] as :func:`pairwise_distances` and the
    detectors give it; ``lrs`` [moments] holds the learning rate with which each moment was reached from the one before
    (for moments of several steps their mean). Entry t of the result is δ(t + 1, t) / lrs[t + 1]; lrs[0] is not used. If
    δ falls only because the steps become smaller in proportion, this quotient stays where it was.

    Raises :class:`SettingError` if the shapes do not fit or a learning rate is not positive and finite.
    """
    rates = np.asarray(lrs, dtype=np.float64)
    check_finite("distances", distances)
    if distances.ndim not in (2, 3) or distances.shape[0] != distances.shape[1]:
        raise SettingError(
            f"distances have shape {distances.shape}: pass [moments, moments] or [moments, moments, layers]"
        )
    if rates.shape != distances.shape[:1]:
        raise SettingError(
            f"lrs have shape {rates.shape} beside {len(distances)} moments: give one learning rate for each"
        )
    if not (np.isfinite(rates) & (rates > 0)).all():
        raise SettingError(f"lrs hold {rates.min()}: a learning rate to divide by is positive and finite")
    consecutive = np.moveaxis(np.diagonal(distances, -1), -1, 0)
    return consecutive / rates[1:].reshape(-1, *[1] * (consecutive.ndim - 1))


def _common_bits(codes: Sequence[PackedCode]) -> tuple[int, ...]:
    """The number of bits of every layer, which all codes must share."""
    if not codes:
        raise SettingError("codes are empty: observe at least one moment")
    for moment, code in enumerate(codes):
        if code.bits != codes[0].bits:
            raise SettingError(
                f"code {moment} has layers of {code.bits} bits, code 0 of {codes[0].bits}: "
                "use the same architecture and the same canvas for all"
            )
    return codes[0].bits


def _word_blocks(rows: list[np.ndarray], block_bytes: int) -> Iterator[np.ndarray]:
    """Packed rows of one length as uint64 [rows, words], block after block of words, the last padded with zeros."""
    step = max(block_bytes // (8 * len(rows)), 1) * 8
    for start in range(0, len(rows[0]), step):
        part = [row[start : start + step] for row in rows]
        block = np.zeros((len(rows), -(-len(part[0]) // 8) * 8), dtype=np.uint8)
        for row, piece in enumerate(part):
            block[row, : len(piece)] = piece
        yield block.view(np.uint64)


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
    Layers are the non-linearities in execution order, each read at its input [points, ...]; smooth ones (GELU) have no
    code and are left out, as is what does not run over the points (the absolute value of a parameter, say). A sample
    holds the same entries in the same order whatever a layer's memory format.

    ``places``, an empty dict at first, keeps for further calls where in memory the sampled entries lie, 4 bytes for
    each: finding them takes longer than reading them. A detector has one of its own. With places known, codes add less
    than a tenth to the forward pass of VGG-16 on 64 points and of PreResNet-101 on 256, and more to one that takes less
    than 5 ms a layer: a fifth to that of PreResNet-101 on 64 points and of VGG-16 ×1/8 on 256 (50 ms and 5 ms of one
    core's time).

    Raises :class:`SettingError` for a canvas that is empty or not finite, one that the network cannot take, or no bits,
    :class:`UnsupportedModuleError` if the forward pass meets no piecewise linear non-linearity, or not the same ones
    all over the canvas, and :class:`TrainingError` if a pre-activation is NaN. Warns of operations that may rectify
    but are no known non-linearity (``torch.maximum``, ``torch.where``, ``x * (x > 0)``).

    >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
    >>> model[0].weight.data = torch.tensor([[1.0], [-1.0]])
    >>> code = sign_codes(model, canvas=torch.tensor([[-1.0], [1.0]]))
    >>> code.bits, np.unpackbits(code.layers[0], count=4).tolist()
    ((4,), [0, 1, 1, 0])
    """
    if canvas.ndim < 2 or len(canvas) == 0:
        raise SettingError(f"canvas has shape {tuple(canvas.shape)}: pass a non-empty batch [points, ...]")
    check_finite("canvas", canvas)
    reader = _Reader(len(canvas), bits, {} if places is None else places)
    with evaluating(model), _naming_the_canvas(model, canvas):
        pieces = [
            reader.read(model, canvas[first : first + _CHUNK], first)
            for first in range(0, len(canvas), _CHUNK)
        ]
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
    signs = [torch.cat(parts) for parts in zip(*pieces, strict=True)]
    return PackedCode(tuple(pack_bits(s) for s in signs), tuple(s.numel() for s in signs))


class _Reader:
    """Reads the sampled signs off a canvas of so many points, piece after piece of it."""

    def __init__(self, points: int, bits: int, places: Places) -> None:
        self._points, self._bits, self._places = points, bits, places
        self.unseen: set[str] = set()
        self._sample = functools.cache(_sample)  # all pieces share the sample of a layer

    def read(self, model: nn.Module, points: Tensor, first: int) -> list[Tensor]:
        """Signs of every layer on ``points``, which begin with number ``first`` of the canvas."""
        signs: list[Tensor] = []

        def observe(_: int, z: Tensor) -> None:
            if z.shape[:1] == points.shape[:1] and not isinstance(z, nn.Parameter):
                signs.append(self._signs(z, first, layer=len(signs)))

        def unseen(name: str, z: Tensor) -> None:
            if z.shape[:1] == points.shape[:1] and z.is_floating_point():
                self.unseen.add(name)

        with tapped(observe, unseen):
            model(points)
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
    except RuntimeError as error:
        if isinstance(error, SplineError | torch.OutOfMemoryError):
            raise
        raise SettingError(
            f"{type(model).__name__} cannot take the canvas, {canvas.dtype} of shape {tuple(canvas.shape)} on "
            f"{canvas.device}: give it the shape, dtype and device of the network's inputs ({error})"
        ) from error
