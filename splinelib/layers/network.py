"""A model read as layers of units: which modules write a unit, and which read it.

The structure comes from Torch-Pruning's dependency graph, the same that the surgery uses, so every model that
can be pruned can be read. Coupled channels (a residual stream, an expansion and its depthwise convolution) are
one layer whose units are written by several modules.
"""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from splinelib.errors import UnsupportedModuleError
from splinelib.hooks import evaluating
from splinelib.layers.channel_selection import ChannelSelection
from splinelib.layers.groups import channel_groups

if TYPE_CHECKING:
    import torch_pruning

_AFFINE = (nn.modules.conv._ConvNd, nn.Linear)
_BATCH_NORM = nn.modules.batchnorm._BatchNorm
# Steps of a ChannelSelection that has dropped channels of a channels_last map; Torch-Pruning knows the last as it.
_SELECTING = ("IndexSelectBackward", "PermuteBackward")


@dataclass(frozen=True)
class Writer:
    """A convolution or linear module that writes the units of a layer, and the batch norm right behind it, if any."""

    module: str
    norm: str | None


@dataclass(frozen=True, eq=False)
class Part:
    """Channels of one module that belong to units of a layer, and go with them.

    Attributes:
        module: path of the module, or of a parameter that stands alone.
        writes: whether these are channels that it writes; else channels that it reads.
        channels: int64 [n], sorted by unit.
        units: int64 [n], the unit that each of them belongs to.
        affine: whether the module is a convolution or linear.
        dim: of a parameter that stands alone, the axis of the channels; else 0.
    """

    module: str
    writes: bool
    channels: Tensor
    units: Tensor
    affine: bool
    dim: int = 0

    def of(self, units: Iterable[int]) -> list[int]:
        """The channels that go with these units, sorted."""
        return self.channels[torch.isin(self.units, torch.tensor(list(units)))].sort().values.tolist()

    def by_unit(self, count: int) -> Tensor | None:
        """The channels [count, stride] of each of ``count`` units; None where they have not equally many each."""
        each = self.units.bincount(minlength=count)
        equal = len(each) == count and bool((each == each[0]).all())
        return self.channels.view(count, -1) if equal else None


@dataclass(frozen=True)
class Layer:
    """Units that are pruned together, one for each index.

    Attributes:
        name: path of the module whose output channels are the units: a convolution, linear module or selection.
        units: their number.
        writers: the modules whose affine maps add up to the units' pre-activations (or, for coupled channels in
            sequence, are tied to one another).
        norm: a batch norm that reads the sum of the writers, in networks that normalise after the skip; else None.
        readers: modules that read the units: those that lose input channels when a unit goes.
        groups: groups of consecutive channels that must stay equally large (grouped convolution, group norm); 1 where
            any unit may go.
        parts: what all modules lose when units go, one part for each module and side.
    """

    name: str
    units: int
    writers: tuple[Writer, ...]
    norm: str | None
    readers: tuple[str, ...]
    groups: int = 1
    parts: tuple[Part, ...] = field(default=(), compare=False, repr=False)

    def reading(self) -> list[tuple[str, Tensor]]:
        """The convolutions and linear modules that read the units, each with its input channels [units, stride].

        Several channels belong to a unit where feature maps are flattened. Depthwise convolutions pass channels on one
        by one, so they are no readers.
        """
        found = [
            (part.module, part.by_unit(self.units)) for part in self.parts if part.affine and not part.writes
        ]
        return [(name, columns) for name, columns in found if columns is not None]


