"""How Torch-Pruning is to treat a ChannelSelection. Needs torch-pruning: imported only where used."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch_pruning.dependency.dependency import Dependency

from splinelib.errors import UnsupportedModuleError
from splinelib.models import ChannelSelection

# Marks a kept channel that the stream has lost, until its place is dropped too; no tensor is that wide.
_GONE = torch.iinfo(torch.int64).max


class ChannelSelectionPruner(tp.BasePruningFunc):
    """Pruning function for ``ChannelSelection``, whose two sides are numbered differently.

    * ``prune_out_channels`` drops kept channels by their place in ``indexes``; only the modules that read the
      selection follow, the stream stays whole.
    * ``prune_in_channels`` follows a stream that lost channels: the other entries are renumbered. If a lost
      channel was kept, its place has to go as well, which only a graph changed by ``link_streams`` knows.

    Pass one fresh instance per graph: ``customized_pruners={ChannelSelection: ChannelSelectionPruner()}``.
    """

    TARGET_MODULES = ChannelSelection

    def __init__(self) -> None:
        super().__init__()
        self.linked = False

    def prune_out_channels(self, layer: ChannelSelection, idxs: Sequence[int]) -> ChannelSelection:
        """Drop the kept channels at the places ``idxs`` of ``layer.indexes``, in place."""
        layer.indexes = layer.indexes[_others(layer.indexes.numel(), idxs, layer.indexes.device)]
        return layer

    def prune_in_channels(self, layer: ChannelSelection, idxs: Sequence[int]) -> ChannelSelection:
        """Follow the loss of the stream channels ``idxs``, in place.

        Raises:
            UnsupportedModuleError: one of them is kept and the graph was not changed by ``link_streams``.
        """
        lost = sorted(set(idxs) & set(layer.indexes.tolist()))
        if lost and not self.linked:
            raise UnsupportedModuleError(
                f"ChannelSelection({layer.extra_repr()}) still keeps the stream channels {lost} that are to "
                "be removed; call link_streams(graph) after building the dependency graph"
            )
        remaining = _others(layer.channels, idxs, layer.indexes.device)
        renumbered = torch.where(remaining, remaining.cumsum(0) - 1, _GONE)
        layer.indexes = renumbered[layer.indexes]
        layer.channels = int(remaining.sum())
        return layer

    def get_out_channels(self, layer: ChannelSelection) -> int:
        """Channels going out: those kept."""
        return layer.indexes.numel()

    def get_in_channels(self, layer: ChannelSelection) -> int:
        """Channels coming in: the stream's width."""
        return layer.channels


def link_streams(graph: Any) -> None:
    """Let the removal of stream channels reach the readers behind every ``ChannelSelection`` of ``graph``.

    ``graph`` is a built ``torch_pruning.DependencyGraph`` whose pruner for the class is a
    ``ChannelSelectionPruner``; it is changed in place. Not needed when only selections are pruned.
    """
    pruner = graph.CUSTOMIZED_PRUNERS[ChannelSelection]
    for node in graph.module2node.values():
        if isinstance(node.module, ChannelSelection):
            link = Dependency(pruner.prune_in_channels, pruner.prune_out_channels, source=node, target=node)
            link.index_mapping[0] = _places_in(node.module)
            node.dependencies.append(link)
    pruner.linked = True


def _places_in(layer: ChannelSelection) -> Callable[[Sequence[Any]], list[Any]]:
    """Map Torch-Pruning's indices of stream channels to their places in ``layer.indexes``, if kept."""

    def mapping(indices: Sequence[Any]) -> list[Any]:
        place = {channel: place for place, channel in enumerate(layer.indexes.tolist())}
        return [index._replace(idx=place[index.idx]) for index in indices if index.idx in place]

    return mapping


def _others(count: int, indices: Sequence[int], device: torch.device) -> torch.Tensor:
    """Boolean mask ``[count]`` that is false at ``indices``."""
    mask = torch.ones(count, dtype=torch.bool, device=device)
    mask[list(indices)] = False
    return mask
