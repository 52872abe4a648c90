"""The spline criterion by groups: units linked by close boundaries are one group, and one of them stands for it.

The abstract of the paper (You et al., TMLR 2022) prunes "isolated groups of nodes that have a redundant contribution".
No code was released; single linkage is our reading of these words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from splinelib.checks import NonNegative, check_fields
from splinelib.criteria.spline import Offset, falling_scores, spline_distance
from splinelib.layers.fit import check_layers
from splinelib.layers.hyperplanes import folded
from splinelib.layers.layer import Layer


@dataclass(frozen=True)
class SplineGroups:
    """Redundancy by single linkage: a unit's score is the threshold at which another stands for its group.

    Units closer than a threshold are linked, and linked units form a group, of which the unit with the largest folded
    norm stays. As the threshold grows, groups join, and each time the weaker of two representatives falls. The
    strongest unit of a layer never falls; it scores twice the largest distance. Where :class:`.Spline` compares what is
    still there, a group also holds together by units that fell before.

    Attributes:
        rho: weight of the offset in the distance (:func:`.spline_distance`).
        offset: which offset, ``"raw"`` or ``"geometric"``.

    >>> from splinelib.layers import read_layers
    >>> model = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0], [3.0], [-2.0]]))
    >>> _ = model[0].bias.data.copy_(torch.tensor([0.0, 0.1, 9.0]))
    >>> (score,) = SplineGroups()(model, read_layers(model, torch.zeros(1, 1)))
    >>> score.argsort().tolist()  # the first two are close, and the weaker falls first
    [0, 2, 1]
    """

    rho: NonNegative = 0.05
    offset: Offset = "raw"

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Scores of each layer's units, float64 [units]; low falls first."""
        check_layers(model, layers)
        return [self.layer_score(*folded(model, layer)) for layer in layers]

    def layer_score(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Score of one layer's units from their folded hyperplanes ``weight`` [units, d] and ``bias`` [units]."""
        distance = spline_distance(weight, bias, self.rho, self.offset)
        order, fell = _fall(distance.numpy(force=True), weight.norm(dim=1).numpy(force=True))
        last = 2 * float(distance.max()) + 1e-12
        return falling_scores(order, [*fell, last]).to(distance.device)


def _fall(distance: np.ndarray, norm: np.ndarray) -> tuple[list[int], list[float]]:
    """All units in the order in which they fall, the survivor last; the distances at which all but that one do."""
    group = np.arange(len(norm))  # of each unit, its representative
    order, fell = [], []
    for first, second in _spanning_tree(distance):
        one, other = sorted((group[first], group[second]), key=lambda unit: (norm[unit], -unit))
        order.append(int(one))
        fell.append(float(distance[first, second]))
        group[group == one] = other
    return [*order, int(group[0])], fell


def _spanning_tree(distance: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of a minimum spanning tree, the closest first: those at which single linkage joins groups (Prim)."""
    left = np.arange(1, len(distance))
    nearest, closest = np.zeros(len(left), dtype=int), distance[0, 1:].copy()
    pairs = []
    while len(left):
        place = int(closest.argmin())
        unit = left[place]
        pairs.append((int(nearest[place]), int(unit)))
        left, nearest, closest = (np.delete(values, place) for values in (left, nearest, closest))
        nearer = distance[unit, left] < closest
        nearest[nearer], closest[nearer] = unit, distance[unit, left][nearer]
    return sorted(pairs, key=lambda pair: distance[pair])
