"""The graph of a model by ``torch.fx``, traced with one example at hand, so that shapes are known as it runs."""

import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from splinelib.errors import SettingError, SplineError, UnsupportedModuleError
from splinelib.partition.engine import handlers
from splinelib.partition.engine.as_float64 import AsFloat64
from splinelib.partition.engine.only_look import check_forward, watch_hooks, weights_memory

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class _Known(fx.Proxy):
    """A tensor whose shape is known: code may branch on it, count with it, and unpack what has a length."""

    @property
    def example(self) -> Any:
        """What the step returns for the example."""
        return self.node.meta["example"]

    shape = property(lambda self: self.example.shape)
    ndim = property(lambda self: self.example.ndim)
    dtype = property(lambda self: self.example.dtype)
    device = property(lambda self: self.example.device)
    is_cuda = property(lambda self: False)

    def size(self, dim: int | None = None) -> Any:
        """As of a tensor."""
        return self.example.size() if dim is None else self.example.size(dim)

    def dim(self) -> int:
        """As of a tensor."""
        return self.example.dim()

    def numel(self) -> int:
        """As of a tensor."""
        return self.example.numel()

    def __len__(self) -> int:
        return len(self.example)

    def _changed(self, function: Any, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    # By themselves proxies take "x += y" for "x = x + y", which leaves other names of x as they were.
    def __iadd__(self, other: Any) -> Any:
        return self._changed(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        return self._changed(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        return self._changed(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._changed(operator.itruediv, other)

    def __iter__(self) -> Iterator[Any]:
        return (operator.getitem(self, number) for number in range(len(self.example)))


class _Tracer(fx.Tracer):
    """Goes into every module that the tables do not know, so only what truly stands in the way is a leaf."""

    def __init__(self, origin: Tensor) -> None:
        super().__init__()
        self.origin = origin

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_leaf(m)

    def create_args_for_root(self, *_: Any) -> tuple[Any, list[Any]]:
        """One input; arguments with defaults keep these."""
        settings = inspect.signature(self.root.forward).parameters.values()
        inputs = [
            s.name
            for s in settings
            if s.default is s.empty and s.kind not in (s.VAR_POSITIONAL, s.VAR_KEYWORD)
        ]
        if len(inputs) > 1:
            raise UnsupportedModuleError(
                f"the model takes {len(inputs)} inputs ({', '.join(inputs)}); wrap it to take one, the others fixed"
            )
        forward = self.root.forward
        return lambda _, x: forward(x), [self.root, self.create_proxy("placeholder", "input", (), {})]

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Weights as they are: what is computed from them alone is a constant."""
        return attr_val

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Known(node, self)

    def create_node(self, kind: str, target: Any, *rest: Any, **more: Any) -> fx.Node:
        node = super().create_node(kind, target, *rest, **more)
        return _with_example(node, self.root, self.origin)


def _with_example(node: fx.Node, model: nn.Module, origin: Tensor) -> fx.Node:
    if node.op == "placeholder":
        node.meta["example"] = origin[None].clone()  # which steps in place may change
    elif node.op == "get_attr":
        node.meta["example"] = attribute(model, str(node.target))
    elif node.op != "output":
        leaf = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if leaf is not None and not _is_known(leaf):
            raise UnsupportedModuleError(unsupported(type(leaf).__name__, str(node.target)))
        args, kwargs = filled(node, lambda n: n.meta["example"])
        try:
            # Not the module itself, which would be traced.
            with AsFloat64():
                node.meta["example"] = operation(model, node, direct=True)(*args, **kwargs)
        except Exception as error:
            shape = tuple(origin.shape)
            batch = f" without the batch axis, {shape[1:]}" if shape[:1] == (1,) and len(shape) > 1 else ""
            raise SettingError(
                f"the model cannot read one input of shape {shape}; give the slice its shape{batch} ({error})"
            ) from error
    return node


def _is_leaf(module: nn.Module) -> bool:
    if type(module) in handlers.MODULES:
        return True
    return module.__module__.startswith("torch.nn.modules.") and not isinstance(module, _CONTAINERS)


def watch(model: nn.Module) -> None:
    """Let the hooks of what is not traced raise UnsupportedModuleError where they do more than look.

    Raises:
        UnsupportedModuleError: a module that is read by its type has another forward.
    """
    chained, memory = chain(model) is not None, weights_memory(model)
    for path, module in model.named_modules():
        by_type = chained or _is_leaf(module)
        if by_type:
            check_forward(module, path)
        if by_type or module is model:
            watch_hooks(module, path, memory)


def _is_known(module: nn.Module) -> bool:
    return type(module) in handlers.MODULES or isinstance(module, handlers.FINAL_MODULES)


def trace(model: nn.Module, origin: Tensor) -> fx.Graph:
    """The graph of ``model``, float64 on the CPU; ``node.meta["example"]`` is what a step returns for ``origin``.

    Tensors that are computed from weights become attributes of the model.

    Raises:
        UnsupportedModuleError: the model cannot be traced, holds a module that is not known, or takes several inputs.
        SettingError: the model rejects the input.
    """
    parts = chain(model)
    try:
        with torch.no_grad(), AsFloat64():
            return _Tracer(origin).trace(model) if parts is None else _chained(model, parts, origin)
    except SplineError:
        raise
    except Exception as error:
        raise UnsupportedModuleError(
            f"{type(model).__name__} cannot be traced by torch.fx ({error}); write its forward without "
            "control flow that depends on values"
        ) from error


def chain(module: nn.Module, path: str = "") -> list[str] | None:
    """Paths of the modules of nested ``nn.Sequential`` in order, if these are all there is."""
    if type(module) is not nn.Sequential:
        return [path] if path and _is_known(module) else None
    found: list[str] = []
    for name, child in module._modules.items():
        inner = None if child is None else chain(child, f"{path}.{name}".lstrip("."))
        if inner is None:
            return None
        found += inner
    return found


def _chained(model: nn.Module, parts: list[str], origin: Tensor) -> fx.Graph:
    """What tracing would give, in a tenth of the time: for small networks it would take most of it."""
    graph = fx.Graph()
    node = _with_example(graph.placeholder("input"), model, origin)
    for path in parts:
        node = _with_example(graph.call_module(path, (node,)), model, origin)
    graph.output(node)
    return graph


def operation(model: nn.Module, node: fx.Node, direct: bool = False) -> Any:
    """What a step of the graph runs; with ``direct`` a module's forward alone, without its hooks."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        return module.forward if direct else module
    if node.op == "call_method":
        return lambda tensor, *args, **kwargs: getattr(tensor, str(node.target))(*args, **kwargs)
    return node.target


def filled(node: fx.Node, value: Callable[[fx.Node], Any]) -> tuple[Any, Any]:
    """A step's arguments with values in the place of the steps they come from."""
    return fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)


def attribute(model: nn.Module, target: str) -> Any:
    """What a dotted name of the graph stands for."""
    value: Any = model
    for part in target.split("."):
        value = getattr(value, part)
    return value


def unsupported(kind: str, path: str) -> str:
    """The message for a step that is not known."""
    return (
        f"{kind} at '{path}' is not supported by the exact partition, which needs continuous maps of affine pieces; "
        "splinelib.partition.supported_modules() names what is"
    )
