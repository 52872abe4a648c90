"""Data-driven selection: drop the unit that the next layers miss least, one after the other. Needs images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.checks import NonNegative, Seed, check_fields
from splinelib.criteria.fit import check_layers
from splinelib.criteria.spline import falling_scores
from splinelib.errors import SettingError, TrainingError, UnsupportedModuleError
from splinelib.hooks import evaluating
from splinelib.layers.images import check_images
from splinelib.layers.layer import Layer
from splinelib.layers.patches import group_weights, in_order, rows_of, solvable, together, visit
from splinelib.regression import RIDGE, cholesky, covariance, with_ridge

_MOST_INPUTS = (
    10_000  # of a reader: its covariance, float64, takes 0.8 GB with so many, and several copies are held
)
_STEPS = 32  # units after whose removal an inverse is brought up to date
_CONSTANT = 1e-6  # share of its mean square up to which the variance of an output is float32 rounding


@dataclass
class _Problem:
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


class _Elimination:
    """A problem while units fall: the weights are re-solved after every removal.

    Removing a unit is a step of optimal brain surgeon, by blocks. The inverse follows later, for many units in one
    product: until then the steps are held, and only its diagonal blocks, which the costs need, are kept up to date.

    Attributes:
        units: those left [left].
        costs: what removing each of them would cost after re-solving: added mean squared error, as a share of
            ``energy``.
    """

    def __init__(self, problem: _Problem, inverse: Tensor, energy: float) -> None:
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


@dataclass(frozen=True, eq=False)
class _OnReaders:
    """What is common to scores that look at a layer's readers on data."""

    images: Tensor = field(repr=False)
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Scores, float64 [units] for each layer."""
        check_layers(model, layers)
        check_images(model, self.images)
        found = [_solvable_readers(model, layer) for layer in layers]
        names = {name for columns in found for name, _ in columns}
        problems: dict[tuple[int, str], list[_Problem]] = {}
        scores: dict[int, Tensor] = {}

        def handle(name: str, inputs: Iterable[Tensor]) -> None:
            """Take a reader in, and score the layers of which it was the last."""
            module = model.get_submodule(name)
            moments = covariance(rows_of(module, inputs, len(self.images), int(self.seed)))
            for place, columns in enumerate(found):
                index = dict(columns).get(name)
                if index is None:
                    continue
                problems[place, name] = _problems(module, index, *moments)
                if all((place, reader) in problems for reader, _ in columns):
                    readers = [(reader, problems.pop((place, reader))) for reader, _ in columns]
                    scores[place] = _scores(self._fall(readers, layers[place].units))

        with evaluating(model):
            for group in together(model, in_order(model, names, self.images[:2]), self.images):
                visit(model, group, self.images, handle)
        return [scores[place] for place in range(len(layers))]

    def _fall(self, readers: list[tuple[str, list[_Problem]]], units: int) -> tuple[list[int], list[float]]:
        """The units in the order in which they fall, but for the last one, and at what cost each does."""
        raise NotImplementedError


def _problems(module: Any, index: Tensor, gram: Tensor, mean: Tensor) -> list[_Problem]:
    """What each group of a reader's outputs does with the units, of which row by row ``index`` has the channels."""
    weight = group_weights(module).double()
    channels = module.weight.shape[1]  # of a group
    window = weight.shape[1] // channels  # of a convolution; 1 for a linear module
    problems = []
    for group in range(len(weight)):
        (units,) = torch.where(index[:, 0] // channels == group)
        spots = (index[units] % channels)[:, :, None] * window + torch.arange(window)
        order = spots.flatten().to(weight.device)
        units = units.to(weight.device)
        problems.append(
            _Problem(units, gram[group][order][:, order], mean[group][order], weight[group][order])
        )
    return problems


def _solvable_readers(model: nn.Module, layer: Layer) -> list[tuple[str, Tensor]]:
    """Names of the modules that least squares can solve among a layer's readers, each with its columns by unit."""
    found = [(name, index) for name, index in layer.reading() if solvable(model.get_submodule(name))]
    if not found:
        raise UnsupportedModuleError(
            f"layer {layer.name!r} is read by {list(layer.readers)}, none of them a linear module or a "
            "convolution: use a criterion that looks at weights"
        )
    for name, _ in found:
        reader: Any = model.get_submodule(name)
        inputs = reader.weight[0].numel()
        if inputs > _MOST_INPUTS:
            raise UnsupportedModuleError(
                f"{name!r}, which reads layer {layer.name!r}, has {inputs:,} inputs, and their covariance would need "
                f"{8e-9 * inputs**2:.1f} GB: use a criterion that looks at weights, or a network with at most "
                f"{_MOST_INPUTS:,} inputs a module (pooled before its first linear module)"
            )
    return found


@dataclass(frozen=True, eq=False)
class ReconstructionCost(_OnReaders):
    """Greedy elimination: the unit falls first whose removal costs the layer's readers least *after re-solving them*.

    Cost is the mean squared error of a reader's output on data, as a share of that output's variance, summed over the
    layer's readers; after every removal their weights are re-solved by ridge regression, exactly (block-wise optimal
    brain surgeon). A unit's score is the cost at which it falls. What remains is what
    :func:`splinelib.pruning.reconstruct` can make most of.

    Args:
        images: calibration batch [N, ...] on the model's device.
        seed: of the positions of feature maps looked at.
        ridge: of the regression (see :data:`splinelib.regression.RIDGE`).

    A group of a grouped convolution is a reader of its own.

    Raises :class:`UnsupportedModuleError` for a layer that no convolution or linear module reads, or that one of
    more than 10,000 inputs reads; and :class:`SettingError` for images that
    :func:`splinelib.layers.images.check_images` refuses or that a reader gives a constant output on.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])  # the second is constant
    >>> model[0].bias.data = torch.zeros(3)
    >>> images = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> (score,) = ReconstructionCost(images)(model, splinelib.read_layers(model, images))
    >>> score.argmin().item()
    1
    """

    ridge: NonNegative = RIDGE

    def _eliminations(self, name: str, problems: list[_Problem]) -> list[_Elimination]:
        energy = sum(float((p.weight * (p.covariance @ p.weight)).sum()) for p in problems)
        constant = sum(float((p.mean @ p.weight).square().sum()) for p in problems)
        if energy <= _CONSTANT * constant:
            raise SettingError(
                f"{name!r} gives a constant output on the {len(self.images)} images: give others"
            )
        try:
            covariance = torch.stack([problem.covariance for problem in problems])
            inverses = torch.cholesky_inverse(cholesky(with_ridge(covariance, self.ridge)))
        except torch.linalg.LinAlgError as error:
            raise SettingError(
                f"the {len(self.images)} images do not determine the weights of {name!r} with ridge {self.ridge:g}: "
                "give more images or a larger ridge"
            ) from error
        return [
            _Elimination(problem, inverse, energy)
            for problem, inverse in zip(problems, inverses, strict=True)
        ]

    def _fall(self, readers: list[tuple[str, list[_Problem]]], units: int) -> tuple[list[int], list[float]]:
        eliminations = [one for name, problems in readers for one in self._eliminations(name, problems)]
        reading: list[list[_Elimination]] = [[] for _ in range(units)]
        for one in eliminations:
            for unit in one.units.tolist():
                reading[unit].append(one)
        order: list[int] = []
        cost = []
        while len(order) < units - 1:
            costs = torch.zeros(units, dtype=torch.float64, device=self.images.device)
            for one in eliminations:
                costs[one.units] += one.costs
            costs[order] = torch.inf
            unit = int(costs.argmin())
            order.append(unit)
            cost.append(float(costs[unit]))
            for one in reading[unit]:
                one.remove(unit)
        return order, cost


@dataclass(frozen=True, eq=False)
class ThiNet(_OnReaders):
    """ThiNet's greedy choice (Luo et al., ICCV 2017): the removed units' joint contribution to the readers stays least.

    Contributions are those to the outputs of the layer's readers, before their bias, with the weights as they are: the
    sum of what all removed units hand on has the least mean square, as a share of the whole output's, summed over
    readers. Re-solving (least squares) comes afterwards, as compensation. Arguments and errors are those of
    :class:`ReconstructionCost`.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[2].weight.data[:, 1] = 0  # nothing reads unit 1
    >>> images = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> (score,) = ThiNet(images)(model, splinelib.read_layers(model, images))
    >>> score.argmin().item()
    1
    """

    def _fall(self, readers: list[tuple[str, list[_Problem]]], units: int) -> tuple[list[int], list[float]]:
        products = torch.zeros(units, units, dtype=torch.float64, device=self.images.device)
        for _, problems in readers:
            parts = [_products(problem) for problem in problems]
            whole = torch.stack([part.sum() for part in parts]).sum()
            for problem, part in zip(problems, parts, strict=True):
                products[problem.units[:, None], problem.units] += part / whole
        added = products.diagonal().clone()  # what each unit would add to the removed ones' joint mean square
        order, cost, total = [], [], 0.0
        for _ in range(len(products) - 1):
            unit = int(added.argmin())
            total += float(added[unit])
            order.append(unit)
            cost.append(total)
            added += 2 * products[unit]
            added[unit] = torch.inf
        return order, cost


def _products(problem: _Problem) -> Tensor:
    """Inner products [units, units] on data of what the units contribute to the reader's outputs."""
    gram = problem.covariance + torch.outer(problem.mean, problem.mean)
    shape = (len(problem.units), problem.size)
    columns = torch.arange(len(gram), device=gram.device).split(problem.size)
    return torch.stack(
        [
            (gram[:, rows] @ problem.weight[rows] * problem.weight).sum(1).unflatten(0, shape).sum(1)
            for rows in columns
        ]
    )


def _scores(fallen: tuple[list[int], list[float]]) -> Tensor:
    """The costs by unit, made increasing in the order of the fall; the survivor scores twice the largest."""
    order, cost = fallen
    if not np.isfinite(cost).all():
        raise TrainingError(
            "costs of units are not finite: the network has diverged, or its readers are zero"
        )
    (survivor,) = set(range(len(order) + 1)) - set(order)
    cost = [max(value, 0.0) for value in cost]  # rounding may make a cost of nothing negative
    return falling_scores([*order, survivor], [*cost, 2 * max([*cost, 1e-12])])
