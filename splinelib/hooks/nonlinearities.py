"""Which calls of a network are non-linearities with a kink at zero, and which may be one in disguise."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Functions with a kink at zero. ReLU6 has a second one at 6, which the sign code leaves out.
_NONLINEARITIES: frozenset[Any] = frozenset(
    {
        F.relu,
        F.relu_,
        F.relu6,
        F.leaky_relu,
        F.leaky_relu_,
        F.prelu,
        F.rrelu,
        F.rrelu_,
        torch.relu,
        torch.relu_,
        torch.prelu,
        torch.rrelu,
        torch.rrelu_,
        torch.abs,
        torch.abs_,
        torch.absolute,
        Tensor.relu,
        Tensor.relu_,
        Tensor.abs,
        Tensor.abs_,
        Tensor.absolute,
        Tensor.absolute_,
        Tensor.prelu,
    }
)
# Functions that count only where a bound, an argument after the input of one of these names, is zero; ``nn.ReLU6``
# calls ``F.hardtanh``.
_CLIPS: dict[Any, tuple[str, ...]] = {
    **dict.fromkeys((F.hardtanh, F.hardtanh_), ("min_val", "max_val")),
    **dict.fromkeys((F.threshold, torch.threshold_, torch.threshold), ("threshold",)),
    **dict.fromkeys((torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_), ("min", "max")),
    **dict.fromkeys((torch.clip, torch.clip_, Tensor.clip, Tensor.clip_), ("min", "max")),
    **dict.fromkeys((torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_), ("min",)),
    **dict.fromkeys((torch.clamp_max, torch.clamp_max_, Tensor.clamp_max, Tensor.clamp_max_), ("max",)),
}


def bends_at_zero(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call of a function of torch has a kink at zero, as it always has, or by the bounds that it is given.

    >>> bends_at_zero(torch.relu, (), {}), bends_at_zero(torch.clamp, (torch.ones(1),), {"max": 0})
    (True, True)
    >>> bends_at_zero(torch.clamp, (torch.ones(1),), {"max": 6})
    False
    """
    return func in _NONLINEARITIES or _clips_at_zero(func, args, kwargs)


def _clips_at_zero(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call cuts off, at zero, what lies on a side; a bound that is trained may be another one tomorrow."""
    for bound in _bounds(func, args, kwargs):
        if isinstance(bound, Tensor) and bound.numel() == 1 and not bound.requires_grad:
            bound = bound.item()
        if isinstance(bound, int | float) and bound == 0:
            return True
    return False


def _bounds(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    names = _CLIPS.get(func, ())
    return [args[place] if len(args) > place else kwargs.get(name) for place, name in enumerate(names, 1)]


def _is_zero(value: float | Tensor) -> bool:
    return not value.any() if isinstance(value, Tensor) else value == 0


_ORDERS = {"gt", "ge", "lt", "le"}
_BENDS = {"maximum", "minimum", "fmax", "fmin", "where", "max", "min", "amax", "amin"}
_STEPS = {"sign", "sgn", "signbit", "heaviside", "rnn_relu", "rnn_relu_cell", "selu", "numpy", "__array"}


def may_bend(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call may rectify without being a known non-linearity: a maximum, a choice, a comparison with zero.

    So may what is computed in NumPy, where no tap looks.

    >>> may_bend(torch.maximum, (torch.ones(1), torch.zeros(1)), {}), may_bend(torch.sign, (torch.ones(1),), {})
    (True, True)
    """
    name, others = getattr(func, "__name__", "").rstrip("_"), [*args[1:], *kwargs.values()]
    if name.lstrip("_") in _ORDERS:
        return any(isinstance(other, int | float | Tensor) and _is_zero(other) for other in others)
    for bound in _bounds(func, args, kwargs):  # a bound for each number, or one that is trained, may be zero
        if isinstance(bound, Tensor) and (bound.numel() > 1 or bound.requires_grad):
            return True
    return name in _STEPS or (name in _BENDS and bool(others))


def in_torch(func: Any) -> Any:
    """A function of torch in place of the operator that it calls; any other function as it is.

    >>> in_torch(torch.ops.aten.relu.default) is torch.relu
    True
    """
    packet = getattr(func, "overloadpacket", func)
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        return func
    name = packet.__name__
    return getattr(torch, name, getattr(F, name, func))
