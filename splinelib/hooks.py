"""The one place where splinelib looks inside a running model: a tap at every non-linearity, or hooks on named modules.

A tap observes the input of every piecewise linear non-linearity, that is, the pre-activations whose signs
make the code. It is a :class:`torch.overrides.TorchFunctionMode`, so it sees ``nn.ReLU`` modules and calls of
``torch.relu`` alike, registers nothing on the model, and is gone when its ``with`` block ends, also by an exception.
"""

import collections
import contextlib
import copy
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from splinelib.errors import SettingError

# Functions with a kink at zero. ReLU6 has a second one at 6, which the sign code leaves out.
_NONLINEARITIES: frozenset[Any] = frozenset(
    {
        F.relu,
        F.relu_,
        F.relu6,
        F.leaky_relu,
        F.leaky_relu_,
        F.prelu,
        F.rrelu,
        F.rrelu_,
        torch.relu,
        torch.relu_,
        torch.prelu,
        torch.rrelu,
        torch.rrelu_,
        torch.abs,
        torch.abs_,
        torch.absolute,
        Tensor.relu,
        Tensor.relu_,
        Tensor.abs,
        Tensor.abs_,
        Tensor.absolute,
        Tensor.absolute_,
        Tensor.prelu,
    }
)
# Functions that count only where their first argument after the input, of this name, is zero; ``nn.ReLU6`` calls
# ``F.hardtanh``.
_CLIPS: dict[Any, str] = {
    **dict.fromkeys((F.hardtanh, F.hardtanh_), "min_val"),
    **dict.fromkeys((F.threshold, torch.threshold_, torch.threshold), "threshold"),
    **dict.fromkeys((torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_), "min"),
    **dict.fromkeys((torch.clip, torch.clip_, Tensor.clip, Tensor.clip_), "min"),
    **dict.fromkeys((torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_), "min"),
}


def _clips_at_zero(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call cuts off, at zero, what lies below; a bound that is trained may be another one tomorrow."""
    if func not in _CLIPS:
        return False
    bound = _bound(func, args, kwargs)
    if isinstance(bound, Tensor) and bound.numel() == 1 and not bound.requires_grad:
        bound = bound.item()
    return isinstance(bound, int | float) and bound == 0


def _bound(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[1] if len(args) > 1 else kwargs.get(_CLIPS[func])


_ORDERS = {"gt", "ge", "lt", "le", "__gt__", "__ge__", "__lt__", "__le__"}
_BENDS = {"maximum", "minimum", "fmax", "fmin", "where", "max", "min", "amax", "amin"}


def _bends_elsewhere(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call may rectify without being a known non-linearity: a maximum, a choice, a comparison with zero."""
    name, others = getattr(func, "__name__", ""), [*args[1:], *kwargs.values()]
    if name in _ORDERS:
        return any(isinstance(other, int | float) and other == 0 for other in others)
    if func in _CLIPS:  # a bound for each number, or one that is trained, may be zero
        bound = _bound(func, args, kwargs)
        return isinstance(bound, Tensor) and (bound.numel() > 1 or bound.requires_grad)
    return name in _BENDS and bool(others)


class _Tap(TorchFunctionMode):
    """Calls ``observe(index, pre_activation)`` at the ``index``-th non-linearity of a forward pass."""

    def __init__(
        self, observe: Callable[[int, Tensor], None], unseen: Callable[[str, Tensor], None] | None
    ) -> None:
        super().__init__()
        self._observe = observe
        self._unseen = unseen
        self._index = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _NONLINEARITIES or _clips_at_zero(func, args, kwargs):
            self._observe(self._index, args[0] if args else kwargs["input"])
            self._index += 1
        elif self._unseen and args and isinstance(args[0], Tensor) and _bends_elsewhere(func, args, kwargs):
            self._unseen(func.__name__.strip("_"), args[0])
        return func(*args, **kwargs)


@contextlib.contextmanager
def tapped(
    observe: Callable[[int, Tensor], None], unseen: Callable[[str, Tensor], None] | None = None
) -> Iterator[None]:
    """Within the block, call ``observe(index, z)`` before each non-linearity; use one block per forward pass.

    ``index`` counts the non-linearities in execution order from 0 and ``z`` is the pre-activation,
    of the shape that the layer has. ``observe`` must copy what it keeps, since ``z`` may be changed in place.
    ``unseen`` gets name and first argument of calls that may rectify otherwise, such as ``torch.maximum``.

    >>> seen = []
    >>> with tapped(lambda index, z: seen.append((index, z.tolist()))):
    ...     outputs = nn.ReLU()(torch.tensor([-1.0, 2.0]))
    >>> seen
    [(0, [-1.0, 2.0])]
    """
    with _Tap(observe, unseen):
        yield


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
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into eval mode without gradients; give every module its own mode back, and the random state.

    Compiled parts run as written, or they would run past hooks and taps.

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
        # Some networks draw at random even so.
        with torch.no_grad(), torch.random.fork_rng(devices=[]), as_written():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


Inputs = Tensor | Sequence[Any] | Mapping[str, Any]
"""What a model is called with: one tensor [N, ...], a sequence of positional arguments, or keywords."""


def run(model: nn.Module, inputs: Inputs) -> Any:
    """Call the model with a tensor, with the members of a sequence, or with keywords; compiled parts run as written.

    >>> run(nn.Bilinear(2, 3, 1), (torch.zeros(5, 2), torch.zeros(5, 3))).shape
    torch.Size([5, 1])
    """
    with as_written():
        if isinstance(inputs, Mapping):
            return model(**inputs)
        return model(inputs) if isinstance(inputs, Tensor) else model(*inputs)


_NO_CONTAINER = nn.Module | type | types.ModuleType | types.FunctionType | str | bytes | int | float | None


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists, dicts and objects with attributes, in order; objects may hold themselves.

    >>> tensors_in({"logits": torch.zeros(2), "more": (None, [torch.ones(1)])})
    [tensor([0., 0.]), tensor([1.])]
    """
    found, stack, seen = [], [values], set()
    while stack:
        value = stack.pop()
        if isinstance(value, Tensor):
            found.append(value)
        elif id(value) not in seen and not isinstance(value, _NO_CONTAINER):
            seen.add(id(value))
            stack.extend(reversed(_members(value)))
    return found


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
    except (TypeError, RuntimeError) as error:
        raise SettingError(
            f"{type(model).__name__} cannot be copied ({error}): take what cannot out of its attributes before"
        ) from error
