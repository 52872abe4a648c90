"""Data-driven selection: drop the unit that the next layers miss least, one after the other. Needs images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.checks import check_images
from splinelib.criterion import falling_scores
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.groups import reading_columns
from splinelib.network import Layer, dependency_graph
from splinelib.reconstruction import RIDGE, covariances, equations, solvable
from splinelib.taps import evaluating

_MOST_INPUTS = (
    10_000  # of a reader: its covariance, float64, takes 0.8 GB with so many, and several copies are held
)
_CONSTANT = 1e-6  # share of its mean square up to which the variance of an output is float32 rounding


@dataclass
class _Reader:
    """A reader's problem while units fall: its inputs in blocks of one unit, ``size`` columns each.

    ``inverse`` [d, d] is that of the covariance of the inputs left, ``weight`` [d, out] what the reader does with them
    (re-solved after every removal), ``energy`` the mean square of its output in the dense network.
    """

    inverse: Tensor
    weight: Tensor
    size: int
    energy: float

    def costs(self) -> Tensor:
        """What removing each unit left would cost after re-solving: added mean squared error, as a share [left]."""
        left = len(self.weight) // self.size
        place = torch.arange(left, device=self.weight.device)
        blocks = self.inverse.view(left, self.size, left, self.size)[place, :, place]
        weight = self.weight.view(left, self.size, -1)
        return (weight * torch.linalg.solve(blocks, weight)).sum((1, 2)) / self.energy

    def remove(self, place: int) -> None:
        """Take away the unit at ``place`` among those left and re-solve: a step of optimal brain surgeon, by blocks."""
        gone = torch.zeros(len(self.weight), dtype=torch.bool, device=self.weight.device)
        gone[place * self.size : (place + 1) * self.size] = True
        column = self.inverse[:, gone]
        step = torch.linalg.solve(column[gone], column.T).T
        self.weight = (self.weight - step @ self.weight[gone])[~gone]
        self.inverse = (self.inverse - step @ column.T)[~gone][:, ~gone]


@dataclass(frozen=True, eq=False)
class _OnReaders:
    """What is common to scores that look at a layer's readers on data."""

    images: Tensor = field(repr=False)
    seed: int = 0

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Scores, float64 [units] for each layer."""
        check_images(model, self.images)
        graph = dependency_graph(model, self.images[:2])
        found = [_solvable_readers(graph, layer) for layer in layers]
        scores = []
        for columns in found:
            with evaluating(model):
                readers = [self._reader(model, name, index) for name, index in columns]
            scores.append(_scores(self._fall(readers)))
        return scores

    def _fall(self, readers: list[Any]) -> tuple[list[int], list[float]]:
        raise NotImplementedError

    def _reader(self, model: nn.Module, name: str, index: Tensor) -> Any:
        raise NotImplementedError

    def _covariance(self, model: nn.Module, name: str, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Covariance [d, d] and mean [d] of what a reader meets and its weights [d, out], unit by unit."""
        module: Any = model.get_submodule(name)
        weight = module.weight.detach().flatten(1).double().T
        window = weight.shape[0] // module.weight.shape[1]  # of a convolution; 1 for a linear module
        order = (index[:, :, None] * window + torch.arange(window)).flatten().to(weight.device)
        gram, _, mean, _ = covariances(equations(model, model, name, self.images, self.seed))
        return gram[order][:, order], mean[order], weight[order]


def _solvable_readers(graph: Any, layer: Layer) -> list[tuple[str, Tensor]]:
    """Names of the modules that least squares can solve among a layer's readers, each with its columns by unit."""
    columns = reading_columns(graph, layer.name, layer.units)
    found = [(graph._module2name[module], index) for module, index in columns if solvable(module)]
    if not found:
        raise UnsupportedModuleError(
            f"layer {layer.name!r} is read by {list(layer.readers)}, none of them a linear module or a "
            "convolution of one group: use a criterion that looks at weights"
        )
    for name, _ in found:
        inputs = graph.model.get_submodule(name).weight[0].numel()
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
    :func:`splinelib.reconstruct` can make most of.

    Args:
        images: calibration batch [N, ...] on the model's device.
        seed: of the positions of feature maps looked at.
        ridge: of the regression (see :data:`splinelib.reconstruction.RIDGE`).

    Raises :class:`UnsupportedModuleError` for a layer that no convolution (of one group) or linear module reads, or
    that one of more than 10,000 inputs reads; and :class:`SettingError` for images that
    :func:`splinelib.checks.check_images` refuses or that a reader gives a constant output on.
    """

    ridge: float = RIDGE

    def _reader(self, model: nn.Module, name: str, index: Tensor) -> _Reader:
        gram, mean, weight = self._covariance(model, name, index)
        energy = float((weight * (gram @ weight)).sum())
        if energy <= _CONSTANT * float((mean @ weight).square().sum()):
            raise SettingError(
                f"{name!r} gives a constant output on the {len(self.images)} images: give others"
            )
        pull = self.ridge * gram.diagonal().mean()
        try:
            inverse = torch.linalg.inv(
                gram + pull * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
            )
        except torch.linalg.LinAlgError as error:
            raise SettingError(
                f"the {len(self.images)} images do not determine the weights of {name!r} with ridge {self.ridge:g}: "
                "give more images or a larger ridge"
            ) from error
        return _Reader(inverse, weight, len(gram) // len(index), energy)

    def _fall(self, readers: list[_Reader]) -> tuple[list[int], list[float]]:
        left = list(range(len(readers[0].weight) // readers[0].size))
        order, cost = [], []
        while len(left) > 1:
            costs = torch.stack([reader.costs() for reader in readers]).sum(0)
            place = int(costs.argmin())
            order.append(left.pop(place))
            cost.append(float(costs[place]))
            for reader in readers:
                reader.remove(place)
        return order, cost


@dataclass(frozen=True, eq=False)
class ThiNet(_OnReaders):
    """ThiNet's greedy choice (Luo et al., ICCV 2017): the removed units' joint contribution to the readers stays least.

    Contributions are those to the outputs of the layer's readers, before their bias, with the weights as they are: the
    sum of what all removed units hand on has the least mean square, as a share of the whole output's, summed over
    readers. Re-solving (least squares) comes afterwards, as compensation. Arguments and errors are those of
    :class:`ReconstructionCost`.
    """

    def _reader(self, model: nn.Module, name: str, index: Tensor) -> Tensor:
        """Inner products of the units' contributions [units, units], as shares of the whole output's mean square."""
        gram, mean, weight = self._covariance(model, name, index)
        gram = gram + torch.outer(mean, mean)
        size = len(gram) // len(index)
        products = torch.stack(
            [
                (gram[:, rows] @ weight[rows] * weight).sum(1).unflatten(0, (len(index), size)).sum(1)
                for rows in torch.arange(len(gram), device=gram.device).split(size)
            ]
        )
        return products / products.sum()

    def _fall(self, readers: list[Tensor]) -> tuple[list[int], list[float]]:
        products = torch.stack(readers).sum(0)
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


def _scores(fallen: tuple[list[int], list[float]]) -> Tensor:
    """The costs by unit, made increasing in the order of the fall; the survivor scores twice the largest."""
    order, cost = fallen
    (survivor,) = set(range(len(order) + 1)) - set(order)
    cost = [max(value, 0.0) for value in cost]  # rounding may make a cost of nothing negative
    return falling_scores([*order, survivor], [*cost, 2 * max([*cost, 1e-12])])
