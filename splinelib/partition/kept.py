"""Which units of a network's partition are left when some of its units are removed."""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from splinelib.checks import checked
from splinelib.errors import SettingError
from splinelib.partition.engine.layout import LINEAR, MAX, Ints, Layout, Node
from splinelib.partition.engine.reader import read_layout
from splinelib.partition.slices import Slice2D
from splinelib.pruning.surgery import Selection, mask_units

Bools = NDArray[np.bool_]


@checked
def kept_units(model: nn.Module, slice: Slice2D, selection: Selection) -> Ints:
    """The partition's units that stay when the units of ``selection`` are removed, ascending: for :func:`compare`.

    A partition counts the elements of activations and pools, pruning the channels that layers write. Units that a mask
    cuts off from the input are those that removal takes away.

    Args:
        selection: what :func:`splinelib.pruning.remove_units` removes.

    Raises:
        SettingError, UnsupportedModuleError: as ``mask_units`` and ``compute_partition``.

    >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> kept_units(model, Slice2D.axis_aligned(), {"0": [1]}).tolist()
    [0, 2, 3]
    """
    example = slice.origin[None].to(next(model.parameters(), slice.origin))
    masked = mask_units(model, example, selection)
    before, after = (_reached_units(read_layout(m, slice.plane)[0]) for m in (model, masked))
    if len(before) != len(after):
        raise SettingError(
            f"{type(model).__name__} takes other steps once masked; give one whose steps are the same"
        )
    return np.flatnonzero(after | ~before)


def _reached_units(layout: Layout) -> Bools:
    """For each unit, in the partition's order, whether weights that are not zero lead to it from the input."""
    reached = np.zeros(layout.size, dtype=bool)
    reached[: layout.nodes[0].size] = True
    found = [np.zeros(0, dtype=bool)]
    for node in layout.nodes[1:]:
        own = _reached(node, reached)
        heads = node.local(node.lanes).reshape(-1)
        if node.kind == MAX:
            # A cell passes its winner on by its first lane.
            own[:, 0] = own.any(axis=1)
        reached[node.first : node.first + node.size] = own.reshape(-1)
        if node.kind != LINEAR:
            found.append(own.reshape(-1)[heads])
    return np.concatenate(found)


def _reached(node: Node, reached: Bools) -> Bools:
    own = np.zeros((node.cells, node.width), dtype=bool)
    for link in node.links:
        feeds = reached[link.source]
        cell, row = link.cell[feeds], link.row[feeds]
        if link.table is None:
            assert link.weight is not None
            np.logical_or.at(own, (cell, row), link.weight[feeds] != 0)
        else:
            np.logical_or.at(own, cell, np.asarray(link.table != 0)[row])
    return own
