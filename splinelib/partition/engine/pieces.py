"""Units as nodes: activations of two pieces, functions of several pieces, and maxima."""

from collections.abc import Sequence

import numpy as np

from splinelib.partition.engine.layout import MAX, PIECE, Floats, Ints, Layout, Link, Value, value_of
from splinelib.partition.engine.linear_ops import add, affine, own_node


def activation(layout: Layout, value: Value, slope: Floats | float, name: str) -> Value:
    """``max(z, 0) + slope * min(z, 0)``: ReLU (slope 0), leaky ReLU, PReLU (one for each channel), abs (-1)."""
    factors = np.asarray(slope, dtype=np.float64)
    factors = factors[(slice(None),) + (None,) * (len(value.shape) - 1)] if factors.ndim == 1 else factors
    node = own_node(layout, value, PIECE, name)
    node.slope = np.empty(node.size)
    node.slope[node.local(node.lanes)] = np.broadcast_to(factors, value.shape)
    return value_of(node)


def piecewise(
    layout: Layout,
    value: Value,
    breaks: Sequence[Floats | float],
    slopes: Sequence[float],
    height: Floats | float,
    name: str,
) -> Value:
    """A continuous function of each element: ``slopes`` between ascending ``breaks``, ``height`` at the first break.

    Each break is a unit of its own.
    """
    source = value if len(breaks) == 1 else Value(value.lanes, value.scale, value.shift)
    names = [name] if len(breaks) == 1 else [f"{name}.{number}" for number in range(len(breaks))]
    one, total = np.ones(value.shape), None
    for number, point in enumerate(breaks):
        left, right = slopes[number : number + 2]
        sign = -1.0 if number == 0 and right == 0 else 1.0
        slope = left / right if number == 0 and right != 0 else 0.0
        bent = activation(layout, affine(source, one * sign, -sign * one * point), slope, names[number])
        factor = (-left if sign < 0 else right) if number == 0 else right - left
        bent = affine(bent, one * factor, one * (height if number == 0 else 0.0))
        total = bent if total is None else add(layout, total, bent, name)
    assert total is not None
    return total


def largest(
    layout: Layout, value: Value, shape: tuple[int, ...], out: Ints, source: Ints, name: str
) -> Value:
    """A tensor of ``shape`` whose element o is the largest of the elements ``source[m]`` for which ``out[m] = o``.

    Elements are numbered as in the flattened tensors.
    """
    size = int(np.prod(shape))
    # Positions first, channels last: the cells of one position lie side by side.
    cells = (
        np.moveaxis(np.arange(size).reshape(*shape[1:], *shape[:1]), -1, 0) if shape else np.zeros((), int)
    )
    cell = cells.reshape(-1)[out]
    order = np.argsort(cell, kind="stable")
    cell, source = cell[order], source[order]
    used = np.bincount(cell, minlength=size)
    row, width = np.arange(len(cell)) - (np.cumsum(used) - used)[cell], int(used.max())
    node = layout.add(MAX, size, width, cells * width, name)
    node.used = used
    node.const[cell * width + row] = value.shift.reshape(-1)[source]
    weight = value.scale.reshape(-1)[source]
    kept = weight != 0
    node.links.append(Link(value.lanes.reshape(-1)[source[kept]], cell[kept], row[kept], weight[kept]))
    return value_of(node)
