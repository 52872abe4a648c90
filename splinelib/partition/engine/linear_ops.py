"""Affine modules as links between lanes: dense layers, convolutions, sums and average pooling."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from splinelib.partition.engine.layout import (
    LINEAR,
    Floats,
    Ints,
    Layout,
    Link,
    Node,
    Value,
    lane_link,
    value_of,
)


def affine(layout: Layout, value: Value, scale: Floats, shift: Floats) -> Value:
    """``scale * value + shift`` with factors for each channel (or element); nothing is computed yet."""
    grow = (slice(None),) + (None,) * (len(value.shape) - 1)
    scale, shift = (np.broadcast_to(f[grow] if f.ndim == 1 else f, value.shape) for f in (scale, shift))
    return Value(value.lanes, value.scale * scale, value.shift * scale + shift, value.whole)


def own_node(layout: Layout, value: Value, kind: int, name: str) -> Node:
    """A node of ``kind`` that holds ``value``: the linear node behind it if nobody else reads that, else a new one."""
    node = value.whole
    if node is not None:
        scale, shift = np.empty(node.size), np.empty(node.size)
        local = node.local(value.lanes)
        scale[local], shift[local] = value.scale, value.shift
        if node.rescale(scale, shift):
            node.kind, node.name, node.lanes = kind, name, value.lanes
            return node
    node = layout.elementwise(kind, value.shape, name)
    lane_link(node, value)
    return node


def dense(layout: Layout, value: Value, weight: Tensor, bias: Tensor | None, name: str) -> Value:
    """A dense layer on a vector."""
    matrix = weight.numpy()
    node = layout.add(LINEAR, 1, len(matrix), np.arange(len(matrix)), name)
    node.const = matrix @ value.shift + (0.0 if bias is None else bias.numpy())
    table = np.ascontiguousarray((matrix * value.scale).T)
    rows = np.arange(len(table))
    zeros = np.zeros_like(rows)
    node.links.append(Link(value.lanes, zeros, rows, None, table, zeros))
    return value_of(node)


def convolution(
    layout: Layout,
    value: Value,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
    name: str,
) -> Value:
    """A 2-D convolution with zero padding ``((top, bottom), (left, right))``."""
    if np.any(value.scale != value.scale[:, :1, :1]):
        value = value_of(own_node(layout, Value(value.lanes, value.scale, value.shift), LINEAR, name))
    shift = torch.as_tensor(np.ascontiguousarray(value.shift))[None]
    padded = F.pad(shift, (*padding[1], *padding[0]))
    const = F.conv2d(padded, weight, bias, tuple(stride), 0, tuple(dilation), groups)[0].numpy()
    channels, height, width = const.shape
    lanes = np.moveaxis(np.arange(const.size).reshape(height, width, channels), -1, 0)
    node = layout.add(LINEAR, height * width * groups, channels // groups, lanes, name, groups)
    node.const = np.moveaxis(const, 0, -1).reshape(-1).copy()
    node.links.append(_kernel_link(value, weight.numpy(), stride, padding, dilation, groups, (height, width)))
    return value_of(node)


def _kernel_link(
    value: Value,
    weight: Floats,
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
    out: tuple[int, int],
) -> Link:
    inputs, (rows, columns) = value.shape[0], weight.shape[2:]
    group = np.arange(inputs) // weight.shape[1]
    by_group = weight.reshape(groups, -1, *weight.shape[1:])
    # Row (input channel, kernel row, kernel column) of the table: the weights to all outputs of its group.
    table = (
        by_group[group, :, np.arange(inputs) % weight.shape[1]] * value.scale[:, 0, 0][:, None, None, None]
    )
    table = np.moveaxis(table, 1, -1).reshape(inputs * rows * columns, -1)
    source, cell, row = [], [], []
    for i in range(rows):
        from_y, to_y = _taps(value.shape[1], out[0], stride[0], padding[0][0], i * dilation[0])
        for j in range(columns):
            from_x, to_x = _taps(value.shape[2], out[1], stride[1], padding[1][0], j * dilation[1])
            lanes = value.lanes[:, from_y[:, None], from_x]
            position = to_y[:, None] * out[1] + to_x
            source.append(lanes.reshape(-1))
            cell.append((position[None] * groups + group[:, None, None]).reshape(-1))
            number = (np.arange(inputs) * rows + i) * columns + j
            row.append(np.broadcast_to(number[:, None, None], lanes.shape).reshape(-1))
    row_group = np.repeat(group, rows * columns)
    parts = [np.concatenate(part) for part in (source, cell, row)]
    return Link(parts[0], parts[1], parts[2], None, np.ascontiguousarray(table), row_group)


def _taps(size: int, out: int, stride: int, padding: int, offset: int) -> tuple[Ints, Ints]:
    """Input and output positions that one kernel offset joins, padding left out."""
    to = np.arange(out)
    origin = to * stride - padding + offset
    inside = (origin >= 0) & (origin < size)
    return origin[inside], to[inside]


def add(layout: Layout, left: Value, right: Value, name: str) -> Value:
    """The sum of two tensors of one shape."""
    if left.whole is None and right.whole is not None:
        left, right = right, left
    if left.whole is right.whole:
        left = Value(left.lanes, left.scale, left.shift)
    node = own_node(layout, left, LINEAR, name)
    # The sum must come after both of its terms in the order of execution.
    layout.nodes.remove(node)
    layout.nodes.append(node)
    lane_link(node, Value(right.lanes, right.scale, right.shift))
    return value_of(node)


def weighted_windows(
    layout: Layout,
    value: Value,
    windows: list[tuple[Ints, Ints]],
    weights: Floats,
    out: tuple[int, int],
    name: str,
) -> Value:
    """Average pooling: output position p is ``weights[p]`` times the sum over ``windows[p] = (rows, columns)``."""
    channels = value.shape[0]
    node = layout.elementwise(LINEAR, (channels, *out), name)
    source, cell, row, weight = [], [], [], []
    for position, (ys, xs) in enumerate(windows):
        local = position * channels + np.arange(channels)
        block = value.lanes[:, ys[:, None], xs].reshape(channels, -1)
        scale = value.scale[:, ys[:, None], xs].reshape(channels, -1) * weights[position]
        shift = value.shift[:, ys[:, None], xs].reshape(channels, -1).sum(axis=1) * weights[position]
        source.append(block.reshape(-1))
        cell.append(np.full(block.size, position))
        row.append(np.repeat(np.arange(channels), block.shape[1]))
        weight.append(scale.reshape(-1))
        node.const[local] += shift
    parts = [np.concatenate(part) for part in (source, cell, row)]
    node.links.append(Link(parts[0], parts[1], parts[2], np.concatenate(weight)))
    return value_of(node)
