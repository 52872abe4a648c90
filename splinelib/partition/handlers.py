"""What each supported module, function and method does to a tensor of the layout."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splinelib.models.preresnet import select_channels
from splinelib.partition import linear_ops, pieces
from splinelib.partition.layout import Floats, Ints, Layout, Value


class NotHandled(Exception):
    """This use of a known module is outside what the partition supports; the reader adds the path."""


@dataclass(frozen=True)
class Call:
    """One step of the graph: where it stands, the shape it returns, and its module if it is one."""

    layout: Layout
    path: str
    shape: tuple[int, ...]
    module: Any


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[1])) if isinstance(value, Sequence) else (int(value), int(value))


def _array(tensor: Tensor) -> Floats:
    return tensor.detach().double().numpy()


def _linear(call: Call, value: Value) -> Value:
    if len(value.shape) != 1:
        raise NotHandled(f"its input has shape {value.shape}; flatten it to a vector first")
    return linear_ops.dense(call.layout, value, call.module.weight, call.module.bias, call.path)


def _conv(call: Call, value: Value) -> Value:
    conv = call.module
    if conv.padding_mode != "zeros":
        raise NotHandled(f"padding mode '{conv.padding_mode}'; use zeros")
    if conv.padding == "same":
        total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        padding = [(t // 2, t - t // 2) for t in total]
    else:
        padding = [(p, p) for p in _pair(0 if conv.padding == "valid" else conv.padding)]
    return linear_ops.convolution(
        call.layout,
        value,
        conv.weight,
        conv.bias,
        conv.stride,
        padding,
        conv.dilation,
        conv.groups,
        call.path,
    )


def _batch_norm(call: Call, value: Value) -> Value:
    norm = call.module
    if norm.running_mean is None:
        raise NotHandled("it keeps no running statistics; use track_running_stats=True")
    scale = 1.0 / np.sqrt(_array(norm.running_var) + norm.eps)
    if norm.weight is not None:
        scale = scale * _array(norm.weight)
    shift = -_array(norm.running_mean) * scale + (0.0 if norm.bias is None else _array(norm.bias))
    return linear_ops.affine(call.layout, value, scale, shift)


def _size(call: Call, value: Value, dim: int | None = None) -> Any:
    shape = (1, *value.shape)
    return shape if dim is None else shape[dim]


def _attribute(call: Call, value: Value, name: str) -> Any:
    if name != "shape":
        raise NotHandled(f"attribute '{name}' of an activation; only its shape can be read")
    return _size(call, value)


def _dropout(call: Call, value: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    if training:
        raise NotHandled("dropout in training mode; pass training=self.training and model.eval()")
    return value


def _identity(call: Call, value: Value, *_: Any, **__: Any) -> Value:
    return value


def _relu(call: Call, value: Value, inplace: bool = False) -> Value:
    return pieces.activation(call.layout, value, 0.0, call.path)


def _leaky(call: Call, value: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    slope = call.module.negative_slope if call.module is not None else negative_slope
    return pieces.activation(call.layout, value, float(slope), call.path)


def _prelu(call: Call, value: Value, weight: Tensor | None = None) -> Value:
    slope = _array(call.module.weight if weight is None else weight)
    return pieces.activation(call.layout, value, slope if len(slope) > 1 else float(slope[0]), call.path)


def _abs(call: Call, value: Value) -> Value:
    return pieces.activation(call.layout, value, -1.0, call.path)


def _clamp(
    call: Call, value: Value, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Value:
    m = call.module
    low, high = (min_val, max_val) if m is None else (m.min_val, m.max_val)
    return pieces.clamp(call.layout, value, float(low), float(high), call.path)


def _relu6(call: Call, value: Value, inplace: bool = False) -> Value:
    return pieces.clamp(call.layout, value, 0.0, 6.0, call.path)


def _image(value: Value) -> None:
    if len(value.shape) != 3:
        raise NotHandled(f"its input has shape {value.shape}; only [C, H, W] images can be pooled")


def _ranges(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> list[Ints]:
    """Input positions under each output position of a pooling window, padding left out."""
    taps = [np.arange(kernel) * dilation + o * stride - padding for o in range(out)]
    return [t[(t >= 0) & (t < size)] for t in taps]


def _adaptive(size: int, out: int) -> list[Ints]:
    return [np.arange(o * size // out, -(-(o + 1) * size // out)) for o in range(out)]


def _max_pool(
    call: Call,
    value: Value,
    kernel_size: Any = None,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    _image(value)
    m = call.module
    if m is not None:
        kernel_size, stride, padding, dilation = m.kernel_size, m.stride, m.padding, m.dilation
        return_indices = m.return_indices
    if return_indices:
        raise NotHandled("return_indices=True; ask for the values only")
    k, p, d = _pair(kernel_size), _pair(padding), _pair(dilation)
    s = _pair(stride) if stride else k
    out = (call.shape[1], call.shape[2])
    ys, xs = (_ranges(value.shape[i + 1], out[i], k[i], s[i], p[i], d[i]) for i in (0, 1))
    return pieces.max_pool(call.layout, value, [(y, x) for y in ys for x in xs], out, call.path)


def _adaptive_max_pool(
    call: Call, value: Value, output_size: Any = None, return_indices: bool = False
) -> Value:
    _image(value)
    out = (call.shape[1], call.shape[2])
    ys, xs = (_adaptive(value.shape[i + 1], out[i]) for i in (0, 1))
    return pieces.max_pool(call.layout, value, [(y, x) for y in ys for x in xs], out, call.path)


def _avg_pool(
    call: Call,
    value: Value,
    kernel_size: Any = None,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    _image(value)
    m = call.module
    if m is not None:
        kernel_size, stride, padding = m.kernel_size, m.stride, m.padding
        count_include_pad, divisor_override = m.count_include_pad, m.divisor_override
    k, p = _pair(kernel_size), _pair(padding)
    s = _pair(stride) if stride else k
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


def _adaptive_avg_pool(call: Call, value: Value, output_size: Any = None) -> Value:
    _image(value)
    out = (call.shape[1], call.shape[2])
    ys, xs = (_adaptive(value.shape[i + 1], out[i]) for i in (0, 1))
    windows = [(y, x) for y in ys for x in xs]
    weights = np.array([1.0 / (len(y) * len(x)) for y, x in windows])
    return linear_ops.weighted_windows(call.layout, value, windows, weights, out, call.path)


def _mean(call: Call, value: Value, dim: Any = None, keepdim: bool = False) -> Value:
    _image(value)
    if dim is None or sorted(d % 4 for d in np.atleast_1d(dim)) != [2, 3]:
        raise NotHandled(f"mean over dimensions {dim}; only the mean over height and width is known")
    window = [(np.arange(value.shape[1]), np.arange(value.shape[2]))]
    weight = np.array([1.0 / (value.shape[1] * value.shape[2])])
    return _reshaped(
        linear_ops.weighted_windows(call.layout, value, window, weight, (1, 1), call.path), call.shape
    )


def _reshaped(value: Value, shape: tuple[int, ...]) -> Value:
    return Value(
        value.lanes.reshape(shape), value.scale.reshape(shape), value.shift.reshape(shape), value.whole
    )


def _reshape(call: Call, value: Value, *_: Any, **__: Any) -> Value:
    if int(np.prod(call.shape)) != value.lanes.size:
        raise NotHandled("it moves elements between the batch dimension and the others")
    return _reshaped(value, call.shape)


def _getitem(call: Call, value: Value, index: Any) -> Value:
    index = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, Value) for part in index) or index[0] not in (slice(None), Ellipsis):
        raise NotHandled("only x[:, indexes] with fixed indexes is known")
    fixed = tuple(part.numpy() if isinstance(part, Tensor) else part for part in index)
    fixed = fixed if index[0] is Ellipsis else fixed[1:]
    return Value(value.lanes[fixed], value.scale[fixed], value.shift[fixed])


def _index_select(call: Call, value: Value, dim: int, index: Tensor) -> Value:
    if dim < 1:
        raise NotHandled(f"dim={dim}; select along a dimension after the batch")
    kept = (slice(None),) * (dim - 1) + (index.numpy(),)
    return Value(value.lanes[kept], value.scale[kept], value.shift[kept])


def _select_channels(call: Call, value: Value, indexes: Tensor) -> Value:
    return _index_select(call, value, 1, indexes)


def _cat(call: Call, values: Sequence[Value], dim: int = 0) -> Value:
    if dim == 0 or not all(isinstance(v, Value) for v in values):
        raise NotHandled("only a concatenation of activations along a dimension after the batch is known")
    axis = dim - 1 if dim > 0 else dim
    return Value(
        np.concatenate([v.lanes for v in values], axis),
        np.concatenate([v.scale for v in values], axis),
        np.concatenate([v.shift for v in values], axis),
    )


def _fixed(call: Call, other: Any) -> Floats:
    """A constant operand as an array over the value's shape."""
    array = _array(torch.as_tensor(other, dtype=torch.float64))
    if array.ndim > len(call.shape):
        if array.shape[0] != 1:
            raise NotHandled(f"a constant of shape {array.shape} differs along the batch")
        array = array[0]
    return np.broadcast_to(array, call.shape).astype(np.float64)


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


