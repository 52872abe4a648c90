"""Data-driven selection: drop the unit that the next layers miss least, one after the other. Needs images."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.checks import NonNegative, Seed, check_fields
from splinelib.criteria.brain_surgeon import Elimination, Problem
from splinelib.criteria.spline import falling_scores
from splinelib.errors import SettingError, TrainingError, UnsupportedModuleError
from splinelib.hooks import evaluating
from splinelib.layers.fit import check_layers
from splinelib.layers.images import calibration_images
from splinelib.layers.layer import Layer
from splinelib.layers.moments import moments_read
from splinelib.layers.patches import group_weights, solvable
from splinelib.layers.visits import Rows, image_rows, in_order, together, visit
from splinelib.progress import progress
from splinelib.regression import RIDGE, cholesky, with_ridge

_MOST_INPUTS = (
    10_000  # of a reader: its covariance, float64, takes 0.8 GB with so many, and several copies are held
)
_CONSTANT = 1e-6  # share of its mean square up to which the variance of an output is float32 rounding


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
        calibration_images(model, self.images)
        found = [_solvable_readers(model, layer) for layer in layers]
        names = {name for columns in found for name, _ in columns}
        problems: dict[tuple[int, str], list[Problem]] = {}
        scores: dict[int, Tensor] = {}

        def handle(name: str, inputs: Iterable[Tensor]) -> None:
            """Take a reader in, and score the layers of which it was the last."""
            module = model.get_submodule(name)
            moments = moments_read(module, inputs, len(self.images), int(self.seed))
            for place, columns in enumerate(found):
                index = dict(columns).get(name)
                if index is None:
                    continue
                problems[place, name] = _problems(module, index, *moments)
                if all((place, reader) in problems for reader, _ in columns):
                    readers = [(reader, problems.pop((place, reader))) for reader, _ in columns]
                    scores[place] = _scores(self._fall(readers, layers[place].units))

        with evaluating(model):
            order = in_order(model, names, self.images[:2])
            rows = image_rows(model, order, self.images)
            _check_read(names, rows)
            groups = together(model, order, self.images)
            bar = iter(progress(range(len(names)), type(self).__name__, unit="reader"))

            def counted(name: str, inputs: Iterable[Tensor]) -> None:
                next(bar)
                handle(name, inputs)

            for group in groups:
                visit(model, group, self.images, counted, rows)
        return [scores[place] for place in range(len(layers))]

    def _fall(self, readers: list[tuple[str, list[Problem]]], units: int) -> tuple[list[int], list[float]]:
        """The units in the order in which they fall, but for the last one, and at what cost each does."""
        raise NotImplementedError


def _check_read(names: Collection[str], rows: Mapping[str, Rows]) -> None:
    """Raise :class:`UnsupportedModuleError` for readers that do not read as much of every image."""
    if missing := sorted(names - rows.keys()):
        raise UnsupportedModuleError(
            f"{missing[0]!r} does not read equally much of every image, or did not run on the first two: use a "
            "criterion that looks at weights, or name what it reads in `ignore`"
        )


def _problems(module: Any, index: Tensor, gram: Tensor, mean: Tensor) -> list[Problem]:
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
            Problem(units, gram[group][order][:, order], mean[group][order], weight[group][order])
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
    :func:`splinelib.layers.images.calibration_images` refuses or that a reader gives a constant output on.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])  # the second is constant
    >>> model[0].bias.data = torch.zeros(3)
    >>> images = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> (score,) = ReconstructionCost(images)(model, splinelib.read_layers(model, images))
    >>> score.argmin().item()
    1
    """

    ridge: NonNegative = RIDGE

    def _eliminations(self, name: str, problems: list[Problem]) -> list[Elimination]:
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
            Elimination(problem, inverse, energy) for problem, inverse in zip(problems, inverses, strict=True)
        ]

    def _fall(self, readers: list[tuple[str, list[Problem]]], units: int) -> tuple[list[int], list[float]]:
        eliminations = [one for name, problems in readers for one in self._eliminations(name, problems)]
        reading: list[list[Elimination]] = [[] for _ in range(units)]
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

    def _fall(self, readers: list[tuple[str, list[Problem]]], units: int) -> tuple[list[int], list[float]]:
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


def _products(problem: Problem) -> Tensor:
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
