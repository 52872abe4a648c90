"""Activations of two or more affine pieces."""

from typing import Any

import numpy as np
from torch import Tensor

from splinelib.partition.engine import pieces
from splinelib.partition.engine.handlers.arithmetic import fixed, spread
from splinelib.partition.engine.handlers.call import Call, NotHandled, array
from splinelib.partition.engine.layout import Value
from splinelib.partition.engine.linear_ops import affine


def relu(call: Call, value: Value, inplace: bool = False) -> Value:
    """ReLU."""
    return pieces.activation(call.layout, value, 0.0, call.path)


def leaky(call: Call, value: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    """Leaky ReLU."""
    slope = call.module.negative_slope if call.module is not None else negative_slope
    return pieces.activation(call.layout, value, float(slope), call.path)


def rrelu(
    call: Call,
    value: Value,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Value:
    """Randomised leaky ReLU, which is none in eval mode."""
    if training:
        raise NotHandled("it draws its slopes in training mode; pass model.eval()")
    m = call.module
    lower, upper = (lower, upper) if m is None else (m.lower, m.upper)
    return pieces.activation(call.layout, value, (lower + upper) / 2, call.path)


def prelu(call: Call, value: Value, weight: Tensor | None = None) -> Value:
    """PReLU with one slope or one a channel."""
    slope = array(call.module.weight if weight is None else weight)
    return pieces.activation(call.layout, value, slope if len(slope) > 1 else float(slope[0]), call.path)


def absolute(call: Call, value: Value) -> Value:
    """The absolute value."""
    return pieces.activation(call.layout, value, -1.0, call.path)


def hardtanh(
    call: Call, value: Value, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Value:
    """``nn.Hardtanh`` and ``F.hardtanh``."""
    m = call.module
    low, high = (min_val, max_val) if m is None else (m.min_val, m.max_val)
    return clamp(call, value, low, high)


def relu6(call: Call, value: Value, inplace: bool = False) -> Value:
    """ReLU6."""
    return clamp(call, value, 0.0, 6.0)


def clamp(call: Call, value: Value, min: Any = None, max: Any = None) -> Value:
    """``torch.clamp`` with numbers or constant tensors as bounds; two kinks at one input are two units."""
    if isinstance(min, Value) or isinstance(max, Value):
        value = value if min is None else maximum(call, value, min)
        return value if max is None else minimum(call, value, max)
    value = spread(call, value)
    low, high = (None if bound is None else fixed(call, bound) for bound in (min, max))
    if low is None or high is None:
        bound, slopes = (low, (0.0, 1.0)) if high is None else (high, (1.0, 0.0))
        assert bound is not None
        return pieces.piecewise(call.layout, value, [bound], slopes, bound, call.path)
    low = np.minimum(low, high)  # torch gives ``max`` where ``min`` is above it
    if (low == high).any():  # no kink there, so nothing that depends on the input comes in
        value = affine(value, np.where(low < high, 1.0, 0.0), np.where(low < high, 0.0, low - 1))
    return pieces.piecewise(call.layout, value, [low, high], (0.0, 1.0, 0.0), low, call.path)


def clamp_min(call: Call, value: Value, min: Any) -> Value:
    """``torch.clamp_min``."""
    return clamp(call, value, min=min)


def clamp_max(call: Call, value: Value, max: Any) -> Value:
    """``torch.clamp_max``."""
    return clamp(call, value, max=max)


def threshold(
    call: Call, value: Value, threshold: float | None = None, _value: float = 0.0, inplace: bool = False
) -> Value:
    """``nn.Threshold`` where it does not jump."""
    at, height = (threshold, _value) if call.module is None else (call.module.threshold, call.module.value)
    if at != height:
        raise NotHandled(
            f"it jumps from {height} to {at} at its threshold; only continuous maps have a partition"
        )
    return clamp(call, value, min=at)


def hardsigmoid(call: Call, value: Value, inplace: bool = False) -> Value:
    """``min(max(x / 6 + 1/2, 0), 1)``."""
    return pieces.piecewise(call.layout, value, [-3.0, 3.0], (0.0, 1 / 6, 0.0), 0.0, call.path)


def softshrink(call: Call, value: Value, lambd: float = 0.5) -> Value:
    """``x ∓ λ`` outside [-λ, λ], zero within."""
    at = float(lambd if call.module is None else call.module.lambd)
    return pieces.piecewise(call.layout, value, [-at, at], (1.0, 0.0, 1.0), 0.0, call.path)


def affine_pieces(call: Call, value: Value) -> Value:
    """:class:`splinelib.partition.smooth.AffinePieces`."""
    m = call.module
    return pieces.piecewise(
        call.layout, value, array(m.breaks).tolist(), array(m.slopes).tolist(), m.height, call.path
    )


def _greater(call: Call, left: Any, right: Any, sign: float) -> Value:
    """``sign * max(sign * left, sign * right)``."""
    if not (isinstance(left, Value) and isinstance(right, Value)):
        value, bound = (left, right) if isinstance(left, Value) else (right, left)
        return clamp(call, value, min=bound) if sign > 0 else clamp(call, value, max=bound)
    both = [spread(call, value) for value in (left, right)]
    lanes, scale, shift = (np.stack([getattr(v, n) for v in both]) for n in ("lanes", "scale", "shift"))
    return extreme(call, Value(lanes, scale, shift), np.tile(np.arange(lanes[0].size), 2), sign)


def extreme(call: Call, value: Value, out: Any, sign: float) -> Value:
    """The largest (sign 1) or least (-1) of the elements that ``out`` gives the same place, in the step's shape."""
    turned = Value(value.lanes, sign * value.scale, sign * value.shift)
    source: Any = np.arange(value.lanes.size)
    found = pieces.largest(call.layout, turned, call.shape, out, source, call.path)
    return Value(found.lanes, sign * found.scale, sign * found.shift)


def maximum(call: Call, left: Any, right: Any) -> Value:
    """The larger of two activations, or of one and a constant, element by element."""
    return _greater(call, left, right, 1.0)


def minimum(call: Call, left: Any, right: Any) -> Value:
    """The lesser of two activations, or of one and a constant, element by element."""
    return _greater(call, left, right, -1.0)
