"""Functional criteria: units are compared by what they do to data, not by their weights.

Where the spline criterion asks whether two hyperplanes coincide in a layer's input space, these ask whether they do
on the data that arrive there: whether two units cut the data in the same place, or hand the same values on. The
ranking from distances is the same (:func:`splinelib.criteria.spline.rank_units`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from splinelib.checks import Count, Seed, check_fields, checked
from splinelib.criteria.spline import Drop, ranking_score
from splinelib.errors import SettingError, TrainingError, UnsupportedModuleError
from splinelib.hooks import Observer, evaluating, watched
from splinelib.layers.channel_selection import ChannelSelection
from splinelib.layers.fit import check_layers
from splinelib.layers.hyperplanes import folded
from splinelib.layers.images import check_fit
from splinelib.layers.kinds import channel_axis
from splinelib.layers.layer import Layer
from splinelib.progress import progress

_CHUNK = 64  # images in one forward pass: bounds memory, leaves the result as it is
CONSTANT = 1e-10
"""Share of a unit's mean square up to which its variance counts as zero: rounding leaves as much of a constant."""


@dataclass
class Moments:
    """Sums over ``count`` observations of a layer: ``gram`` [units, units] of products, ``total`` [units], float64."""

    gram: Tensor
    total: Tensor
    count: int = 0

    def add(self, rows: Tensor) -> None:
        """Take in observations [n, units]."""
        self.gram += rows.T @ rows
        self.total += rows.sum(0)
        self.count += len(rows)


@dataclass(frozen=True, eq=False)
class _OnImages:
    images: Tensor = field(repr=False)
    positions: Count = 64
    drop: Drop = "smaller_norm"
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.images.ndim < 2 or len(self.images) == 0:
            raise SettingError(
                f"images have shape {tuple(self.images.shape)}: pass a non-empty batch [N, ...]"
            )


