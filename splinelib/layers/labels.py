"""Which channel feeds which element, read off two gradients (:mod:`splinelib.layers.observe`)."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splinelib.layers.observed import by_channel
from splinelib.layers.probe import noise

_WHOLE = 1e-5
"""How far a quotient of gradients may be from a whole number: float64 leaves 1e-11 of 10^4 channels."""
_MOVES = frozenset(
    {"Alias", "AsStrided", "Cat", "Clone", "Expand", "Flip", "Index", "IndexSelect", "Permute"}
    | {"ReshapeAlias", "Select", "Slice", "Split", "Squeeze", "Stack", "T", "ToCopy", "Transpose"}
    | {"Unbind", "UnsafeView", "Unsqueeze", "View"}
)
"""Steps of autograd's graph that move numbers and do not change any."""


def fed_channel(plain: Tensor, coded: Tensor, count: int) -> Tensor:
    """The one channel that each element feeds, int64; -1 where it feeds none, -2 where several."""
    ratio = coded / plain
    channel = ratio.round()
    pure = ((ratio - channel).abs() < _WHOLE) & (channel >= 1) & (channel <= count)
    found = torch.where(pure, channel - 1, -2.0).nan_to_num(nan=-2.0).long()
    return found.masked_fill((plain == 0) & (coded == 0), -1)


def distinct_pairs(values: Tensor, chosen: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pair of a row of ``values`` [rows, n], below ``count``, and a label that it holds where ``chosen``, once."""
    met = torch.zeros(len(values), count, dtype=torch.bool, device=values.device)
    row = torch.arange(len(values), device=values.device)[:, None].expand_as(values)
    met[row[chosen], values[chosen]] = True
    one, other = met.nonzero(as_tuple=True)
    return one.cpu().numpy(), other.cpu().numpy()


def reached(slope: Tensor, axis: int) -> np.ndarray:
    """Which channels of an axis a gradient reaches, [channels]."""
    return (by_channel(slope, axis) != 0).any(1).cpu().numpy()


def in_order(values: Tensor, sources: Iterable[Any]) -> list[Any]:
    """Sources, each with its ``tensor``, in the order of being met back from ``values``, first argument first."""
    wanted = {id(source.tensor): source for source in sources}
    found: dict[int, Any] = {}
    stack, seen = [values.grad_fn], set()
    while stack:
        step = stack.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        leaf = id(getattr(step, "variable", None))
        if leaf in wanted:
            found[leaf] = wanted[leaf]
        stack.extend(before for before, _ in reversed(step.next_functions))
    return list(found.values())


def same(answer: Tensor, values: Tensor) -> bool:
    """Whether ``values`` are the ``answer`` that they hang on, as it is.

    That its numbers are equal does not say so: noise is positive, and a rectifier leaves it alone.
    """
    stack, changed = [values.grad_fn], False
    while stack and not changed:
        step: Any = stack.pop()
        if step is not None and not hasattr(step, "variable"):
            changed = step.name().partition("Backward")[0] not in _MOVES
            stack.extend(before for before, _ in step.next_functions)
    return not changed and answer.shape == values.shape and bool(torch.equal(answer, values))


def fed_by(source: Tensor, axis: int, values: Tensor, weight: Tensor) -> Tensor | None:
    """The channel of a source that each element depends on, −2 for several and −1 for none; None where that is hidden.

    Here the source is weighted: the product of the Jacobian with it is the gradient, by ``weight``, of a gradient.
    """
    given = weight.clone().requires_grad_()
    count = source.shape[axis]
    code = torch.arange(1.0, count + 1, device=values.device, dtype=values.dtype)
    code = code.view(-1, *[1] * (source.ndim - 1 - axis))
    plain = noise("weights", source.shape, values.device)
    try:
        (slope,) = torch.autograd.grad(values, source, given, create_graph=True)
        one, other = (
            torch.autograd.grad(slope, given, w, retain_graph=True)[0] for w in (plain, plain * code)
        )
    except RuntimeError:  # an operation that has no second derivative
        return None
    return fed_channel(one, other, count)
