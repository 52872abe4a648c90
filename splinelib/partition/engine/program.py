"""The layout as flat arrays, ready for compiled code."""

import functools
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from splinelib.errors import UnsupportedModuleError
from splinelib.partition.engine import linear_ops
from splinelib.partition.engine.ending import check_order
from splinelib.partition.engine.frame import check_ratio, frame
from splinelib.partition.engine.layout import (
    LINEAR,
    MAX,
    PIECE,
    Floats,
    Ints,
    Layout,
    Node,
    Value,
    aligned_zeros,
    needed_nodes,
    value_of,
)
from splinelib.partition.engine.memo import Content, content_of
from splinelib.partition.engine.pointers import view_of
from splinelib.partition.engine.reader import read_layout, readable
from splinelib.partition.engine.rounding import error_bounds
from splinelib.partition.engine.unit_layers import UnitLayer, unit_layers
from splinelib.partition.slices import Plane

Int32s = NDArray[np.int32]


class Program(NamedTuple):
    """The network for compiled code. Coefficients of a cell lie at ``address``: all a, then all b, then all c.

    Lanes are numbered through all cells, entries ``out_start[lane] .. out_start[lane + 1]`` are what a lane adds to:
    ``weights[entry_weight ...]`` to all the cell if ``entry_lane`` is -1, else one weight to that lane.
    The error of a cell's lanes is at most ``(1, size, error) @ bounds[:, cell]`` for the largest size and error of its
    inputs, and ``rounding[lane]`` is what of it is not due to these.
    ``in_entry`` and ``in_head`` hold, for ``in_start[cell] .. in_start[cell + 1]``, what feeds a cell: entries and
    their source lanes. ``dense_target`` is the one cell all lanes of a cell add to in full, or -1. ``bit`` is a lane's
    place in the code.
    """

    cell_kind: NDArray[np.int8]
    cell_address: Ints
    cell_width: Int32s
    cell_lane: Int32s
    cell_used: Int32s
    cell_count: Int32s
    dense_target: Int32s
    lane_cell: Int32s
    slope: Floats
    rounding: Floats
    bounds: Floats
    key: NDArray[np.uint64]
    bit: Int32s
    out_start: Ints
    entry_cell: Int32s
    entry_lane: Int32s
    entry_weight: Ints
    weights: Floats
    coefficients: Floats
    output_address: Ints
    output_stride: Ints
    in_start: Ints
    in_entry: Int32s
    in_head: Int32s


view_program = view_of(Program, bounds=2)


@dataclass(frozen=True, eq=False)
class Network:
    """A program together with what its numbers mean.

    ``lane_unit[lane]`` is the unit (numbered through all layers, in execution order and the tensor's own order) that
    a lane belongs to, -1 for lanes of affine steps. ``centre`` and ``radius`` give the slice's coordinates from the
    program's: ``point = centre + radius * p``, with p within [-1, 1]². The first ``fixed_scores`` outputs are not the
    model's but constants that it is compared with. ``left_out`` names the last steps that the outputs are without.
    """

    program: Program
    layers: tuple[UnitLayer, ...]
    lane_unit: Int32s
    centre: Floats
    radius: float
    outputs: int
    code_bits: int
    fixed_scores: int = 0
    left_out: str = ""


def compile_network(model: nn.Module, where: Plane, outputs: bool, scores: bool = False) -> Network:
    """Read ``model`` and lay it out for the slice; ``outputs`` keeps the steps after the last unit.

    With ``scores`` the outputs are compared with each other, a single one with 0. A small network that was read lately
    is not read again.

    Raises:
        SettingError: the polygon is far longer than it is wide; and as :func:`.read_layout`.
    """
    model = readable(model)
    check_ratio(where.polygon)
    content = content_of(model, where, outputs, scores)
    if content is None:
        return _read(model, where, outputs, scores)
    network = _read_lately(content)
    centre, radius = frame(where)
    plane = _input_plane(where, centre, radius)
    coefficients = aligned_zeros(len(network.program.coefficients))
    coefficients[:] = network.program.coefficients
    coefficients[: plane.size] = plane.reshape(-1)
    program = network.program._replace(coefficients=coefficients)
    return replace(network, program=program, centre=centre, radius=radius)


