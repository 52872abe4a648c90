"""Reads a model into a Layout: :mod:`.tracing` gives the graph, the handlers' tables say what each step means."""

import threading
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import duplicate
from splinelib.layers.network import check_real, unwrapped
from splinelib.partition.engine import handlers
from splinelib.partition.engine.agreement import check_agreement
from splinelib.partition.engine.ending import Ending
from splinelib.partition.engine.layout import LINEAR, Layout, Value, value_of
from splinelib.partition.engine.only_look import COMPUTING, check_global_hooks, refuse_hooks
from splinelib.partition.engine.tracing import attribute, filled, operation, trace, unsupported, watch
from splinelib.partition.slices import Plane

# Tracing patches modules of all threads.
_ONE_AT_A_TIME = threading.RLock()


class Read(NamedTuple):
    """A model as nodes of lanes, its output among them, and the last steps that were left out, if there are any."""

    layout: Layout
    output: Value
    ending: Ending | None


def read_layout(model: nn.Module, where: Plane) -> Read:
    """The nodes of ``model`` for inputs of the plane's shape (no batch dimension), and the output tensor.

    The first node of the layout is the input, one lane for each of its elements. Where the model ends in softmax,
    sigmoid, argmax or another step that rises with its input, the output is what that step gets, and ``ending`` tells
    whether this changes the outputs' order. The model is not changed.

    Raises:
        UnsupportedModuleError: a module, function or structure is not piecewise affine or not known (the message
            names its type and path), or what was read is not what the model computes on the slice.
        SettingError: the model is in training mode, has weights that are not finite, not real or not there, or rejects
            the input.
    """
    with _ONE_AT_A_TIME:
        frozen = _checked_copy(model)
        reading = _Reading(frozen, where.origin.double())
        # What is not finite is found afterwards, with a message.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            output = reading.run(trace(frozen, reading.origin))
        check_agreement(frozen, reading.layout, output, where, reading.ending)
        return Read(reading.layout, output, reading.ending)


