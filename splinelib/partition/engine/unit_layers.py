"""The layers of units that a layout has."""

from dataclasses import dataclass

import numpy as np

from splinelib.partition.engine.layout import LINEAR, MAX, Ints, Node


@dataclass(frozen=True, eq=False)
class UnitLayer:
    """One layer of units: the module that bends, the shape of its units and, for max pools, pieces of each."""

    name: str
    kind: str
    shape: tuple[int, ...]
    first: int
    pieces: int

    @property
    def units(self) -> int:
        """Number of units."""
        return int(np.prod(self.shape))

    @property
    def channels(self) -> Ints:
        """Channel (or neuron) of each unit, ``[units]``."""
        return np.repeat(np.arange(self.shape[0]), self.units // self.shape[0])


def unit_layers(nodes: list[Node]) -> tuple[UnitLayer, ...]:
    """The layers of units among the nodes, numbered through."""
    layers: list[UnitLayer] = []
    for node in nodes:
        if node.kind != LINEAR:
            kind, pieces = ("max", node.width) if node.kind == MAX else ("piece", 1)
            first = sum(layer.units for layer in layers)
            layers.append(UnitLayer(node.name, kind, node.lanes.shape, first, pieces))
    return tuple(layers)