@functools.lru_cache(maxsize=8)
def _read_lately(content: Content) -> Network:
    *_, (outputs, scores) = content.key[:3]
    return _read(content.model, content.where, outputs, scores)


def _read(model: nn.Module, where: Plane, outputs: bool, scores: bool) -> Network:
    layout, result, ending = read_layout(model, where)
    check_order(ending if outputs else None)
    if outputs and len(result.shape) != 1:
        raise UnsupportedModuleError(f"the output has shape {result.shape}; class scores must be one vector")
    single = outputs and scores and result.shape == (1,)
    if outputs:
        result = _with_zero(layout, result) if single else _plain_output(layout, result)
    centre, radius = frame(where)
    nodes = needed_nodes(layout, result if outputs else None)
    rename = np.full(layout.size, -1, dtype=np.int64)
    start = 0
    for node in nodes:
        rename[node.first : node.first + node.size] = np.arange(start, start + node.size)
        start += node.size
    layers, lane_unit, bit, bits = _units(nodes, rename)
    program = _program(nodes, rename, result if outputs else None, bit, _input_plane(where, centre, radius))
    count = result.lanes.size if outputs else 0
    left_out = "" if ending is None else ", ".join(ending.names)
    return Network(program, layers, lane_unit, centre, radius, count, bits, int(single), left_out)


def _plain_output(layout: Layout, result: Value) -> Value:
    """The output as lanes that hold it as it is: not a scaled view, and not what a unit passes on."""
    bent = [node for node in layout.nodes if node.kind != LINEAR]
    behind = any(np.isin(result.lanes, np.arange(n.first, n.first + n.size)).any() for n in bent)
    if behind or np.any(result.scale != 1) or np.any(result.shift != 0):
        return value_of(linear_ops.own_node(layout, result, LINEAR, "output"))
    return result


def _with_zero(layout: Layout, result: Value) -> Value:
    """The scores of two classes that one logit stands for: 0 and the logit."""
    return linear_ops.dense(layout, result, torch.tensor([[0.0], [1.0]], dtype=torch.float64), None, "scores")


def _input_plane(where: Plane, centre: Floats, radius: float) -> Floats:
    """Input coefficients ``[3, D]`` in the program's coordinates."""
    first, second = where.first.flatten().numpy(), where.second.flatten().numpy()
    origin = where.origin.flatten().numpy() + centre[0] * first + centre[1] * second
    return np.stack([radius * first, radius * second, origin])


def _units(nodes: list[Node], rename: Ints) -> tuple[tuple[UnitLayer, ...], Int32s, Int32s, int]:
    """Unit layers, and for each lane its unit and its bit in the code."""
    size = sum(n.size for n in nodes)
    lane_unit, bit = np.full(size, -1, dtype=np.int32), np.full(size, -1, dtype=np.int32)
    units = bits = 0
    for node in nodes:
        if node.kind == LINEAR:
            continue
        pieces = node.width if node.kind == MAX else 1
        heads = rename[node.lanes.reshape(-1)]
        lanes = heads[:, None] + np.arange(pieces)
        lane_unit[lanes] = (units + np.arange(len(heads)))[:, None]
        bit[lanes] = bits + np.arange(lanes.size).reshape(lanes.shape)
        units, bits = units + len(heads), bits + lanes.size
    return unit_layers(nodes), lane_unit, bit, bits


