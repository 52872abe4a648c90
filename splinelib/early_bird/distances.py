"""Distances between sign codes, by XOR and popcount of packed bits.

What a training has done to the partition is read from the codes of several *moments* (epochs, or every n steps), such
as a detector keeps in ``detector.codes``: :func:`pairwise_distances` of every two, :func:`distances_to_final`, and
:func:`settled_share`. With a sample of N bits a layer, the standard error of each such share d is
at most sqrt(d(1 - d) / N).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from splinelib.checks import Count, check_fields, check_finite, checked, shown
from splinelib.errors import SettingError


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
        raise SettingError(
            f"{shown(first)} and {shown(second)} are not {bits} bits each: give arrays of pack_bits"
        )
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
