"""A trial cut of all layers: what each module reads must be what it read before, without what has gone."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from splinelib.hooks import Inputs, leaves_in
from splinelib.layers.cutting import Lost, cut_for_now
from splinelib.layers.kinds import channel_axis, complement, kind_of
from splinelib.layers.layer import Layer
from splinelib.layers.observed import Observed, fingerprint, met_by, same_numbers, whole_numbers
from splinelib.layers.own import ROUNDING, cut_as_known
from splinelib.layers.probe import Call, answers, opposite, probe

_Some = Callable[[int, int], Iterable[int]]
"""Which units of a group go in a trial, of how many, and of the how manieth group."""

_SOME: tuple[_Some, ...] = (
    lambda size, group: range(max(1, size - 1), size),
    lambda size, group: range(min(max(1, size // 2), size - 1)),
    lambda size, group: range(1, min(2, size)),
)
"""The last unit, the first half, and the second: what counts on places goes wrong with one of them. Every other
channel, say, is right without the last, or an even number of the first."""


def _drawn(number: int) -> _Some:
    """Half of every group's units, drawn at random, the same ones whenever they are drawn."""
    return lambda size, group: random.Random(f"{number} {group}").sample(range(size), size // 2)


_APART = tuple(map(_drawn, range(4)))
"""Other units of every group: behind a shuffle, groups must have lost alike, and some that differ may fit by chance."""


class _Differs(Exception):
    """A module of the cut network reads something else."""


@dataclass
class _View:
    """What a pass of the whole model showed, see :class:`Observed`, and what each call was answered, once it was."""

    met: dict[tuple[str, int, bool], Any]
    outputs: list[Any]
    inputs: Inputs
    wide: int = 0
    given: dict[tuple[str, int, bool], Any] = field(default_factory=dict)


@dataclass
class Trial:
    """Cuts a copy of a model on trial.

    Attributes:
        model: the model.
        copy: what was observed, in float64; cut for as long as a trial takes.
        inputs: what it was observed on, in float64.
        observed: what was observed.
        dense: the modules of ``copy`` as they are between trials.
        views: passes of the whole model that a cut one is held against.
    """

    model: nn.Module
    copy: nn.Module
    inputs: Inputs
    observed: Observed
    dense: dict[str, nn.Module] = field(init=False)
    views: list[_View] = field(init=False)

    def __post_init__(self) -> None:
        self.dense = {name: _shallow(module) for name, module in self.copy.named_modules()}
        plain = _View(self.observed.met, self.observed.outputs, self.inputs)
        self.views = [plain, *self._wide(self.inputs, 1), *self._wide(opposite(self.inputs), -1)]

    def _wide(self, inputs: Inputs, wide: int) -> list[_View]:
        """A pass on noise around zero, where steps and kinks are; none if the forward pass does not bear such."""
        view = _View({}, [], inputs, wide)

        def answer(call: Call) -> Any:
            shapes = call.own()
            view.met[call.key] = met_by(call, shapes)
            return answers(call, shapes, wide)

        try:
            view.outputs, _ = probe(self.copy, inputs, answer, trains=self.observed.trains)
        except Exception:  # it may want positive numbers
            return []
        return [view]

    def failing(self, layers: Sequence[Layer]) -> list[tuple[Layer, str]]:
        """The layers that cannot be cut as read, each with what goes wrong; found by halving."""
        why = self.cut(layers) if layers else ""
        if not why or len(layers) == 1:
            return [(layers[0], why)] if why else []
        middle = len(layers) // 2
        halves = [*self.failing(layers[:middle]), *self.failing(layers[middle:])]
        return halves or [(layer, why) for layer in layers]

    def apart(self, layers: Sequence[Layer]) -> list[tuple[Layer, str]]:
        """Layers that can be cut together with all others alone, since something wants equally many of both.

        Widths show that whichever units go, and most where half of each layer do.
        """
        for bit in range(len(layers).bit_length()):
            some = [layer for place, layer in enumerate(layers) if place >> bit & 1]
            if self._wrong(some, _SOME[1:2]) and (failed := self.failing(some)):
                return failed
        return []

    def cut(self, layers: Sequence[Layer]) -> str:
        """What goes wrong when some units of each group (:data:`_SOME`) are cut; empty if nothing does.

        In layers of several groups also others of every group (:data:`_APART`).
        """
        grouped = [layer for layer in layers if layer.groups > 1]
        return self._wrong(layers, _SOME) or self._wrong(grouped, _APART)

    def _wrong(self, layers: Sequence[Layer], choices: Iterable[_Some]) -> str:
        """What goes wrong when one of the choices of units is cut; empty if nothing does."""
        for some in choices:
            lost: dict[tuple[str, bool, int], list[int]] = {}
            for layer in layers:
                units = _units(layer, some)
                for part in layer.parts if units else ():
                    lost.setdefault((part.module, part.writes, part.dim), []).extend(part.of(units))
            if lost and (why := self._compare(lost)):
                return why
        return ""

    def _compare(self, lost: Lost) -> str:
        """What one of the views shows to go wrong with these channels gone; empty if none does."""
        last = ""

        def answer(call: Call, view: _View, ran: set[tuple[str, int, bool]]) -> Any:
            nonlocal last
            last = call.name
            ran.add(call.key)
            return self._answer(call, lost, view)

        try:
            with cut_for_now(self.copy, lost):
                for view in self.views:
                    ran = set[tuple[str, int, bool]]()
                    asked = partial(answer, view=view, ran=ran)
                    outputs, _ = probe(self.copy, view.inputs, asked, trains=self.observed.trains)
                    for name, *_ in view.met.keys() - ran:
                        return f"{name!r} runs less often than before"
                    if not _alike(outputs, view.outputs):
                        return "the network's outputs change"
        except _Differs as error:
            return f"{last!r} {error}"
        except Exception as error:
            return f"behind {last!r} the network counts on its width ({error})"
        return ""

    def _answer(self, call: Call, lost: Lost, view: _View) -> Any:
        """What the whole network's module answered, without what has gone; raises if it reads something else."""
        if call.key not in view.met:
            raise _Differs("runs more often than before")
        dense: Any = self.dense[call.name]
        kind: Any = kind_of(dense)
        prints, shapes, answered, numbers = view.met[call.key]
        if not same_numbers(whole_numbers(call), numbers):
            raise _Differs("would read other numbers than before")
        values = [tensor for tensor in call.reads if tensor.is_floating_point()]
        kept = complement(lost.get((call.name, kind.coupled, 0), ()), kind.reads or 0)
        for place, (tensor, seen, shape) in enumerate(zip(values, prints, shapes, strict=True)):
            whole = place > 0 or kind.reads is None
            axis = channel_axis(dense, _like(shape))
            _check(tensor, axis, seen if whole else seen[kept.to(seen.device)], shape)
        if call.key not in view.given:
            view.given[call.key] = answers(call, answered, view.wide)
        given = view.given[call.key]
        if kind.writes is None or not isinstance(given, Tensor):
            return tree_map_only(Tensor, torch.clone, given)
        staying = complement(lost.get((call.name, True, 0), ()), kind.writes).to(given.device)
        narrower = values and len(kept) + len(staying) < kind.reads + kind.writes
        own = self.model.get_submodule(call.name)
        if narrower and not cut_as_known(own, values, channel_axis(dense, _like(shapes[0])), kept, staying):
            raise _Differs(f"({type(dense).__name__}) computes something else of what is left")
        return given.index_select(channel_axis(dense, given), staying)


def _shallow(module: nn.Module) -> nn.Module:
    """A module with the same attributes; parametrised ones refuse ``copy.copy``."""
    twin = object.__new__(type(module))
    vars(twin).update(vars(module))
    return twin


def _units(layer: Layer, some: _Some) -> list[int]:
    size = layer.units // layer.groups
    return [group * size + unit for group in range(layer.groups) for unit in some(size, group)]


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.detach().double(), other.detach().double(), ROUNDING, ROUNDING, equal_nan=True)


def _alike(outputs: Any, wanted: Any) -> bool:
    """Whether two passes gave the same tensors and arrays, and as many numbers."""
    found = [leaves_in(values) for values in (outputs, wanted)]
    return len(found[0]) == len(found[1]) and all(map(_as_before, *found))


def _as_before(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and one.dtype.kind in "biuf":
        return type(one) is type(other) and _as_before(torch.tensor(one), torch.tensor(other))
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.shape == other.shape and _close(one, other)
    return type(one) is type(other)


def _like(shape: Iterable[int]) -> Tensor:
    return torch.empty(tuple(shape), device="meta")


def _check(values: Tensor, axis: int, wanted: Tensor, shape: Iterable[int]) -> None:
    before = list(shape)
    before[axis] = len(wanted)
    if list(values.shape) != before:
        raise _Differs(f"would read {tuple(values.shape)} where {tuple(before)} is left")
    if not _close(fingerprint(values, axis), wanted):
        raise _Differs("would read other channels than before")
