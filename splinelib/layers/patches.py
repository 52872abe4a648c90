"""What a module reads, patch by patch, and what it writes: the equations that its weights should solve."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splinelib.hooks import watched
from splinelib.regression import Equations

CHUNK = 50
"""Images in one forward pass: bounds the memory of feature maps."""

_UNFOLDED = 2**26  # numbers in patches that are held at once, where one image has no more (float32: 268 MB)
_ROWS = 40_000  # equations of one problem: at least this many, where the images give them,
_ROWS_PER_COLUMN = 12  # and this many times the unknowns of one output


def solvable(module: nn.Module) -> bool:
    """Whether every output of ``module`` is one affine function of a patch that :func:`equations` can read."""
    if isinstance(module, nn.Conv2d):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)


class _Enough(Exception):
    """Ends a forward pass once the module looked at has run."""


def seen(model: nn.Module, name: str, images: Tensor, outputs: bool) -> Tensor:
    """What module ``name`` reads, or writes, for a batch of images; nothing behind it runs."""
    caught: list[Tensor] = []

    def observe(values: Tensor) -> None:
        caught.append(values.detach().clone())
        raise _Enough

    watch: dict[str, Callable[[Tensor], None]] = {name: observe}
    try:
        with watched(model, {} if outputs else watch, watch if outputs else {}):
            model(images)
    except _Enough:
        pass
    return caught[0]


def group_weights(module: nn.Conv2d | nn.Linear) -> Tensor:
    """Weights [groups, d, out] with which each group of outputs reads its inputs; one group but for grouped modules."""
    return module.weight.detach().flatten(1).unflatten(0, (_groups(module), -1)).mT


def _groups(module: nn.Module) -> int:
    return module.groups if isinstance(module, nn.Conv2d) else 1


def equations(
    dense: nn.Module, reader: nn.Module, name: str, images: Tensor, seed: int, kept: Tensor | None = None
) -> Equations:
    """Patches [groups, n, d] that module ``name`` meets in ``reader``; its outputs [groups, n, out] in ``dense``.

    They come in chunks. Of feature maps a random choice of positions is taken, so many that the chunks hold enough
    equations together. ``kept`` are the outputs that the module still has in ``reader``, by default all.
    """
    module: Any = reader.get_submodule(name)
    generator = torch.Generator().manual_seed(seed)
    wanted = max(_ROWS, _ROWS_PER_COLUMN * module.weight[0].numel()) // len(images) + 1
    for chunk in images.split(CHUNK):
        inputs = seen(reader, name, chunk, outputs=False)
        targets = seen(dense, name, chunk, outputs=True)
        targets = (
            targets.flatten(2).transpose(1, 2) if isinstance(module, nn.Conv2d) else _with_positions(targets)
        )
        positions = targets.shape[1]
        places = torch.randperm(positions, generator=generator)[:wanted].to(images.device)
        at_once = max(1, _UNFOLDED // (positions * _groups(module) * module.weight[0].numel()))
        rows = torch.cat([_patches(module, part)[:, places] for part in inputs.split(at_once)]).flatten(0, 1)
        targets = targets[:, places].flatten(0, 1)
        targets = targets if kept is None else targets[:, kept]
        yield _by_group(rows, module), _by_group(targets, module)


def _by_group(values: Tensor, module: nn.Module) -> Tensor:
    """[groups, n, width] of what is side by side in ``values`` [n, groups · width]."""
    return values.unflatten(1, (_groups(module), -1)).transpose(0, 1)


def _patches(module: Any, inputs: Tensor) -> Tensor:
    """What each output position reads: [N, positions, d]."""
    if not isinstance(module, nn.Conv2d):
        return _with_positions(inputs)
    unfolded = F.unfold(inputs, module.kernel_size, module.dilation, module.padding, module.stride)  # type: ignore[arg-type]
    return unfolded.transpose(1, 2)


def _with_positions(values: Tensor) -> Tensor:
    return values[:, None] if values.ndim == 2 else values.flatten(1, -2)
