"""What is observed of a model: its channels, numbered, and which of them go together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.layers.kinds import Kind, axis_of, channel_axis, kind_of
from splinelib.layers.probe import Call, noise

Side = tuple[str, str | int]
"""Channels that a module reads ("in") or writes ("out"), "in" for both where they are coupled; or a tensor's axis."""


@dataclass
class Observed:
    """Channels of all modules, numbered, what feeds what, and what must stay.

    Attributes:
        first: number of the first channel of each side, in the order in which they were met.
        width: how many channels each side has.
        edges: pairs of channels that go together.
        stays: channels that must stay, and why (empty: they are those of the network's inputs or outputs).
        met: what each call read, as a fingerprint of every channel, the shapes that it answered with, and the whole
            numbers that it read.
        sources: for every call, the modules that its input depends on, and whether it is one answer, read untouched.
        outputs: what the network gave, of both passes.
        idle: modules that did not run.
        shared: norms over channels that read several blocks of one module's channels alike, as heads' norms do.
        steps: whether numbers decide on something that has no gradient (a comparison, a sign).
        trains: whether the network does something else in train mode.
    """

    first: dict[Side, int] = field(default_factory=dict)
    width: dict[Side, int] = field(default_factory=dict)
    edges: list[np.ndarray] = field(default_factory=list)
    stays: list[tuple[np.ndarray, str]] = field(default_factory=list)
    met: dict[tuple[str, int, bool], tuple[list[Tensor], list[Any], Any, list[Tensor]]] = field(
        default_factory=dict
    )
    sources: dict[str, list[tuple[list[str], bool]]] = field(default_factory=dict)
    outputs: list[Any] = field(default_factory=list)
    idle: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)
    steps: bool = False
    trains: bool = False

    def numbers(self, side: Side, width: int) -> np.ndarray:
        """Numbers of a side's channels."""
        if side not in self.first:
            self.first[side] = sum(self.width.values())
            self.width[side] = width
        return self.first[side] + np.arange(self.width[side])

    def join(self, one: np.ndarray, other: np.ndarray) -> None:
        """Note that channels go together, pair by pair."""
        self.edges.append(np.stack([one, other]))


def met_by(call: Call, shapes: Any) -> tuple[list[Tensor], list[Any], Any, list[Tensor]]:
    """What :attr:`Observed.met` holds of a call that answers with tensors of these ``shapes``."""
    values = [tensor for tensor in call.reads if tensor.is_floating_point()]
    prints = [fingerprint(tensor, channel_axis(call.module, tensor)) for tensor in values]
    return prints, [tensor.shape for tensor in values], shapes, whole_numbers(call)


def whole_numbers(call: Call) -> list[Tensor]:
    """What a call reads that has no gradient: indices, masks."""
    return [
        tensor.clone() for tensor in call.reads if not (tensor.is_floating_point() or tensor.is_complex())
    ]


def same_numbers(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether two calls read the same whole numbers."""
    return len(some) == len(others) and all(map(torch.equal, some, others))


def sides(name: str, kind: Kind) -> tuple[Side, Side]:
    """The sides that a module reads and writes."""
    return (name, "in"), (name, "in" if kind.coupled else "out")


def tie(model: nn.Module, found: Observed) -> None:
    """Join the channels of modules that share a weight."""
    users: dict[tuple[int, int | None], np.ndarray] = {}
    for name, module in model.named_modules():
        kind = kind_of(module)
        if kind is None:
            continue
        for key, tensor in module._parameters.items():
            for writes, side in enumerate(sides(name, kind)):
                axis = None if tensor is None else axis_of(module, key, bool(writes))
                if axis is None or side not in found.first or tensor.shape[axis] != found.width[side]:
                    continue
                numbers = found.numbers(side, 0)
                found.join(numbers, users.setdefault((id(tensor), axis), numbers))


def weights_of(module: Any) -> list[tuple[int, int, float]]:
    """What tells that a module computes with the weights that it had: the same tensors, with the same numbers."""
    held = [weight.detach() for weight in module._parameters.values() if weight is not None]
    return [
        (weight.data_ptr(), weight._version, float(weight.double().sum().nan_to_num())) for weight in held
    ]


def by_channel(values: Tensor, axis: int) -> Tensor:
    """Rows [channels, all else]."""
    return values.movedim(axis, 0).reshape(values.shape[axis], -1)


def fingerprint(values: Tensor, axis: int) -> Tensor:
    """A number for each channel [channels] that tells its values, in their order."""
    rows = by_channel(values.detach().double(), axis)
    return rows @ _weights(rows.shape[1], rows.device)


@lru_cache(maxsize=256)
def _weights(count: int, device: torch.device) -> Tensor:
    return noise("fingerprint", (count,), device)
