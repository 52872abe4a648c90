"""Pooling of images, and the mean over them."""

from typing import Any

import numpy as np

from splinelib.partition.engine import linear_ops, pieces
from splinelib.partition.engine.handlers.call import Call, NotHandled, pair
from splinelib.partition.engine.handlers.shapes import reshaped
from splinelib.partition.engine.layout import Ints, Value


def _image(value: Value) -> None:
    if len(value.shape) != 3:
        raise NotHandled(f"its input has shape {value.shape}; only [C, H, W] images can be pooled")


def _ranges(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> list[Ints]:
    """Input positions under each output position of a pooling window, padding left out."""
    taps = [np.arange(kernel) * dilation + o * stride - padding for o in range(out)]
    return [t[(t >= 0) & (t < size)] for t in taps]


def _adaptive(size: int, out: int) -> list[Ints]:
    return [np.arange(o * size // out, -(-(o + 1) * size // out)) for o in range(out)]


def max_pool(
    call: Call,
    value: Value,
    kernel_size: Any = None,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    """Max pooling."""
    _image(value)
    m = call.module
    if m is not None:
        kernel_size, stride, padding, dilation = m.kernel_size, m.stride, m.padding, m.dilation
        return_indices = m.return_indices
    if return_indices:
        raise NotHandled("return_indices=True; ask for the values only")
    k, p, d = pair(kernel_size), pair(padding), pair(dilation)
    s = pair(stride) if stride else k
    out = (call.shape[1], call.shape[2])
    ys, xs = (_ranges(value.shape[i + 1], out[i], k[i], s[i], p[i], d[i]) for i in (0, 1))
    return pieces.max_pool(call.layout, value, [(y, x) for y in ys for x in xs], out, call.path)


def adaptive_max_pool(
    call: Call, value: Value, output_size: Any = None, return_indices: bool = False
) -> Value:
    """Max pooling to a given size."""
    _image(value)
    out = (call.shape[1], call.shape[2])
    ys, xs = (_adaptive(value.shape[i + 1], out[i]) for i in (0, 1))
    return pieces.max_pool(call.layout, value, [(y, x) for y in ys for x in xs], out, call.path)


def avg_pool(
    call: Call,
    value: Value,
    kernel_size: Any = None,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """Average pooling."""
    _image(value)
    m = call.module
    if m is not None:
        kernel_size, stride, padding = m.kernel_size, m.stride, m.padding
        count_include_pad, divisor_override = m.count_include_pad, m.divisor_override
    k, p = pair(kernel_size), pair(padding)
    s = pair(stride) if stride else k
    out = (call.shape[1], call.shape[2])
    ys, xs = (_ranges(value.shape[i + 1], out[i], k[i], s[i], p[i], 1) for i in (0, 1))
    # With padding counted, a window is cut only where it leaves the padded image.
    sizes = [
        [
            min(o * s[i] - p[i] + k[i], value.shape[i + 1] + p[i]) - (o * s[i] - p[i])
            if count_include_pad
            else len((ys, xs)[i][o])
            for o in range(out[i])
        ]
        for i in (0, 1)
    ]
    weights = np.array([1.0 / (divisor_override or h * w) for h in sizes[0] for w in sizes[1]])
    windows = [(y, x) for y in ys for x in xs]
    return linear_ops.weighted_windows(call.layout, value, windows, weights, out, call.path)


def adaptive_avg_pool(call: Call, value: Value, output_size: Any = None) -> Value:
    """Average pooling to a given size."""
    _image(value)
    out = (call.shape[1], call.shape[2])
    ys, xs = (_adaptive(value.shape[i + 1], out[i]) for i in (0, 1))
    windows = [(y, x) for y in ys for x in xs]
    weights = np.array([1.0 / (len(y) * len(x)) for y, x in windows])
    return linear_ops.weighted_windows(call.layout, value, windows, weights, out, call.path)


def mean(call: Call, value: Value, dim: Any = None, keepdim: bool = False) -> Value:
    """The mean over height and width."""
    _image(value)
    if dim is None or sorted(d % 4 for d in np.atleast_1d(dim)) != [2, 3]:
        raise NotHandled(f"mean over dimensions {dim}; only the mean over height and width is known")
    window = [(np.arange(value.shape[1]), np.arange(value.shape[2]))]
    weight = np.array([1.0 / (value.shape[1] * value.shape[2])])
    return reshaped(
        linear_ops.weighted_windows(call.layout, value, window, weight, (1, 1), call.path), call.shape
    )
