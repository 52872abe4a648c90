"""Hooks and forwards that were put onto modules: what is read by a module's type must be all that it does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from splinelib.errors import UnsupportedModuleError
from splinelib.hooks import tensors_in

# Hooks that compute a weight before each pass, from parameters alone.
COMPUTING = (BasePruningMethod, SpectralNorm, WeightNorm)
# Ways from a tensor's numbers into Python that run no operation of torch.
_READ = frozenset({"numpy", "tolist", "__array__", "__dlpack__", "data_ptr", "untyped_storage", "storage"})
_KINDS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


def check_global_hooks() -> None:
    """Raise UnsupportedModuleError if there are hooks on all modules, which may change what any module returns."""
    found = [*global_hooks._global_forward_pre_hooks.values(), *global_hooks._global_forward_hooks.values()]
    if found:
        raise UnsupportedModuleError(
            f"{_name(found[0])} is a hook on the forward passes of all modules, which may change what they return; "
            "remove such forward hooks (register_module_forward_hook) while the partition is computed"
        )


def check_forward(module: nn.Module, path: str) -> None:
    """Raise UnsupportedModuleError if a module that is read by its type has a forward of its own."""
    if "forward" in vars(module):
        own = _name(vars(module)["forward"])
        raise UnsupportedModuleError(
            f"{type(module).__name__} at '{path}' has another forward than its type ({own}); put a module of your own "
            "in its place, or take that forward off"
        )


def watch_hooks(module: nn.Module, path: str, memory: set[int]) -> None:
    """Let each forward hook of a module raise UnsupportedModuleError as soon as it does more than look.

    ``memory`` is where the model's weights lie, by address.
    """
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for number, hook in hooks.items():
            if not isinstance(hook, COMPUTING):
                hooks[number] = _Watched(hook, f"{type(module).__name__} at '{path}'", memory)


def weights_memory(model: nn.Module) -> set[int]:
    """Where all weights of a model lie."""
    return {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}


def refuse_hooks(module: nn.Module) -> None:
    """Raise UnsupportedModuleError if a module that is left out of the reading has forward hooks."""
    for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
        raise _refused(hook, f"the {type(module).__name__} around the model", "would not be run")


def _name(hook: Any) -> str:
    return str(getattr(hook, "__qualname__", type(hook).__name__))


def _refused(hook: Any, place: str, what: str) -> UnsupportedModuleError:
    return UnsupportedModuleError(
        f"the hook {_name(hook)} of {place} {what}, so that what the module returns may not be what its type does; "
        "remove forward hooks while the partition is computed"
    )


@dataclass(eq=False)
class _Watched:
    """A hook that may look at tensors as long as nothing can hang on the numbers in them."""

    hook: Callable[..., Any]
    place: str
    memory: set[int]

    def __call__(self, module: nn.Module, *args: Any, **kwargs: Any) -> None:
        before, tensors = _weights(module), tensors_in([args, kwargs])
        addresses = {tensor.untyped_storage().data_ptr() for tensor in (*before, *tensors)}
        watch = _Watch(self.memory | addresses)
        with _Reads(watch), watch:
            result = self.hook(module, *args, **kwargs)
        if result is not None:
            watch.found = "returns something"
        elif {*map(id, before)} != {*map(id, _weights(module))}:
            watch.found = watch.found or "puts another weight in"
        if watch.found:
            raise _refused(self.hook, self.place, watch.found)


def _weights(module: nn.Module) -> list[Tensor]:
    """A module's own weights, also such as are no parameters."""
    own = (
        *module._parameters.values(),
        *module._buffers.values(),
        *map(vars(module).get, ("weight", "bias")),
    )
    return tensors_in(list(own))


class _Watch(TorchDispatchMode):
    """Notes operations that change certain memory, or whose result is for Python to read."""

    def __init__(self, memory: set[int]) -> None:
        super().__init__()
        self.memory, self.found = memory, ""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(tag in function.tags for tag in _KINDS):
            self.found = self.found or "reads numbers"
        if function._schema.is_mutable and any(
            tensor.untyped_storage().data_ptr() in self.memory for tensor in tensors_in([args, kwargs])
        ):
            self.found = self.found or "changes in place"
        return function(*args, **(kwargs or {}))


class _Reads(TorchFunctionMode):
    """Notes ways to a tensor's numbers that are no operations."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in _READ:
            self.watch.found = self.watch.found or "reads numbers"
        return function(*args, **(kwargs or {}))
