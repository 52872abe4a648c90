"""Reads a model into a Layout: ``torch.fx`` gives the graph, the tables below say what each module means."""

import contextlib
import copy
import io
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.partition.engine import handlers
from splinelib.partition.engine.agreement import check_agreement
from splinelib.partition.engine.layout import LINEAR, Layout, Value, value_of
from splinelib.partition.slices import Plane


class _Tracer(fx.Tracer):
    """Goes into every module that the tables do not know, so only what truly stands in the way is a leaf."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            type(m) in handlers.MODULES
            or m.__module__.startswith("torch.nn.modules.")
            and not isinstance(m, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
        )


def read_layout(model: nn.Module, where: Plane) -> tuple[Layout, Value]:
    """The nodes of ``model`` for inputs of the plane's shape (no batch dimension), and the output tensor.

    The first node of the layout is the input, one lane for each of its elements. The model is not changed.

    Raises:
        UnsupportedModuleError: a module, function or structure is not piecewise affine or not known (the message
            names its type and path), or what was read is not what the model computes on the slice.
        SettingError: the model is in training mode, has weights that are not finite, or rejects the input.
    """
    origin = where.origin
    frozen = _frozen_copy(model)
    graph_module = _trace(frozen)
    _check_inputs(graph_module.graph)
    try:
        # What goes wrong is raised; torch.fx prints it too.
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            ShapeProp(graph_module).propagate(origin.double()[None])
    except Exception as error:
        shape = tuple(origin.shape)
        batch = f" without the batch axis, {shape[1:]}" if shape[:1] == (1,) and len(shape) > 1 else ""
        raise SettingError(
            f"the model cannot read one input of shape {shape}; give the slice its shape{batch}"
        ) from error
    # What is not finite is found afterwards, with a message.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        layout, output = _read(graph_module.graph, frozen, origin)
    check_agreement(frozen, layout, output, where)
    return layout, output


def _read(graph: fx.Graph, frozen: nn.Module, origin: Tensor) -> tuple[Layout, Value]:
    """Every step of the graph in turn."""
    layout = Layout()
    values: dict[fx.Node, Any] = {}
    output: Value | None = None
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = _input_value(layout, node, values, origin)
        elif node.op == "output":
            output = _output_value(values.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None)
        else:
            values[node] = _evaluate(layout, frozen, node, values)
    assert output is not None
    return layout, output


def _check_inputs(graph: fx.Graph) -> None:
    names = [node.name for node in graph.nodes if node.op == "placeholder"]
    if len(names) != 1:
        raise UnsupportedModuleError(
            f"the model takes {len(names)} inputs ({', '.join(names)}); wrap it to take one, the others fixed"
        )


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also where a module holds tensors computed from its parameters.

    Pruning masks and weight norm (the old one) keep such tensors, and recompute them before each forward pass.
    """
    computed = [
        value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in computed})


def _frozen_copy(model: nn.Module) -> nn.Module:
    frozen = copied(model).cpu().double().requires_grad_(False)
    for name, module in frozen.named_modules():
        if module.training and isinstance(module, handlers.TRAINING_SENSITIVE):
            raise SettingError(f"{type(module).__name__} at '{name}' is in training mode; pass model.eval()")
    for name, tensor in frozen.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise SettingError(
                f"weight '{name}' holds values that are not finite; give a model with finite weights"
            )
    # fx does not trace a model that is itself one known module.
    return nn.Sequential(frozen) if type(frozen) in handlers.MODULES else frozen


def _trace(model: nn.Module) -> fx.GraphModule:
    try:
        return fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:
        raise UnsupportedModuleError(
            f"{type(model).__name__} cannot be traced by torch.fx ({error}); write its forward without "
            "control flow that depends on values"
        ) from error


def _input_value(layout: Layout, node: fx.Node, values: dict[fx.Node, Any], origin: Tensor) -> Value:
    lanes = np.arange(origin.numel()).reshape(tuple(origin.shape))
    value = value_of(layout.add(LINEAR, 1, origin.numel(), lanes, "input"))
    return Value(value.lanes, value.scale, value.shift)


def _output_value(value: Any) -> Value:
    if not isinstance(value, Value):
        raise UnsupportedModuleError(
            "the model returns something other than one tensor; wrap it to return one"
        )
    return value


def _evaluate(layout: Layout, model: nn.Module, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    if node.op == "get_attr":
        return _attribute(model, str(node.target))
    args = fx.map_arg(node.args, lambda n: values[n])
    kwargs = fx.map_arg(node.kwargs, lambda n: values[n])
    path, kind, handler, module = _find_handler(model, node)
    call = handlers.Call(layout, path, _shape(node), module)
    if not _touches_value(args) and not _touches_value(tuple(kwargs.values())):
        return _constant(node, args, kwargs)
    try:
        result = handler(call, *args, **kwargs) if handler else None
    except handlers.NotHandled as error:
        raise UnsupportedModuleError(f"{kind} at '{path}': {error}") from None
    except TypeError as error:
        raise UnsupportedModuleError(
            f"{kind} at '{path}' is called in a way that is not supported: {error}"
        ) from error
    if handler is None:
        raise UnsupportedModuleError(
            f"{kind} at '{path}' is not supported by the exact partition; supported modules are "
            f"{', '.join(sorted(m.__name__ for m in handlers.MODULES))}"
        )
    _redirect_in_place(node, module, result, values)
    return _shared(result, node)


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


def _attribute(model: nn.Module, target: str) -> Any:
    value: Any = model
    for part in target.split("."):
        value = getattr(value, part)
    return value


def _shape(node: fx.Node) -> tuple[int, ...]:
    shape = getattr(node.meta.get("tensor_meta"), "shape", (1,))
    return tuple(shape[1:])


def _touches_value(item: Any) -> bool:
    if isinstance(item, (tuple, list)):
        return any(_touches_value(part) for part in item)
    return isinstance(item, Value)


def _constant(node: fx.Node, args: Any, kwargs: Any) -> Any:
    """A step on weights or numbers alone: computed as it stands."""
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _redirect_in_place(
    node: fx.Node, module: nn.Module | None, result: Any, values: dict[fx.Node, Any]
) -> None:
    """After an in-place activation its input's name stands for the result too."""
    in_place = bool(getattr(module, "inplace", False)) or bool(node.kwargs.get("inplace", False))
    in_place = in_place or (node.op == "call_method" and str(node.target).endswith("_"))
    if in_place and isinstance(result, Value) and isinstance(node.args[0], fx.Node):
        shared = len(node.args[0].users) > 1
        values[node.args[0]] = Value(
            result.lanes, result.scale, result.shift, None if shared else result.whole
        )


def _shared(result: Any, node: fx.Node) -> Any:
    """A tensor with several readers must not be changed in place by one of them."""
    if isinstance(result, Value) and len(node.users) != 1:
        return Value(result.lanes, result.scale, result.shift)
    return result
