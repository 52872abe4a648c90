"""Networks for inference: the same function in fewer steps."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

from splinelib.checks import checked
from splinelib.hooks import Inputs, duplicate
from splinelib.layers.kinds import BATCH_NORM
from splinelib.layers.network import as_double, follows
from splinelib.layers.probe import disturbed
from splinelib.pruning.cut import changed
from splinelib.pruning.streams import Pairs, compact_streams, same


@checked
def fuse_norms(model: nn.Module, example_inputs: Inputs) -> nn.Module:
    """A copy in eval mode that computes the same without the batch norms that stand right behind what they norm.

    A convolution or linear module takes over scale and shift of the batch norm that alone reads it, once streams are
    compact (:func:`splinelib.pruning.compact_streams`). Fuse last: such a network is for inference, neither to be
    trained nor pruned.

    Args:
        model: left as it is.
        example_inputs: a batch [N, ...], a tuple of arguments or a dict of keywords.

    Raises :class:`SettingError` where the model does not take the inputs.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU())
    >>> fuse_norms(model, torch.zeros(1, 2))
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): Identity()
      (2): ReLU()
    )
    """
    model = compact_streams(model, example_inputs)
    pairs = [pair for pair in follows(model, example_inputs).items() if _can_fuse(model, *pair)]
    whole, inputs = duplicate(model).double(), disturbed(as_double(example_inputs))
    # An output of the network that a batch norm reads too is the one use that no module tells of.
    if not same(whole, _fused(whole, pairs), inputs):
        pairs = [pair for pair in pairs if same(whole, _fused(whole, [pair]), inputs)]
    return changed(_fused(model, pairs), "fuse_norms")


def _can_fuse(model: nn.Module, first: str, second: str) -> bool:
    one: Any = model.get_submodule(first)
    other: Any = model.get_submodule(second)
    if type(one) not in (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear) or not isinstance(other, BATCH_NORM):
        return False
    width = one.out_features if isinstance(one, nn.Linear) else one.out_channels
    plain = "weight" in one._parameters and not one._forward_pre_hooks  # which may compute it from others
    return plain and other.running_mean is not None and width == other.num_features


def _fused(model: nn.Module, pairs: Pairs) -> nn.Module:
    fused = duplicate(model).eval()
    for first, second in pairs:
        one: Any = fused.get_submodule(first)
        norm: Any = fused.get_submodule(second)
        if norm.weight is None:
            norm.weight = nn.Parameter(torch.ones_like(norm.running_var))
            norm.bias = nn.Parameter(torch.zeros_like(norm.running_var))
        fuse: Any = fuse_linear_bn_eval if isinstance(one, nn.Linear) else fuse_conv_bn_eval
        fused.set_submodule(first, fuse(one, norm))
        fused.set_submodule(second, nn.Identity())
    return fused