@dataclass(frozen=True, eq=False)
class CodeDistance(_OnImages):
    """Distance of two units' activation codes: the share δ of images and positions at which their signs differ.

    Up to orientation, ``d = min(δ, 1 − δ)``, since a unit and its opposite cut the data in the same place. A score is
    the distance at which a unit falls; of a pair that with the smaller folded norm falls, as for
    :class:`splinelib.Spline`.

    A unit's sign is that of its pre-activation (zero counts as inactive): the output of its writer, batch norm
    included, or of its :class:`~splinelib.layers.channel_selection.ChannelSelection`. Coupled units, which several
    modules write, are
    seen where they are read: at the inputs of all the layer's readers, with equal weight for each position.

    Args:
        images: batch [N, ...] on the model's device.
        positions: of a feature map at most this many, the same for all images, drawn with ``seed``.
        drop: which of a pair falls (see :func:`splinelib.criteria.spline.rank_units`).
        seed: of the positions and of ``drop="random"``.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[0].weight.data = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])  # the first two are twins
    >>> model[0].bias.data = torch.zeros(3)
    >>> images = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> CodeDistance(images)(model, splinelib.read_layers(model, images))[0].round(decimals=6).tolist()
    [0.0, 1.0, 0.5]
    """

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Scores, float64 [units] for each layer."""
        check_layers(model, layers)
        return [
            ranking_score(distance, folded(model, layer)[0].norm(dim=1), self.drop, self.seed)
            for layer, distance in zip(layers, self.distances(model, layers), strict=True)
        ]

    def distances(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """``min(δ, 1 − δ)`` of every two units, float64 [units, units] in [0, ½] for each layer."""
        check_layers(model, layers)
        seen = observe_moments(model, layers, self.images, self.positions, self.seed, codes=True)
        return [((1 - moments.gram.abs() / moments.count) / 2).fill_diagonal_(0.0) for moments in seen]


@dataclass(frozen=True, eq=False)
class OutputAngle(_OnImages):
    """Angle between two units' outputs over data: ``d = 1 − |cos(y_k, y_k')|``; 0 if one is a multiple of the other.

    y_k holds what the unit's readers read of it, non-linearity and pooling included, at all images and positions.
    ``centred`` (the default) takes its mean off first: a constant is no information, and the next layer's bias or
    batch norm makes up for it. Then ``d = 1 − |correlation|``. A unit that is zero (centred: constant) is redundant
    whatever stands beside it, at distance 0. Of a pair that with the smaller output ``‖y_k‖`` (centred: deviation)
    falls.

    ``images``, ``positions``, ``drop`` and ``seed`` are those of :class:`CodeDistance`.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[0].weight.data = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])  # the first two are twins
    >>> model[0].bias.data = torch.zeros(3)
    >>> images = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> OutputAngle(images)(model, splinelib.read_layers(model, images))[0].round(decimals=6).tolist()
    [0.0, 2.0, 1.0]
    """

    centred: bool = True

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Scores, float64 [units] for each layer."""
        check_layers(model, layers)
        return [
            ranking_score(*_angles(moments, self.centred), self.drop, self.seed)
            for moments in observe_moments(model, layers, self.images, self.positions, self.seed)
        ]

    def distances(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """``1 − |cos|`` of every two units, float64 [units, units] in [0, 1] for each layer."""
        check_layers(model, layers)
        seen = observe_moments(model, layers, self.images, self.positions, self.seed)
        return [_angles(moments, self.centred)[0] for moments in seen]


def _angles(moments: Moments, centred: bool) -> tuple[Tensor, Tensor]:
    """Distances [units, units] and the outputs' norms [units]."""
    gram, mean_square = moments.gram, moments.gram.diagonal()
    if centred:
        gram = gram - torch.outer(moments.total, moments.total) / moments.count
    square = gram.diagonal()
    dead = square <= CONSTANT * mean_square
    norm = square.clamp_min(0).sqrt().masked_fill(dead, 0.0)
    safe = norm.masked_fill(dead, 1.0)
    alignment = (gram / safe[:, None] / safe).abs().clamp_max(1)
    distance = 1 - alignment.masked_fill(dead[:, None] | dead, 1.0)
    return torch.minimum(distance, distance.T).fill_diagonal_(0.0), norm


@checked
def observe_moments(
    model: nn.Module,
    layers: Sequence[Layer],
    images: Tensor,
    positions: Count = 64,
    seed: Seed = 0,
    codes: bool = False,
) -> list[Moments]:
    """First and second moments of each layer's units over images and positions, in eval mode.

    Args:
        model: a network; left as it is.
        layers: its prunable layers.
        images: batch [N, ...] on the model's device.
        positions: how many positions of a feature map count, at most.
        seed: of the positions.
        codes: False looks at the values at all readers; True at the codes, ±1, as :class:`CodeDistance` explains.

    Raises :class:`UnsupportedModuleError` where a unit cannot be told from what a module reads (a concatenation, a
    grouped convolution over other channels, no reader), :class:`TrainingError` for values that are not finite, and
    :class:`SettingError` for images that are not, or that the model does not take.
    """
    check_layers(model, layers)
    check_fit(model, images)
    seen = []
    inputs: dict[str, Observer] = {}
    outputs: dict[str, Observer] = {}
    for layer in layers:
        moments = Moments(
            torch.zeros(layer.units, layer.units, dtype=torch.float64, device=images.device),
            torch.zeros(layer.units, dtype=torch.float64, device=images.device),
        )
        seen.append(moments)
        place = _pre_activation(model, layer) if codes else None
        names, watch = (layer.readers, inputs) if place is None else ((place,), outputs)
        for name in names:
            if name in watch:
                raise UnsupportedModuleError(
                    f"{name!r} reads units of several layers, {layer.name!r} among them (a concatenation): such units "
                    "cannot be told apart, use a criterion that looks at weights"
                )
            watch[name] = _observer(model, layer, name, moments, positions, seed, codes)
    with evaluating(model), watched(model, inputs, outputs):
        for chunk in progress(images.split(_CHUNK), "activations", unit="batch"):
            model(chunk)
    for layer, moments in zip(layers, seen, strict=True):
        _check(layer, moments)
    return seen


def _pre_activation(model: nn.Module, layer: Layer) -> str | None:
    """The module whose output is the layer's pre-activation; None for coupled units."""
    if isinstance(model.get_submodule(layer.name), ChannelSelection):
        return layer.name
    if len(layer.writers) > 1:
        return None
    return layer.writers[0].norm or layer.writers[0].module


def _observer(
    model: nn.Module, layer: Layer, name: str, moments: Moments, positions: int, seed: int, codes: bool
) -> Observer:
    """Adds what the module ``name`` reads or writes of the layer's units to ``moments``."""
    module = model.get_submodule(name)
    linear = isinstance(module, nn.Linear)
    columns = dict(layer.reading()).get(name)

    def observe(values: Tensor) -> None:
        if linear and values.ndim == 2 and columns is not None and columns.numel() == values.shape[1]:
            values = values[:, columns]  # feature maps, flattened in one order or another
        else:
            values = values.movedim(channel_axis(module, values), 1) if values.ndim > 2 else values
            if columns is not None and columns.shape[1] == 1 and values.shape[1] == layer.units:
                values = values[:, columns.flatten()]  # which may stand in another order there
        if values.shape[1] != layer.units:
            raise UnsupportedModuleError(
                f"{name!r} reads {values.shape[1]} channels, not the {layer.units} units of layer {layer.name!r} "
                "alone (a concatenation): use a criterion that looks at weights"
            )
        rows = _sampled(values.flatten(2) if values.ndim > 2 else values.unsqueeze(2), positions, seed)
        if not bool(rows.isfinite().all()):
            raise TrainingError(f"{name!r} meets values that are not finite: the network has diverged")
        moments.add(torch.where(rows > 0, 1.0, -1.0).double() if codes else rows.double())

    return observe


def _sampled(values: Tensor, positions: int, seed: int) -> Tensor:
    """Rows [N · positions, units] of ``values`` [N, units, all positions]."""
    if values.shape[2] > positions:
        order = torch.randperm(values.shape[2], generator=torch.Generator().manual_seed(int(seed)))
        values = values[:, :, order[:positions].to(values.device)]
    return values.transpose(1, 2).flatten(0, 1)


def _check(layer: Layer, moments: Moments) -> None:
    if moments.count == 0:
        raise UnsupportedModuleError(
            f"no module that reads units of layer {layer.name!r} has run (readers: {list(layer.readers)}): use a "
            "criterion that looks at weights"
        )
