"""Cut channels out of modules, parameters, and numbers that count them."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from splinelib.hooks import duplicate
from splinelib.layers.kinds import complement, cut_module, narrower

Lost = Mapping[tuple[str, bool, int], Sequence[int]]
"""Channels by the module's, or a lone tensor's, name, whether they are written, and the tensor's axis."""


def found(model: nn.Module, name: str) -> Any:
    """The module, parameter, buffer or number of that path."""
    path, _, last = name.rpartition(".")
    return getattr(model.get_submodule(path), last) if last else model


def cut(model: nn.Module, lost: Lost, trial: bool = False) -> nn.Module:
    """A copy of ``model`` without these channels; weights that modules share are shared by the copy as well.

    On ``trial`` it shares what it does not lose with ``model``, which takes less time.
    """
    pruned = duplicate(model, [*model.parameters(), *model.buffers()] if trial else ())
    for (name, writes, dim), channels in lost.items():
        target = found(pruned, name)
        if isinstance(target, nn.Module):
            cut_module(target, writes, channels)
        else:
            path, _, last = name.rpartition(".")
            setattr(pruned.get_submodule(path), last, _smaller(target, dim, channels))
    _tie(model, pruned)
    return pruned


def _smaller(target: Tensor | int, dim: int, lost: Sequence[int]) -> Tensor | int:
    if isinstance(target, int):
        return target - len(lost)
    return narrower(target, dim, complement(lost, target.shape[dim]))


def _tie(model: nn.Module, pruned: nn.Module) -> None:
    """Let the modules of ``pruned`` share the parameters that those of ``model`` share."""
    first: dict[int, nn.Parameter] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        path, _, last = name.rpartition(".")
        setattr(pruned.get_submodule(path), last, first.setdefault(id(parameter), found(pruned, name)))
