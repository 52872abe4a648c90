"""How Torch-Pruning is to treat a ChannelSelection. Needs torch-pruning: imported only where used."""

from collections.abc import Sequence

import torch
import torch_pruning as tp

from splinelib.errors import UnsupportedModuleError
from splinelib.layers.channel_selection import ChannelSelection


class ChannelSelectionPruner(tp.BasePruningFunc):
    """Pruning function for ``ChannelSelection``: it can keep fewer channels, the stream in front stays whole.

    Use it as ``customized_pruners={ChannelSelection: ChannelSelectionPruner()}``.
    """

    TARGET_MODULES = ChannelSelection

    def prune_out_channels(self, layer: ChannelSelection, idxs: Sequence[int]) -> ChannelSelection:
        """Drop the kept channels at the places ``idxs`` of ``layer.indexes``, in place; its readers follow."""
        kept = torch.ones_like(layer.indexes, dtype=torch.bool)
        kept[list(idxs)] = False
        layer.indexes = layer.indexes[kept]
        return layer

    def prune_in_channels(self, layer: ChannelSelection, idxs: Sequence[int]) -> ChannelSelection:
        """Raise :class:`UnsupportedModuleError`: a stream loses no channels, since every block reads others of them."""
        raise UnsupportedModuleError(
            f"channels {list(idxs)} of the stream in front of ChannelSelection({layer.extra_repr()}) cannot be "
            "removed: prune the selections behind it"
        )

    def get_out_channels(self, layer: ChannelSelection) -> int:
        """Channels going out: those kept."""
        return layer.indexes.numel()

    def get_in_channels(self, layer: ChannelSelection) -> int:
        """Channels coming in: the stream's width."""
        return layer.channels
