"""A tap at every non-linearity of a running model.

It observes the input of every piecewise linear non-linearity, that is, the pre-activations whose signs make the code.
It is a :class:`torch.overrides.TorchFunctionMode`, so it sees ``nn.ReLU`` modules and calls of ``torch.relu`` alike,
registers nothing on the model, and is gone when its ``with`` block ends, also by an exception.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_batchedtensor, maybe_get_bdim
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from splinelib.hooks.nonlinearities import bends_at_zero, in_torch, may_bend


class _Tap(TorchFunctionMode):
    """Calls ``observe(index, pre_activation)`` at the ``index``-th non-linearity of a forward pass."""

    def __init__(
        self, observe: Callable[[int, Tensor], None], unseen: Callable[[str, Tensor], None] | None
    ) -> None:
        super().__init__()
        self._observe = observe
        self._unseen = unseen
        self._index = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, known = kwargs or {}, in_torch(func)
        if bends_at_zero(known, args, kwargs):
            self._observe(self._index, _whole(args[0] if args else kwargs["input"]))
            self._index += 1
        elif self._unseen and args and isinstance(args[0], Tensor) and may_bend(known, args, kwargs):
            self._unseen(known.__name__.strip("_"), _whole(args[0]))
        return func(*args, **kwargs)


def _whole(values: Tensor) -> Tensor:
    """Within ``torch.vmap`` a function sees one member of a batch: the batch, in front."""
    while is_batchedtensor(values):
        values = get_unwrapped(values).movedim(maybe_get_bdim(values), 0)
    return values


class _Script(TorchDispatchMode):
    """Calls every operator from Python, so that a tap sees those of functions that ``torch.jit.script`` made, too."""

    supports_higher_order_operators = True  # flex attention, say

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*args, **kwargs or {})


@contextlib.contextmanager
def tapped(
    observe: Callable[[int, Tensor], None], unseen: Callable[[str, Tensor], None] | None = None
) -> Iterator[None]:
    """Within the block, call ``observe(index, z)`` before each non-linearity; use one block per forward pass.

    ``index`` counts the non-linearities in execution order from 0 and ``z`` is the pre-activation,
    of the shape that the layer has. ``observe`` must copy what it keeps, since ``z`` may be changed in place.
    ``unseen`` gets name and first argument of calls that may rectify otherwise, such as ``torch.maximum``.

    >>> seen = []
    >>> with tapped(lambda index, z: seen.append((index, z.tolist()))):
    ...     outputs = nn.ReLU()(torch.tensor([-1.0, 2.0]))
    >>> seen
    [(0, [-1.0, 2.0])]
    """
    with _Tap(observe, unseen), _Script() if _were_scripted() else contextlib.nullcontext():
        yield


def _were_scripted() -> bool:
    """Whether this process has functions that were scripted or traced: without any, nothing need be loaded for them."""
    compiled: Any = torch.jit._state._python_cu  # torch's types say that it tells nothing
    return bool(compiled.get_functions())
