"""Whether arguments are what their annotations say: the one check of types, choices and ranges."""

import collections.abc
import dataclasses
import functools
import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

import numpy as np
import torch

from splinelib.errors import LimitError, SettingError

P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Within:
    """The interval of a number, such as ``(0, 1]``; ends at infinity are open. NaN lies in none."""

    interval: str

    def __contains__(self, value: Any) -> bool:
        low, high = (float(end) for end in self.interval[1:-1].split(","))
        inside = low < value < high
        closed = (self.interval[0] == "[" and value == low) or (self.interval[-1] == "]" and value == high)
        return bool(inside or closed)


Count = Annotated[int, Within("[1, inf)")]
Seed = Annotated[int, Within(f"[0, {2**32})")]
"""A generator on the CPU takes 32 bits of a seed alone."""
Share = Annotated[float, Within("(0, 1)")]
Finite = Annotated[float, Within("(-inf, inf)")]
Positive = Annotated[float, Within("(0, inf)")]
NonNegative = Annotated[float, Within("[0, inf)")]
Whole = Annotated[int, Within("[0, inf)")]


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Let ``function`` refuse arguments that are not what its annotations say, with a :class:`SettingError`.

    Numbers may be NumPy's, whole ones stand for floats, and True and False for neither; :class:`Within` bounds them.

    >>> @checked
    ... def root(of: Annotated[float, Within("[0, inf)")]) -> float:
    ...     return of**0.5
    >>> root(4)
    2.0
    >>> root(-1)
    Traceback (most recent call last):
    ...
    splinelib.errors.SettingError: of is -1: give a number in [0, inf)
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise SettingError(f"{function.__qualname__}: {error}; its arguments are {signature}") from error
        hints = _hints(function)
        for name, value in given.items():
            several = signature.parameters[name].kind
            if name in hints and several not in (
                inspect.Parameter.VAR_POSITIONAL,
                inspect.Parameter.VAR_KEYWORD,
            ):
                check(name, value, hints[name])
        return function(*args, **kwargs)

    return call


def check_fields(settings: Any) -> None:
    """Raise :class:`SettingError` unless the fields of a dataclass are what their annotations say."""
    kind: Any = type(settings)
    hints = _hints(kind)
    for field in dataclasses.fields(settings):
        check(field.name, getattr(settings, field.name), hints[field.name])


@functools.cache
def _hints(of: Any) -> dict[str, Any]:
    return typing.get_type_hints(of, include_extras=True)


def check(name: str, value: Any, hint: Any) -> None:
    """Raise :class:`SettingError` unless ``value`` is what the annotation ``hint`` says.

    >>> check("epochs", 3, Count)
    """
    if not _fits(value, hint):
        raise SettingError(f"{name} is {shown(value)}: {_wanted(hint)}")


def check_finite(name: str, values: Any, remedy: str = "give finite ones") -> None:
    """Raise :class:`SettingError` where a tensor or array holds NaN or infinite values.

    >>> check_finite("images", torch.zeros(2))
    """
    if isinstance(values, np.ndarray) and values.dtype.kind not in "biuf":
        raise SettingError(f"{name} are {shown(values)}: give numbers")
    if not bool((values.isfinite() if isinstance(values, torch.Tensor) else np.isfinite(values)).all()):
        raise SettingError(f"{name} of shape {tuple(values.shape)} hold values that are not finite: {remedy}")


def check_memory(what: str, needed: int) -> None:
    """Raise :class:`LimitError` if so many bytes are more than this machine has, before any is taken.

    >>> check_memory("a pixel", 3)
    """
    if hasattr(os, "sysconf") and needed > (
        there := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    ):
        raise LimitError(
            f"{what} takes {needed / 2**30:.3g} GiB, this machine has {there / 2**30:.3g}: make it smaller"
        )


def count_cores() -> int:
    """The cores that this process may use: of a container, a job or a mask fewer than the machine has.

    >>> count_cores() > 0
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shown(value: Any) -> str:
    """``value`` in a message: in full where that is short."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"{type(value).__name__} of {value.dtype} and shape {tuple(value.shape)}"
    try:
        text = repr(value)
    except Exception:  # an integer of more digits than Python prints, or a broken object
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:100]}…"


def _fits(value: Any, hint: Any) -> bool:
    if type(value) is hint:  # soon said: there are lists of thousands
        return hint is not int or abs(value) < 2**63
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is Annotated:
        return _fits(value, args[0]) and all(value in more for more in args[1:] if isinstance(more, Within))
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is Literal:
        return any(type(value) is type(arg) and value == arg for arg in args)
    if hint in (int, float):
        number = numbers.Integral if hint is int else numbers.Real
        fits = isinstance(value, number) and not isinstance(value, bool)
        # Torch takes whole numbers for 64 bits, also where a float is wanted.
        return fits and not (isinstance(value, numbers.Integral) and abs(int(value)) >= 2**63)
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if hint is None or hint is type(None):
        return value is None
    kind: Any = origin or hint
    if kind is collections.abc.Callable:
        return callable(value)
    if not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
        return True
    if isinstance(value, str | bytes) and kind is not type(value):
        return False  # a sequence of its letters is never meant
    return isinstance(value, list | tuple if kind is list else kind) and _parts_fit(value, kind, args)


def _parts_fit(value: Any, kind: Any, args: tuple[Any, ...]) -> bool:
    """Whether the members of a container are what its annotation says."""
    if not args or isinstance(value, collections.abc.Iterator):
        return True
    if isinstance(value, collections.abc.Mapping) and len(args) == 2:
        return all(_fits(key, args[0]) and _fits(item, args[1]) for key, item in value.items())
    if kind is tuple and args[-1] is not Ellipsis:
        return len(value) == len(args) and all(map(_fits, value, args))
    if isinstance(value, collections.abc.Sequence | collections.abc.Set):
        return all(_fits(item, args[0]) for item in value)
    return True


def _wanted(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = [more.interval for more in args[1:] if isinstance(more, Within)]
        return f"{_wanted(args[0])} in {bounds[0]}" if bounds else _wanted(args[0])
    if origin is Literal:
        return f"choose {one_of(map(repr, args))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(
            _wanted(arg) if not n else _wanted(arg).removeprefix("give ") for n, arg in enumerate(args)
        )
    if origin in (tuple, list) and args[-1:] in ((...,), args):
        return f"give a list of which each is {_wanted(args[0]).removeprefix('give ')}"
    names = {
        int: "a whole number",
        float: "a number",
        type(None): "None",
        None: "None",
        bool: "True or False",
    }
    if hint in names:
        return f"give {names[hint]}"
    return (
        f"give {str(hint).replace('collections.abc.', '') if args else getattr(hint, '__name__', str(hint))}"
    )


def one_of(names: Iterable[str]) -> str:
    """``a, b or c``.

    >>> one_of("abc")
    'a, b or c'
    """
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
