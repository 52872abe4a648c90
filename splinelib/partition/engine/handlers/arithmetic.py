"""Sums, differences and products with constants."""

from typing import Any

import numpy as np
import torch

from splinelib.partition.engine import linear_ops
from splinelib.partition.engine.handlers.call import Call, NotHandled, array
from splinelib.partition.engine.layout import Floats, Value


def _fixed(call: Call, other: Any) -> Floats:
    """A constant operand as an array over the value's shape."""
    constant = array(torch.as_tensor(other, dtype=torch.float64))
    if constant.ndim > len(call.shape):
        if constant.shape[0] != 1:
            raise NotHandled(f"a constant of shape {constant.shape} differs along the batch")
        constant = constant[0]
    return np.broadcast_to(constant, call.shape).astype(np.float64)


def _combine(call: Call, left: Any, right: Any, sign: float) -> Value:
    zero = np.zeros(call.shape)
    for value in (left, right):
        if isinstance(value, Value) and value.shape != call.shape:
            raise NotHandled(f"it broadcasts {value.shape} to {call.shape}; give both terms one shape")
    if not isinstance(left, Value):
        return linear_ops.affine(call.layout, right, zero + sign, _fixed(call, left))
    if not isinstance(right, Value):
        return linear_ops.affine(call.layout, left, zero + 1.0, sign * _fixed(call, right))
    right = right if sign > 0 else linear_ops.affine(call.layout, right, zero - 1.0, zero)
    return linear_ops.add(call.layout, left, right, call.path)


def add(call: Call, left: Any, right: Any) -> Value:
    """The sum of two activations, or of one and a constant."""
    return _combine(call, left, right, 1.0)


def sub(call: Call, left: Any, right: Any) -> Value:
    """The difference of two activations, or of one and a constant."""
    return _combine(call, left, right, -1.0)


def mul(call: Call, left: Any, right: Any) -> Value:
    """An activation times a constant."""
    if isinstance(left, Value) and isinstance(right, Value):
        raise NotHandled("a product of two activations is not piecewise affine")
    value, factor = (left, right) if isinstance(left, Value) else (right, left)
    if value.shape != call.shape:
        raise NotHandled(f"it broadcasts {value.shape} to {call.shape}; give both factors one shape")
    return linear_ops.affine(call.layout, value, _fixed(call, factor), np.zeros(call.shape))


def div(call: Call, value: Value, divisor: Any) -> Value:
    """An activation over a constant."""
    if isinstance(divisor, Value):
        raise NotHandled("a quotient of activations is not piecewise affine")
    return mul(call, value, 1.0 / _fixed(call, divisor))


def neg(call: Call, value: Value) -> Value:
    """The negative of an activation."""
    return mul(call, value, -1.0)
