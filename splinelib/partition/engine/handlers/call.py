"""One step of a traced network, as its handler gets it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from splinelib.partition.engine.layout import Floats, Layout


class NotHandled(Exception):
    """This use of a known module is outside what the partition supports; the reader adds the path."""


@dataclass(frozen=True)
class Call:
    """One step of the graph: where it stands, the shape it returns, and its module if it is one."""

    layout: Layout
    path: str
    shape: tuple[int, ...]
    module: Any


def pair(value: Any) -> tuple[int, int]:
    """Two numbers from one or two, as torch takes kernel sizes and strides."""
    return (int(value[0]), int(value[1])) if isinstance(value, Sequence) else (int(value), int(value))


def array(tensor: Tensor) -> Floats:
    """The numbers of a tensor as float64."""
    return tensor.detach().double().numpy()
