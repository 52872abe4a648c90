"""One step of a traced network, as its handler gets it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx.node import map_aggregate

from splinelib.partition.engine.layout import Floats, Layout, Value


class NotHandled(Exception):
    """This use of a known module is outside what the partition supports; the reader adds the path."""


@dataclass(frozen=True)
class Call:
    """One step of the graph: where it stands, what it runs and returns on an example, and its module if it is one."""

    layout: Layout
    path: str
    module: Any
    operation: Callable[..., Any]
    example: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor that it returns, without the batch axis."""
        return without_batch(self.example)

    def run(self, args: Any, kwargs: Any, replace: Callable[[Value], Tensor]) -> Any:
        """What the step itself makes of tensors ``[N, *shape]`` in the place of its activations."""

        def tensor(item: Any) -> Any:
            return replace(item) if isinstance(item, Value) else item

        with torch.no_grad():
            return self.operation(*map_aggregate(args, tensor), **map_aggregate(kwargs, tensor))


def without_batch(tensor: Tensor) -> tuple[int, ...]:
    """A tensor's shape behind the batch axis, which must be there."""
    if tensor.ndim == 0 or tensor.shape[0] != 1:
        raise NotHandled("it moves or sums elements between the batch axis and the others")
    return tuple(tensor.shape[1:])


def values_in(*items: Any) -> list[Value]:
    """The activations among arguments, nested ones too."""
    found: list[Value] = []
    map_aggregate(items, lambda item: found.append(item) if isinstance(item, Value) else None)
    return found


def array(tensor: Tensor) -> Floats:
    """The numbers of a tensor as float64."""
    return tensor.detach().double().numpy()
