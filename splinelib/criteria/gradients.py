"""Scores from gradients: Taylor, SNIP, GraSP, SynFlow, and any importance of Torch-Pruning.

The first four sum a saliency of single parameters over each unit: over the rows of all the layer's writers, as for
the filter norm. Networks are scored as they stand, in eval mode: batch norm uses its running statistics and dropout is
off. The model is not changed, and its ``.grad`` is not touched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from splinelib.checks import Count, Positive, check_fields, shown
from splinelib.criteria.loss_gradients import Labels, Loss, Saliency, check_batch, gradient, minibatches
from splinelib.criteria.unit_sums import unit_sums
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import duplicate, evaluating, tensors_in
from splinelib.layers.fit import check_layers
from splinelib.layers.images import check_fit
from splinelib.layers.layer import Layer
from splinelib.layers.tracing import dependency_graph, unit_group
from splinelib.progress import progress


@dataclass(frozen=True, eq=False)
class _OnBatch:
    """A score that looks at ``images`` [N, ...] with ``labels`` [N] (integer classes), both on the model's device.

    A ``loss`` of one's own, of outputs and labels, replaces the cross-entropy; labels are then what it takes, one for
    each image. From a DataLoader: ``Taylor(*first_images(loader, 256))``.

    Raises :class:`SettingError` for images that are not finite or that the model does not take.
    """

    images: Tensor = field(repr=False)
    labels: Labels = field(repr=False)
    loss: Loss | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        check_batch(self.images, self.labels, self.loss)


@dataclass(frozen=True, eq=False)
class Taylor(_OnBatch):
    """First-order estimate of how the loss changes without a unit (Molchanov et al., CVPR 2019, equation 8).

    ``Σ (g·θ)²`` over a unit's parameters θ (weights and biases of its writers, scale and shift of its batch norms), g
    the gradient of the loss; the mean over minibatches of ``batch_size`` images. ``power=1``: ``Σ |g·θ|``.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[2].weight.data[:, 1] = 0  # nothing reads unit 1
    >>> images, labels = torch.tensor([[1.0, 2.0], [-2.0, 1.0]]), torch.tensor([0, 1])
    >>> (score,) = Taylor(images, labels)(model, splinelib.read_layers(model, images))
    >>> score.shape, score[1].item()
    (torch.Size([3]), 0.0)
    """

    power: Literal[1, 2] = 2
    batch_size: Count = 64

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Scores, float64 [units] for each layer."""
        check_layers(model, layers)
        check_fit(model, self.images)
        # The squares of gradients are too small for 16 bits.
        total = {
            parameter: torch.zeros_like(parameter, dtype=torch.promote_types(parameter.dtype, torch.float32))
            for parameter in model.parameters()
        }
        size = int(self.batch_size)
        parts = minibatches(self.images, self.labels, size)
        for images, labels, share in progress(parts, "Taylor", -(-len(self.images) // size), "minibatch"):
            for parameter, slope in gradient(model, images, labels, self.loss).items():
                change = slope.to(total[parameter].dtype) * parameter.detach()
                total[parameter] += share * change.abs() ** self.power
        return unit_sums(model, layers, total, biases=True)


@dataclass(frozen=True, eq=False)
class SNIP(_OnBatch):
    """Connection sensitivity (Lee et al., ICLR 2019): ``Σ |g·θ|`` over a unit's weights, g of the whole batch.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[2].weight.data[:, 1] = 0  # nothing reads unit 1
    >>> images, labels = torch.tensor([[1.0, 2.0], [-2.0, 1.0]]), torch.tensor([0, 1])
    >>> (score,) = SNIP(images, labels)(model, splinelib.read_layers(model, images))
    >>> score.shape, score[1].item()
    (torch.Size([3]), 0.0)
    """

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Scores, float64 [units] for each layer."""
        check_layers(model, layers)
        check_fit(model, self.images)
        slopes = gradient(model, self.images, self.labels, self.loss)
        return unit_sums(model, layers, _products(slopes, Tensor.abs))


@dataclass(frozen=True, eq=False)
class GraSP(_OnBatch):
    """Gradient flow kept (Wang et al., ICLR 2020): ``Σ θ·(Hg)`` over a unit's weights, H the Hessian of the loss.

    Low where the norm of the gradient would shrink least, or grow, without the unit. Such sums have either sign, but
    scores start at 0 in global scope, so a unit scores the *rank* of its sum among all units of the given layers,
    divided by the number of distinct sums: numbers in (0, 1], in the same order, equal where sums are equal.

    ``temperature`` divides the outputs before the softmax of the cross-entropy; 200 is what the authors' code uses.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> images, labels = torch.tensor([[1.0, 2.0], [-2.0, 1.0]]), torch.tensor([0, 1])
    >>> (score,) = GraSP(images, labels)(model, splinelib.read_layers(model, images))
    >>> score.shape, score.max().item()
    (torch.Size([3]), 1.0)
    """

    temperature: Positive = 200.0

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Scores in (0, 1], float64 [units] for each layer."""
        sums = self.signed(model, layers)
        if not sums:
            return []
        distinct, rank = torch.cat(sums).unique(return_inverse=True)
        return list(((rank + 1).double() / len(distinct)).split([len(part) for part in sums]))

    def signed(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """The sums themselves, of either sign, float64 [units] for each layer."""
        check_layers(model, layers)
        check_fit(model, self.images)
        slopes = gradient(model, self.images, self.labels, self.loss, self.temperature)
        bent = gradient(model, self.images, self.labels, self.loss, self.temperature, along=slopes)
        return unit_sums(model, layers, _products(bent))


@dataclass(frozen=True, eq=False)
class SynFlow:
    """Synaptic flow (Tanaka et al., NeurIPS 2020): ``Σ |θ·∂R/∂θ|`` over a unit's weights, taken once, without data.

    R is the sum of all outputs for an input of ones, in float64, of the network with the absolute value of every
    parameter and, as in the authors' code, of every batch-norm statistic. ``example_inputs`` [N, ...] gives the shape.

    Raises :class:`splinelib.errors.UnsupportedModuleError` for a layer that scores 0 throughout.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[0].weight.data = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    >>> model[2].weight.data = torch.ones(2, 3)
    >>> images = torch.zeros(1, 2)
    >>> SynFlow(images)(model, splinelib.read_layers(model, images))[0].tolist()
    [2.0, 4.0, 6.0]
    """

    example_inputs: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.example_inputs.dim():
            raise SettingError(f"example_inputs are {shown(self.example_inputs)}: give a batch [N, ...]")

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Scores, float64 [units] for each layer."""
        check_layers(model, layers)
        ones = torch.ones_like(self.example_inputs[:1])
        check_fit(model, ones)
        linear = duplicate(model).double().requires_grad_(True)
        with evaluating(linear):
            for tensor in linear.state_dict().values():
                if tensor.is_floating_point():
                    tensor.abs_()
            with torch.enable_grad():
                outputs = linear(ones.double() if ones.is_floating_point() else ones)
                flow = torch.stack([part.sum() for part in tensors_in(outputs) if part.requires_grad]).sum()
                parameters = list(linear.parameters())
                slopes = torch.autograd.grad(flow, parameters, materialize_grads=True)
        scores = unit_sums(linear, layers, _products(dict(zip(parameters, slopes, strict=True))))
        for layer, score in zip(layers, scores, strict=True):
            if not bool(score.any()):
                raise UnsupportedModuleError(
                    f"no synaptic flow passes layer {layer.name!r}: bounded non-linearities (ReLU6) saturate and large "
                    "batch-norm means block it, use another score"
                )
        return scores


@dataclass(frozen=True, eq=False)
class TorchPruningScore:
    """An importance of Torch-Pruning as a criterion: LAMP, its own Taylor, … (classes in ``torch_pruning.importance``).

    Args:
        importance: an object that gives one number per channel of a group, such as ``LAMPImportance()``. It sees
            everything that goes with a unit, readers too, unless it is told otherwise (``group_reduction="first"``).
        images: example inputs [N, ...] for tracing the model and, with labels, for gradients.
        labels: integer classes [N], if the importance reads gradients (of the cross-entropy); else None.

    >>> import torch_pruning
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> images = torch.zeros(1, 2)
    >>> lamp = TorchPruningScore(torch_pruning.importance.LAMPImportance(), images)
    >>> [score.shape for score in lamp(model, splinelib.read_layers(model, images))]
    [torch.Size([3])]
    """

    importance: Callable[[Any], Tensor | None]
    images: Tensor = field(repr=False)
    labels: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.labels is not None:
            check_batch(self.images, self.labels)

    def __call__(self, model: nn.Module, layers: Sequence[Layer]) -> list[Tensor]:
        """Scores, float64 [units] for each layer. Raises :class:`UnsupportedModuleError` where it gives none."""
        check_layers(model, layers)
        check_fit(model, self.images)
        scored = duplicate(model).requires_grad_(True)
        graph = dependency_graph(scored, self.images[:1])
        if self.labels is not None:
            for parameter, slope in gradient(scored, self.images, self.labels).items():
                parameter.grad = slope
        return [self._score(graph, layer) for layer in layers]

    def _score(self, graph: Any, layer: Layer) -> Tensor:
        name = type(self.importance).__name__
        try:
            score = self.importance(unit_group(graph, layer))
        except AttributeError as error:
            if self.labels is not None:
                raise
            raise SettingError(f"{name} finds no gradients: give TorchPruningScore labels as well") from error
        if score is None:
            raise UnsupportedModuleError(
                f"{name} gives layer {layer.name!r} no score: nothing in it is of a type that it knows, leave it out"
            )
        if not isinstance(score, Tensor):
            raise SettingError(
                f"{name} gives {shown(score)}: importance gives one number per channel, a tensor"
            )
        if not bool(score.isfinite().all()):
            raise SettingError(
                f"{name}'s scores of layer {layer.name!r} are not finite, perhaps since it divides by a mean of 0: "
                "build it with normalizer=None (select_units brings layers to one scale itself)"
            )
        return layer.by_unit(layer.name, score.double())


def _products(slopes: Saliency, then: Callable[[Tensor], Tensor] = lambda product: product) -> Saliency:
    return {parameter: then(slope * parameter.detach()) for parameter, slope in slopes.items()}
