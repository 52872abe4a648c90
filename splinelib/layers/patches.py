"""What modules read, patch by patch, and what they write: the equations that their weights should solve."""

import contextlib
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splinelib.hooks import Observer, run, watched
from splinelib.layers.own import applies_its_weight

CHUNK = 50
"""Images in one forward pass: bounds the memory of feature maps."""

HELD = 2**32
"""Bytes of feature maps up to which all images are taken through a network together (:func:`together`)."""

_LIVE = 6  # feature maps of the largest size that are held at a time, and what is kept of the others
_ROWS = 40_000  # equations of one problem: at least this many, where the images give them,
_ROWS_PER_COLUMN = 12  # and this many times the unknowns of one output

Handle = Callable[[str, Iterable[Tensor]], None]
"""Gets a module's name and its inputs for all images, in chunks of :data:`CHUNK`."""


def solvable(module: nn.Module) -> bool:
    """Whether every output of ``module`` is its weight times a patch that :func:`patches` can read, plus its bias."""
    known = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
    return known and not module.weight.is_complex() and applies_its_weight(module)  # type: ignore[operator]


def together(model: nn.Module, names: Sequence[str], images: Tensor) -> list[list[str]]:
    """The named modules in groups to :func:`visit`: all in one if the images' feature maps fit, else one by one."""
    largest = 0

    def note(values: Tensor) -> None:
        nonlocal largest
        largest = max(largest, values[0].numel() * values.element_size())

    watch_first(model, dict.fromkeys(names, note), dict.fromkeys(names, note), images[:2])
    fits = _LIVE * largest * len(images) <= HELD
    return [list(names)] if fits else [[name] for name in names]


def image_axes(model: nn.Module, names: Sequence[str], images: Tensor) -> dict[str, int]:
    """For those of the named modules that read equally many rows of every image, the axis on which images lie.

    It is 0 but for linear modules in networks that put time first. Missing are modules that read something else, such
    as parameters, or rows that the network chooses.
    """
    shapes: dict[str, list[torch.Size]] = {name: [] for name in names}
    notes = {name: lambda values, name=name: shapes[name].append(values.shape) for name in names}
    batches = images[:2], images[:CHUNK] if len(images) > 2 else torch.cat([images, images])
    for batch in batches:
        watch_first(model, notes, {}, batch)
    times, found = len(batches[1]) / 2, {}
    for name, (few, many) in shapes.items():
        grown = [axis for axis, (one, all_) in enumerate(zip(few, many, strict=False)) if all_ == times * one]
        same = len(few) == len(many) and sum(map(operator.ne, few, many)) == 1
        if same and grown and (grown[0] == 0 or isinstance(model.get_submodule(name), nn.Linear)):
            found[name] = grown[0]
    return found


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
    axes: Mapping[str, int] | None = None,
) -> None:
    """Stop at each of the named modules, when it first runs, with its inputs for all ``images``; then let it run.

    ``handle`` may change the module, and whatever runs later sees that; names are in the order in which modules run.
    Several modules share one forward pass of all images; a single one has its inputs chunk by chunk. Images come first,
    from where ``axes`` (:func:`image_axes`) says that they lie.
    """
    if len(names) == 1:
        handle(names[0], (read(model, names[0], chunk, axes) for chunk in images.split(CHUNK)))
    else:
        observers = {name: partial(_split, handle, name, len(images)) for name in names}
        watch_first(model, observers, {}, images, axes)


