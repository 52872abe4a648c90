"""Running a model that casts its numbers as the network in float64 that is read."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Methods that change the type of numbers; what is read is the network in float64.
CASTS = frozenset({"to", "type", "type_as", "float", "half", "bfloat16"})


class AsFloat64(TorchFunctionMode):
    """Leaves numbers in float64 where a model casts them, and keeps what each call of certain functions gets."""

    def __init__(self, names: Collection[str] = ()) -> None:
        super().__init__()
        self.names, self.seen = names, list[Tensor]()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in self.names and args:
            self.seen.append(args[0].clone())
        result = function(*args, **(kwargs or {}))
        if not isinstance(result, Tensor) or not result.is_floating_point() or result.dtype == torch.float64:
            return result
        cast = name in CASTS and args[0].dtype == torch.float64
        return args[0] if cast else result.double()
