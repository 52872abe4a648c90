"""Pooling, resizing, sums and maxima along axes."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from splinelib.partition.engine import linear_ops, pieces
from splinelib.partition.engine.handlers.activations import extreme, maximum, minimum
from splinelib.partition.engine.handlers.call import Call, NotHandled
from splinelib.partition.engine.handlers.shapes import moved
from splinelib.partition.engine.layout import Floats, Ints, Value


class Extreme(NamedTuple):
    """What ``max(dim)`` returns; which element it was is no affine function."""

    values: Value
    indices: None = None


def _windows(call: Call, value: Value, args: Any, kwargs: Any) -> tuple[Ints, Ints, Floats]:
    """Which positions of a channel ``source`` each position ``out`` of the result is made from, and the weights.

    All pooling and resizing goes axis by axis: on an image that varies along one axis only it shows what that axis
    does, and a window is the product of those of all axes.
    """
    if not isinstance(call.example, Tensor):
        raise NotHandled("return_indices=True; ask for the values only")
    size, out = value.shape[1:], call.shape[1:]
    if len(out) != len(size) or not size:
        raise NotHandled(f"its input has shape {value.shape}; it reads [channels, positions]")

    def run(images: Tensor) -> Floats:
        return call.run(args, kwargs, lambda _: images.contiguous())[:, 0].numpy()

    total = run(torch.ones(1, 1, *size, dtype=torch.float64))[0]
    found, pairs = [], []
    for axis, length in enumerate(size):
        stripes = torch.eye(length, dtype=torch.float64).reshape(
            length, 1, *[1] * axis, length, *[1] * (len(size) - axis - 1)
        )
        found.append(run(stripes.expand(length, 1, *size)))
        others = tuple(1 + other for other in range(len(size)) if other != axis)
        pairs.append(np.nonzero((found[-1] != 0).any(axis=others).T))
    to, source = (np.ix_(*(pair[side] for pair in pairs)) for side in (0, 1))
    weight = total[to] ** (1 - len(size))
    for axis, stripes_out in enumerate(found):
        weight = weight * stripes_out[(source[axis], *to)]
    flat = np.ravel_multi_index(to, out), np.ravel_multi_index(source, size)
    return flat[0].reshape(-1), flat[1].reshape(-1), weight.reshape(-1)


def _for_channels(call: Call, value: Value, out: Ints, source: Ints) -> tuple[Ints, Ints]:
    """The same places in every channel."""
    channel = np.arange(value.shape[0])[:, None]
    sizes = int(np.prod(call.shape[1:])), int(np.prod(value.shape[1:]))
    return (channel * sizes[0] + out).reshape(-1), (channel * sizes[1] + source).reshape(-1)


def max_pool(call: Call, value: Value, *args: Any, **kwargs: Any) -> Value:
    """Max pooling with any window, adaptive too."""
    out, source, _ = _windows(call, value, (value, *args), kwargs)
    return pieces.largest(call.layout, value, call.shape, *_for_channels(call, value, out, source), call.path)


def avg_pool(call: Call, value: Value, *args: Any, **kwargs: Any) -> Value:
    """Average pooling with any window, adaptive too, and interpolation between positions."""
    out, source, weight = _windows(call, value, (value, *args), kwargs)
    kept = weight != 0
    places = _for_channels(call, value, out[kept], source[kept])
    weights = np.tile(weight[kept], value.shape[0])
    return linear_ops.combined(call.layout, value, call.shape, *places, weights, call.path)


def resize(call: Call, value: Value, *args: Any, **kwargs: Any) -> Value:
    """``F.interpolate`` and ``nn.Upsample``: to the nearest position nothing is computed."""
    mode = (
        kwargs.get("mode", args[2] if len(args) > 2 else "nearest")
        if call.module is None
        else call.module.mode
    )
    return (moved if str(mode).startswith("nearest") else avg_pool)(call, value, *args, **kwargs)


def _reduced(value: Value, dim: Any) -> Ints:
    """For each element of the activation the element of the reduced tensor that it belongs to."""
    axes = [d % (len(value.shape) + 1) for d in np.atleast_1d(dim)] if dim is not None else [0]
    if 0 in axes:
        raise NotHandled("it goes over the batch axis; name the dimensions behind it")
    kept = [1 if axis + 1 in axes else size for axis, size in enumerate(value.shape)]
    return np.broadcast_to(np.arange(int(np.prod(kept))).reshape(kept), value.shape).reshape(-1)


def _total(call: Call, value: Value, dim: Any, mean: bool) -> Value:
    out, source = _reduced(value, dim), np.arange(value.lanes.size)
    weight = int(np.prod(call.shape)) / len(source) if mean else 1.0
    return linear_ops.combined(call.layout, value, call.shape, out, source, weight, call.path)


def mean(call: Call, value: Value, dim: Any = None, keepdim: bool = False, axis: Any = None) -> Value:
    """The mean over dimensions behind the batch."""
    return _total(call, value, axis if dim is None else dim, True)


def total(call: Call, value: Value, dim: Any = None, keepdim: bool = False, axis: Any = None) -> Value:
    """The sum over dimensions behind the batch."""
    return _total(call, value, axis if dim is None else dim, False)


def amax(call: Call, value: Value, dim: Any = None, keepdim: bool = False) -> Value:
    """The largest element along dimensions behind the batch."""
    return extreme(call, value, _reduced(value, dim), 1.0)


def amin(call: Call, value: Value, dim: Any = None, keepdim: bool = False) -> Value:
    """The least element along dimensions behind the batch."""
    return extreme(call, value, _reduced(value, dim), -1.0)


def _along(call: Call, value: Any, dim: Any, sign: float) -> Any:
    if dim is None:
        raise NotHandled("it goes over the batch axis; name the dimensions behind it")
    if isinstance(dim, (Value, Tensor)):
        return (maximum if sign > 0 else minimum)(call, value, dim)
    return Extreme(extreme(replace(call, example=call.example[0]), value, _reduced(value, dim), sign))


def largest(call: Call, value: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """``torch.max``: along a dimension, or of two tensors."""
    return _along(call, value, dim, 1.0)


def least(call: Call, value: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """``torch.min``: along a dimension, or of two tensors."""
    return _along(call, value, dim, -1.0)
