"""The spline criterion: units whose boundaries nearly coincide are redundant.

The chapter *The spline criterion* of the book gives the formulas. Decisions that no public code of the authors pins
down are marked as our reading there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.checks import NonNegative, Seed, check_fields, check_finite, check_memory, checked
from splinelib.errors import SettingError
from splinelib.layers.fit import check_layers
from splinelib.layers.hyperplanes import folded
from splinelib.layers.layer import Layer
from splinelib.progress import progress

Criterion = Callable[[nn.Module, Sequence[Layer]], list[Tensor]]
"""Scores of all layers' units, one float64 tensor [units] for each layer; the lowest score is pruned first."""

Offset = Literal["raw", "geometric"]
Drop = Literal["smaller_norm", "closer_second", "random"]
Orientation = Literal["either", "same"]

_BLOCK = 256  # rows of distances computed at once, from the diagonal on: half the products, and all in cache


@dataclass(frozen=True)
class Ranking:
    """The order in which a layer's units fall.

    ``order`` [units] lists unit indices, the first to fall first and the survivor last. ``distance`` [units]
    belongs to it position by position: the distance to its nearest remaining neighbour at which each unit fell,
    non-decreasing; infinite for the survivor.
    """

    order: np.ndarray
    distance: np.ndarray


@checked
def spline_distance(weight: Tensor, bias: Tensor, rho: NonNegative = 0.05, offset: Offset = "raw") -> Tensor:
    """Spline redundancy of every two units of a layer, float64 [units, units]; its diagonal is 0.

    ``d(k, k') = (1 − |cos(w_k, w_k')|) + ρ · Δ(k, k')``, where for ``offset="raw"`` Δ = |b_k − b_k'| and for
    ``"geometric"`` Δ = |c_k − s·c_k'| with c = b/‖w‖ and s the sign of the cosine. Two hyperplanes coincide iff
    the geometric distance is 0; it does not change when a unit's (w, b) is scaled by a positive number.

    Args:
        weight: hyperplane normals [units, d], any float dtype.
        bias: their offsets [units].
        rho: weight of the offset term, at least 0.
        offset: which offset term.

    A unit with w = 0 has no boundary. Its cosine with every unit is taken as 1, and with the geometric offset
    so is its distance term 0: such a unit is redundant whatever stands beside it.

    >>> weight = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]])
    >>> spline_distance(weight, bias=torch.zeros(3)).tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    """
    if weight.ndim != 2 or not weight.numel() or bias.shape != weight.shape[:1]:
        raise SettingError(
            f"weight and bias have shapes {tuple(weight.shape)} and {tuple(bias.shape)}: give [units, d] and [units]"
        )
    for name, values in (("weight", weight), ("bias", bias)):
        check_finite(name, values, "the network has diverged, or lower its learning rate")
    check_memory(f"the distance of every two of {len(weight)} units", 8 * len(weight) ** 2)
    weight, bias = weight.detach().double(), bias.detach().double()
    norm = weight.norm(dim=1)
    dead = norm == 0
    safe = norm.masked_fill(dead, 1.0)
    normal = weight / safe[:, None]
    place = bias if offset == "raw" else bias / safe
    distance = weight.new_empty(len(weight), len(weight))
    for start in range(0, len(weight), _BLOCK):
        rows, rest = slice(start, start + _BLOCK), slice(start, None)
        part = normal[rows] @ normal[rest].T
        other = place[rest] if offset == "raw" else torch.where(part < 0, -place[rest], place[rest])
        gap = (place[rows, None] - other).abs_()
        part.abs_().clamp_(max=1).neg_().add_(1).add_(gap, alpha=rho)
        # Rounding makes a twin's 1 − |cos| as large as 1e-15 and the two triangles differ in the last bit.
        square = part[:, : len(part)]
        square.copy_(torch.minimum(square, square.T))
        distance[rows, rest] = part
        distance[rest, rows] = part.T
    for unit in dead.nonzero()[:, 0]:
        gap = rho * (bias - bias[unit]).abs() if offset == "raw" else torch.zeros_like(bias)
        distance[unit, :] = distance[:, unit] = gap
    return distance.fill_diagonal_(0.0)


