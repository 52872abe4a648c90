"""Weighted layers: dense ones, convolutions, and any other step that is linear in its input."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from splinelib.partition.engine import linear_ops
from splinelib.partition.engine.handlers.call import Call, NotHandled, values_in
from splinelib.partition.engine.handlers.shapes import rearranged
from splinelib.partition.engine.layout import Value

# Reading a step from its values on a basis is for small ones: this many products of input and output elements.
_MOST = 2**28


def _no_activations(*weights: Any) -> None:
    if values_in(weights):
        raise NotHandled("a product of two activations is not piecewise affine")


def linear(call: Call, value: Value, weight: Any = None, bias: Any = None) -> Value:
    """``nn.Linear`` and ``F.linear``, on the last axis."""
    m = call.module
    weight, bias = (weight, bias) if m is None else (m.weight, m.bias)
    _no_activations(weight, bias)
    if not value.shape or weight.ndim != 2:
        raise NotHandled(f"its input has shape {value.shape}, its weight {tuple(weight.shape)}")
    return linear_ops.dense(
        call.layout, value, weight.detach(), None if bias is None else bias.detach(), call.path
    )


def matmul(call: Call, left: Any, right: Any) -> Value:
    """A product with a constant matrix."""
    if isinstance(left, Value) and isinstance(right, Tensor) and right.ndim == 2:
        return linear_ops.dense(call.layout, left, right.detach().T, None, call.path)
    return linear_step(call, left, right)


def linear_step(call: Call, *args: Any, **kwargs: Any) -> Value:
    """Any step that is affine in its one activation: a product with constants, a running sum, a fold."""
    values = values_in(args, kwargs)
    if len(values) != 1:
        raise NotHandled("a product of two activations is not piecewise affine")
    (value,) = values
    size = value.lanes.size
    if size * int(np.prod(call.shape)) > _MOST:
        raise NotHandled(
            f"from {value.shape} to {call.shape} it is too large to be read from its values on a basis"
        )

    def at(element: int | None) -> Tensor:
        unit = torch.zeros(1, *value.shape, dtype=torch.float64)
        if element is not None:
            unit.view(-1)[element] = 1.0
        return call.run(args, kwargs, lambda _: unit)[0].double()

    const = at(None)
    out, source, weight = [], [], []
    for element in range(size):
        column = (at(element) - const).reshape(-1).numpy()
        out.append(np.flatnonzero(column))
        source.append(np.full(len(out[-1]), element))
        weight.append(column[out[-1]])
    places, factors = (np.concatenate(out), np.concatenate(source)), np.concatenate(weight)
    return linear_ops.combined(call.layout, value, call.shape, *places, factors, call.path, const.numpy())


def _several(number: Any, axes: int) -> tuple[int, ...]:
    """One number for each axis, as torch takes strides."""
    numbers = tuple(number) if isinstance(number, (tuple, list)) else (number,)
    return numbers if len(numbers) == axes else numbers * axes


def _axes(value: Value, weight: Any, bias: Any) -> int:
    """How many axes of positions a kernel ``[..., ..., *kernel]`` has, and the activation with it."""
    _no_activations(weight, bias)
    axes = weight.ndim - 2
    if len(value.shape) != axes + 1:
        raise NotHandled(f"its input has shape {value.shape}; it reads [channels, {axes} axes of positions]")
    return axes


def _on_constants(function: Any, weight: Tensor, bias: Tensor | None, *rest: Any) -> Any:
    """The step itself on constants, with its weights or with their absolute values."""
    terms = [None if term is None else term.detach().double() for term in (weight, bias)]

    def run(shift: Tensor, absolute: bool) -> Tensor:
        return function(shift, *(t.abs() if absolute and t is not None else t for t in terms), *rest)

    return run


def conv(
    call: Call,
    value: Value,
    weight: Any = None,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """``nn.Conv1d``, ``2d``, ``3d`` with any padding, and the functions."""
    m, mode = call.module, "constant"
    if m is not None:
        weight, bias, stride, padding, dilation, groups = _settings(m)
        mode = "constant" if m.padding_mode == "zeros" else m.padding_mode
    axes = _axes(value, weight, bias)
    stride, dilation, kernel = _several(stride, axes), _several(dilation, axes), weight.shape[2:]
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        ends = [(t // 2, t - t // 2) for t in total]
    else:
        ends = [(p, p) for p in _several(0 if padding == "valid" else padding, axes)]
    value = linear_ops.uniform(call.layout, value, call.path)
    if np.any(ends):
        flat = [end for pair in reversed(ends) for end in pair]
        value = rearranged([value], lambda numbers: F.pad(numbers[id(value)], flat, mode))
    constant = _on_constants(getattr(F, f"conv{axes}d"), weight, bias, stride, 0, dilation, groups)
    ways = [linear_ops.taps(*sizes) for sizes in zip(value.shape[1:], kernel, stride, dilation, strict=True)]
    table = weight.detach().reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
    return linear_ops.convolution(call.layout, value, table, ways, groups, constant, call.path)


def conv_transpose(
    call: Call,
    value: Value,
    weight: Any = None,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    """``nn.ConvTranspose1d``, ``2d``, ``3d`` and the functions."""
    if call.module is not None:
        weight, bias, stride, padding, dilation, groups = _settings(call.module)
    axes = _axes(value, weight, bias)
    stride, dilation, padding = (_several(number, axes) for number in (stride, dilation, padding))
    value = linear_ops.uniform(call.layout, value, call.path)
    sizes = list(
        zip(value.shape[1:], weight.shape[2:], stride, dilation, padding, call.shape[1:], strict=True)
    )
    # What output_padding adds is in the shape that the step returns.
    extra = [o - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for n, k, s, d, p, o in sizes]
    function = getattr(F, f"conv_transpose{axes}d")
    constant = _on_constants(function, weight, bias, stride, padding, extra, groups, dilation)
    ways = [linear_ops.transposed_taps(*numbers) for numbers in sizes]
    return linear_ops.convolution(call.layout, value, weight.detach(), ways, groups, constant, call.path)


def _settings(m: Any) -> tuple[Any, ...]:
    return m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups
