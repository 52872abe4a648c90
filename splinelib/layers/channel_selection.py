"""A module that keeps some channels of a residual stream, so that a block can read fewer of them than there are."""

from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from splinelib.checks import Count, check_memory, checked

_BY_PRODUCT = 128
"""Channels up to which a CPU multiplies by zeros and ones faster than it indexes, one number at a time."""


def select_channels(x: Tensor, indexes: Tensor | slice) -> Tensor:
    """``x[:, indexes]`` for ``x`` of shape ``[N, channels, ...]``, in the memory format that ``x`` has.

    Selecting along dimension 1 copies images into channels-first memory, and their gradients with them; everything
    behind it, batch norms above all, would then be slower than in the network that was not pruned.
    """
    if x.ndim != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        return x[:, indexes] if isinstance(indexes, slice) else x.index_select(1, indexes)
    last = x.movedim(1, -1)
    if isinstance(indexes, slice):
        return last[..., indexes].contiguous().movedim(-1, 1)
    if x.is_cpu and x.is_floating_point() and x.shape[1] <= _BY_PRODUCT:
        return _SelectByProduct.apply(x, indexes)
    return last.index_select(-1, indexes).movedim(-1, 1)


class _SelectByProduct(torch.autograd.Function):
    """Channels of images in channels-last memory, selected by a product with a matrix of zeros and ones.

    The values are those of indexing, bit for bit, as long as they are finite.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, indexes: Tensor) -> Tensor:
        chosen = torch.zeros(x.shape[1], len(indexes), dtype=x.dtype, device=x.device)
        chosen[indexes, torch.arange(len(indexes), device=x.device)] = 1
        ctx.save_for_backward(chosen)
        return (x.movedim(1, -1) @ chosen).movedim(-1, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (chosen,) = ctx.saved_tensors
        (gradient,) = gradients
        return (gradient.movedim(1, -1) @ chosen.T).movedim(-1, 1), None


torch.fx.wrap("select_channels")  # which looks at memory, so it is not traced into


class ChannelSelection(nn.Module):
    """Keep some channels of the input: ``x[:, indexes]``, for ``x`` of shape ``[N, channels, ...]``.

    The first batch norm of a pre-activation block reads a stream that all other blocks of its stage also read
    and write, so one of its channels cannot be removed without removing it from all of them. Network slimming
    (Liu et al., ICCV 2017) puts this module behind that batch norm: the stream and the batch norm stay whole,
    the block reads fewer of its channels.

    Attributes:
        channels: width of the stream, that is, channels coming in.
        indexes: int64 buffer ``[k]``, the channels kept, strictly ascending; all of them at first.
        consecutive: the same channels as a slice, where :func:`splinelib.pruning.compact_streams` found one; else None.

    >>> selection = ChannelSelection(4)
    >>> selection.indexes = torch.tensor([0, 2])
    >>> selection(torch.zeros(1, 4, 8, 8)).shape
    torch.Size([1, 2, 8, 8])
    """

    indexes: Tensor

    @checked
    def __init__(self, channels: Count):
        check_memory("indexes", 8 * channels)
        super().__init__()
        self.channels = channels
        self.consecutive: slice | None = None
        self.register_buffer("indexes", torch.arange(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, k, ...]``; without a copy as long as no channel has been dropped."""
        if self.indexes.numel() == self.channels:
            # A view, not x itself: Torch-Pruning finds a module in the graph by its output's own grad_fn.
            return x.view_as(x)
        return select_channels(x, self.indexes if self.consecutive is None else self.consecutive)

    def extra_repr(self) -> str:
        """Channels coming in and going out, for ``print(model)``."""
        return f"{self.channels}, kept={self.indexes.numel()}"
