"""Channels that feed several, taken apart: which of what is read hangs on which of what is written."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from splinelib.layers.labels import reached
from splinelib.layers.probe import noise

_EXACT = 2**28
"""Numbers in all gradients together, above which all that mixes counts as one: some seconds for a module."""

Tangle = tuple[np.ndarray, list[np.ndarray]]
"""Which channels are read [channels], and which of each source feed them."""


def tangles(
    values: Tensor, axis: int, weight: Tensor, tensors: Sequence[Tensor], axes: Sequence[int]
) -> list[Tangle] | None:
    """Sets of channels of ``values`` [..., channels, ...] that feed on the same channels; None where that costs much.

    From one channel on, what feeds it and what that feeds in turn are taken in until nothing is new: an attention's
    head takes a few gradients, whatever its width. The way forth is the gradient of a gradient; where an operation has
    none, sets may overlap.
    """
    given = weight.clone().requires_grad_()
    try:
        slopes = torch.autograd.grad(values, tensors, given, create_graph=True, allow_unused=True)
        _forth(slopes, [torch.ones_like(tensor) for tensor in tensors], given)
    except RuntimeError:
        slopes = ()
    left = np.ones(values.shape[axis], bool)
    budget = _EXACT // (values.numel() + sum(tensor.numel() for tensor in tensors))
    found: list[Tangle] = []
    while left.any():
        read, before = np.zeros(len(left), bool), None
        read[left.argmax()] = True
        while before is None or (read != before).any():
            chosen = weight * along(read, axis, values)
            back = torch.autograd.grad(values, tensors, chosen, retain_graph=True, allow_unused=True)
            before = read
            feeding = [
                np.zeros(tensor.shape[at], bool) if slope is None else reached(slope, at)
                for slope, tensor, at in zip(back, tensors, axes, strict=True)
            ]
            if slopes:
                masks = [
                    noise("forth", tensor.shape, tensor.device) * along(mask, at, tensor)
                    for mask, tensor, at in zip(feeding, tensors, axes, strict=True)
                ]
                read = read | reached(_forth(slopes, masks, given), axis)
            budget -= 2
        found.append((read, feeding))
        left &= ~read
        if budget < 0 and left.any():
            return None
    return found


def _forth(slopes: Sequence[Tensor | None], masks: Sequence[Tensor], given: Tensor) -> Tensor:
    """What the sources in ``masks`` feed, weighted by them: the derivative of their gradients by its weights."""
    pairs = [(slope, mask.detach()) for slope, mask in zip(slopes, masks, strict=True) if slope is not None]
    ones, weights = [slope for slope, _ in pairs], [mask for _, mask in pairs]
    return torch.autograd.grad(ones, given, weights, retain_graph=True)[0]


def along(mask: np.ndarray, axis: int, values: Tensor) -> Tensor:
    """A mask [channels] of an axis of ``values``, in numbers, such that both can be multiplied."""
    shape = [-1 if at == axis else 1 for at in range(values.ndim)]
    return torch.from_numpy(mask).to(values.device, values.dtype).view(shape)