def _add(call: Call, left: Any, right: Any) -> Value:
    return _combine(call, left, right, 1.0)


def _sub(call: Call, left: Any, right: Any) -> Value:
    return _combine(call, left, right, -1.0)


def _mul(call: Call, left: Any, right: Any) -> Value:
    if isinstance(left, Value) and isinstance(right, Value):
        raise NotHandled("a product of two activations is not piecewise affine")
    value, factor = (left, right) if isinstance(left, Value) else (right, left)
    if value.shape != call.shape:
        raise NotHandled(f"it broadcasts {value.shape} to {call.shape}; give both factors one shape")
    return linear_ops.affine(call.layout, value, _fixed(call, factor), np.zeros(call.shape))


def _div(call: Call, value: Value, divisor: Any) -> Value:
    if isinstance(divisor, Value):
        raise NotHandled("a quotient of activations is not piecewise affine")
    return _mul(call, value, 1.0 / _fixed(call, divisor))


def _neg(call: Call, value: Value) -> Value:
    return _mul(call, value, -1.0)


TRAINING_SENSITIVE = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)

Handler = Callable[..., Any]

MODULES: dict[type, Handler] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: _relu,
    nn.ReLU6: _relu6,
    nn.Hardtanh: _clamp,
    nn.LeakyReLU: _leaky,
    nn.PReLU: _prelu,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveMaxPool2d: _adaptive_max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _adaptive_avg_pool,
    nn.Flatten: _reshape,
    nn.Identity: _identity,
    nn.Dropout: _identity,
    nn.Dropout1d: _identity,
    nn.Dropout2d: _identity,
}

