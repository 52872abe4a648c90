"""Weighted layers, norms and activations."""

from typing import Any

import numpy as np
from torch import Tensor

from splinelib.partition.engine import linear_ops, pieces
from splinelib.partition.engine.handlers.call import Call, NotHandled, array, pair
from splinelib.partition.engine.layout import Value


def linear(call: Call, value: Value) -> Value:
    """``nn.Linear`` on a vector."""
    if len(value.shape) != 1:
        raise NotHandled(f"its input has shape {value.shape}; flatten it to a vector first")
    return linear_ops.dense(call.layout, value, call.module.weight, call.module.bias, call.path)


def conv(call: Call, value: Value) -> Value:
    """``nn.Conv2d`` with zero padding."""
    layer = call.module
    if layer.padding_mode != "zeros":
        raise NotHandled(f"padding mode '{layer.padding_mode}'; use zeros")
    if layer.padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        padding = [(t // 2, t - t // 2) for t in total]
    else:
        padding = [(p, p) for p in pair(0 if layer.padding == "valid" else layer.padding)]
    return linear_ops.convolution(
        call.layout,
        value,
        layer.weight,
        layer.bias,
        layer.stride,
        padding,
        layer.dilation,
        layer.groups,
        call.path,
    )


def batch_norm(call: Call, value: Value) -> Value:
    """Batch norm with its running statistics."""
    norm = call.module
    if norm.running_mean is None:
        raise NotHandled("it keeps no running statistics; use track_running_stats=True")
    scale = 1.0 / np.sqrt(array(norm.running_var) + norm.eps)
    if norm.weight is not None:
        scale = scale * array(norm.weight)
    shift = -array(norm.running_mean) * scale + (0.0 if norm.bias is None else array(norm.bias))
    return linear_ops.affine(call.layout, value, scale, shift)


def dropout(call: Call, value: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    """``F.dropout``, switched off."""
    if training:
        raise NotHandled("dropout in training mode; pass training=self.training and model.eval()")
    return value


def identity(call: Call, value: Value, *_: Any, **__: Any) -> Value:
    """What passes on what it gets."""
    return value


def relu(call: Call, value: Value, inplace: bool = False) -> Value:
    """ReLU."""
    return pieces.activation(call.layout, value, 0.0, call.path)


def leaky(call: Call, value: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    """Leaky ReLU."""
    slope = call.module.negative_slope if call.module is not None else negative_slope
    return pieces.activation(call.layout, value, float(slope), call.path)


def prelu(call: Call, value: Value, weight: Tensor | None = None) -> Value:
    """PReLU with one slope or one a channel."""
    slope = array(call.module.weight if weight is None else weight)
    return pieces.activation(call.layout, value, slope if len(slope) > 1 else float(slope[0]), call.path)


def absolute(call: Call, value: Value) -> Value:
    """The absolute value."""
    return pieces.activation(call.layout, value, -1.0, call.path)


def clamp(
    call: Call, value: Value, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Value:
    """``nn.Hardtanh`` and ``F.hardtanh``."""
    m = call.module
    low, high = (min_val, max_val) if m is None else (m.min_val, m.max_val)
    return pieces.clamp(call.layout, value, float(low), float(high), call.path)


def relu6(call: Call, value: Value, inplace: bool = False) -> Value:
    """ReLU6."""
    return pieces.clamp(call.layout, value, 0.0, 6.0, call.path)