@checked
def rank_units(distance: Tensor, norm: Tensor, drop: Drop = "smaller_norm", seed: Seed = 0) -> Ranking:
    """Greedy ranking: take the closest remaining pair, drop one of the two, until one unit is left.

    Args:
        distance: symmetric, [units, units], as :func:`spline_distance` gives it.
        norm: ‖w‖ of the folded units [units]; of a pair at equal norms the higher index falls.
        drop: which of a pair falls: the one with the smaller norm, the one whose second-nearest neighbour is
            closer (it is the more redundant; if both are as close, as for the last two units, the one with the
            smaller norm), or a random one drawn with ``seed``.

    Cost: O(units²) for almost all inputs, since only the rows whose nearest neighbour fell are searched again.

    >>> distance = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    >>> ranking = rank_units(distance, norm=torch.tensor([1.0, 2.0, 1.0]))
    >>> ranking.order.tolist(), ranking.distance.tolist()
    ([0, 2, 1], [0.0, 1.0, inf])
    """
    if norm.ndim != 1 or not len(norm) or distance.shape != (len(norm), len(norm)):
        raise SettingError(
            f"distance and norm have shapes {tuple(distance.shape)} and {tuple(norm.shape)}: give [units, units] and "
            "[units], of at least one unit"
        )
    for name, values in (("distance", distance), ("norm", norm)):
        check_finite(name, values, "the network has diverged, or its distances overflow")
    left = distance.numpy(force=True).astype(np.float64)
    np.fill_diagonal(left, np.inf)
    norms = norm.numpy(force=True)
    random = np.random.default_rng(int(seed))
    # Infinite for the fallen. Added to the rows that are searched it is cheaper than a column of ``left`` each time.
    gone = np.zeros(len(left))
    nearest = left.argmin(axis=1)
    closest = left[np.arange(len(left)), nearest]
    order, fell = [], []
    for _ in range(len(left) - 1):
        first = int(closest.argmin())
        second = int(nearest[first])
        low, high = min(first, second), max(first, second)
        fall = _falling(left, gone, norms, low, high, drop, random)
        order.append(fall)
        fell.append(closest[first])
        gone[fall] = closest[fall] = np.inf
        nearest[fall] = -1
        for row in np.flatnonzero(nearest == fall):
            remaining = left[row] + gone
            nearest[row] = remaining.argmin()
            closest[row] = remaining[nearest[row]]
    survivor = np.setdiff1d(np.arange(len(left)), order)
    return Ranking(
        np.array([*order, *survivor], dtype=np.int64), np.array([*fell, *[np.inf] * len(survivor)])
    )


def _falling(
    left: np.ndarray,
    gone: np.ndarray,
    norms: np.ndarray,
    low: int,
    high: int,
    drop: Drop,
    random: np.random.Generator,
) -> int:
    """Which unit of the pair (low, high) falls."""
    if drop == "random":
        return int(random.choice([low, high]))
    if drop == "closer_second":
        rows = left[[low, high]] + gone
        rows[:, [low, high]] = np.inf
        seconds = rows.min(axis=1)
        if seconds[0] != seconds[1]:
            return low if seconds[0] < seconds[1] else high
    return low if norms[low] < norms[high] else high


def ranking_score(distance: Tensor, norm: Tensor, drop: Drop = "smaller_norm", seed: int = 0) -> Tensor:
    """Score of a layer's units, float64 [units]: the distance at which each falls in the ranking of :func:`rank_units`.

    The survivor scores twice the largest distance. Units that fall at one distance score numbers a last bit
    apart, so that sorting the scores gives back the ranking.
    """
    ranking = rank_units(distance, norm, drop, seed)
    fell = np.where(np.isinf(ranking.distance), 2 * float(distance.max()) + 1e-12, ranking.distance)
    return falling_scores(ranking.order, fell).to(distance.device)


def falling_scores(order: Sequence[int] | np.ndarray, fell: Sequence[float] | np.ndarray) -> Tensor:
    """Scores by unit, float64 [units], from all units in the order of their fall and the value at which each fell.

    A value that does not exceed the one before it is raised by a last bit, so that sorting gives back the order.
    """
    score = np.empty(len(order))
    last = -np.inf
    for unit, value in zip(order, fell, strict=True):
        last = max(value, np.nextafter(last, np.inf))
        score[unit] = last
    return torch.from_numpy(score)


@dataclass(frozen=True)
class Spline:
    """The spline criterion. A unit's score is the distance at which it falls in its layer's greedy ranking.

    The survivor of a layer, which never falls, scores twice the largest distance of the layer. ``rho``, ``offset`` and
    ``drop`` are explained at :func:`spline_distance` and :func:`rank_units`. The last two are for ablations:
    ``fold=False`` leaves batch norm out of the hyperplanes, and ``orientation="same"`` takes ``1 − cos`` for
    ``1 − |cos|``, so that units whose boundaries coincide but which are active on opposite sides count as different.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[0].weight.data = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])  # the first two are twins
    >>> model[0].bias.data = torch.zeros(3)
    >>> Spline()(model, splinelib.read_layers(model, torch.zeros(1, 2)))[0].round(decimals=6).tolist()
    [0.0, 2.0, 1.0]
    """

    rho: NonNegative = 0.05
    offset: Offset = "raw"
    drop: Drop = "smaller_norm"
    seed: Seed = 0
    fold: bool = True
    orientation: Orientation = "either"

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Scores of each layer's units, float64 [units]; low falls first."""
        check_layers(model, layers)
        return [
            self.layer_score(*folded(model, layer, norms=self.fold))
            for layer in progress(layers, "spline", unit="layer")
        ]

    def layer_score(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Score of one layer's units from their folded hyperplanes ``weight`` [units, d] and ``bias`` [units]."""
        distance = spline_distance(weight, bias, self.rho, self.offset)
        if self.orientation == "same":
            normal = torch.nn.functional.normalize(weight.detach().double(), dim=1)
            opposed = (-(normal @ normal.T)).clamp_min(0)
            distance += opposed + opposed.T  # 1 − |cos| becomes 1 + |cos|
        return ranking_score(distance, weight.norm(dim=1), self.drop, self.seed)
