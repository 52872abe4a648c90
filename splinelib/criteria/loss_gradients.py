"""Gradients of the loss in the parameters, and products of its Hessian, summed over minibatches."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import evaluating

_CHUNK = 64  # images whose graph is held at once: bounds memory, leaves sums over the batch as they are

Saliency = dict[nn.Parameter, Tensor]
"""One tensor for each parameter of a model, of the parameter's shape."""


def minibatches(images: Tensor, labels: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Consecutive chunks of a batch, each with its share of the whole."""
    for part, classes in zip(images.split(size), labels.split(size), strict=True):
        yield part, classes, len(part) / len(images)


def gradient(
    model: nn.Module, images: Tensor, labels: Tensor, temperature: float = 1.0, along: Saliency | None = None
) -> Saliency:
    """Gradient of the mean cross-entropy in every parameter; with ``along``, the Hessian's product with it instead.

    Args:
        model: a classifier; taken in eval mode, its ``.grad`` is not touched.
        images: batch [N, ...].
        labels: integer classes [N].
        temperature: divides the outputs before the softmax.
        along: a direction in the space of parameters.

    Raises :class:`UnsupportedModuleError` or :class:`SettingError` for outputs that do not fit the labels.
    """
    names, parameters = zip(*model.named_parameters(), strict=True)
    leaves = [parameter.detach().requires_grad_() for parameter in parameters]
    total = [torch.zeros_like(leaf) for leaf in leaves]
    with evaluating(model), torch.enable_grad():
        for part, classes, share in minibatches(images, labels, _CHUNK):
            outputs = functional_call(model, dict(zip(names, leaves, strict=True)), (part,))
            _check_outputs(outputs, classes)
            loss = F.cross_entropy(outputs / temperature, classes)
            slopes = torch.autograd.grad(loss, leaves, create_graph=along is not None, materialize_grads=True)
            if along is not None:
                pairs = zip(slopes, parameters, strict=True)
                flow = torch.stack([(slope * along[p]).sum() for slope, p in pairs]).sum()
                slopes = torch.autograd.grad(flow, leaves, materialize_grads=True)
            for sum_, slope in zip(total, slopes, strict=True):
                sum_.add_(slope.detach(), alpha=share)
    return dict(zip(parameters, total, strict=True))


def check_batch(images: Tensor, labels: Tensor) -> None:
    """Raise :class:`SettingError` unless ``labels`` [N] holds an integer class for each of ``images`` [N, ...]."""
    if images.ndim < 2 or len(images) == 0:
        raise SettingError(f"images have shape {tuple(images.shape)}: pass a non-empty batch [N, ...]")
    if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise SettingError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype} for {len(images)} images: pass one "
            f"integer class for each, of shape ({len(images)},)"
        )


def _check_outputs(outputs: Tensor, labels: Tensor) -> None:
    if outputs.ndim != 2:
        raise UnsupportedModuleError(
            f"the model's outputs have shape {tuple(outputs.shape)}: scores need a classifier, [N, classes]"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < outputs.shape[1]:
        raise SettingError(
            f"labels go from {int(labels.min())} to {int(labels.max())}, but the model has {outputs.shape[1]} outputs: "
            "number the classes from 0"
        )