def _program(nodes: list[Node], rename: Ints, output: Value | None, bit: Int32s, plane: Floats) -> Program:
    widths = np.concatenate([np.full(n.cells, n.width) for n in nodes])
    cell_lane = np.concatenate([[0], np.cumsum(widths)])
    lane_cell = np.repeat(np.arange(len(widths)), widths)
    cells_before = np.concatenate([[0], np.cumsum([n.cells for n in nodes])])
    source, cell, lane, offset, weights = _entries(nodes, rename, cells_before)
    order = np.argsort(source, kind="stable")
    source, cell, lane, offset = source[order], cell[order], lane[order], offset[order]
    inward = np.argsort(cell, kind="stable")
    size = int(cell_lane[-1])
    out_start = np.searchsorted(source, np.arange(size + 1))
    # Each node begins at a multiple of 64 bytes, and so do wide cells of it whose width is one of 8.
    starts = np.cumsum([0] + [-(-3 * n.size // 8) * 8 for n in nodes])
    address = np.concatenate(
        [start + 3 * n.width * np.arange(n.cells) for start, n in zip(starts, nodes, strict=False)]
    )
    lane_address = address[lane_cell] + np.arange(size) - cell_lane[lane_cell]
    coefficients = aligned_zeros(int(starts[-1]))
    coefficients[lane_address + 2 * widths[lane_cell]] = np.concatenate([n.const for n in nodes])
    coefficients[: plane.size] = plane.reshape(-1)
    slope = np.concatenate([n.slope if n.kind == PIECE else np.ones(n.size) for n in nodes])
    used = np.concatenate([n.used if n.kind == MAX else np.full(n.cells, n.width) for n in nodes])
    keys = np.random.default_rng(0x5EED).integers(1, 2**64, size, dtype=np.uint64)
    bounds = np.concatenate([error_bounds(n) for n in nodes], axis=1)
    heads = rename[output.lanes] if output is not None else np.zeros(0, dtype=np.int64)
    return Program(
        np.concatenate([np.full(n.cells, n.kind) for n in nodes]).astype(np.int8),
        address.astype(np.int64),
        widths.astype(np.int32),
        cell_lane[:-1].astype(np.int32),
        used.astype(np.int32),
        np.bincount(cell, minlength=len(widths)).astype(np.int32),
        _dense_targets(out_start, cell, lane, cell_lane),
        lane_cell.astype(np.int32),
        slope,
        bounds[0],
        np.maximum.reduceat(bounds, cell_lane[:-1], axis=1),
        keys,
        bit,
        out_start.astype(np.int64),
        cell.astype(np.int32),
        lane.astype(np.int32),
        offset.astype(np.int64),
        weights,
        coefficients,
        lane_address[heads].astype(np.int64),
        widths[lane_cell[heads]].astype(np.int64),
        np.searchsorted(cell[inward], np.arange(len(widths) + 1)).astype(np.int64),
        inward.astype(np.int32),
        source[inward].astype(np.int32),
    )


def _entries(nodes: list[Node], rename: Ints, cells_before: Ints) -> tuple[Ints, Ints, Ints, Ints, Floats]:
    """All links as (source lane, cell, lane in the cell or -1, place in the weights), and the weights."""
    source, cell, lane, offset, weights = [], [], [], [], []
    filled = 0
    for node, before in zip(nodes, cells_before, strict=False):
        for link in node.links:
            source.append(rename[link.source])
            cell.append(link.cell + before)
            if link.table is None:
                assert link.weight is not None
                lane.append(link.row)
                offset.append(filled + np.arange(len(link.weight)))
                weights.append(link.weight)
            else:
                lane.append(np.full(len(link.row), -1))
                offset.append(filled + link.row * node.width)
                weights.append(link.table.reshape(-1))
            filled += len(weights[-1])
    empty = np.zeros(0, dtype=np.int64)
    joined = [np.concatenate(part) if part else empty for part in (source, cell, lane, offset)]
    pool = aligned_zeros(filled)
    if weights:
        np.concatenate(weights, out=pool)
    return joined[0], joined[1], joined[2], joined[3], pool


def _dense_targets(out_start: Ints, cell: Ints, lane: Ints, cell_lane: Ints) -> Int32s:
    """For each cell the cell that all its lanes add to in full with their only entry, or -1."""
    target = np.full(len(out_start) - 1, -1, dtype=np.int64)
    single = np.flatnonzero(np.diff(out_start) == 1)
    single = single[lane[out_start[single]] == -1]
    target[single] = cell[out_start[single]]
    starts = cell_lane[:-1]
    least, most = np.minimum.reduceat(target, starts), np.maximum.reduceat(target, starts)
    wide = np.diff(cell_lane) > 1
    return np.where(wide & (least == most), least, -1).astype(np.int32)
