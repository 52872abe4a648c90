"""What moves, repeats or picks numbers and computes nothing: read off from what it does to the numbers 0, 1, 2, …"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splinelib.partition.engine.handlers.call import Call, NotHandled, values_in, without_batch
from splinelib.partition.engine.layout import Value


def identity(call: Call, value: Value, *_: Any, **__: Any) -> Value:
    """What passes on what it gets."""
    if not call.example.is_floating_point():
        raise NotHandled("it rounds to whole numbers, which is not continuous")
    return value


def dropout(call: Call, value: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    """``F.dropout``, switched off."""
    if training:
        raise NotHandled("dropout in training mode; pass training=self.training and model.eval()")
    return value


def moved(call: Call, *args: Any, **kwargs: Any) -> Any:
    """Views, permutations, parts, joins, padding: each element is one of those that came in, or a constant."""
    values = values_in(args, kwargs)
    return rearranged(values, lambda numbers: call.run(args, kwargs, lambda v: numbers[id(v)]))


def rearranged(values: list[Value], operation: Callable[[dict[int, Tensor]], Any]) -> Any:
    """What an operation makes of activations that it only moves; it gets their stand-ins ``[1, *shape]`` by id."""
    values = list({id(value): value for value in values}.values())
    sizes = [value.lanes.size for value in values]
    starts, total = np.cumsum([0, *sizes[:-1]]), sum(sizes)

    def numbered(offset: int) -> Any:
        # Small floats and whole numbers: exact. Where both runs agree, a constant was put.
        return operation(
            {
                id(value): torch.arange(size, dtype=torch.float64).reshape(1, *value.shape)
                + float(start + offset)
                for value, start, size in zip(values, starts, sizes, strict=True)
            }
        )

    return _picked(values, numbered(0), numbered(total))


def _picked(values: list[Value], numbers: Any, later: Any) -> Any:
    if not isinstance(numbers, Tensor):
        return tuple(_picked(values, *both) for both in zip(numbers, later, strict=True))
    without_batch(numbers)
    first = numbers[0].double().numpy()
    fixed = first == later[0].double().numpy()
    index = np.where(fixed, 0.0, first).astype(np.int64)
    parts = [
        np.concatenate([getattr(v, name).reshape(-1) for v in values]) for name in ("lanes", "scale", "shift")
    ]
    lanes, scale, shift = (part[index] for part in parts)
    whole = values[0].whole if len(values) == 1 else None
    if whole is not None and (
        fixed.any() or not np.array_equal(np.sort(index, None), np.arange(len(parts[0])))
    ):
        whole = None
    return Value(lanes, np.where(fixed, 0.0, scale), np.where(fixed, first, shift), whole)


def described(call: Call, *args: Any, **kwargs: Any) -> Any:
    """What hangs on the shape of an activation alone, such as ``torch.zeros_like``: a constant."""
    return call.run(args, kwargs, lambda value: torch.zeros(1, *value.shape, dtype=torch.float64))


def getitem(call: Call, item: Any, index: Any) -> Any:
    """Part of an activation, or one of several that a step returned."""
    return moved(call, item, index) if isinstance(item, Value) else item[index]


def attribute(call: Call, item: Any, name: str) -> Any:
    """The transposed activation, or one of several that a step returned by name."""
    if isinstance(item, Value) and name not in ("T", "mT", "H", "mH", "data", "real"):
        raise NotHandled(f"attribute '{name}' of an activation")
    return moved(call, item, name) if isinstance(item, Value) else getattr(item, name)
