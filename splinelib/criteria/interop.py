"""The spline criterion as a Torch-Pruning importance, for any of that library's pruners. Needs torch-pruning."""

from typing import Any

import torch
import torch_pruning
from torch import Tensor

from splinelib.criteria.spline import Spline
from splinelib.layers.hyperplanes import folded
from splinelib.layers.tracing import read_group


class SplineImportance(torch_pruning.importance.Importance):
    """Importance of a group of coupled channels: the distance at which each falls in the spline ranking.

    Scores are divided by their mean over the group, as ``select_units(..., scope="global")`` does.

    Args:
        criterion: the spline criterion with its settings; by default :class:`splinelib.Spline` as it is.

    >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> pruner = torch_pruning.pruner.BasePruner(
    ...     model, torch.zeros(1, 2), SplineImportance(), pruning_ratio=0.5, ignored_layers=[model[2]]
    ... )
    >>> pruner.step()
    >>> model[0].out_features
    2
    """

    def __init__(self, criterion: Spline | None = None) -> None:
        self.criterion = criterion or Spline()

    @torch.no_grad()
    def __call__(self, group: Any) -> Tensor | None:
        """Importance of the group's channels, float64 [units], low first to go; None where they must stay."""
        graph = group._DG
        layer = read_group(graph, group)
        if layer is None:
            return None
        score = self.criterion.layer_score(*folded(graph.model, layer))
        return score / score.mean()
