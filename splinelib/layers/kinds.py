"""Modules with channels that surgery knows: where their channels lie, and how they lose some."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm

from splinelib.errors import SettingError
from splinelib.layers.channel_selection import ChannelSelection
from splinelib.layers.groups import GROUPED, grouped, one_each

AFFINE = (nn.modules.conv._ConvNd, nn.Linear)
BATCH_NORM = nn.modules.batchnorm._BatchNorm
_NORM = (BATCH_NORM, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm)
OPEN = "_splinelib_open"
"""What a copy's norm over channels is marked with if its inside is looked into: one that every head shares."""
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_WIDTHS = (
    "num_features",
    "num_channels",
    "num_parameters",
)  # what modules call their channels


@dataclass(frozen=True)
class Kind:
    """What is known of a module's channels.

    Attributes:
        reads: number of channels that it reads; None where it reads none.
        writes: number of channels that it writes; None where these stay whatever is cut.
        coupled: whether channel i of its input is channel i of its output (norms, depthwise convolutions).
        stays: why none of its channels can go; empty where they can.
    """

    reads: int | None
    writes: int | None
    coupled: bool = False
    stays: str = ""


def kind_of(module: Any) -> Kind | None:
    """The kind of a module; None for one whose inside is looked into instead."""
    if isinstance(module, AFFINE) and getattr(module._parameters.get("weight"), "is_complex", bool)():
        return None
    if isinstance(module, nn.modules.conv._ConvNd):
        depthwise = module.groups > 1 and not grouped(module)
        return Kind(module.in_channels, module.out_channels, depthwise, _computed(module))
    if isinstance(module, nn.Linear):
        return Kind(module.in_features, module.out_features, stays=_computed(module))
    if isinstance(module, _NORM) or (isinstance(module, nn.PReLU) and module.num_parameters > 1):
        width = next(getattr(module, name) for name in _WIDTHS if hasattr(module, name))
        return Kind(width, width, True, _computed(module))
    if over_channels(module) and not hasattr(module, OPEN):
        shape = module.normalized_shape
        several = "" if len(shape) == 1 else f"it normalises over {tuple(shape)}, not over channels alone"
        return Kind(shape[-1], shape[-1], True, several)
    if isinstance(module, ChannelSelection):
        return Kind(module.channels, module.indexes.numel())
    if isinstance(module, nn.Embedding):
        short = module.max_norm is not None and "it keeps the norm of its rows"
        return Kind(None, module.embedding_dim, stays=_computed(module) or short or "")
    if isinstance(module, nn.RNNBase):
        return Kind(module.input_size, None, stays=_computed(module, "weight_ih_l0"))
    if isinstance(module, nn.MultiheadAttention):
        return Kind(
            None,
            None,
            stays="its heads share one width with what it reads; after splinelib.pruning.split_attention they can go",
        )
    return None


def check_width(name: str, module: Any, width: int) -> None:
    """Raise :class:`SettingError` for an instance norm that is made for others than the ``width`` channels it reads."""
    if isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.num_features != width:
        raise SettingError(
            f"{name!r} is {module}, which reads {width} channels: torch lets it, having no numbers for them; make it "
            f"with num_features={width}"
        )


def over_channels(module: Any) -> bool:
    """Whether a module normalises over its channels (layer norm, RMS norm): a mask is not a removal there."""
    return isinstance(getattr(module, "normalized_shape", None), tuple | list | torch.Size)


def mixes_channels(module: Any) -> bool:
    """Whether what a norm does to one channel depends on others: over channels, or over groups of several."""
    return over_channels(module) or (isinstance(module, nn.GroupNorm) and not one_each(module))


def _computed(module: nn.Module, name: str = "weight") -> str:
    if name in module._parameters or f"{name}_mask" in module._buffers or weight_norm(module):
        return ""
    by, how = "a hook", "torch.nn.utils.remove_weight_norm or remove_spectral_norm"
    if hasattr(module, "parametrizations"):
        by, how = "a parametrization", "torch.nn.utils.parametrize.remove_parametrizations"
    return f"its {name} is computed from other parameters ({by}): make it a plain one ({how})"


def weight_norm(module: nn.Module) -> Any:
    """The parametrisation of a convolution's or linear module's weight by length and direction; None without one."""
    made: Any = getattr(module, "parametrizations", {})
    found: Any = made["weight"] if "weight" in made and isinstance(module, AFFINE) else []
    return found if len(found) == 1 and isinstance(found[0], _WeightNorm) else None


def set_weight(module: Any, weight: Tensor) -> None:
    """Give a module these weights, in place, through the mask or the parametrisation that it may have."""
    with torch.no_grad():
        if "weight_mask" in module._buffers:
            module.weight_orig.copy_(weight)
            module.weight = module.weight_orig * module.weight_mask
        elif weight_norm(module):
            module.weight = weight
        else:
            module.weight.copy_(weight)


