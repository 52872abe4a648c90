"""Modules that are not PyTorch's own: what cutting their weights, or giving them others, does is tried out."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.hooks import duplicate
from splinelib.layers.channel_selection import ChannelSelection
from splinelib.layers.groups import channel_groups
from splinelib.layers.kinds import (
    axis_of,
    channel_axis,
    complement,
    cut_module,
    kind_of,
    mixes_channels,
    set_weight,
)

ROUNDING = 1e-8  # relative error of float64 sums whose order may differ, with room for thousands of summands
_SINGLE = 4e-4  # the same of a module that may compute in float32: the root of its precision


def cut_as_known(
    dense: nn.Module, values: Sequence[Tensor], axis: int, kept: Tensor, staying: Tensor
) -> bool:
    """Whether a module, cut to read ``kept`` and write ``staying``, does what its kind promises.

    It must compute of ``values``, the first of which it reads on ``axis``, what it computed with zeros in the place of
    what has gone. A norm over channels need not; it may treat what stays as it did beside channels of the same mean
    and spread. So its output does not scale with its width.
    """
    if not _has_own_pass(dense) or isinstance(dense, ChannelSelection):
        return True
    kind: Any = kind_of(dense)
    first, *others = (tensor.detach() for tensor in values)
    shape = [kind.reads if at == axis else size for at, size in enumerate(first.shape)]
    zeros = first.new_zeros(shape).index_copy(axis, kept.to(first.device), first)
    with torch.no_grad():
        if not mixes_channels(dense):
            return _same(duplicate(dense).double(), [zeros, *others], axis, kept, staying, ROUNDING)
        # such norms often compute in float32 whatever they are given, and some take nothing else
        like: Any = next(dense.parameters(), torch.zeros(()))
        precision = max(_SINGLE, torch.finfo(like.dtype).eps ** 0.5)
        groups, stays = torch.arange(shape[axis]).chunk(channel_groups(dense)), kept.cpu()
        if any(len(part) == 1 for part in _parts(groups, stays)):  # one number has no spread
            stays = torch.cat([group[::2] for group in groups])
        likes = (_likes(shape, axis, over, _parts(groups, stays)).to(zeros) for over in _extents(shape, axis))
        return any(
            _same(duplicate(dense), [t.to(like.dtype) for t in (whole, *others)], axis, left, left, precision)
            for whole, left in ((zeros, kept), *((whole, stays) for whole in likes))
        )


def applies_its_weight(module: Any) -> bool:
    """Whether a convolution or linear module writes its weight times what it reads, plus its bias.

    PyTorch's own do. Of one with a forward pass of its own (a gain, an update of low rank, standardised weights,
    another padding) noise decides.
    """
    if not _has_own_pass(module):
        return True
    tried = duplicate(module).eval()
    return _agree(tried, lambda values: _plain(tried, values))


def hands_weights_on(module: Any) -> bool:
    """Whether one input channel of a convolution or linear module can take over another's weights.

    If the one is a multiple of the other, the output must stay what it was. A gain allows that, standardised weights do
    not.
    """
    axis: Any = axis_of(module, "weight", False)
    if not _has_own_pass(module) or module.weight.shape[axis] < 2:
        return True
    tried, taken = (duplicate(module).eval() for _ in range(2))
    weight = module.weight.detach().clone()
    columns = weight.movedim(axis, 0)
    columns[0] += 2 * columns[1]

    def with_one(values: Tensor) -> Tensor:
        set_weight(taken, weight)
        channels = values.movedim(channel_axis(module, values), 0).clone()
        channels[1 :: len(columns)] = 0
        return taken.forward(channels.movedim(0, channel_axis(module, values)))

    return _agree(tried, with_one, len(columns))


def _has_own_pass(module: Any) -> bool:
    patched = "forward" in vars(module) or "_conv_forward" in vars(module)
    return patched or not type(module).__module__.startswith("torch.nn.modules")


def _agree(module: Any, other: Callable[[Tensor], Tensor], size: int = 2) -> bool:
    """Whether a module makes of noise what ``other`` makes of it.

    Of every ``size`` channels the second is twice the first.
    """
    weight = module.weight
    values = torch.randn(_small(module), generator=torch.Generator().manual_seed(0)).to(weight)
    channels = values.movedim(channel_axis(module, values), 0)
    seconds = channels[1::size]
    seconds.copy_(2 * channels[::size][: len(seconds)])
    rounding = max(_SINGLE, 4 * torch.finfo(weight.dtype).eps)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            wanted, found = module.forward(values), other(values)
            return found.shape == wanted.shape and bool(
                (found - wanted).abs().max() <= rounding * wanted.abs().max()
            )
        except Exception:  # what takes no such input, or gives no tensor, is not known
            return False


def _small(module: Any) -> tuple[int, ...]:
    """The shape of a small batch that a convolution or linear module takes, a few positions larger than its window."""
    if isinstance(module, nn.Linear):
        return 3, module.in_features
    sizes = zip(module.kernel_size, module.dilation, module.stride, strict=True)
    return (
        2,
        module.in_channels,
        *(dilation * (size - 1) + 2 * stride + 1 for size, dilation, stride in sizes),
    )


def _plain(module: Any, values: Tensor) -> Tensor:
    if isinstance(module, nn.Linear):
        return nn.functional.linear(values, module.weight, module.bias)
    known = next(kind for kind in type(module).__mro__ if kind.__module__ == nn.Conv2d.__module__)
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return known.forward(module, values)  # type: ignore[attr-defined]
    return known._conv_forward(module, values, module.weight, module.bias)  # type: ignore[attr-defined]


def _same(
    module: nn.Module, values: list[Tensor], axis: int, kept: Tensor, staying: Tensor, precision: float
) -> bool:
    """Whether a module computes of ``values``, for what stays, what it does of what stays once it is cut, in place."""
    kind: Any = kind_of(module.eval())
    wanted = module(*values)
    wanted = wanted.index_select(channel_axis(module, wanted), staying.to(wanted.device))
    for writes, left, count in ((False, kept, kind.reads), (True, staying, kind.writes)):
        if len(left) < count and (writes or not kind.coupled):
            cut_module(module, writes, complement(left.tolist(), count).tolist())
    cut = module(values[0].index_select(axis, kept.to(values[0].device)), *values[1:])
    return torch.allclose(cut, wanted, precision, precision)


def _extents(shape: Sequence[int], axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes over which norms take means: the channels at each place, or all of an example."""
    return (axis,), tuple(range(1, len(shape)))


def _parts(groups: Sequence[Tensor], kept: Tensor) -> list[Tensor]:
    """What stays of each group of channels, and what has gone, where there is some."""
    parts = [group[torch.isin(group, kept, invert=gone)] for group in groups for gone in (False, True)]
    return [part for part in parts if len(part)]


def _likes(shape: Sequence[int], axis: int, over: tuple[int, ...], parts: Sequence[Tensor]) -> Tensor:
    """Noise that has mean 0 and spread 1 over each of ``parts`` of the channels."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for part in parts:
        some = noise.index_select(axis, part)
        spread, mean = torch.std_mean(some, over, correction=0, keepdim=True)
        noise.index_copy_(axis, part, (some - mean) / spread)
    return noise
