"""What goes when a unit goes: the modules that write or read its channels, and channels that come in groups."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from splinelib.errors import UnsupportedModuleError

if TYPE_CHECKING:
    import torch_pruning


def removal_group(graph: "torch_pruning.DependencyGraph", name: str, units: Iterable[int]) -> Any:
    """The group of everything that goes when ``units`` of layer ``name`` go.

    Raises :class:`UnsupportedModuleError` where channels come in groups that must stay equally large, and would not.
    """
    module, units = graph.model.get_submodule(name), list(map(int, units))
    group = graph.get_pruning_group(module, graph.get_pruner_of_module(module).prune_out_channels, units)
    for dependency, indices in group:
        module, writes = dependency.target.module, graph.is_out_channel_pruning_fn(dependency.handler)
        if not _leaves_groups_equal(module, torch.as_tensor(list(indices)), writes):
            raise UnsupportedModuleError(
                f"{graph._module2name[module]!r} ({type(module).__name__}) has {channel_groups(module)} groups of "
                f"channels, which must stay equally large, and would not without units {units} of layer {name!r}: "
                "remove as many from each group, as select_units does, or leave the layer out of the selection"
            )
    return group


def grouped(module: nn.Module) -> bool:
    """Whether ``module`` is a convolution whose filters read groups of several channels (so not a depthwise one)."""
    return isinstance(module, nn.modules.conv._ConvNd) and (
        module.groups > 1 and not module.groups == module.in_channels == module.out_channels
    )


def channel_groups(module: nn.Module) -> int:
    """Groups among which the module's channels must stay evenly divided; 1 where any channel may go."""
    if isinstance(module, nn.GroupNorm):
        return module.num_groups
    return module.groups if grouped(module) else 1  # type: ignore[return-value]


def _leaves_groups_equal(module: nn.Module, indices: Tensor, writes: bool) -> bool:
    """Whether the module's groups of channels lose equally many; False where it cannot be cut at all."""
    groups = channel_groups(module)
    if groups == 1:
        return True
    if isinstance(
        module, nn.modules.conv._ConvTransposeNd
    ):  # its input channels are cut group by group nowhere
        return False
    if isinstance(module, nn.GroupNorm):
        channels = module.num_channels
    else:
        channels = module.out_channels if writes else module.in_channels  # type: ignore[assignment]
    lost = torch.bincount(indices // (channels // groups), minlength=groups)
    return bool((lost == lost[0]).all())


def reading_columns(
    graph: "torch_pruning.DependencyGraph", name: str, units: int
) -> list[tuple[Any, Tensor]]:
    """The convolutions and linear modules that read all ``units`` of layer ``name``, each with its input channels.

    Beside each module stands an index tensor [units, stride]: the input channels that belong to every unit, several
    where feature maps are flattened. Depthwise convolutions pass channels on one by one, so they are no readers.
    """
    group = removal_group(graph, name, range(units))
    found = []
    for dependency, indices in group:
        module = dependency.target.module
        reads = not graph.is_out_channel_pruning_fn(dependency.handler)
        if reads and isinstance(module, nn.modules.conv._ConvNd | nn.Linear) and len(indices) % units == 0:
            found.append((module, torch.tensor(list(indices)).reshape(units, -1)))
    return found
