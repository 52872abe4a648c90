"""Scores that need no data and serve as baselines: random, filter norm, distance to other filters, batch-norm scale.

Each is a :data:`splinelib.criteria.spline.Criterion`: called with a model and its layers it gives one score per unit,
and the units with the lowest scores are pruned first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from splinelib.checks import Seed, check_fields
from splinelib.layers.fit import check_layers
from splinelib.layers.hyperplanes import raw_rows, unit_scales
from splinelib.layers.layer import Layer


@dataclass(frozen=True)
class Random:
    """Uniform random scores drawn with ``seed``: what any criterion has to beat.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> layers = splinelib.read_layers(model, torch.zeros(1, 2))
    >>> [score.shape for score in Random(seed=0)(model, layers)]
    [torch.Size([3])]
    """

    seed: Seed

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Scores in [0, 1), float64 [units] for each layer."""
        check_layers(model, layers)
        generator = torch.Generator().manual_seed(int(self.seed))
        return [torch.rand(layer.units, generator=generator, dtype=torch.float64) for layer in layers]


@dataclass(frozen=True)
class FilterNorm:
    """L1 (Li et al., ICLR 2017) or L2 norm of a unit's own weights, batch norm not folded in.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[0].weight.data = torch.tensor([[3.0, 4.0], [0.0, -1.0], [2.0, 0.0]])
    >>> FilterNorm(order=2)(model, splinelib.read_layers(model, torch.zeros(1, 2)))
    [tensor([5., 1., 2.], dtype=torch.float64)]
    """

    order: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Norms, float64 [units] for each layer; the rows of several writers count as one."""
        check_layers(model, layers)
        return [raw_rows(model, layer).norm(p=self.order, dim=1) for layer in layers]


@dataclass(frozen=True)
class FPGM:
    """Sum of a unit's Euclidean distances to all others of its layer (He et al., CVPR 2019): the most central falls.

    Torch-Pruning's importance of this name takes distances between powers of absolute weights, which is another score.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[0].weight.data = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    >>> FPGM()(model, splinelib.read_layers(model, torch.zeros(1, 2)))[0].round().tolist()
    [4.0, 3.0, 5.0]
    """

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Sums of distances, float64 [units] for each layer; the rows of several writers stand side by side."""
        check_layers(model, layers)
        return [_distance_sums(raw_rows(model, layer)) for layer in layers]


def _distance_sums(rows: Tensor) -> Tensor:
    return torch.cdist(rows, rows, compute_mode="use_mm_for_euclid_dist").fill_diagonal_(0.0).sum(1)


@dataclass(frozen=True)
class BatchNormScale:
    """|γ| of the unit's batch norm: network slimming's score (Liu et al., ICCV 2017), trained with L1 on γ there.

    Raises :class:`splinelib.errors.UnsupportedModuleError` for a layer without batch norm.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[1].weight.data = torch.tensor([0.5, -2.0, 1.0])
    >>> BatchNormScale()(model, splinelib.read_layers(model, torch.zeros(1, 2)))[0].tolist()
    [0.5, 2.0, 1.0]
    """

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Scales, float64 [units] for each layer."""
        check_layers(model, layers)
        return [unit_scales(model, layer) for layer in layers]
