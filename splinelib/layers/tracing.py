"""Torch-Pruning's dependency graph: for its importances, and for the order and names of layers. Needs torch-pruning."""

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import Inputs, evaluating, run
from splinelib.layers.channel_selection import ChannelSelection
from splinelib.layers.kinds import AFFINE, BATCH_NORM, kind_of
from splinelib.layers.layer import Layer, Writer
from splinelib.layers.observed import Side
from splinelib.layers.units import Order

if TYPE_CHECKING:
    import torch_pruning


def _torch_pruning() -> Any:
    try:
        import torch_pruning
    except ModuleNotFoundError as error:
        raise SettingError(
            "layers are read with the package torch-pruning, which is not installed: pip install torch-pruning"
        ) from error
    return torch_pruning


def dependency_graph(model: nn.Module, example_inputs: Inputs) -> "torch_pruning.DependencyGraph":
    """Torch-Pruning's dependency graph of ``model``, traced in eval mode on ``example_inputs`` (a batch).

    The model's modes are restored; its parameters are not touched.
    """
    torch_pruning = _torch_pruning()
    from splinelib.layers.selection_pruner import ChannelSelectionPruner

    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    with evaluating(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Inputs that do not fit fail here, before Torch-Pruning has registered its hooks.
        run(model, example_inputs)
        # A bare tensor would be unpacked into one argument for each input.
        inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
        try:
            for parameter in frozen:  # the graph is read off autograd's, which leaves out frozen parameters
                parameter.requires_grad_(True)
            with torch.enable_grad():
                return torch_pruning.DependencyGraph().build_dependency(
                    model,
                    inputs,
                    customized_pruners={ChannelSelection: ChannelSelectionPruner()},
                    verbose=False,
                )
        finally:
            for parameter in frozen:
                parameter.requires_grad_(False)


def traced_order(model: nn.Module, example_inputs: Inputs) -> Order:
    """Names of modules that may name a layer, and the sides of its layer, in Torch-Pruning's order.

    Empty where Torch-Pruning cannot trace the model. Its maps of indices are not used. What it traces is a copy.
    Raises :class:`SettingError` where it is not installed: names and order must not hang on that.
    """
    _torch_pruning()
    try:
        graph = dependency_graph(model, example_inputs)
        return {
            graph._module2name[module]: _walk(graph, module)
            for module in graph.module2node
            if isinstance(module, (*AFFINE, ChannelSelection))
        }
    except Exception:  # noqa: BLE001 - Torch-Pruning raises whatever a model's operations make it raise
        return {}


def _walk(graph: Any, root: nn.Module) -> list[Side]:
    """The sides that Torch-Pruning goes through from what a module writes, as often as it would."""
    first = graph.get_pruner_of_module(root).prune_out_channels
    node = graph.module2node[root]
    stack, visited = [(node, first)], set()
    found = {(node, first): None}
    while stack:
        node, handler = stack.pop()
        visited.add(node)
        for step in node.dependencies:
            if step.is_triggered_by(handler):
                key = (step.target, step.handler)
                if step.target in visited and key in found:
                    continue
                found.setdefault(key)
                stack.append(key)
    sides = [_side(graph, node, handler) for node, handler in found]
    return [side for side in sides if side is not None]


def _side(graph: Any, node: Any, handler: Any) -> Side | None:
    module = node.module
    if isinstance(module, nn.Parameter):
        return graph._param_to_name[module], node.pruning_dim
    kind = kind_of(module) if module in graph._module2name else None
    if kind is None:
        return None
    writes = graph.is_out_channel_pruning_fn(handler) and not kind.coupled
    return graph._module2name[module], "out" if writes else "in"


def unit_group(graph: "torch_pruning.DependencyGraph", layer: Layer) -> Any:
    """Torch-Pruning's group of everything that goes when all units of ``layer`` go."""
    module = graph.model.get_submodule(layer.name)
    prune_out = graph.get_pruner_of_module(module).prune_out_channels
    return graph.get_pruning_group(module, prune_out, list(range(graph.get_out_channels(module))))


def read_group(graph: "torch_pruning.DependencyGraph", group: Any) -> Layer | None:
    """The layer of one group of Torch-Pruning's, without parts, or None where its units must stay."""
    names = graph._module2name
    written, readers = [], []
    for item in group:
        dependency, node = item.dep, item.dep.target
        writes = graph.is_out_channel_pruning_fn(dependency.handler)
        if (writes and not node.outputs) or (not writes and isinstance(node.module, ChannelSelection)):
            return None
        if writes and isinstance(node.module, AFFINE):
            written.append(node)
        elif not writes and node.module in names:
            readers.append(names[node.module])
    root = group[0].dep.target
    if isinstance(root.module, ChannelSelection):
        raise UnsupportedModuleError(
            f"{names[root.module]!r} is a ChannelSelection, which Torch-Pruning's pruners do not know: use "
            "splinelib.prune"
        )
    writers = tuple(_writer(names, node) for node in written)
    return Layer(names[root.module], graph.get_out_channels(root), writers, None, tuple(readers))


def _writer(names: dict[Any, str], node: Any) -> Writer:
    outputs = node.outputs
    if (
        len(outputs) == 1 and "BatchNormBackward" in outputs[0].name
    ):  # a module that normalises and then does more
        outputs = outputs[0].outputs
    alone = len(outputs) == 1 and isinstance(outputs[0].module, BATCH_NORM)
    return Writer(names[node.module], names[outputs[0].module] if alone else None)
