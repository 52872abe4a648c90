"""What a model holds beside its weights, and gets back after a run: forward passes write buffers, counters, caches."""

import collections
import contextlib
import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_HOOKS = vars(nn.Module()).keys() - {"_parameters", "_buffers", "_modules"}  # which no forward pass changes
_CONTAINERS = (dict, collections.OrderedDict, collections.defaultdict, list, set, collections.deque)


@contextlib.contextmanager
def own_state(model: nn.Module) -> Iterator[None]:
    """Within the block the model works on copies of its buffers; then everything that it holds is as it was before.

    That is its buffers with their gradients, its modules' attributes, containers among them, and the weights of modules
    that are not PyTorch's own, which may set them from the first batch that they see. The random states of Python and
    of PyTorch on the CPU come back, too.

    >>> norm = nn.BatchNorm1d(2)
    >>> with own_state(norm):
    ...     outputs = norm(torch.randn(4, 2))
    >>> norm.num_batches_tracked.item()
    0
    """
    held = [(module, type(module), vars(module).copy(), _contents(module)) for module in model.modules()]
    weights = [(weight, weight.data, weight.data.clone()) for weight in _written(model)]
    _use_copies(model)
    try:
        with own_randomness():
            yield
    finally:
        for module, kind, attributes, contents in held:
            if type(module) is kind:  # a lazy module is another one once it has run
                vars(module).clear()
                vars(module).update(attributes)
                for value, content in contents:
                    _refill(value, content)
        for weight, data, numbers in weights:
            if not torch.equal(weight.data, numbers) or weight.data_ptr() != data.data_ptr():
                weight.data = data.copy_(numbers)


@contextlib.contextmanager
def own_randomness() -> Iterator[None]:
    """Within the block random numbers are drawn that nobody misses after it: some networks draw in eval mode, too.

    >>> state = torch.get_rng_state()
    >>> with own_randomness():
    ...     drawn = torch.rand(3), random.random()
    >>> torch.equal(torch.get_rng_state(), state)
    True
    """
    state = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(state)


def _use_copies(model: nn.Module) -> None:
    """Let every buffer be a copy; modules that share one share its copy."""
    held = {
        (module, name): buffer
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not nn.parameter.is_lazy(buffer)
    }
    copies = {id(buffer): buffer.clone() for buffer in held.values()}
    for (module, name), buffer in held.items():
        module._buffers[name] = copies[id(buffer)]


def _written(model: nn.Module) -> list[Tensor]:
    """The weights that a forward pass may write: of an embedding that keeps its rows short, and of others' code."""
    return [
        weight
        for module in model.modules()
        if getattr(module, "max_norm", None) or not type(module).__module__.startswith("torch.")
        for weight in module._parameters.values()
        if weight is not None and not nn.parameter.is_lazy(weight) and not weight.is_meta
    ]


def _contents(module: nn.Module) -> list[tuple[Any, list[Any]]]:
    """A module's containers, each with what it holds."""
    return [
        (value, list(value.items() if isinstance(value, dict) else value))
        for name, value in vars(module).items()
        if type(value) in _CONTAINERS and name not in _HOOKS
    ]


def _refill(value: Any, content: list[Any]) -> None:
    if value:
        value.clear()
    if content:
        (value.extend if isinstance(value, list | collections.deque) else value.update)(content)
