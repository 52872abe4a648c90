"""Channels that come in groups which must stay equally large: grouped convolutions and group norms."""

import torch
from torch import Tensor, nn

GROUPED = "_splinelib_grouped"
"""What a grouped convolution that was cut is marked with: it stays one, also with one channel in each group."""


def grouped(module: nn.Module) -> bool:
    """Whether ``module`` is a convolution whose filters read groups of several channels (so not a depthwise one)."""
    return isinstance(module, nn.modules.conv._ConvNd) and (
        module.groups > 1
        and (hasattr(module, GROUPED) or not module.groups == module.in_channels == module.out_channels)
    )


def one_each(module: nn.Module) -> bool:
    """Whether ``module`` is a group norm that takes each channel on its own, so that its groups go with channels."""
    return isinstance(module, nn.GroupNorm) and module.num_groups == module.num_channels > 1


def channel_groups(module: nn.Module) -> int:
    """Groups among which the module's channels must stay evenly divided; 1 where any channel may go."""
    if isinstance(module, nn.GroupNorm):
        return 1 if one_each(module) else module.num_groups
    return module.groups if grouped(module) else 1  # type: ignore[return-value]


def leaves_groups_equal(module: nn.Module, lost: Tensor, writes: bool) -> bool:
    """Whether the module's groups of channels lose equally many."""
    groups = channel_groups(module)
    if groups == 1:
        return True
    if isinstance(module, nn.GroupNorm):
        channels = module.num_channels
    else:
        channels = module.out_channels if writes else module.in_channels  # type: ignore[assignment]
    each = torch.bincount(lost // (channels // groups), minlength=groups)
    return bool((each == each[0]).all())
