"""Runs of a network over many images that stop where named modules run: to see what they read, and to change them."""

import contextlib
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from splinelib.hooks import Observer, run, watched

CHUNK = 50
"""Images in one forward pass: bounds the memory of feature maps."""

HELD = 2**32
"""Bytes of feature maps up to which all images are taken through a network together (:func:`together`)."""

_LIVE = 6  # feature maps of the largest size that are held at a time, and what is kept of the others
Handle = Callable[[str, Iterable[Tensor]], None]
"""Gets a module's name and its inputs for all images, in chunks of :data:`CHUNK`."""


def together(model: nn.Module, names: Sequence[str], images: Tensor) -> list[list[str]]:
    """The named modules in groups to :func:`visit`: all in one if the images' feature maps fit, else one by one."""
    largest = 0

    def note(values: Tensor) -> None:
        nonlocal largest
        largest = max(largest, values[0].numel() * values.element_size())

    watch_first(model, dict.fromkeys(names, note), dict.fromkeys(names, note), images[:2])
    fits = _LIVE * largest * len(images) <= HELD
    return [list(names)] if fits else [[name] for name in names]


@dataclass(frozen=True)
class Rows:
    """How the rows that a module reads belong to images.

    Attributes:
        axis: the one on which images lie.
        stacked: so many rows of an image lie apart, behind the others' first ones: views of a pair, steps of time; 1
            where each image's lie together.
    """

    axis: int = 0
    stacked: int = 1

    def in_turn(self, values: Tensor, images: int) -> Tensor:
        """``values`` with images in front, and the rows of each together."""
        values = values.movedim(self.axis, 0)
        if self.stacked == 1:
            return values
        return values.unflatten(0, (self.stacked, images)).transpose(0, 1).flatten(0, 1)


def image_rows(model: nn.Module, names: Sequence[str], images: Tensor) -> dict[str, Rows]:
    """For those of the named modules that read equally many rows of every image, how these lie.

    The axis is 0 but for linear modules in networks that put time first. Missing are modules that read something else,
    such as parameters, or rows that the network chooses or mixes.
    """
    found = _rows_as_if_stacked(model, names, images)
    several = [name for name, rows in found.items() if rows.stacked > 1]
    both = [_read_all(model, several, two) for two in (images[:2], images[:2].flip(0)) if several]
    for name in several:
        stacked = found.pop(name)
        for rows in (stacked, Rows(stacked.axis)):  # the second where both fit
            if _swaps(rows, *(values[name] for values in both)):
                found[name] = rows
    return found


def _rows_as_if_stacked(model: nn.Module, names: Sequence[str], images: Tensor) -> dict[str, Rows]:
    """For the modules of :func:`image_rows` the axis that grows with images, and how many rows of each lie there."""
    batches = images[:2], images[:CHUNK] if len(images) > 2 else torch.cat([images, images])
    shapes = [{name: values.shape for name, values in _read_all(model, names, b).items()} for b in batches]
    times, found = len(batches[1]) / 2, dict[str, Rows]()
    for name, few in shapes[0].items():
        many = shapes[1].get(name, torch.Size())
        grown = [axis for axis, (one, all_) in enumerate(zip(few, many, strict=False)) if all_ == times * one]
        same = len(few) == len(many) and sum(map(operator.ne, few, many)) == 1
        if same and grown and (grown[0] == 0 or isinstance(model.get_submodule(name), nn.Linear)):
            found[name] = Rows(grown[0], max(1, few[grown[0]] // 2))
    return found


def _read_all(model: nn.Module, names: Iterable[str], images: Tensor) -> dict[str, Tensor]:
    """What each of the modules first reads."""
    found: dict[str, Tensor] = {}
    notes = {name: lambda values, name=name: found.update({name: values.clone()}) for name in names}
    watch_first(model, notes, {}, images)
    return found


def _swaps(how: Rows, values: Tensor, swapped: Tensor) -> bool:
    """Whether the rows of two images change places when the images do."""
    one, other = (how.in_turn(read, 2).unflatten(0, (2, -1)) for read in (values, swapped))
    return torch.allclose(one.flip(0), other, 1e-3, 1e-3 * float(one.abs().max()))


def in_order(model: nn.Module, names: Iterable[str], example: Tensor) -> list[str]:
    """Those of the named modules that run, in the order in which they first do."""
    return list(runs(model, names, example))


def runs(model: nn.Module, names: Iterable[str], example: Tensor) -> dict[str, int]:
    """How often those of the named modules run that do, in the order in which they first do."""
    order: dict[str, int] = {}
    with watched(model, {name: partial(_note, order, name) for name in names}, {}):
        run(model, example)
    return order


def _note(order: dict[str, int], name: str, values: Tensor) -> None:
    order[name] = order.get(name, 0) + 1


def visit(
    model: nn.Module,
    names: Sequence[str],
    images: Tensor,
    handle: Handle,
    rows: Mapping[str, Rows] | None = None,
) -> None:
    """Stop at each of the named modules, when it first runs, with its inputs for all ``images``; then let it run.

    ``handle`` may change the module, and whatever runs later sees that; names are in the order in which modules run.
    Several modules share one forward pass of all images; a single one has its inputs chunk by chunk. Images come first,
    as ``rows`` (:func:`image_rows`) says that they lie.
    """
    if len(names) == 1:
        handle(names[0], (read(model, names[0], chunk, rows) for chunk in images.split(CHUNK)))
    else:
        observers = {name: partial(_split, handle, name, len(images)) for name in names}
        watch_first(model, observers, {}, images, rows)


def _split(handle: Handle, name: str, images: int, values: Tensor) -> None:
    handle(name, values.split(CHUNK * max(1, len(values) // images)))  # several rows may be one image's


class _Enough(Exception):
    """Ends a forward pass once every module looked at has run."""


def watch_first(
    model: nn.Module,
    inputs: Mapping[str, Observer],
    outputs: Mapping[str, Observer],
    images: Tensor,
    rows: Mapping[str, Rows] | None = None,
) -> None:
    """Show each observer what its module reads, or writes, when it first runs; nothing behind the last of them runs."""
    waiting = {("in", name) for name in inputs} | {("out", name) for name in outputs}

    def once(side: str, name: str, observer: Observer, values: Tensor) -> None:
        if (side, name) in waiting:
            waiting.remove((side, name))
            observer((rows or {}).get(name, Rows()).in_turn(values.detach(), len(images)))
            if not waiting:
                raise _Enough

    sides = [
        {name: partial(once, side, name, observer) for name, observer in observers.items()}
        for side, observers in (("in", inputs), ("out", outputs))
    ]
    with contextlib.suppress(_Enough), watched(model, *sides):
        run(model, images)


def read(model: nn.Module, name: str, images: Tensor, rows: Mapping[str, Rows] | None = None) -> Tensor:
    """What module ``name`` first reads for a batch of images; nothing behind it runs."""
    caught: list[Tensor] = []
    watch_first(model, {name: lambda values: caught.append(values.clone())}, {}, images, rows)
    return caught[0]
