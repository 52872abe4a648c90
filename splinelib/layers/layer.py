"""A layer of units, its writers, its readers, and the channels that every module loses with a unit."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Writer:
    """A convolution or linear module that writes the units of a layer, and the batch norm right behind it, if any."""

    module: str
    norm: str | None


@dataclass(frozen=True, eq=False)
class Part:
    """Channels of one module that belong to units of a layer, and go with them.

    Attributes:
        module: path of the module, of a parameter that stands alone, or of a number that a module keeps of channels.
        writes: whether these are channels that it writes; else channels that it reads.
        channels: int64 [n], sorted by unit.
        units: int64 [n], the unit that each of them belongs to.
        affine: whether the module is a convolution or linear.
        dim: of a parameter that stands alone, the axis of the channels; else 0.
    """

    module: str
    writes: bool
    channels: Tensor
    units: Tensor
    affine: bool
    dim: int = 0

    def of(self, units: Iterable[int]) -> list[int]:
        """The channels that go with these units, sorted."""
        return self.channels[torch.isin(self.units, torch.tensor(list(units)))].sort().values.tolist()

    def by_unit(self, count: int) -> Tensor | None:
        """The channels [count, stride] of each of ``count`` units; None where they have not equally many each."""
        each = self.units.bincount(minlength=count)
        equal = len(each) == count and bool((each == each[0]).all())
        return self.channels.view(count, -1) if equal else None


@dataclass(frozen=True)
class Layer:
    """Units that are pruned together, one for each index.

    Attributes:
        name: path of the module whose output channels are the units: a convolution, linear module or selection.
        units: their number.
        writers: the modules whose affine maps add up to the units' pre-activations (or, for coupled channels in
            sequence, are tied to one another).
        norm: a batch norm that reads the sum of the writers, in networks that normalise after the skip; else None.
        readers: modules that read the units: those that lose input channels when a unit goes.
        groups: groups of consecutive channels that must stay equally large (grouped convolution, group norm); 1 where
            any unit may go.
        parts: what all modules lose when units go, one part for each module and side.
    """

    name: str
    units: int
    writers: tuple[Writer, ...]
    norm: str | None
    readers: tuple[str, ...]
    groups: int = 1
    parts: tuple[Part, ...] = field(default=(), compare=False, repr=False)

    def reading(self) -> list[tuple[str, Tensor]]:
        """The convolutions and linear modules that read the units, each with its input channels [units, stride].

        Several channels belong to a unit where feature maps are flattened. Depthwise convolutions pass channels on one
        by one, so they are no readers.
        """
        found = [
            (part.module, part.by_unit(self.units)) for part in self.parts if part.affine and not part.writes
        ]
        return [(name, columns) for name, columns in found if columns is not None]

    def written(self, module: str) -> Tensor | None:
        """The channels [units, stride] that a module writes of each unit; None where it has not equally many of each.

        Several channels are one unit where they go together: the two halves of a gate, the four of a pixel shuffle.
        """
        found = [part for part in self.parts if part.module == module and part.writes]
        return found[0].by_unit(self.units) if found else None

    def by_unit(self, module: str, values: Tensor) -> Tensor:
        """Sums over each unit's channels of ``values`` [channels, ...] of a module that writes; as given if no part."""
        return values if (rows := self._rows(module, values)) is None else rows.sum(1)

    def side_by_side(self, module: str, values: Tensor) -> Tensor:
        """As :meth:`by_unit`, but ``values`` [channels, d] of a unit in one row; 0 where it has fewer channels."""
        return values if (rows := self._rows(module, values)) is None else rows.flatten(1)

    def _rows(self, module: str, values: Tensor) -> Tensor | None:
        for part in self.parts:
            if part.module == module and part.writes:
                each = part.units.bincount(minlength=self.units)
                place = torch.arange(len(part.units)) - (each.cumsum(0) - each)[part.units]
                rows = values.new_zeros(self.units, int(each.max()), *values.shape[1:])
                to = values.device
                rows[part.units.to(to), place.to(to)] = values[part.channels.to(to)]
                return rows
        return None
