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

    Removing a unit is a step of optimal brain surgeon, by blocks, which takes a product of low rank from [inverse,
    weight]. That follows later, for many units in one product: until then the steps are held, and only what the costs
    need is kept up to date, the diagonal blocks of the inverse and of weight · weightᵀ.

    Attributes:
        units: those left [left].
        costs: what removing each of them would cost after re-solving: added mean squared error, as a share of
            ``energy``.
    """

    def __init__(self, problem: Problem, inverse: Tensor, energy: float) -> None:
        self._size, self._energy = problem.size, energy
        self._start(problem.units, torch.cat([inverse, problem.weight], 1))

    def _start(self, units: Tensor, both: Tensor) -> None:
        """Hold no steps: what is left of [inverse, weight] is ``both``."""
        self._held, self._both = units, both
        self._left = torch.ones_like(units, dtype=torch.bool)
        self._count, most = 0, _STEPS * self._size
        self._steps, self._rows = both.new_empty(len(both), most), both.new_empty(most, both.shape[1])
        inverse, weight = (self._by_unit(values) for values in both.tensor_split([len(both)], 1))
        place = torch.arange(len(units), device=both.device)
        self._blocks = inverse.unflatten(2, (-1, self._size))[place, :, place]
        self._squares = weight @ weight.mT
        self._measure()

    def _by_unit(self, values: Tensor) -> Tensor:
        """[units, size, ...] of ``values`` [units · size, ...]."""
        return values.unflatten(0, (-1, self._size))

    def _measure(self) -> None:
        each = torch.linalg.solve(self._blocks, self._squares).diagonal(dim1=1, dim2=2).sum(1)
        self.units, self.costs = self._held[self._left], each[self._left] / self._energy

    def remove(self, unit: int) -> None:
        """Take away ``unit`` and re-solve."""
        place, columns = int(torch.where(self._held == unit)[0]), len(self._both)
        gone = slice(place * self._size, (place + 1) * self._size)
        steps, rows = self._steps[:, : self._count], self._rows[: self._count]
        row = self._both[gone] - steps[gone] @ rows
        column, weight = row[:, :columns].T, row[:, columns:]
        step = torch.linalg.solve(column[gone], column.T).T
        mixed = (weight @ self._both[:, columns:].T).T - steps @ (rows[:, columns:] @ weight.T)
        step_of, column_of, mixed_of = (self._by_unit(values) for values in (step, column, mixed))
        self._blocks -= step_of @ column_of.mT
        # The weights lose step · weight; what is mixed in twice is half of it in either product.
        half = step_of @ (mixed_of - step_of @ (weight @ weight.T / 2)).mT
        self._squares -= half + half.mT
        for values in (self._blocks, self._squares):  # of no unit any more
            values[place] = torch.eye(self._size, dtype=row.dtype, device=row.device)
        now = slice(self._count, self._count + self._size)
        self._steps[:, now], self._rows[now] = step, row
        self._count, self._left[place] = now.stop, False
        if self._count == self._steps.shape[1]:
            self._catch_up()
        else:
            self._measure()

    def _catch_up(self) -> None:
        """Apply the held steps, and forget the units that are gone."""
        rows = self._left.repeat_interleave(self._size)
        columns = torch.cat([rows, rows.new_ones(self._both.shape[1] - len(rows))]).nonzero().flatten()
        both = self._both[rows.nonzero(), columns]
        both.addmm_(self._steps[rows], self._rows.index_select(1, columns), alpha=-1)
        self._start(self._held[self._left], both)
