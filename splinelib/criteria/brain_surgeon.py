"""Optimal brain surgeon, by blocks: units fall, and the others are re-solved (Hassibi & Stork, 1993)."""

from dataclasses import dataclass

import torch
from torch import Tensor

_STEPS = 32  # units after whose removal an inverse is brought up to date


@dataclass
class Problem:
    """What one group of a reader's outputs does with the units it reads (an ordinary reader is one group), on data.

    Each of ``units`` [count] is a block of equally many columns: inputs have ``covariance`` [d, d] and ``mean`` [d],
    and ``weight`` [d, out] is what the reader does with them.
    """

    units: Tensor
    covariance: Tensor
    mean: Tensor
    weight: Tensor

    @property
    def size(self) -> int:
        """Columns of a unit."""
        return len(self.weight) // len(self.units)


class Elimination:
    """A problem while units fall: the weights are re-solved after every removal.

    Removing a unit is a step of optimal brain surgeon, by blocks. The inverse follows later, for many units in one
    product: until then the steps are held, and only its diagonal blocks, which the costs need, are kept up to date.

    Attributes:
        units: those left [left].
        costs: what removing each of them would cost after re-solving: added mean squared error, as a share of
            ``energy``.
    """

    def __init__(self, problem: Problem, inverse: Tensor, energy: float) -> None:
        self._size, self._energy = problem.size, energy
        self._held, self._left = problem.units, torch.ones_like(problem.units, dtype=torch.bool)
        self._weight, self._inverse = problem.weight.clone(), inverse
        self._steps = self._columns = inverse[:, :0]
        place = torch.arange(len(problem.units), device=inverse.device)
        self._blocks = inverse.unflatten(1, (-1, self._size)).unflatten(0, (-1, self._size))[place, :, place]
        self._measure()

    def _by_unit(self, values: Tensor) -> Tensor:
        """[units, size, ...] of ``values`` [units · size, ...]."""
        return values.unflatten(0, (-1, self._size))

    def _measure(self) -> None:
        weight = self._by_unit(self._weight)
        each = torch.linalg.solve(self._blocks, weight @ weight.mT).diagonal(dim1=1, dim2=2).sum(1)
        self.units, self.costs = self._held[self._left], each[self._left] / self._energy

    def remove(self, unit: int) -> None:
        """Take away ``unit`` and re-solve."""
        place = int(torch.where(self._held == unit)[0])
        gone = slice(place * self._size, (place + 1) * self._size)
        column = self._inverse[:, gone] - self._steps @ self._columns[gone].T
        step = torch.linalg.solve(column[gone], column.T).T
        self._weight -= step @ self._weight[gone]
        self._blocks -= self._by_unit(step) @ self._by_unit(column).mT
        self._blocks[place] = torch.eye(
            self._size, dtype=step.dtype, device=step.device
        )  # of no unit any more
        self._steps, self._columns = torch.cat([self._steps, step], 1), torch.cat([self._columns, column], 1)
        self._left[place] = False
        if self._steps.shape[1] >= _STEPS * self._size:
            self._catch_up()
        self._measure()

    def _catch_up(self) -> None:
        """Apply the held steps to the inverse, and forget the units that are gone."""
        rows = self._left.repeat_interleave(self._size)
        inverse = self._inverse[rows][:, rows].addmm_(self._steps[rows], self._columns[rows].T, alpha=-1)
        self._inverse, self._weight = inverse, self._weight[rows]
        self._held, self._blocks = self._held[self._left], self._blocks[self._left]
        self._left = torch.ones_like(self._held, dtype=torch.bool)
        self._steps = self._columns = inverse[:, :0]
