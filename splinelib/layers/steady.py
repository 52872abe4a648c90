"""Code between modules, run so that gradients tell what it depends on: in float64, with drawn numbers fixed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from splinelib.hooks import tensors_in
from splinelib.layers.picks import cut_off, with_rivals

_CASTS = {Tensor.float, Tensor.half, Tensor.bfloat16}
PLACES = {"argmax", "argmin", "argsort", "searchsorted", "bucketize"}
_STEPS = {
    *("gt", "ge", "lt", "le", "eq", "ne", "greater", "greater_equal", "less", "less_equal", "not_equal"),
    *("sign", "sgn", "signbit", "heaviside", "floor", "ceil", "round", "trunc", "fix"),
    *("floor_divide", "floordiv"),
    *("bool", "long", "int", "short", "char", "byte", "item", "tolist", "numpy", "nonzero", "count_nonzero"),
    *("allclose", "isclose", "equal", "logical_not", "logical_and", "logical_or", "logical_xor", "argwhere"),
}
# Functions that draw inside themselves, by an argument: its place, its name, and with what they do not.
_DROPS: dict[str, tuple[int, str, Any]] = {
    "scaled_dot_product_attention": (4, "dropout_p", 0.0),
    "rrelu": (3, "training", False),
}
_DRAWS = {"rand", "randn", "rand_like", "randn_like", "normal", "uniform", "bernoulli", "exponential"}


class Steady(TorchFunctionMode):
    """Code between modules computes in float64, whatever it casts to, and what it draws at random is one number.

    What picks one of several numbers (a maximum, a sort, a rectifier) has a gradient for the others too: they might be
    picked.
    ``draw`` is that number, and ``drew`` says whether one was asked for.
    ``chosen`` is told of numbers that decide on a place (an argmax) or a step (a comparison, a sign), which have no
    gradient, and of the function's name.
    """

    def __init__(self, chosen: Callable[[Tensor, str], None], draw: float) -> None:
        super().__init__()
        self.chosen, self.draw, self.drew = chosen, draw, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if "dropout" in name and "native" not in name and args:
            return args[0]
        if name in _DROPS:
            place, key, value = _DROPS[name]
            if len(args) > place:
                args = (*args[:place], value, *args[place + 1 :])
            else:
                kwargs = {**kwargs, key: value}
        inplace = name in ("__set__", "__setitem__") or (name.endswith("_") and not name.endswith("__"))
        given = [arg if inplace and not place else _double(arg) for place, arg in enumerate(args)]
        named = {key: _double(value) for key, value in kwargs.items()}
        if name == "detach" or getattr(func, "__self__", None) is Tensor.data:
            return _followed(func, given)
        if name in ("numpy", "__array__"):  # which take none that has a gradient
            if given[0].requires_grad:
                self.chosen(given[0], name)
            return func(given[0].detach(), *given[1:], **named)
        if (flat := cut_off(name, given, named)) is not None:
            return _cut_off(func, given, named, flat)
        values = (Tensor.double if func in _CASTS else func)(*given, **named)
        if name.rstrip("_") in _DRAWS and isinstance(values, Tensor) and values.is_floating_point():
            values.detach().fill_(_share(name, given, named, self.draw))
            self.drew = True
        if _decides(name, values):
            for numbers in tensors_in([*given, *named.values()]):
                if numbers.requires_grad:
                    self.chosen(numbers, name)
        return values if inplace else with_rivals(name, given, named, _double(values))


def _followed(func: Any, given: list[Any]) -> Any:
    """What is cut from the graph for the sake of gradients is still computed from what is there: the graph stays."""
    numbers = given[0]
    return numbers.view_as(numbers) if numbers.grad_fn is not None else func(*given)


def in_float64() -> TorchFunctionMode:
    """Within it a network in float64 stays in it, whatever its code casts to.

    >>> with in_float64():
    ...     torch.ones(1, dtype=torch.float64).float().dtype
    torch.float64
    """
    return Steady(lambda numbers, name: None, 0.5)


def _share(name: str, given: list[Any], named: dict[str, Any], draw: float) -> float:
    """What a draw becomes: the share of ones, by which what is dropped is made up for, or else ``draw``."""
    share = named.get("p", given[1] if name == "bernoulli_" and len(given) > 1 else draw)
    return float(share) if isinstance(share, int | float) else draw


def _decides(name: str, values: Any) -> bool:
    """Whether a function gives places or steps, or casts to whole numbers."""
    if name in ("to", "type", "type_as"):
        return isinstance(values, Tensor) and not (values.is_floating_point() or values.is_complex())
    return name in PLACES or name == "__float__" or name.strip("_") in _STEPS


def _cut_off(func: Any, given: list[Any], named: dict[str, Any], flat: Tensor) -> Tensor:
    """What a rectifier or clip gives, plus ``flat``; in place where it works in place.

    It works on a copy, since it may keep what it gave for its own gradient.
    """
    numbers = given[0] if given else named["input"]
    copied = numbers.clone()
    values = func(*[copied, *given[1:]], **named) if given else func(**{**named, "input": copied})
    if values is copied:
        return numbers.copy_(values + flat)
    return _double(values) + flat


def _double(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return torch.float64 if value.is_floating_point else value
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()):
        return value
    return value.to(torch.complex128 if value.is_complex() else torch.float64)
