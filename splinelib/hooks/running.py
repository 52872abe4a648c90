"""Models run as they are, or watched at named modules, and left as they were."""

import collections
import contextlib
import copy
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from splinelib.errors import SettingError
from splinelib.hooks.state import own_randomness, own_state

Observer = Callable[[Tensor], None]


@contextlib.contextmanager
def watched(
    model: nn.Module, inputs: Mapping[str, Observer], outputs: Mapping[str, Observer]
) -> Iterator[None]:
    """Within the block, hand named modules' inputs and outputs to an observer whenever such a module runs.

    ``inputs`` maps names of modules to observers of their first argument, ``outputs`` to observers of their result, a
    tensor of the shape that the network gives it. An observer must copy what it keeps, since the tensor may be changed
    in place.

    >>> model, shapes = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), []
    >>> with watched(model, {"1": lambda values: shapes.append(values.shape)}, {}):
    ...     outputs = model(torch.zeros(5, 2))
    >>> shapes
    [torch.Size([5, 3])]
    """
    with contextlib.ExitStack() as hooks:
        for name, observe in inputs.items():
            module = model.get_submodule(name)
            handle = module.register_forward_pre_hook(
                lambda _, args, named, observe=observe: observe(
                    args[0] if args else next(iter(named.values()))
                ),
                with_kwargs=True,
            )
            hooks.callback(handle.remove)
        for name, observe in outputs.items():
            module = model.get_submodule(name)
            handle = module.register_forward_hook(lambda _, args, out, observe=observe: observe(out))
            hooks.callback(handle.remove)
        yield


def as_written() -> contextlib.AbstractContextManager[Any]:
    """Within it compiled parts of networks run as they were written, with all hooks and taps.

    >>> model = torch.compile(nn.ReLU())
    >>> with as_written():
    ...     model(torch.tensor([-1.0, 1.0])).tolist()  # nothing is compiled
    [0.0, 1.0]
    """
    compiles = "torch._dynamo" in sys.modules  # which takes seconds to load; without it nothing is compiled
    return torch.compiler.set_stance("force_eager") if compiles else contextlib.nullcontext()


@contextlib.contextmanager
def evaluating(model: nn.Module, restore: bool = True) -> Iterator[None]:
    """Put ``model`` into eval mode without gradients; give every module its own mode back, and the random state.

    What a forward pass may change (counters, caches) is as it was, too, unless ``restore`` is False
    (:func:`.own_state`). Compiled parts run as written, or they would run past hooks and taps.

    >>> model = nn.Dropout()
    >>> with evaluating(model):
    ...     model.training
    False
    >>> model.training
    True
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), as_written(), own_state(model) if restore else own_randomness():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


Inputs = Tensor | Sequence[Any] | Mapping[str, Any]
"""What a model is called with: one tensor [N, ...], a sequence of positional arguments, or keywords."""


def run(model: nn.Module, inputs: Inputs) -> Any:
    """Call the model with a tensor, with the members of a sequence, or with keywords; compiled parts run as written.

    It gets tensors of its own, since it may write into them.

    >>> run(nn.Bilinear(2, 3, 1), (torch.zeros(5, 2), torch.zeros(5, 3))).shape
    torch.Size([5, 1])
    """
    inputs = tree_map_only(Tensor, torch.clone, inputs)
    with as_written():
        if isinstance(inputs, Mapping):
            return model(**inputs)
        return model(inputs) if isinstance(inputs, Tensor) else model(*inputs)


def in_call_order(model: nn.Module, inputs: Inputs) -> Inputs:
    """Keywords in the order of the arguments of the model's forward pass; other inputs as they are.

    >>> in_call_order(nn.Bilinear(1, 1, 1), {"input2": torch.ones(1, 1), "input1": torch.zeros(1, 1)})
    {'input1': tensor([[0.]]), 'input2': tensor([[1.]])}
    """
    if not isinstance(inputs, Mapping):
        return inputs
    names = [name for name in inspect.signature(model.forward).parameters if name in inputs]
    return {name: inputs[name] for name in [*names, *(name for name in inputs if name not in names)]}


_NO_CONTAINER = nn.Module | type | types.ModuleType | types.FunctionType | str | bytes | int | float | None


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists, dicts and objects with attributes, in order; objects may hold themselves.

    >>> tensors_in({"logits": torch.zeros(2), "more": (None, [torch.ones(1)])})
    [tensor([0., 0.]), tensor([1.])]
    """
    return [leaf for leaf in leaves_in(values) if isinstance(leaf, Tensor)]


def leaves_in(values: Any) -> list[Tensor | np.ndarray | int | float]:
    """As :func:`tensors_in`, with the arrays and numbers among them.

    >>> leaves_in({"label": 3, "scores": [np.zeros(2), torch.ones(1)]})
    [3, array([0., 0.]), tensor([1.])]
    """
    found, stack, seen = [], [values], set()
    while stack:
        value = stack.pop()
        if isinstance(value, Tensor | np.ndarray | int | float):
            found.append(value)
        elif id(value) not in seen and not isinstance(value, _NO_CONTAINER):
            seen.add(id(value))
            stack.extend(reversed(_members(value)))
    return found


def with_tensors(values: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same values in containers of their own, with what ``change`` makes of every tensor of :func:`tensors_in`.

    >>> with_tensors({"x": torch.zeros(2), "n": 3}, torch.exp)
    {'x': tensor([1., 1.]), 'n': 3}
    """
    made = {id(tensor): change(tensor) for tensor in tensors_in(values)}
    return copy.deepcopy(values, made)


def _members(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset | collections.deque):
        return list(value)
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return [getattr(value, name, None) for name in [*slots, *getattr(value, "__dict__", ())]]


def duplicate(model: nn.Module, instead: Mapping[int, Tensor] | None = None) -> nn.Module:
    """A deep copy of ``model``, also of one that keeps activations, which ``copy.deepcopy`` refuses.

    ``instead`` are tensors that it has in place of others, by their ``id``.

    >>> model = nn.Linear(2, 2)
    >>> model.kept = model(torch.zeros(1, 2))
    >>> duplicate(model).kept.requires_grad
    False
    """
    kept = [tensor for module in model.modules() for tensor in tensors_in(list(vars(module).values()))]
    own = {id(tensor): tensor.detach().clone() for tensor in kept if not tensor.is_leaf}
    try:
        return copy.deepcopy(model, own | dict(instead or {}))
    except Exception as error:  # whatever an attribute raises that refuses, a scripted function say
        raise SettingError(
            f"{type(model).__name__} cannot be copied ({error}): take what cannot out of its attributes before"
        ) from error
