"""Max-type modules as nodes: two-piece activations, clamps and max pooling."""

import numpy as np

from splinelib.partition.engine.layout import MAX, PIECE, Floats, Ints, Layout, Link, Value, value_of
from splinelib.partition.engine.linear_ops import add, own_node


def activation(layout: Layout, value: Value, slope: Floats | float, name: str) -> Value:
    """``max(z, 0) + slope * min(z, 0)``: ReLU (slope 0), leaky ReLU, PReLU (one for each channel), abs (-1)."""
    factors = np.asarray(slope, dtype=np.float64)
    factors = factors[(slice(None),) + (None,) * (len(value.shape) - 1)] if factors.ndim == 1 else factors
    node = own_node(layout, value, PIECE, name)
    node.slope = np.empty(node.size)
    node.slope[node.local(node.lanes)] = np.broadcast_to(factors, value.shape)
    return value_of(node)


def clamp(layout: Layout, value: Value, low: float, high: float, name: str) -> Value:
    """``min(max(z, low), high)`` (ReLU6, hardtanh): two kinks at one input, each a unit of its own."""
    source = Value(value.lanes, value.scale, value.shift)
    halves = []
    for bound, part in ((low, "low"), (high, "high")):
        shifted = Value(source.lanes, source.scale, source.shift - bound)
        halves.append(activation(layout, shifted, 0.0, f"{name}.{part}"))
    upper = Value(halves[1].lanes, -halves[1].scale, halves[1].shift)
    lower = Value(halves[0].lanes, halves[0].scale, halves[0].shift + low)
    return add(layout, lower, upper, name)


def max_pool(
    layout: Layout, value: Value, windows: list[tuple[Ints, Ints]], out: tuple[int, int], name: str
) -> Value:
    """The largest element of each window, for each channel; ``windows[p] = (rows, columns)`` of output position p."""
    channels = value.shape[0]
    width = max(len(ys) * len(xs) for ys, xs in windows)
    cells = len(windows) * channels
    local = np.arange(cells).reshape(*out, channels) * width
    node = layout.add(MAX, cells, width, np.moveaxis(local, -1, 0), name)
    node.used = np.repeat([len(ys) * len(xs) for ys, xs in windows], channels)
    source, cell, row, weight = [], [], [], []
    for position, (ys, xs) in enumerate(windows):
        block = value.lanes[:, ys[:, None], xs].reshape(channels, -1)
        cells_here = np.repeat(position * channels + np.arange(channels), block.shape[1])
        rows_here = np.tile(np.arange(block.shape[1]), channels)
        source.append(block.reshape(-1))
        cell.append(cells_here)
        row.append(rows_here)
        weight.append(value.scale[:, ys[:, None], xs].reshape(-1))
        node.const[cells_here * width + rows_here] = value.shift[:, ys[:, None], xs].reshape(-1)
    parts = [np.concatenate(part) for part in (source, cell, row)]
    node.links.append(Link(parts[0], parts[1], parts[2], np.concatenate(weight)))
    return value_of(node)