def _split(handle: Handle, name: str, images: int, values: Tensor) -> None:
    handle(name, values.split(CHUNK * max(1, len(values) // images)))  # several rows may be one image's


class _Enough(Exception):
    """Ends a forward pass once every module looked at has run."""


def watch_first(
    model: nn.Module,
    inputs: Mapping[str, Observer],
    outputs: Mapping[str, Observer],
    images: Tensor,
    axes: Mapping[str, int] | None = None,
) -> None:
    """Show each observer what its module reads, or writes, when it first runs; nothing behind the last of them runs."""
    waiting = {("in", name) for name in inputs} | {("out", name) for name in outputs}

    def once(side: str, name: str, observer: Observer, values: Tensor) -> None:
        if (side, name) in waiting:
            waiting.remove((side, name))
            observer(values.detach().movedim((axes or {}).get(name, 0), 0))
            if not waiting:
                raise _Enough

    sides = [
        {name: partial(once, side, name, observer) for name, observer in observers.items()}
        for side, observers in (("in", inputs), ("out", outputs))
    ]
    with contextlib.suppress(_Enough), watched(model, *sides):
        run(model, images)


def read(model: nn.Module, name: str, images: Tensor, axes: Mapping[str, int] | None = None) -> Tensor:
    """What module ``name`` first reads for a batch of images; nothing behind it runs."""
    caught: list[Tensor] = []
    watch_first(model, {name: lambda values: caught.append(values.clone())}, {}, images, axes)
    return caught[0]


def group_weights(module: nn.Module) -> Tensor:
    """Weights [groups, d, out] with which each group of outputs reads its inputs; one group but for grouped modules."""
    weight: Any = module.weight
    return weight.detach().flatten(1).unflatten(0, (groups(module), -1)).mT


def groups(module: Any) -> int:
    """How many parts of its inputs a module reads apart from each other."""
    return 1 if isinstance(module, nn.Linear) else module.groups


def places(module: nn.Module, positions: int, images: int, seed: int) -> list[Tensor]:
    """For each chunk of ``images``, which of the ``positions`` of the module's output give equations.

    A random choice, so many that all chunks hold enough equations for the unknowns of ``module`` together.
    """
    generator = torch.Generator().manual_seed(seed)
    wanted, chunks = wanted_positions(module, images), -(-images // CHUNK)
    return [torch.randperm(positions, generator=generator)[:wanted] for _ in range(chunks)]


def wanted_positions(module: nn.Module, images: int) -> int:
    """At how many positions of an image equations are wanted."""
    weight: Any = module.weight
    return max(_ROWS, _ROWS_PER_COLUMN * weight[0].numel()) // images + 1


def positions_read(module: Any, inputs: Tensor) -> Tensor:
    """For each position of a convolution's output the places [positions, window] of its input; -1 in the padding."""
    places = torch.arange(1.0, inputs[0, 0].numel() + 1).view(1, 1, *inputs.shape[2:])
    windows = _windows(module, places)
    return windows.reshape(math.prod(_grid(module, windows)), -1).long() - 1


def rows_of(module: nn.Module, inputs: Iterable[Tensor], images: int, seed: int) -> Iterator[Tensor]:
    """Chunk by chunk of its inputs what a module reads [groups, n, d] at the :func:`places` that give equations."""
    where: list[Tensor] = []
    for index, chunk in enumerate(inputs):
        windows = _windows(module, chunk)
        where = where or places(module, math.prod(_grid(module, windows)), images, seed)
        yield _at(module, windows, where[index])


def patches(module: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
    """What those ``positions`` of the output read [groups, n, d], image by image.

    >>> image = torch.arange(9.0).view(1, 1, 3, 3)
    >>> patches(nn.Conv2d(1, 1, 2), image, torch.tensor([0, 3])).tolist()
    [[[0.0, 1.0, 3.0, 4.0], [4.0, 5.0, 7.0, 8.0]]]
    """
    return _at(module, _windows(module, inputs), positions)


def _windows(module: Any, inputs: Tensor) -> Tensor:
    """What every position reads, as a view: [N, positions, d] (linear) or [N, channels, *grid, *kernel]."""
    if isinstance(module, nn.Linear):
        return _with_positions(inputs)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    windows = F.pad(inputs, module._reversed_padding_repeated_twice, mode)
    sizes = zip(module.kernel_size, module.stride, module.dilation, strict=True)
    for axis, (size, stride, dilation) in enumerate(sizes, 2):
        windows = windows.unfold(axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
    return windows


def _grid(module: Any, windows: Tensor) -> torch.Size:
    """The shape of the output's positions."""
    return (
        windows.shape[1:2]
        if isinstance(module, nn.Linear)
        else windows.shape[2 : 2 + len(module.kernel_size)]
    )


def _at(module: nn.Module, windows: Tensor, positions: Tensor) -> Tensor:
    """The windows at those positions, copied: [groups, n, d]."""
    positions = positions.to(windows.device)
    if isinstance(module, nn.Linear):
        return by_group(windows[:, positions].flatten(0, 1), module)
    place: Any = torch.unravel_index(positions, _grid(module, windows))
    return by_group(windows[:, :, *place].transpose(1, 2).flatten(2).flatten(0, 1), module)


def outputs_at(module: nn.Module, outputs: Tensor, positions: Tensor) -> Tensor:
    """Outputs [n, channels] of a module at those positions, image by image, in the order of :func:`patches`."""
    flat = _with_positions(outputs) if isinstance(module, nn.Linear) else outputs.flatten(2).transpose(1, 2)
    return flat[:, positions.to(outputs.device)].flatten(0, 1)


def output_positions(module: nn.Module, outputs: Tensor) -> int:
    """At how many positions of one image a module writes."""
    return outputs[0].numel() // (outputs.shape[-1] if isinstance(module, nn.Linear) else outputs.shape[1])


def by_group(values: Tensor, module: nn.Module) -> Tensor:
    """[groups, n, width] of what is side by side in ``values`` [n, groups · width]."""
    return values.unflatten(1, (groups(module), -1)).transpose(0, 1)


def _with_positions(values: Tensor) -> Tensor:
    return values[:, None] if values.ndim == 2 else values.flatten(1, -2)