def readable(model: nn.Module) -> nn.Module:
    """The model inside a compiled or parallel one, or the model itself; raises where there is nothing to read."""
    if isinstance(model, (DataParallel, DistributedDataParallel)):
        refuse_hooks(model)
        model = model.module
    inner = unwrapped(model)
    if inner is not model:
        refuse_hooks(model)
    model = inner
    check_global_hooks()
    check_real(model)
    for name, weight in model.named_parameters():
        if not weight.is_floating_point():
            raise SettingError(f"weight '{name}' is of {weight.dtype}; give a model with real weights")
    return model


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy in float64 on the CPU, with the weights that hooks compute before each pass, compiled parts unwrapped."""
    model = readable(model)
    try:
        frozen = duplicate(model).cpu().double().requires_grad_(False)
    except Exception as error:
        raise SettingError(
            f"{type(model).__name__} cannot be copied ({error}); keep locks, files and generators out of the model"
        ) from error
    for module in frozen.modules():
        for name, child in module._modules.items():
            if child is not None and "_orig_mod" in child._modules:
                refuse_hooks(child)
                module._modules[name] = child._modules["_orig_mod"]
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                setattr(module, name, value.cpu().double())
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, COMPUTING):
                hook(module, None)
    return frozen


def _checked_copy(model: nn.Module) -> nn.Module:
    frozen = frozen_copy(model)
    for name, module in frozen.named_modules():
        if module.training and isinstance(module, handlers.TRAINING_SENSITIVE):
            raise SettingError(f"{type(module).__name__} at '{name}' is in training mode; pass model.eval()")
    for name, tensor in frozen.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise SettingError(
                f"weight '{name}' holds values that are not finite; give a model with finite weights"
            )
    # fx does not trace a model that is itself one known module.
    frozen = nn.Sequential(frozen) if type(frozen) in handlers.MODULES else frozen
    watch(frozen)
    return frozen


@dataclass
class _Reading:
    """A model on its way into a layout.

    Args:
        values: what each step returned: a tensor of the layout, a constant, or several of them.
        ending: the steps that only rise with their input or move it, if the model ends in any.
    """

    model: nn.Module
    origin: Tensor
    layout: Layout = field(default_factory=Layout)
    values: dict[fx.Node, Any] = field(default_factory=dict)
    ending: Ending | None = None

    def run(self, graph: fx.Graph) -> Value:
        """Every step of the graph in turn; returns the output."""
        for node in graph.nodes:
            if node.op == "placeholder":
                lanes = np.arange(self.origin.numel()).reshape(tuple(self.origin.shape))
                value = value_of(self.layout.add(LINEAR, 1, self.origin.numel(), lanes, "input"))
                self.values[node] = Value(value.lanes, value.scale, value.shift)
            elif node.op == "get_attr":
                self.values[node] = attribute(self.model, str(node.target))
            elif node.op != "output":
                self.values[node] = self._step(node)
        returned = next(iter(reversed(graph.nodes))).args[0]
        output = self.values.get(returned) if isinstance(returned, fx.Node) else None
        if self.ending is not None:
            output = self.ending.output()
        if not isinstance(output, Value):
            raise UnsupportedModuleError(
                "the model returns something other than one tensor; wrap it to return one"
            )
        if not output.lanes.size:
            raise UnsupportedModuleError(
                f"the model returns a tensor without elements, shape {output.shape}; let it return one or more numbers"
            )
        return output

    def _step(self, node: fx.Node) -> Any:
        path, kind, handler, module = _find_handler(self.model, node)
        args, kwargs = filled(node, self.values.__getitem__)
        if args and isinstance(args[0], Value) and _is_final(self.model, node):
            self.ending = self.ending or Ending.behind(self.model, args[0], self.values)
            return self.ending.add_rising(node, f"{kind} at '{path}'", args, kwargs)
        if handler is None:
            raise UnsupportedModuleError(unsupported(kind, path))
        call = handlers.Call(self.layout, path, module, operation(self.model, node), node.meta["example"])
        if self.ending is not None and self.ending.holds(node):
            return self.ending.add_moving(node, f"{kind} at '{path}'", call, args, kwargs)
        try:
            result = self._change_in_place(node, module, handler(call, *args, **kwargs))
        except handlers.NotHandled as error:
            raise UnsupportedModuleError(f"{kind} at '{path}': {error}") from None
        except TypeError as error:
            raise UnsupportedModuleError(
                f"{kind} at '{path}' is called in a way that is not supported: {error}"
            ) from error
        return _shared(result, node)

    def _change_in_place(self, node: fx.Node, module: nn.Module | None, result: Any) -> Any:
        """After a step in place all names of the tensor that it changed stand for the result; returns that."""
        changed = node.args[0] if node.args else None
        if not (isinstance(changed, fx.Node) and isinstance(result, Value) and _in_place(node, module)):
            return result
        storage, before = _storage(changed), self.values[changed]
        for other, value in self.values.items():
            if _storage(other) != storage or all(user in self.values or user is node for user in other.users):
                continue
            if not isinstance(value, Value) or not isinstance(before, Value):
                same = other is changed
            elif np.intersect1d(value.lanes, before.lanes).size == 0:
                continue  # another part of the same memory
            else:
                same = all(
                    np.array_equal(getattr(value, name).reshape(-1), getattr(before, name).reshape(-1))
                    for name in ("lanes", "scale", "shift")
                )
            if not same:
                raise handlers.NotHandled(
                    f"it changes in place what '{other.name}' reads again afterwards, in part or in another order; "
                    "let it return a new tensor"
                )
            result = Value(result.lanes, result.scale, result.shift)
            shape = handlers.without_batch(other.meta["example"])
            parts = (part.reshape(shape) for part in (result.lanes, result.scale, result.shift))
            self.values[other] = Value(*parts)
        return result


def _in_place(node: fx.Node, module: nn.Module | None) -> bool:
    if getattr(module, "inplace", False) or node.kwargs.get("inplace", False):
        return True
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return node.op != "call_module" and (
        str(name).endswith("_") or name in ("iadd", "isub", "imul", "itruediv")
    )


def _storage(node: fx.Node) -> int | None:
    example = node.meta.get("example")
    return example.untyped_storage().data_ptr() if isinstance(example, Tensor) else None


def _is_final(model: nn.Module, node: fx.Node) -> bool:
    """Whether a step only rises with its input, and all behind it only rises or moves numbers up to the output."""
    if node.op == "call_module":
        rises = isinstance(model.get_submodule(str(node.target)), handlers.FINAL_MODULES)
    else:
        rises = node.target in (
            handlers.FINAL_METHODS if node.op == "call_method" else handlers.FINAL_FUNCTIONS
        )
    return rises and _is_end(model, node)


def _is_end(model: nn.Module, node: fx.Node) -> bool:
    if len(node.users) != 1:
        return False
    (user,) = node.users
    if user.op == "output":
        return True
    return _is_final(model, user) or _find_handler(model, user)[2] is handlers.moved and _is_end(model, user)


def _find_handler(model: nn.Module, node: fx.Node) -> tuple[str, str, Any, nn.Module | None]:
    """Path, readable kind, handler (or None) and module of one step of the graph."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        return str(node.target), type(module).__name__, handlers.MODULES.get(type(module)), module
    stack = node.meta.get("nn_module_stack") or {}
    owner = list(stack.values())[-1][0] if stack else ""
    path = f"{owner}.{node.name}" if owner else node.name
    if node.op == "call_method":
        return path, f"method '{node.target}'", handlers.METHODS.get(str(node.target)), None
    name = getattr(node.target, "__name__", str(node.target))
    return path, f"function '{name}'", handlers.FUNCTIONS.get(node.target), None


def _shared(result: Any, node: fx.Node) -> Any:
    """A tensor with several readers must not be changed in place by one of them."""
    if isinstance(result, Value) and len(node.users) != 1:
        return Value(result.lanes, result.scale, result.shift)
    return result