def channel_axis(module: Any, values: Tensor) -> int:
    """The axis of ``values`` on which the channels of ``module`` lie."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return values.ndim - 1 - len(module.kernel_size)
    if isinstance(module, nn.Linear | nn.Embedding | nn.RNNBase | nn.MultiheadAttention):
        return values.ndim - 1
    if over_channels(module):  # layer norms of images permute them first
        width = module.normalized_shape[-1]
        first = (
            values.ndim == 4 and values.shape[1] == width and type(module) not in (nn.LayerNorm, nn.RMSNorm)
        )
        return (
            1 if first and (values.shape[-1] != width or "2d" in type(module).__name__) else values.ndim - 1
        )
    one = isinstance(module, nn.modules.instancenorm._InstanceNorm) and module._get_no_batch_dim()
    return int(values.ndim != one)  # an instance norm takes an image by itself, without the axis of a batch


def axis_of(module: Any, name: str, writes: bool) -> int | None:
    """Axis of the module's tensor ``name`` on which the channels lie that it writes, or reads; None where none do."""
    if isinstance(module, nn.RNNBase):
        return 1 if name.startswith("weight_ih_l0") else None
    if isinstance(module, nn.Embedding):
        return 1
    ndim = getattr(module, name).ndim
    if isinstance(module, AFFINE) and not kind_of(module).coupled:  # type: ignore[union-attr]
        if ndim == 1:
            return 0 if writes else None
        return int(writes == isinstance(module, nn.modules.conv._ConvTransposeNd))
    return 0 if ndim else None


def cut_module(module: Any, writes: bool, lost: Sequence[int]) -> None:
    """Take channels ``lost`` from what a module reads or writes, in place; of each group as many."""
    kind: Any = kind_of(module)
    keep_channels(module, writes, complement(lost, kind.writes if writes else kind.reads))


def keep_channels(module: Any, writes: bool, kept: Tensor) -> None:
    """Leave a module these channels of those that it reads or writes, in this order, in place."""
    kind: Any = kind_of(module)
    if isinstance(module, ChannelSelection):
        module.indexes = module.indexes[kept.to(module.indexes.device)]
        module.consecutive = None
        return
    for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
        axis = None if tensor is None else axis_of(module, name, writes)
        if axis is not None:
            setattr(module, name, narrower(tensor, axis, kept, module.groups if grouped(module) else 1))
    if norm := weight_norm(module):
        groups = module.groups if grouped(module) else 1
        _narrow_norm(norm, axis_of(module, "weight", writes), kept, groups)
    for name in [name.removesuffix("_mask") for name in module._buffers if name.endswith("_mask")]:
        setattr(module, name, getattr(module, f"{name}_orig") * getattr(module, f"{name}_mask"))
    if grouped(module):
        setattr(module, GROUPED, True)
    _set_width(module, writes, kind.coupled, len(kept))


def narrower(tensor: Tensor, axis: int, kept: Tensor, groups: int = 1) -> Tensor:
    """The tensor with places ``kept`` of an axis, laid out in memory as before; parameters stay such.

    Axis 1 of grouped weights is one group's.
    """
    old, kept = tensor.detach(), kept.to(tensor.device)
    if groups > 1 and axis == 1:
        size = old.shape[1]
        parts = [rows[:, kept[kept // size == g] % size] for g, rows in enumerate(old.chunk(groups))]
        new = torch.cat(parts)
    else:
        new = old.index_select(axis, kept)
    layout = _LAST.get(old.ndim)
    if layout and old.is_contiguous(memory_format=layout) and not old.is_contiguous():
        new = new.contiguous(memory_format=layout)
    return nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new


def _narrow_norm(norm: Any, axis: Any, kept: Tensor, groups: int) -> None:
    """Cut directions along an axis, and the lengths with them where they lie along it."""
    if axis == norm[0].dim:
        norm.original0 = narrower(norm.original0, axis, kept)
        norm.original1 = narrower(norm.original1, axis, kept)
    else:
        redirect(norm, narrower(norm.original1, axis, kept, groups))


def redirect(norm: Any, direction: Tensor) -> None:
    """Give a weight norm what is left of its directions, and such lengths that the weight there stays, in place."""
    before, after = (torch.norm_except_dim(v.detach(), 2, norm[0].dim) for v in (norm.original1, direction))
    length = norm.original0.detach() * after / before.clamp_min(torch.finfo(before.dtype).tiny)
    norm.original0 = nn.Parameter(length, norm.original0.requires_grad)
    norm.original1 = nn.Parameter(direction.detach(), norm.original1.requires_grad)


def _set_width(module: Any, writes: bool, coupled: bool, width: int) -> None:
    if isinstance(module, nn.modules.conv._ConvNd):
        names = (
            ["in_channels", "out_channels", "groups"]
            if coupled
            else ["out_channels" if writes else "in_channels"]
        )
    elif isinstance(module, nn.Linear):
        names = ["out_features" if writes else "in_features"]
    elif isinstance(module, nn.Embedding):
        names = ["embedding_dim"]
    elif isinstance(module, nn.RNNBase):
        names = ["input_size"]
    else:
        names = [name for name in _WIDTHS if hasattr(module, name)] + ["num_groups"] * one_each(module)
        if over_channels(module):
            module.normalized_shape = (width,)
    for name in names:
        setattr(module, name, width)


def complement(lost: Sequence[int], count: int) -> Tensor:
    """The numbers from 0 to ``count - 1`` that are not among ``lost``, int64."""
    if not lost:
        return torch.arange(count)
    kept = np.ones(count, dtype=bool)
    kept[list(lost)] = False
    return torch.from_numpy(np.flatnonzero(kept))
