"""Affine modules as links between lanes: dense layers, convolutions, and whatever else is a sum of its inputs."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
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

# For one axis and one offset of the kernel: the input and the output positions that it joins.
Taps = tuple[Ints, Ints]


def affine(value: Value, scale: Floats, shift: Floats) -> Value:
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
    """A dense layer on the last axis, ``weight [out, in]``; the axes before it are positions."""
    matrix, offset = weight.double().numpy(), np.zeros(1) if bias is None else bias.double().numpy()
    *lead, size = value.shape
    scale = value.scale.reshape(-1, size)
    if np.any(scale != scale[0]):
        return dense(layout, value_of(own_node(layout, value, LINEAR, name)), weight, bias, name)
    cells, width = len(scale), len(matrix)
    node = layout.add(LINEAR, cells, width, np.arange(cells * width).reshape(*lead, width), name)
    shift = value.shift.reshape(cells, size).T
    node.const = (matrix @ shift + offset[:, None]).T.reshape(-1)
    node.const_size = (np.abs(matrix) @ np.abs(shift) + np.abs(offset)[:, None]).T.reshape(-1)
    table = np.ascontiguousarray((matrix * scale[0]).T)
    cell, row = np.repeat(np.arange(cells), size), np.tile(np.arange(size), cells)
    node.links.append(Link(value.lanes.reshape(-1), cell, row, None, table, np.zeros(size, dtype=np.int64)))
    return value_of(node)


def uniform(layout: Layout, value: Value, name: str) -> Value:
    """The same tensor with one factor for each channel, as shared weights need it."""
    scale = value.scale.reshape(len(value.scale), -1)
    return value if np.all(scale == scale[:, :1]) else value_of(own_node(layout, value, LINEAR, name))


def convolution(
    layout: Layout,
    value: Value,
    weight: Tensor,
    taps: Sequence[Sequence[Taps]],
    groups: int,
    constant: Callable[[Tensor, bool], Tensor],
    name: str,
) -> Value:
    """A convolution or a transposed one over any number of axes.

    Args:
        value: ``[in, *positions]``; its factors are the same throughout a channel, or zero where a constant stands.
        weight: ``[in, out / groups, *kernel]``.
        taps: for each axis and each offset of the kernel along it the positions it joins.
        constant: the whole step on a tensor ``[1, in, *positions]``, or (True) with absolute weights.
    """
    shift = torch.as_tensor(np.ascontiguousarray(value.shift))[None]
    const = constant(shift, False)[0].numpy()
    channels, *out = const.shape
    positions = int(np.prod(out))
    lanes = np.moveaxis(np.arange(const.size).reshape(*out, channels), -1, 0)
    node = layout.add(LINEAR, positions * groups, channels // groups, lanes, name, groups)
    node.const = np.moveaxis(const, 0, -1).reshape(-1).copy()
    if shift.any():
        node.const_size = np.moveaxis(constant(shift.abs(), True)[0].numpy(), 0, -1).reshape(-1).copy()
    node.links.append(_kernel_link(value, weight.double().numpy(), taps, groups, tuple(out)))
    return value_of(node)


def _kernel_link(
    value: Value, weight: Floats, taps: Sequence[Sequence[Taps]], groups: int, out: tuple[int, ...]
) -> Link:
    inputs, kernel = len(weight), weight.shape[2:]
    channel, group = np.arange(inputs), np.arange(inputs) // (inputs // groups)
    scale = value.scale.reshape(inputs, -1)
    factor = np.take_along_axis(scale, np.argmax(scale != 0, axis=1)[:, None], axis=1)
    # Row (input channel, kernel offset) of the table: the weights to all outputs of its group.
    table = np.moveaxis(weight.reshape(inputs, -1, int(np.prod(kernel))) * factor[:, :, None], 1, -1)
    size = table.shape[1]
    source, cell, row = [], [], []
    for number, offsets in enumerate(itertools.product(*(range(k) for k in kernel))):
        ways = [taps[axis][offset] for axis, offset in enumerate(offsets)]
        flat = np.ravel_multi_index(np.ix_(channel, *(way[0] for way in ways)), value.shape)
        position = np.ravel_multi_index(np.ix_(*(way[1] for way in ways)), out)
        source.append(flat.reshape(-1))
        cell.append((position[None] * groups + group.reshape(-1, *[1] * position.ndim)).reshape(-1))
        row.append(np.repeat(channel * size + number, position.size))
    parts = [np.concatenate(part) for part in (source, cell, row)]
    kept = value.scale.reshape(-1)[parts[0]] != 0
    if not kept.all():
        parts = [part[kept] for part in parts]
    table = np.ascontiguousarray(table.reshape(inputs * size, -1))
    return Link(value.lanes.reshape(-1)[parts[0]], parts[1], parts[2], None, table, np.repeat(group, size))


def taps(size: int, kernel: int, stride: int, dilation: int) -> list[Taps]:
    """The taps of a convolution along an axis of ``size`` positions, padding among them."""
    to = np.arange((size - dilation * (kernel - 1) - 1) // stride + 1)
    return [(to * stride + offset * dilation, to) for offset in range(kernel)]


def transposed_taps(size: int, kernel: int, stride: int, dilation: int, padding: int, out: int) -> list[Taps]:
    """The taps of a transposed convolution along an axis."""
    found = []
    for offset in range(kernel):
        to = np.arange(size) * stride + offset * dilation - padding
        inside = (to >= 0) & (to < out)
        found.append((np.flatnonzero(inside), to[inside]))
    return found


def combined(
    layout: Layout,
    value: Value,
    shape: tuple[int, ...],
    out: Ints,
    source: Ints,
    weight: Floats | float,
    name: str,
    const: Floats | float = 0.0,
) -> Value:
    """A tensor of ``shape`` whose element ``out[m]`` gets ``weight[m]`` times element ``source[m]``, and constants.

    Elements are numbered as in the flattened tensors.
    """
    node = layout.elementwise(LINEAR, shape, name)
    place = node.local(node.lanes)
    local = place.reshape(-1)[out]
    order = np.argsort(local, kind="stable")
    local, source, weight = local[order], source[order], np.broadcast_to(weight, len(out))[order]
    factor: Floats = weight * value.scale.reshape(-1)[source]
    terms: Floats = weight * value.shift.reshape(-1)[source]
    node.const, node.const_size = (
        np.bincount(local, sizes, node.size).astype(np.float64) for sizes in (terms, np.abs(terms))
    )
    node.const[place] += const
    node.const_size[place] += np.abs(const)
    kept = factor != 0
    lanes = value.lanes.reshape(-1)[source[kept]]
    node.links.append(Link(lanes, local[kept] // node.width, local[kept] % node.width, factor[kept]))
    return value_of(node)


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
