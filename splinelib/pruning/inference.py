"""Networks for inference: the same function in fewer steps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

from splinelib.checks import checked
from splinelib.hooks import Inputs, duplicate, evaluating, run, tensors_in
from splinelib.layers.channel_selection import ChannelSelection
from splinelib.layers.images import check_inputs
from splinelib.layers.kinds import BATCH_NORM, complement, cut_module
from splinelib.layers.network import as_double, eager, follows

_ROUNDING = 1e-9  # of float64, relative to the largest output


@checked
def fuse_norms(model: nn.Module, example_inputs: Inputs) -> nn.Module:
    """A copy in eval mode that computes the same without the batch norms that stand right behind what they norm.

    A convolution or linear module takes over scale and shift of the batch norm that alone reads it. A
    :class:`splinelib.layers.ChannelSelection` that drops channels moves in front of its batch norm, which then norms
    what is kept. Fuse last: such a network is for inference, neither to be trained nor pruned.

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
    model = eager(model)
    check_inputs(model, example_inputs)
    pairs = [pair for pair in follows(model, example_inputs).items() if _can_fuse(model, *pair)]
    whole, inputs = duplicate(model).double(), as_double(example_inputs)
    # An output of the network that a batch norm reads too is the one use that no module tells of.
    sound = pairs if _same(whole, pairs, inputs) else [pair for pair in pairs if _same(whole, [pair], inputs)]
    return _fused(model, sound)


def _can_fuse(model: nn.Module, first: str, second: str) -> bool:
    one: Any = model.get_submodule(first)
    other: Any = model.get_submodule(second)
    if isinstance(one, BATCH_NORM):
        return isinstance(other, ChannelSelection) and len(other.indexes) < other.channels
    known = type(one) in (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    return known and isinstance(other, BATCH_NORM) and other.running_mean is not None


def _fused(model: nn.Module, pairs: Sequence[tuple[str, str]]) -> nn.Module:
    fused = duplicate(model).eval()
    for first, second in pairs:
        one: Any = fused.get_submodule(first)
        other: Any = fused.get_submodule(second)
        if isinstance(other, ChannelSelection):
            cut_module(one, True, complement(other.indexes.tolist(), other.channels).tolist())
            whole: nn.Module = nn.Sequential(other, one)
        else:
            whole = (
                fuse_linear_bn_eval(one, other)
                if isinstance(one, nn.Linear)
                else fuse_conv_bn_eval(one, other)
            )
        fused.set_submodule(first, whole)
        fused.set_submodule(second, nn.Identity())
    return fused


def _same(model: nn.Module, pairs: Sequence[tuple[str, str]], inputs: Inputs) -> bool:
    """Whether fusing these pairs leaves the outputs as they are."""
    fused = _fused(model, pairs)
    with evaluating(model), torch.no_grad():
        values = zip(tensors_in(run(model, inputs)), tensors_in(run(fused, inputs)), strict=True)
        return all(_close(one, other) for one, other in values)


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one - other).abs() <= _ROUNDING * one.abs().max()).all())
