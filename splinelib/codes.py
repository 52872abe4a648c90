"""Sign codes of a network on a canvas: which side of every unit's boundary each canvas point lies on.

The code q(x) of a point holds one bit for each unit, 1 where the pre-activation is positive (zero counts as
inactive). Codes are bit-packed, and two codes are compared by XOR and popcount.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.errors import SettingError, TrainingError, UnsupportedModuleError
from splinelib.taps import evaluating, tapped

_CHUNK = 256  # canvas points in one forward pass: bounds memory, leaves the result as it is


@dataclass(frozen=True)
class PackedCode:
    """Bit-packed sign codes of all layers on one canvas.

    ``layers[l]`` is a uint8 array whose bits are the kept (point, unit) signs of layer ``l``; ``bits[l]``
    says how many of them are in use (the last byte is padded with zeros).
    """

    layers: tuple[np.ndarray, ...]
    bits: tuple[int, ...]


def pack_bits(bits: Tensor) -> np.ndarray:
    """Pack a boolean tensor of any shape, in row-major order, into a uint8 array of ``ceil(numel / 8)``."""
    return np.packbits(bits.flatten().cpu().numpy())


def differing_fraction(first: np.ndarray, second: np.ndarray, bits: int) -> float:
    """Share of ``bits`` in which two packed arrays (as :func:`pack_bits` gives them) differ, in [0, 1]."""
    return int(np.bitwise_count(first ^ second).sum(dtype=np.int64)) / bits


def code_distance(first: PackedCode, second: PackedCode) -> np.ndarray:
    """Fraction of differing bits, layer by layer: float64 array [layers]. Its mean is the distance of two epochs.

    Raises :class:`SettingError` if the two codes do not come from the same architecture and canvas.
    """
    if first.bits != second.bits:
        raise SettingError(
            f"two codes with layers of {first.bits} and {second.bits} bits cannot be compared: "
            "use the same architecture and the same canvas for both"
        )
    pairs = zip(first.layers, second.layers, first.bits, strict=True)
    return np.array([differing_fraction(a, b, bits) for a, b, bits in pairs])


def _sample(total: int, bits: int, layer: int) -> Tensor | None:
    """Sorted positions of a fixed random sample of ``bits`` out of ``total``; None when all are kept.

    The sample depends on (total, bits, layer) alone, so codes of different epochs and processes compare.
    """
    if total <= bits:
        return None
    generator = torch.Generator().manual_seed(layer)
    # Drawn with replacement: no permutation of 10^9 positions, and the estimate stays unbiased.
    return torch.randint(total, (bits,), generator=generator).sort().values


def sign_codes(model: nn.Module, canvas: Tensor, bits: int = 2**18) -> PackedCode:
    """Codes of ``model`` on ``canvas`` [points, ...] (any input shape), in eval mode, at most ``bits`` a layer.

    A layer with more (point, unit) pairs than ``bits`` is represented by a fixed random sample of that many.
    The standard error of a distance d estimated so is sqrt(d(1 - d) / bits): 0.001 at d = 0.5 by default. Layers are
    the non-linearities in execution order, each read at its input; smooth ones (GELU) have no code and are left out.

    Raises :class:`SettingError` for an empty canvas or no bits, :class:`UnsupportedModuleError` if the forward pass
    meets no piecewise linear non-linearity, and :class:`TrainingError` if a pre-activation is NaN.
    """
    if canvas.ndim < 2 or len(canvas) == 0:
        raise SettingError(f"canvas has shape {tuple(canvas.shape)}: pass a non-empty batch [points, ...]")
    if bits < 1:
        raise SettingError(f"bits is {bits}: keep at least one bit a layer")
    kept: list[list[Tensor]] = []
    samples: list[Tensor | None] = []
    for start in range(0, len(canvas), _CHUNK):
        points = canvas[start : start + _CHUNK]

        def observe(layer: int, pre_activation: Tensor, start: int = start, count: int = len(points)) -> None:
            width = pre_activation.numel() // count
            if layer == len(kept):
                kept.append([])
                samples.append(_sample(width * len(canvas), bits, layer))
            kept[layer].append(_signs(pre_activation, samples[layer], start * width, layer))

        with evaluating(model), tapped(observe):
            model(points)
    if not kept:
        raise UnsupportedModuleError(
            f"{type(model).__name__} has no piecewise linear non-linearity (ReLU, leaky ReLU, abs), hence no codes"
        )
    signs = [torch.cat(parts) for parts in kept]
    return PackedCode(tuple(pack_bits(s) for s in signs), tuple(s.numel() for s in signs))


def _signs(pre_activation: Tensor, sample: Tensor | None, offset: int, layer: int) -> Tensor:
    """Signs of the sampled entries of one chunk, whose first entry has position ``offset`` in the layer."""
    if sample is None:
        flat = pre_activation.flatten()
    else:
        low, high = np.searchsorted(sample.numpy(), [offset, offset + pre_activation.numel()])
        positions = (sample[low:high] - offset).to(pre_activation.device)
        # Indexed by coordinates, since flattening channels-last memory would copy all of it.
        flat = pre_activation[torch.unravel_index(positions, pre_activation.shape)]
    if bool(flat.isnan().any()):
        raise TrainingError(
            f"pre-activation {layer} is NaN on the canvas: the network has diverged, lower its lr"
        )
    return flat > 0


def two_image_canvas(first: Tensor, second: Tensor, side: int = 100) -> Tensor:
    """The paper's canvas: all ``α·first + β·second`` for α, β on an even grid of [0, 1]² [side², *image shape].

    ``first`` and ``second`` are (normalised) images of one shape, usually of different classes. α varies slowest.
    """
    if first.shape != second.shape:
        raise SettingError(
            f"canvas images have shapes {tuple(first.shape)} and {tuple(second.shape)}: use equal ones"
        )
    if not first.is_floating_point():
        raise SettingError(f"canvas images are {first.dtype}: normalise them to a float dtype first")
    if side < 2:
        raise SettingError(f"canvas side is {side}: it must be at least 2")
    steps = torch.linspace(0, 1, side, dtype=first.dtype, device=first.device)
    alpha, beta = torch.meshgrid(steps, steps, indexing="ij")
    shape = (-1, *[1] * first.ndim)
    return alpha.reshape(shape) * first + beta.reshape(shape) * second
