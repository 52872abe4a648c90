"""Operations that pick one of several numbers, and which numbers they might have picked.

A maximum has a gradient for the largest number alone, so a single vector does not show what else it reads; a rectifier
picks between a number and zero.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Where an operation takes its axis among the arguments behind the tensor, and which one it takes if none is named.
_AXIS: dict[str, tuple[int, int | None]] = {
    **dict.fromkeys(["max", "min", "amax", "amin", "aminmax", "median", "nanmedian"], (0, None)),
    **dict.fromkeys(["quantile", "nanquantile"], (1, None)),
    **dict.fromkeys(["kthvalue", "topk"], (1, -1)),
    **dict.fromkeys(["sort", "mode", "cummax", "cummin"], (0, -1)),
    "msort": (0, 0),
}
_RECTIFIERS = {
    *(
        "relu",
        "relu6",
        "leaky_relu",
        "threshold",
        "hardtanh",
        "hardsigmoid",
        "hardswish",
        "hardshrink",
        "softshrink",
    ),
    *("clamp", "clamp_min", "clamp_max", "clip"),
    *("round", "floor", "ceil", "trunc", "fix", "sign", "sgn"),  # flat everywhere
}
_PAIRS = {"max", "min", "maximum", "minimum", "fmax", "fmin"}
_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")


def with_rivals(name: str, args: list[Any], kwargs: dict[str, Any], values: Any) -> Any:
    """``values`` as they are, with a gradient also for the numbers that the operation ``name`` might have picked.

    Args:
        name: The operation's name in torch, say ``amax``; any other than those that pick is left alone.
        args: Its arguments by place.
        kwargs: Its arguments by name.
        values: What it gave: a tensor, or several with indices among them.

    Example:
        >>> x = torch.tensor([[1.0, 3.0, 2.0]], requires_grad=True)
        >>> values = with_rivals("amax", [x], {"dim": 1}, x.amax(dim=1))
        >>> values.sum().backward()
        >>> values.tolist(), (x.grad > 0).tolist()
        ([3.0], [[True, True, True]])
    """
    named = dict(kwargs)
    numbers, *rest = args or [named.pop("input", None)]
    if not isinstance(numbers, Tensor) or not (name in _PAIRS or name in _AXIS or "max_pool" in name):
        return values
    means = _means(name, _slope(numbers), rest, named)
    if not means:
        return values
    if isinstance(values, Tensor):
        return _depending(values, means)
    return type(values)([_depending(one, means) for one in values])


def cut_off(name: str, args: list[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """Zeros with the gradient of what the operation ``name`` is about to cut off; None if it is no rectifier or clip.

    Where a rectifier is flat for all the numbers of a channel, as rounding is for any, its own gradient does not
    show that it reads them; nor that of a bound that does not bind.
    """
    numbers = args[0] if args else kwargs.get("input")
    if name.strip("_") not in _RECTIFIERS or not isinstance(numbers, Tensor):
        return None
    bounds = [arg for arg in (*args[1:], *kwargs.values()) if isinstance(arg, Tensor) and arg is not numbers]
    read = [arg for arg in (numbers, *bounds) if arg.requires_grad and _fits(arg.shape, numbers.shape)]
    return sum(map(_slope, read), torch.zeros_like(numbers)) if read else None


def _slope(numbers: Tensor) -> Tensor:
    """Zeros with the gradient of ``numbers``; none where they are infinite, as what a mask leaves out."""
    return (numbers - numbers.detach()).nan_to_num(0.0) if numbers.is_floating_point() else numbers


def _means(name: str, numbers: Tensor, rest: list[Any], named: dict[str, Any]) -> list[Tensor]:
    """The mean of all candidates' slopes, in the shapes that an operation's values may have."""
    other = rest[0] if rest else named.get("other")
    if name in _PAIRS and isinstance(other, Tensor):
        return [numbers + _slope(other)]
    if name in _AXIS and numbers.is_floating_point():
        place, default = _AXIS[name]
        axis = named.get("dim", named.get("axis", rest[place] if len(rest) > place else default))
        if isinstance(axis, int | tuple | list) and not isinstance(axis, bool):
            return [numbers.mean(axis, keepdim=True), numbers.mean(axis)]
        return [numbers.mean()]
    if "max_pool" in name:
        return _pooled(name.removesuffix("_with_indices").replace("max", "avg"), numbers, rest, named)
    return []


def _pooled(name: str, numbers: Tensor, rest: list[Any], named: dict[str, Any]) -> list[Tensor]:
    if name.startswith("adaptive"):
        size = rest[0] if rest else named["output_size"]
        return [getattr(F, name)(numbers, size)]
    given = dict(zip(_POOL, rest, strict=False)) | {key: named[key] for key in _POOL if key in named}
    if given.pop("dilation", 1) not in (1, (1,), (1, 1), (1, 1, 1)):
        return []  # no pooling by the mean leaves gaps
    return [getattr(F, name)(numbers, **given)]


def _depending(values: Tensor, means: list[Tensor]) -> Tensor:
    for mean in means:
        if values.is_floating_point() and _fits(mean.shape, values.shape):
            return values + mean
    return values


def _fits(shape: torch.Size, wanted: torch.Size) -> bool:
    try:
        return torch.broadcast_shapes(shape, wanted) == wanted
    except RuntimeError:
        return False
