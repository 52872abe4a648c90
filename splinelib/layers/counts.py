"""Numbers that modules keep of channels, such as an attention's heads or the sizes of a split: they follow units.

Nothing tells which of a module's whole numbers, or lists of such, counts what. So each that could be a number of a
layer's units, or of its channels, is a candidate, and a trial cut (:mod:`splinelib.layers.trial`) says which follow.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice
from typing import Any

import numpy as np
from torch import nn

from splinelib.layers.kinds import kind_of
from splinelib.layers.layer import Layer
from splinelib.layers.observed import Observed
from splinelib.layers.units import components

_TRIALS = 24  # sets of names that are tried for one layer
_TOGETHER = 3  # names in a set
_FAILURES = 2  # layers after which a set of names is tried no more

Counts = dict[str, list[tuple[str, np.ndarray]]]
"""By name: paths of numbers, and for each block of channels that one counts, the number of its first channel."""


def counts_of(model: nn.Module, observed: Observed, layer: Layer) -> Counts:
    """The whole numbers of modules that may count the layer's units or channels, of modules close to it first."""
    label, modules = components(observed), dict(model.named_modules())
    sides = [side for side in observed.first if side[0] in {part.module for part in layer.parts}]
    read = [observed.numbers(side, 0) for side in sides if side[0] in modules]
    written = set(label[observed.numbers(_root(layer, sides), 0)].tolist())
    whole = [numbers for numbers in read if set(label[numbers].tolist()) == written]
    read = [numbers for numbers in read if not written.isdisjoint(label[numbers].tolist())]
    found: Counts = {}
    for path in _near(modules, [part.module for part in layer.parts]):
        held = {} if kind_of(modules[path]) else vars(modules[path])
        for name, value in held.items():
            place = f"{path}.{name}".lstrip(".")
            if type(value) is int and (blocks := _blocks(value, whole, label)) is not None:
                found.setdefault(name, []).append((place, blocks))
            for splits in _splits(value, observed, path, read):
                if not written.isdisjoint(label[np.concatenate(splits)].tolist()):
                    found[name] = [
                        *found.get(name, []),
                        *((f"{place}.{at}", channels) for at, channels in enumerate(splits)),
                    ]
                    break
    return found


def _root(layer: Layer, sides: Sequence[tuple[str, str | int]]) -> tuple[str, str | int]:
    return next(side for end in ("out", "in") for side in sides if side == (layer.name, end))


def _near(modules: dict[str, nn.Module], names: Sequence[str]) -> Iterator[str]:
    """Paths of the modules in the innermost one that holds all these, then of those around it."""
    split = [name.split(".")[:-1] for name in names]
    shared = 0
    while all(len(path) > shared and path[shared] == split[0][shared] for path in split):
        shared += 1
    around = [".".join(split[0][:depth]) for depth in range(shared, -1, -1)]
    inside = f"{around[0]}." if around[0] else ""
    yield from (path for path in modules if path.startswith(inside) and path not in around[1:])
    yield from (path for path in around if not inside.startswith(path) or path + "." == inside)


def _blocks(value: int, read: Sequence[np.ndarray], label: np.ndarray) -> np.ndarray | None:
    """The first channels of ``value`` equal blocks of a module's channels, each of one unit; None if there are none."""
    for numbers in read:
        if value > 1 and len(numbers) % value == 0:
            rows = numbers.reshape(value, -1)
            if bool((label[rows] == label[rows[:, :1]]).all()):
                return rows[:, 0]
    return None


def _splits(value: Any, observed: Observed, path: str, read: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """The channels that each number of a list may count, the likeliest first; none where it cannot count any.

    They are what as many modules inside the list's own read, one after the other, or else those of a module in pieces.
    """
    if type(value) not in (list, tuple) or len(value) < 2 or not all(type(n) is int and n > 0 for n in value):
        return []
    inside = [
        observed.numbers(side, 0)
        for side in observed.first
        if side[1] == "in" and side[0].startswith(f"{path}.".lstrip("."))
    ]
    runs = [inside[start : start + len(value)] for start in range(len(inside) - len(value) + 1)]
    fitting = [run for run in runs if [len(numbers) for numbers in run] == list(value)]
    pieces = [np.split(numbers, np.cumsum(value)[:-1]) for numbers in read if len(numbers) == sum(value)]
    return fitting or pieces


def choices(counts: Counts, found: Mapping[tuple[str, ...], int]) -> list[tuple[str, ...]]:
    """Sets of names to try, the smallest first, but for those that did right before (``found`` > 0), or never did."""
    sizes = range(1, _TOGETHER + 1)
    sets = islice((names for size in sizes for names in combinations(counts, size)), _TRIALS)
    return sorted(
        (names for names in sets if found.get(names, 0) > -_FAILURES), key=lambda n: found.get(n, 0) <= 0
    )
