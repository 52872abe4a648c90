"""What modules read, patch by patch, and what they write: the equations that their weights should solve."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splinelib.layers.own import applies_its_weight
from splinelib.layers.visits import CHUNK

_ROWS = 40_000  # equations of one problem: at least this many, where the images give them,
_ROWS_PER_COLUMN = 12  # and this many times the unknowns of one output


def solvable(module: nn.Module) -> bool:
    """Whether every output of ``module`` is its weight times a patch that :func:`patches` can read, plus its bias."""
    known = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
    return known and not module.weight.is_complex() and applies_its_weight(module)  # type: ignore[operator]


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
