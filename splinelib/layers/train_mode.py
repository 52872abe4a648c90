"""Whether a network does something else in train mode: drops by its own code, gives features for a loss."""

import types
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from splinelib.hooks import Inputs, run, tensors_in
from splinelib.layers.observed import met_by, same_numbers
from splinelib.layers.probe import Call, answers, probing


class _Seen(NamedTuple):
    """What calls read, what the network gave, and whether it drew at random."""

    read: list[Any]
    gave: list[Tensor]
    drew: bool


def trains_otherwise(model: nn.Module, inputs: Inputs) -> bool:
    """Whether modules read, or the model gives, something else in train mode, and the same each time.

    Modules answer with noise in both modes, so what batch norms and dropout do is no difference. False for a model that
    cannot run so, as it may want targets, and at once for one whose code asks nowhere for its mode.
    """
    if not any(_asks(module) for module in model.modules()):
        return False
    try:
        infers, trains = (_pass(model, inputs, training) for training in (False, True))
        if trains.drew and _alike(infers, trains):  # a mask may be all ones at one draw
            low, high = (_pass(model, inputs, True, draw) for draw in (0.02, 0.98))
            return not (_alike(infers, low) and _alike(infers, high))
        return not _alike(infers, trains) and _alike(trains, _pass(model, inputs, True))
    except Exception:  # whatever a model asks for in train mode
        return False
    finally:
        model.eval()


def _asks(module: nn.Module) -> bool:
    """Whether a module's own code, or that of functions it was given, has the word ``training``."""
    written = [kind for kind in type(module).__mro__ if not kind.__module__.startswith("torch.")]
    values = [*vars(module).values(), *(value for kind in written for value in vars(kind).values())]
    return any("training" in _names(getattr(value, "__code__", None)) for value in values)


def _names(code: Any) -> set[str]:
    """The attributes that a function's code asks for, and what is defined inside it."""
    if not isinstance(code, types.CodeType):
        return set()
    return set(code.co_names).union(*map(_names, code.co_consts))


def _pass(model: nn.Module, inputs: Inputs, training: bool, draw: float = 0.5) -> _Seen:
    read: list[Any] = []

    def answer(call: Call) -> Any:
        call = replace(call, training=False)  # the same noise
        shapes = call.own()
        read.append((call.key, met_by(call, shapes)))
        return answers(call, shapes)

    with probing(model.train(training), answer, lambda numbers, name: None, draw) as steady:
        outputs = run(model, tree_map_only(Tensor, torch.clone, inputs))
    return _Seen(read, [tensor.detach() for tensor in tensors_in(outputs)], steady.drew)


def _alike(one: _Seen, other: _Seen) -> bool:
    if [key for key, _ in one.read] != [key for key, _ in other.read] or not _close(one.gave, other.gave):
        return False
    for (_, some), (_, others) in zip(one.read, other.read, strict=True):
        if not (_close(some[0], others[0]) and same_numbers(some[3], others[3])):
            return False
    return True


def _close(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) == len(others) and all(
        one.shape == other.shape and torch.allclose(one.double(), other.double(), equal_nan=True)
        for one, other in zip(some, others, strict=True)
    )
