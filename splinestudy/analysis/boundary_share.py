"""Which units' boundaries meet the decision boundary: sampled in the whole input space, exact in small windows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.errors import SettingError
from splinelib.hooks import evaluating
from splinelib.layers.layer import Layer
from splinelib.partition import Partition, Slice2D, compute_partition, count_regions
from splinestudy.analysis.pre_activations import pre_activations, tap_of_layer

_BATCH = 500  # inputs in one forward pass
_LEAST = 4  # sampled points between two classes, with fewer their boundary says nothing
_MAX_REGIONS = 200_000  # of a window
_WINDOW_STEPS = 16  # factors of two in the side: from 0.01 to 650 of the directions' length


@dataclass(frozen=True, eq=False)
class BoundaryPoints:
    """Points on the decision boundary: inputs ``[N, *input]``, and the two classes ``[N, 2]`` that meet there."""

    inputs: Tensor
    classes: Tensor


def predicted(model: nn.Module, inputs: Tensor) -> Tensor:
    """Class with the largest output for each input, ``[N]``, in eval mode."""
    with evaluating(model):
        return torch.cat([model(part).argmax(1) for part in inputs.split(_BATCH)])


def boundary_points(model: nn.Module, first: Tensor, second: Tensor, steps: int = 24) -> BoundaryPoints:
    """One point of the decision boundary on each straight line between inputs of different predicted classes.

    Bisection keeps a part of the line at whose ends the predictions differ; after ``steps`` halvings it is shorter than
    the line by ``2**steps``, and its middle is returned with the two classes at its ends. Lines whose ends are
    predicted alike are left out.

    Args:
        first, second: ends of the lines, ``[N, *input]`` each, on the model's device.
    """
    if first.shape != second.shape:
        raise SettingError(f"ends have shapes {tuple(first.shape)} and {tuple(second.shape)}: give one shape")
    different = predicted(model, first) != predicted(model, second)
    low, high = first[different], second[different]
    start = predicted(model, low)
    for _ in range(steps):
        middle = (low + high) / 2
        same = (predicted(model, middle) == start).reshape(-1, *[1] * (low.ndim - 1))
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    classes = torch.stack([start, predicted(model, high)], dim=1)
    return BoundaryPoints((low + high) / 2, classes.sort(dim=1).values)


def touch_rates(model: nn.Module, points: BoundaryPoints) -> list[Tensor]:
    """How often a unit's boundary comes between two points of the decision boundary.

    A unit that is active at one point of a connected decision boundary and inactive at another has its own boundary
    cross it somewhere in between. So for every two classes with at least four sampled points this counts, unit by
    unit and position by position, the share of pairs of points with different signs. Pieces of the decision boundary
    between two classes need not be connected: what is counted may then pass between them.

    Returns:
        For each non-linearity a float64 tensor ``[units, ...]`` in [0, 1], the mean over the pairs of classes, with the
        largest at 1/2 or little above it; 0 where no sampled pair is told apart.

    Raises:
        SettingError: no two classes have as many points.
    """
    codes = (
        points.classes[:, 0] * (int(points.classes.amax() if len(points.classes) else 0) + 1)
        + points.classes[:, 1]
    )
    names, counts = codes.unique(return_counts=True)
    if not (names[counts >= _LEAST]).numel():
        raise SettingError(f"{len(codes)} boundary points, no two classes with {_LEAST} of them: sample more")
    total: list[Tensor] = []
    kept = names[counts >= _LEAST]
    for name in kept:
        group = points.inputs[codes == name]
        for index, z in enumerate(pre_activations(model, group)):
            active = (z > 0).sum(0).double()
            rate = 2 * active * (len(group) - active) / (len(group) * (len(group) - 1))
            if index == len(total):
                total.append(torch.zeros_like(rate))
            total[index] += rate / len(kept)
    return total


def touching_share(rates: Sequence[Tensor]) -> list[dict[str, float]]:
    """For each layer of :func:`touch_rates`: how many units (of a convolution: channels and positions) touch.

    Keys: units, positions (all of them), units_touching (share of units, any position), positions_touching (share).
    """
    rows = []
    for rate in rates:
        flat = rate.reshape(len(rate), -1)
        rows.append(
            {
                "units": len(flat),
                "positions": flat.numel(),
                "units_touching": float((flat > 0).any(1).double().mean()),
                "positions_touching": float((flat > 0).double().mean()),
            }
        )
    return rows


def unit_rates(
    model: nn.Module, layers: Sequence[Layer], example_inputs: Tensor, points: BoundaryPoints
) -> list[Tensor]:
    """:func:`touch_rates` of each layer's units ``[units]``, the mean over positions: a criterion's scores."""
    rates = touch_rates(model, points)
    taps = tap_of_layer(model, layers, example_inputs)
    return [rates[tap].reshape(len(rates[tap]), -1).mean(1) for tap in taps]


def turning(partition: Partition) -> np.ndarray:
    """By how much each unit bends the decision boundary within the slice: summed angles in radians, ``[units]``.

    Raises:
        SettingError: the partition was computed without ``boundary=True``.
    """
    if partition.boundary is None:
        raise SettingError("this partition holds no decision boundary; compute it with boundary=True")
    total = np.zeros(partition.units)
    for line in partition.boundary.polylines():
        steps = np.diff(line.points, axis=0)
        keep = np.linalg.norm(steps, axis=1) > 0
        heading = np.arctan2(steps[:, 1], steps[:, 0])
        closed = len(line.points) > 3 and np.allclose(line.points[0], line.points[-1])
        places = range(0 if closed else 1, len(steps))
        for place in places:
            if keep[place] and keep[place - 1] and line.units[place] >= 0:
                turn = heading[place] - heading[place - 1]
                total[line.units[place]] += abs((turn + np.pi) % (2 * np.pi) - np.pi)
    return total


def few_hold(values: np.ndarray, share: float = 0.9) -> float:
    """Least share of the entries of ``values [n]``, none below 0, that add up to ``share`` of their sum, or NaN."""
    if values.sum() <= 0:
        return float("nan")
    cumulated = np.cumsum(np.sort(values)[::-1]) / values.sum()
    return float(np.searchsorted(cumulated, share - 1e-12) + 1) / len(values)


def window_around(model: nn.Module, point: Tensor, first: Tensor, second: Tensor, regions: int) -> Slice2D:
    """A square around ``point`` in the plane of two directions that holds about ``regions`` regions, half to twice.

    The square grows from a tiny one, or shrinks. Where many boundaries meet in the point itself (max pools over pixels
    of equal value do) no square holds so few; then it is the smallest one tried.
    """
    side = 1e-2 * float(torch.linalg.vector_norm(first.double()))
    square = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    whole, before = Slice2D(point, first, second, side * square), float("inf")
    for _ in range(_WINDOW_STEPS):
        count = count_regions(model, whole, threads=1)
        if regions / 2 <= count <= 2 * regions or 2 * regions < count > 0.8 * before:
            break
        before = count if count > regions else float("inf")
        side *= min(2.0, (regions / count) ** 0.5)
        whole = whole.within(side * square)
    return whole


def window_rows(partition: Partition) -> list[dict[str, object]]:
    """For each layer of units, and for all: the shares of units that cross the window and touch, and the turning.

    Keys: layer, units, crossing, touching (shares of all units), few (least share of the touching units that makes
    up 90 % of the turning of the decision boundary).
    """
    if partition.boundary is None:
        raise SettingError("this partition holds no decision boundary; compute it with boundary=True")
    crossing = np.unique(partition.edge_unit[partition.edge_lane >= 0])
    bend = turning(partition)
    rows: list[dict[str, object]] = []
    for name, first, units in [
        *((a.name, a.first, a.units) for a in partition.layers),
        ("all", 0, partition.units),
    ]:
        inside = [u[(u >= first) & (u < first + units)] for u in (crossing, partition.boundary.touching)]
        row: dict[str, object] = {"layer": name, "units": units, "crossing": len(inside[0]) / units}
        row |= {"touching": len(inside[1]) / units, "few": few_hold(bend[inside[1]])}
        rows.append(row)
    return rows


def exact_window(model: nn.Module, window: Slice2D) -> Partition:
    """The exact partition of a window with its decision boundary, on one thread."""
    return compute_partition(model, window, boundary=True, max_regions=_MAX_REGIONS, threads=1)
