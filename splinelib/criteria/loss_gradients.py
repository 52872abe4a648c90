"""Gradients of a loss in the parameters, and products of its Hessian, summed over minibatches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from splinelib.checks import shown
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import evaluating

_CHUNK = 64  # images whose graph is held at once: bounds memory, leaves sums over the batch as they are

Saliency = dict[nn.Parameter, Tensor]
"""One tensor for each parameter of a model, of the parameter's shape."""


Labels = Tensor | Sequence[Any]
"""What is wanted of each image: integer classes [N], or whatever a loss takes, as long as it can be sliced."""

Loss = Callable[[Any, Any], Tensor]
"""From a batch's outputs and labels to its mean loss, a scalar."""


def minibatches(images: Tensor, labels: Labels, size: int) -> Iterator[tuple[Tensor, Labels, float]]:
    """Consecutive chunks of a batch, each with its share of the whole."""
    for start in range(0, len(images), size):
        part = images[start : start + size]
        yield part, labels[start : start + size], len(part) / len(images)


def gradient(
    model: nn.Module,
    images: Tensor,
    labels: Labels,
    loss: Loss | None = None,
    temperature: float = 1.0,
    along: Saliency | None = None,
) -> Saliency:
    """Gradient of the mean loss in every parameter; with ``along``, the Hessian's product with it instead.

    Args:
        model: taken in eval mode, its ``.grad`` is not touched.
        images: batch [N, ...].
        labels: integer classes [N], or what ``loss`` takes.
        loss: of outputs and labels of some of the images; None is the cross-entropy of a classifier.
        temperature: divides a classifier's outputs before the softmax.
        along: a direction in the space of parameters.

    Raises :class:`UnsupportedModuleError` or :class:`SettingError` for outputs that do not fit the labels.
    """
    names, parameters = zip(*model.named_parameters(), strict=True)
    leaves = [parameter.detach().requires_grad_() for parameter in parameters]
    total = [torch.zeros_like(leaf) for leaf in leaves]
    with evaluating(model), torch.enable_grad():
        for part, classes, share in minibatches(images, labels, _CHUNK):
            outputs = functional_call(model, dict(zip(names, leaves, strict=True)), (part,))
            value = _own(loss, outputs, classes) if loss else _cross_entropy(outputs, classes, temperature)
            if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
                raise SettingError(
                    f"the loss is {shown(value)}: return the mean over the batch, a scalar with a gradient"
                )
            slopes = torch.autograd.grad(
                value, leaves, create_graph=along is not None, materialize_grads=True
            )
            if along is not None:
                pairs = zip(slopes, parameters, strict=True)
                flow = torch.stack([(slope * along[p]).sum() for slope, p in pairs]).sum()
                slopes = torch.autograd.grad(flow, leaves, materialize_grads=True)
            for sum_, slope in zip(total, slopes, strict=True):
                sum_.add_(slope.detach(), alpha=share)
    return dict(zip(parameters, total, strict=True))


def _own(loss: Loss, outputs: Any, labels: Any) -> Any:
    """The value of a user's loss. What it raises is no fault of ours, but comes with where and on what."""
    try:
        return loss(outputs, labels)
    except Exception as error:
        raise SettingError(
            f"the loss {shown(loss)} fails on outputs {shown(outputs)} and labels {shown(labels)}: {error}"
        ) from error


def check_batch(images: Tensor, labels: Labels, loss: Loss | None = None) -> None:
    """Raise :class:`SettingError` unless there is a label for each image: an integer class, if there is no loss."""
    if images.ndim < 2 or len(images) == 0:
        raise SettingError(f"images have shape {tuple(images.shape)}: pass a non-empty batch [N, ...]")
    if loss:
        if isinstance(labels, Tensor) and not labels.ndim or len(labels) != len(images):
            raise SettingError(f"labels are {shown(labels)} for {len(images)} images: give as many")
        return
    if not isinstance(labels, Tensor):
        raise SettingError(
            f"labels are {shown(labels)}: give a tensor of integer classes, or a loss that takes them"
        )
    if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise SettingError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype} for {len(images)} images: pass one "
            f"integer class for each, of shape ({len(images)},)"
        )


def _cross_entropy(outputs: Any, labels: Any, temperature: float) -> Tensor:
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UnsupportedModuleError(
            f"the model's outputs have shape {shape}: scores need a classifier, [N, classes], or a loss of your own"
        )
    labels = labels.long()
    if not 0 <= int(labels.min()) <= int(labels.max()) < outputs.shape[1]:
        raise SettingError(
            f"labels go from {int(labels.min())} to {int(labels.max())}, but the model has {outputs.shape[1]} outputs: "
            "number the classes from 0"
        )
    return F.cross_entropy(outputs / temperature, labels)
