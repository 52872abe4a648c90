"""The one place where splinelib looks inside a running model: a tap at every non-linearity, or hooks on named modules.

A tap observes the input of every piecewise linear non-linearity, that is, the pre-activations whose signs
make the code. It is a :class:`torch.overrides.TorchFunctionMode`, so it sees ``nn.ReLU`` modules and calls of
``torch.relu`` alike, registers nothing on the model, and is gone when its ``with`` block ends, also by an exception.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Functions with a kink at zero. ReLU6 has a second one at 6, which the sign code leaves out; ``nn.ReLU6`` calls
# ``F.hardtanh``, which counts only where it clips at zero from below.
_NONLINEARITIES: frozenset[Any] = frozenset(
    {
        F.relu,
        F.relu_,
        F.relu6,
        F.hardtanh,
        F.hardtanh_,
        F.leaky_relu,
        F.leaky_relu_,
        F.prelu,
        torch.relu,
        torch.relu_,
        torch.prelu,
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
_CLIPS: frozenset[Any] = frozenset({F.hardtanh, F.hardtanh_})


def _lower_bound(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """Where a call of ``F.hardtanh`` clips from below."""
    return args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)


class _Tap(TorchFunctionMode):
    """Calls ``observe(index, pre_activation)`` at the ``index``-th non-linearity of a forward pass."""

    def __init__(self, observe: Callable[[int, Tensor], None]) -> None:
        super().__init__()
        self._observe = observe
        self._index = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _NONLINEARITIES and (func not in _CLIPS or _lower_bound(args, kwargs) == 0):
            self._observe(self._index, args[0] if args else kwargs["input"])
            self._index += 1
        return func(*args, **kwargs)


@contextlib.contextmanager
def tapped(observe: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Within the block, call ``observe(index, z)`` before each non-linearity; use one block per forward pass.

    ``index`` counts the non-linearities in execution order from 0 and ``z`` is the pre-activation,
    of the shape that the layer has. ``observe`` must copy what it keeps, since ``z`` may be changed in place.
    """
    with _Tap(observe):
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
    """
    with contextlib.ExitStack() as hooks:
        for name, observe in inputs.items():
            module = model.get_submodule(name)
            handle = module.register_forward_pre_hook(lambda _, args, observe=observe: observe(args[0]))
            hooks.callback(handle.remove)
        for name, observe in outputs.items():
            module = model.get_submodule(name)
            handle = module.register_forward_hook(lambda _, args, out, observe=observe: observe(out))
            hooks.callback(handle.remove)
        yield


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into eval mode without gradients; give every module its own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
