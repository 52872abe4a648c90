"""Convolutions of small maps as matrix products, on a CPU that multiplies matrices in bfloat16.

oneDNN's kernels go along the rows of each image. Where these are 4 pixels or fewer, gathering what every filter reads
and multiplying once is up to nine times faster; the sums are the same. ``benchmarks/throughput.py`` measures it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

_SIDE = 4  # pixels; on maps of 8 the kernels are twice as fast as the product
_FILTERS = 128 * 128  # planes of filters; with fewer the product gains nothing over the kernels


def has_matrix_units() -> bool:
    """Whether this CPU has matrix units for bfloat16 (AMX), where products were measured to be faster."""
    return bool(torch.cpu._is_amx_tile_supported())


class SmallMapsAsProducts(TorchFunctionMode):
    """Within the block, what autocast would convolve in bfloat16 is multiplied, where maps are small."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d and not kwargs and _fits(*args):
            low = torch.get_autocast_dtype("cpu")
            return _Product.apply(args[0].to(low), args[1].to(low))
        return func(*args, **(kwargs or {}))


def _fits(
    images: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Whether these are 3×3 filters, one step apart, with a pixel of zeros around small maps."""
    return (
        torch.is_autocast_enabled("cpu")
        and images.device.type == "cpu"
        and images.ndim == 4
        and max(images.shape[2:]) <= _SIDE
        and weight.shape[2:] == (3, 3)
        and weight.shape[:2].numel() >= _FILTERS
        and bias is None
        and (stride, padding, dilation, groups) == ((1, 1), (1, 1), (1, 1), 1)
    )


class _Product(torch.autograd.Function):
    """``conv2d(images, weight, padding=1)``."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        read = _patches(images)
        ctx.save_for_backward(read, weight)
        return F.linear(read, weight.permute(0, 2, 3, 1).flatten(1)).movedim(-1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        read, weight = ctx.saved_tensors
        turned = weight.permute(2, 3, 0, 1).flip(0, 1).flatten(0, 2)
        of_images = (_patches(gradient) @ turned).movedim(-1, 1) if ctx.needs_input_grad[0] else None
        rows = gradient.movedim(1, 0).flatten(1).contiguous()
        of_weight = (rows @ read.flatten(0, 2)).view(len(weight), 3, 3, -1)
        return of_images, of_weight.permute(0, 3, 1, 2)


def _patches(maps: Tensor) -> Tensor:
    """What a 3×3 filter reads at each place: [N, height, width, 9 · channels] of ``maps`` [N, channels, ...]."""
    count, channels, height, width = maps.shape
    padded = maps.new_zeros(count, height + 2, width + 2, channels)
    padded[:, 1:-1, 1:-1] = maps.movedim(1, -1)
    image, row, place, _ = padded.stride()
    # three places of a row, with their channels, lie side by side
    rows = padded.as_strided((count, height, width, 3, 3 * channels), (image, row, place, row, 1))
    return rows.reshape(count, height, width, 9 * channels)
