"""Sums, differences and products with constants."""

from typing import Any

import numpy as np
import torch

from splinelib.partition.engine import linear_ops
from splinelib.partition.engine.handlers.call import Call, NotHandled, array
from splinelib.partition.engine.layout import Floats, Value


def fixed(call: Call, other: Any) -> Floats:
    """A constant operand as an array over the result's shape."""
    constant = array(torch.as_tensor(other, dtype=torch.float64))
    return np.broadcast_to(constant, (1, *call.shape))[0]


def spread(call: Call, value: Value) -> Value:
    """An operand over the result's shape."""
    if value.shape == call.shape:
        return value
    parts = (
        np.broadcast_to(part[None], (1, *call.shape))[0] for part in (value.lanes, value.scale, value.shift)
    )
    return Value(*parts)


def _sum(call: Call, left: Any, right: Any, factors: tuple[float, float]) -> Value:
    """``factors[0] * left + factors[1] * right``."""
    if not isinstance(left, Value):
        return _sum(call, right, left, factors[::-1])
    zero = np.zeros(call.shape)
    if factors[0] != 1.0:
        left = linear_ops.affine(spread(call, left), zero + factors[0], zero)
    if not isinstance(right, Value):
        return linear_ops.affine(spread(call, left), zero + 1.0, factors[1] * fixed(call, right))
    if factors[1] != 1.0:
        right = linear_ops.affine(spread(call, right), zero + factors[1], zero)
    return linear_ops.add(call.layout, spread(call, left), spread(call, right), call.path)


def add(call: Call, left: Any, right: Any, alpha: float = 1.0) -> Value:
    """The sum of two activations, or of one and a constant."""
    return _sum(call, left, right, (1.0, float(alpha)))


def sub(call: Call, left: Any, right: Any, alpha: float = 1.0) -> Value:
    """The difference of two activations, or of one and a constant."""
    return _sum(call, left, right, (1.0, -float(alpha)))


def rsub(call: Call, left: Any, right: Any, alpha: float = 1.0) -> Value:
    """``right - alpha * left``."""
    return sub(call, right, left, alpha)


def mul(call: Call, left: Any, right: Any) -> Value:
    """An activation times a constant."""
    if isinstance(left, Value) and isinstance(right, Value):
        raise NotHandled("a product of two activations is not piecewise affine")
    value, factor = (left, right) if isinstance(left, Value) else (right, left)
    return linear_ops.affine(spread(call, value), fixed(call, factor), np.zeros(call.shape))


def div(call: Call, value: Any, divisor: Any) -> Value:
    """An activation over a constant."""
    if isinstance(divisor, Value):
        raise NotHandled("a quotient of activations is not piecewise affine")
    return mul(call, value, 1.0 / fixed(call, divisor))


def neg(call: Call, value: Value) -> Value:
    """The negative of an activation."""
    return mul(call, value, -1.0)


def batch_norm(
    call: Call,
    value: Value,
    mean: Any = None,
    var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    """Batch (or instance) norm with its running statistics."""
    m = call.module
    if m is not None:
        mean, var, weight, bias, eps = m.running_mean, m.running_var, m.weight, m.bias, m.eps
    if mean is None or training:
        raise NotHandled(
            "it takes its statistics from the input; use track_running_stats=True and model.eval()"
        )
    scale = 1.0 / np.sqrt(array(var) + eps)
    if weight is not None:
        scale = scale * array(weight)
    return linear_ops.affine(value, scale, -array(mean) * scale + (0.0 if bias is None else array(bias)))