def dependency_graph(model: nn.Module, example_inputs: Tensor) -> "torch_pruning.DependencyGraph":
    """Torch-Pruning's dependency graph of ``model``, traced in eval mode on ``example_inputs`` (a batch).

    The model's modes are restored; its parameters are not touched.
    """
    import torch_pruning

    from splinelib.layers.selection_pruner import ChannelSelectionPruner

    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    with evaluating(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Inputs that do not fit fail here, before Torch-Pruning has registered its hooks.
        model(example_inputs)
        try:
            for parameter in frozen:  # the graph is read off autograd's, which leaves out frozen parameters
                parameter.requires_grad_(True)
            with torch.enable_grad():
                return torch_pruning.DependencyGraph().build_dependency(
                    model,
                    (example_inputs,),  # a bare tensor would be unpacked into one argument for each input
                    customized_pruners={ChannelSelection: ChannelSelectionPruner()},
                    verbose=False,
                )
        finally:
            for parameter in frozen:
                parameter.requires_grad_(False)


def read_layers(model: nn.Module, example_inputs: Tensor) -> tuple[Layer, ...]:
    """The prunable layers of ``model`` in the order of ``model.named_modules()``.

    Left out are layers whose units are outputs of the network, and residual streams that a
    :class:`~splinelib.layers.channel_selection.ChannelSelection` reads (there the selections are pruned, not the
    stream).

    Args:
        model: any model that Torch-Pruning can trace; not changed.
        example_inputs: a batch of inputs [N, ...] on the model's device.

    Raises:
        UnsupportedModuleError: if the model has no layer that can be pruned.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> [(layer.name, layer.units, layer.readers) for layer in read_layers(model, torch.zeros(1, 2))]
    [('0', 3, ('2',))]
    """
    return graph_layers(dependency_graph(model, example_inputs))


def graph_layers(graph: "torch_pruning.DependencyGraph") -> tuple[Layer, ...]:
    """What :func:`read_layers` gives, from a graph that is there already."""
    groups = graph.get_all_groups(root_module_types=[*_AFFINE, ChannelSelection])
    layers = [layer for group in groups if (layer := read_group(graph, group)) is not None]
    layers = [layer for layer in layers if not _misread(graph.model, layer)]
    if not layers:
        raise UnsupportedModuleError(
            f"{type(graph.model).__name__} has no layer that can be pruned: it needs a convolution or linear module "
            "whose outputs are not those of the network"
        )
    order = {name: position for position, (name, _) in enumerate(graph.model.named_modules())}
    return tuple(sorted(layers, key=lambda layer: order[layer.name]))


def _misread(model: nn.Module, layer: Layer) -> bool:
    """Whether a channel of the layer's lies past the end of its module: the layer is left out, with a warning.

    Torch-Pruning follows channels by their number alone, which a pixel shuffle or a chunk between two modules changes.
    """
    for part in layer.parts:
        count = _channel_count(model, part)
        if count is not None and int(part.channels.max()) >= count:
            warnings.warn(
                f"layer {layer.name!r} is left whole: {part.module!r} has {count} channels where unit "
                f"{int(part.units[part.channels.argmax()])} would be its channel {int(part.channels.max())}, so what "
                "lies between them changes the number of channels",
                stacklevel=2,
            )
            return True
    return False


def _channel_count(model: nn.Module, part: Part) -> int | None:
    """How many channels a convolution or linear module reads; None for a part of another kind."""
    if not part.affine or part.writes:
        return None
    module: Any = model.get_submodule(part.module)
    return module.in_features if isinstance(module, nn.Linear) else module.in_channels


def unit_group(graph: "torch_pruning.DependencyGraph", layer: Layer) -> Any:
    """Torch-Pruning's group of everything that goes when all units of ``layer`` go."""
    module = graph.model.get_submodule(layer.name)
    prune_out = graph.get_pruner_of_module(module).prune_out_channels
    return graph.get_pruning_group(module, prune_out, list(range(layer.units)))


def read_group(graph: "torch_pruning.DependencyGraph", group: Any) -> Layer | None:
    """The layer of one group, or None where its units must stay."""
    names = graph._module2name
    written, readers, parts, groups = [], [], [], 1
    for item in group:
        dependency, node = item.dep, item.dep.target
        groups = math.lcm(groups, channel_groups(node.module))
        writes = graph.is_out_channel_pruning_fn(dependency.handler)
        if (writes and not node.outputs) or (not writes and isinstance(node.module, ChannelSelection)):
            return None
        if node.module in names or isinstance(node.module, nn.Parameter):  # not a mere operation
            parts.append(_part(graph, item, writes))
        if writes and isinstance(node.module, (*_AFFINE, ChannelSelection)):
            written.append(node)
        elif not writes and node.module in names:
            readers.append(names[node.module])
    root = group[0].dep.target
    if isinstance(root.module, ChannelSelection):
        norm, summands = _normalised_sum(root)
    else:
        norm, summands = None, written
    units = graph.get_out_channels(root)
    writers = tuple(_writer(names, node) for node in summands)
    return Layer(
        names[root.module], units, writers, norm and names[norm.module], tuple(readers), groups, tuple(parts)
    )


def _part(graph: "torch_pruning.DependencyGraph", item: Any, writes: bool) -> Part:
    target = item.dep.target
    alone = isinstance(target.module, nn.Parameter)
    name = graph._param_to_name[target.module] if alone else graph._module2name[target.module]
    channels, units = torch.tensor(list(item.idxs)), torch.tensor(list(item.root_idxs))
    order = units.argsort(stable=True)
    affine = isinstance(target.module, _AFFINE)
    return Part(name, writes, channels[order], units[order], affine, target.pruning_dim if alone else 0)


def _writer(names: dict[Any, str], node: Any) -> Writer:
    outputs = node.outputs
    if (
        len(outputs) == 1 and "BatchNormBackward" in outputs[0].name
    ):  # a module that normalises and then does more
        outputs = outputs[0].outputs
    alone = len(outputs) == 1 and isinstance(outputs[0].module, _BATCH_NORM)
    return Writer(names[node.module], names[outputs[0].module] if alone else None)


def _normalised_sum(selection: Any) -> tuple[Any, list[Any]]:
    """The batch norm in front of a selection and the modules whose sum that norm reads."""
    (norm,) = selection.inputs
    while any(step in norm.name for step in _SELECTING):
        (norm,) = norm.inputs
    if not isinstance(norm.module, _BATCH_NORM):
        raise UnsupportedModuleError(
            f"{selection.name} reads {norm.name}: a ChannelSelection must follow a batch norm"
        )
    return norm, [node for source in norm.inputs for node in _summands(source)]


def _summands(node: Any) -> list[Any]:
    """Modules whose outputs add up to ``node``'s output, without repetition, found against the data flow."""
    if isinstance(node.module, _AFFINE):
        return [node]
    if isinstance(node.module, nn.Module) and "AddBackward" in repr(node.module):
        found = [summand for source in node.inputs for summand in _summands(source)]
        return list(dict.fromkeys(found))
    raise UnsupportedModuleError(
        f"{node.name} is summed into a residual stream: only convolutions and linear modules can be"
    )