FUNCTIONS: dict[Any, Handler] = {
    torch.relu: _relu,
    torch.relu_: _relu,
    F.relu: _relu,
    F.dropout: _dropout,
    getattr: _attribute,
    F.relu6: _relu6,
    F.hardtanh: _clamp,
    F.leaky_relu: _leaky,
    F.prelu: _prelu,
    torch.abs: _abs,
    abs: _abs,
    operator.abs: _abs,
    F.max_pool2d: _max_pool,
    torch.max_pool2d: _max_pool,
    F.adaptive_max_pool2d: _adaptive_max_pool,
    F.avg_pool2d: _avg_pool,
    F.adaptive_avg_pool2d: _adaptive_avg_pool,
    torch.mean: _mean,
    torch.flatten: _reshape,
    torch.reshape: _reshape,
    torch.index_select: _index_select,
    select_channels: _select_channels,
    torch.cat: _cat,
    torch.add: _add,
    operator.add: _add,
    operator.iadd: _add,
    torch.sub: _sub,
    operator.sub: _sub,
    operator.isub: _sub,
    torch.mul: _mul,
    operator.mul: _mul,
    operator.imul: _mul,
    operator.truediv: _div,
    torch.div: _div,
    operator.neg: _neg,
    torch.neg: _neg,
    operator.getitem: _getitem,
}

METHODS: dict[str, Handler] = {
    "relu": _relu,
    "relu_": _relu,
    "abs": _abs,
    "flatten": _reshape,
    "reshape": _reshape,
    "view": _reshape,
    "view_as": _reshape,
    "size": _size,
    "contiguous": _identity,
    "clone": _identity,
    "mean": _mean,
    "index_select": _index_select,
    "add": _add,
    "add_": _add,
    "sub": _sub,
    "mul": _mul,
    "neg": _neg,
}


def supported_modules() -> tuple[str, ...]:
    """Names of the modules that the exact partition knows, ascending; functions and methods alike are read too."""
    return tuple(sorted(module.__name__ for module in MODULES))
