"""Cut channels out of modules, parameters, and numbers that count them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from splinelib.hooks import duplicate
from splinelib.layers.kinds import complement, cut_module, narrower

Lost = Mapping[tuple[str, bool, int], Sequence[int]]
"""Channels by the module's, or a lone tensor's, name, whether they are written, and the tensor's axis."""


def found(model: nn.Module, name: str) -> Any:
    """The module, parameter, buffer or number of that path; a number may lie in a list."""
    value: Any = model
    for part in name.split(".") if name else ():
        value = value[int(part)] if isinstance(value, list | tuple) else getattr(value, part)
    return value


def put(model: nn.Module, name: str, value: Any) -> None:
    """Let ``value`` be what is found under that path."""
    path, _, last = name.rpartition(".")
    owner = found(model, path)
    if isinstance(owner, list | tuple):
        values = [value if place == int(last) else one for place, one in enumerate(owner)]
        put(model, path, type(owner)(values))
    else:
        setattr(owner, last, value)


def cut(model: nn.Module, lost: Lost) -> nn.Module:
    """A copy of ``model`` without these channels; weights that modules share are shared by the copy as well."""
    pruned = duplicate(model)
    _take(pruned, lost)
    _tie(model, pruned)
    return pruned


@contextmanager
def cut_for_now(model: nn.Module, lost: Lost) -> Iterator[None]:
    """Within the block ``model`` is without these channels; its attributes are put back, so no copy is needed."""
    before = [(module, vars(module).copy()) for module in model.modules()]
    try:
        for module, held in before:
            lists = {name: list(value) for name, value in held.items() if type(value) is list}
            own = {name: held[name].copy() for name in ("_parameters", "_buffers")}
            vars(module).update(lists | own)
        _take(model, lost)
        yield
    finally:
        for module, held in before:
            vars(module).clear()
            vars(module).update(held)


def _take(model: nn.Module, lost: Lost) -> None:
    for (name, writes, dim), channels in lost.items():
        target = found(model, name)
        if isinstance(target, nn.Module):
            cut_module(target, writes, channels)
        else:
            put(model, name, _smaller(target, dim, channels))


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
