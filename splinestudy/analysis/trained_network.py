"""One trained network with test images, and the tables that are read off it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.criteria.weights import Random
from splinelib.hooks import duplicate
from splinelib.layers.hyperplanes import unit_scales
from splinelib.layers.layer import Layer
from splinelib.partition import Slice2D
from splinelib.pruning.selection import select_units
from splinelib.pruning.surgery import Selection, mask_units
from splinestudy.analysis import boundary_share, overlap
from splinestudy.analysis.class_separation import class_separation
from splinestudy.analysis.local_complexity import (
    exact_local_complexity,
    local_complexity,
    random_directions,
)

CHOICES = ("least touching", "most touching", "random")
_RANDOM_CHOICES = 5


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network with what all readings of it need."""

    model: nn.Module
    layers: tuple[Layer, ...]
    inputs: Tensor
    labels: Tensor

    @property
    def example(self) -> Tensor:
        """Two inputs."""
        return self.inputs[:2]

    def accuracy(self, model: nn.Module) -> float:
        """Share of the subject's inputs that ``model`` labels right."""
        return float((boundary_share.predicted(model, self.inputs) == self.labels).double().mean())


def sampled_points(
    subject: Subject, lines: int, noise: float = 0.0, seed: int = 0
) -> boundary_share.BoundaryPoints:
    """Points of the decision boundary on ``lines`` lines between random inputs of the subject, with noise on them."""
    generator = torch.Generator().manual_seed(seed)
    ends = subject.inputs[torch.randint(len(subject.inputs), (2, lines), generator=generator)]
    if noise:
        ends = ends + noise * torch.randn(ends.shape, generator=generator)
    return boundary_share.boundary_points(subject.model, ends[0], ends[1])


def channel_rows(subject: Subject, rates: Sequence[Tensor]) -> list[dict[str, Any]]:
    """One row for each unit: layer, unit, scale |γ|, separation, standardised separation, touch rate.

    The standardised separation is that of pre-activations divided by |γ|, so of the normalised input of scale and
    shift: whatever correlation is left there does not come from the scale's being a factor.
    """
    model, layers = subject.model, subject.layers
    raw = class_separation(model, layers, subject.inputs, subject.labels)
    linear = class_separation(model, layers, subject.inputs, subject.labels, rectified=False)
    rows = []
    for number, layer in enumerate(layers):
        scale = unit_scales(model, layer)
        values = {
            "scale": scale,
            "separation": raw[number],
            "standardised": linear[number] / scale.clamp_min(1e-12),
            "rate": rates[number],
        }
        for unit in range(layer.units):
            row: dict[str, Any] = {"layer": layer.name, "unit": unit}
            rows.append(row | {name: float(value[unit]) for name, value in values.items()})
    return rows


def removal_rows(subject: Subject, rates: Sequence[Tensor], ratios: Sequence[float]) -> list[dict[str, Any]]:
    """Accuracy without retraining after masking units by how often they touch the decision boundary.

    Rows: choice (:data:`CHOICES`, layer by layer the same share, ``random`` five times; or ``never touching``, ratio 0:
    all units that no sampled pair of points is told apart by, and as many of each layer at random), ratio, units,
    accuracy.
    """
    layers = subject.layers
    never = {
        layer.name: (rate == 0).nonzero()[:, 0].tolist()[: layer.units - 1]
        for layer, rate in zip(layers, rates, strict=True)
        if bool((rate == 0).any())
    }
    generator = torch.Generator().manual_seed(0)
    as_many = {
        layer.name: torch.randperm(layer.units, generator=generator)[: len(never[layer.name])].tolist()
        for layer in layers
        if layer.name in never
    }
    chosen: list[tuple[str, float, Selection]] = [
        ("never touching", 0.0, never),
        ("random, as many as never touch", 0.0, as_many),
    ]
    for ratio in ratios:
        scores = [("least touching", list(rates)), ("most touching", [-rate for rate in rates])]
        scores += [("random", Random(seed)(subject.model, layers)) for seed in range(_RANDOM_CHOICES)]
        chosen += [(name, ratio, select_units(layers, score, ratio)) for name, score in scores]
    return [
        {
            "choice": name,
            "ratio": ratio,
            "units": sum(map(len, selection.values())),
            "accuracy": subject.accuracy(mask_units(subject.model, subject.example, selection)),
        }
        for name, ratio, selection in chosen
    ]


def boundary_windows(
    subject: Subject, points: boundary_share.BoundaryPoints, count: int, regions: int
) -> list[Slice2D]:
    """Small squares around the first ``count`` points of the decision boundary, in random planes through them."""
    windows = []
    for number in range(min(count, len(points.inputs))):
        first, second = random_directions(subject.inputs.shape[1:], 2, seed=number)
        point = points.inputs[number]
        windows.append(boundary_share.window_around(subject.model, point, first, second, regions))
    return windows


def effect_rows(
    subject: Subject, selections: dict[float, dict[str, Selection]], windows: Sequence[Slice2D]
) -> list[dict[str, Any]]:
    """Rows: criterion, ratio, shares of regions and of boundary length gone, accuracy without retraining."""
    rows = []
    for ratio, chosen in selections.items():
        for row in overlap.effects_table(subject.model, subject.example, chosen, windows):
            masked = mask_units(subject.model, subject.example, chosen[str(row["criterion"])])
            rows.append({"ratio": ratio, **row, "accuracy": subject.accuracy(masked)})
    return rows


def complexity_rows(points: Tensor, model: nn.Module, radii: Sequence[float]) -> list[dict[str, float]]:
    """Local complexity in random planes, by corners and exact: rows with radius, estimate and exact (max pools aside).

    Args:
        points: ``[N, *input]``.
        radii: in units of the inputs.
    """
    rows = []
    model = duplicate(model).double()
    for number, point in enumerate(points.double()):
        plane = random_directions(point.shape, 2, seed=number)
        for radius in radii:
            estimate = int(local_complexity(model, point[None], plane, radius).sum())
            exact = exact_local_complexity(model, point, plane[0], plane[1], radius)
            rows.append({"radius": radius, "estimate": estimate, "exact": sum(exact.values())})
    return rows
