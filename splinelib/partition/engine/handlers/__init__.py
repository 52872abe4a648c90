"""What each supported module, function and method does to a tensor of the layout: the tables."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from splinelib.layers.channel_selection import select_channels
from splinelib.partition.engine.handlers import activations, arithmetic, layers, pooling, shapes
from splinelib.partition.engine.handlers.call import Call as Call
from splinelib.partition.engine.handlers.call import NotHandled as NotHandled
from splinelib.partition.engine.handlers.call import without_batch as without_batch
from splinelib.partition.engine.handlers.shapes import moved as moved
from splinelib.partition.smooth import AffinePieces

TRAINING_SENSITIVE = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd, nn.RReLU)

Handler = Callable[..., Any]


def _several(names: str, handler: Any) -> dict[str, Handler]:
    return dict.fromkeys(names.split(), handler)


_MODULES = (
    _several("Linear", layers.linear)
    | _several("Conv1d Conv2d Conv3d", layers.conv)
    | _several("ConvTranspose1d ConvTranspose2d ConvTranspose3d", layers.conv_transpose)
    | _several("BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm", arithmetic.batch_norm)
    | _several("InstanceNorm1d InstanceNorm2d InstanceNorm3d", arithmetic.batch_norm)
    | _several("Fold", layers.linear_step)
    | _several("ReLU", activations.relu)
    | _several("ReLU6", activations.relu6)
    | _several("Hardtanh", activations.hardtanh)
    | _several("LeakyReLU", activations.leaky)
    | _several("RReLU", activations.rrelu)
    | _several("PReLU", activations.prelu)
    | _several("Hardsigmoid", activations.hardsigmoid)
    | _several("Threshold", activations.threshold)
    | _several("Softshrink", activations.softshrink)
    | _several("MaxPool1d MaxPool2d MaxPool3d", pooling.max_pool)
    | _several("AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d", pooling.max_pool)
    | _several("AvgPool1d AvgPool2d AvgPool3d", pooling.avg_pool)
    | _several("AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d", pooling.avg_pool)
    | _several("Upsample UpsamplingNearest2d UpsamplingBilinear2d", pooling.resize)
    | _several("Identity Dropout Dropout1d Dropout2d Dropout3d AlphaDropout", shapes.identity)
    | _several("Flatten Unflatten PixelShuffle PixelUnshuffle ChannelShuffle Unfold", shapes.moved)
    | _several("ZeroPad1d ZeroPad2d ZeroPad3d ConstantPad1d ConstantPad2d ConstantPad3d", shapes.moved)
    | _several("ReflectionPad1d ReflectionPad2d ReflectionPad3d", shapes.moved)
    | _several("ReplicationPad1d ReplicationPad2d ReplicationPad3d", shapes.moved)
    | _several("CircularPad1d CircularPad2d CircularPad3d", shapes.moved)
)

# Functions of torch, torch.nn.functional and operator, and methods of tensors, in place or not, all by one name.
_STEPS = (
    _several("linear", layers.linear)
    | _several("matmul mm", layers.matmul)
    | _several("einsum tensordot bmm fold cumsum diff addmm baddbmm grid_sample", layers.linear_step)
    | _several("conv1d conv2d conv3d", layers.conv)
    | _several("conv_transpose1d conv_transpose2d conv_transpose3d", layers.conv_transpose)
    | _several("batch_norm", arithmetic.batch_norm)
    | _several("add iadd", arithmetic.add)
    | _several("sub subtract isub", arithmetic.sub)
    | _several("rsub", arithmetic.rsub)
    | _several("mul multiply imul", arithmetic.mul)
    | _several("div divide truediv itruediv", arithmetic.div)
    | _several("neg negative", arithmetic.neg)
    | _several("relu", activations.relu)
    | _several("relu6", activations.relu6)
    | _several("hardtanh", activations.hardtanh)
    | _several("leaky_relu", activations.leaky)
    | _several("rrelu", activations.rrelu)
    | _several("prelu", activations.prelu)
    | _several("abs absolute", activations.absolute)
    | _several("clamp clip", activations.clamp)
    | _several("clamp_min", activations.clamp_min)
    | _several("clamp_max", activations.clamp_max)
    | _several("threshold", activations.threshold)
    | _several("hardsigmoid", activations.hardsigmoid)
    | _several("softshrink", activations.softshrink)
    | _several("maximum", activations.maximum)
    | _several("minimum", activations.minimum)
    | _several("max_pool1d max_pool2d max_pool3d", pooling.max_pool)
    | _several("adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d", pooling.max_pool)
    | _several("avg_pool1d avg_pool2d avg_pool3d", pooling.avg_pool)
    | _several("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d", pooling.avg_pool)
    | _several("interpolate upsample", pooling.resize)
    | _several("mean", pooling.mean)
    | _several("sum", pooling.total)
    | _several("amax", pooling.amax)
    | _several("amin", pooling.amin)
    | _several("max", pooling.largest)
    | _several("min", pooling.least)
    | _several("dropout dropout1d dropout2d dropout3d alpha_dropout", shapes.dropout)
    | _several("contiguous clone detach to type type_as double float half bfloat16", shapes.identity)
    | _several("zeros_like ones_like full_like new_zeros new_ones new_full", shapes.described)
    | _several(
        "flatten reshape view view_as unflatten ravel squeeze unsqueeze expand expand_as", shapes.moved
    )
    | _several(
        "permute transpose movedim moveaxis swapaxes swapdims t rot90 flip fliplr flipud roll", shapes.moved
    )
    | _several(
        "cat concat concatenate stack hstack vstack dstack chunk split tensor_split unbind", shapes.moved
    )
    | _several(
        "narrow select index_select take_along_dim gather diagonal tril triu where masked_fill", shapes.moved
    )
    | _several(
        "broadcast_to repeat tile repeat_interleave pad unfold pixel_shuffle pixel_unshuffle", shapes.moved
    )
    | _several("channel_shuffle", shapes.moved)
    | _several("getitem", shapes.getitem)
)

MODULES: dict[type, Handler] = {getattr(nn, name): handler for name, handler in _MODULES.items()} | {
    AffinePieces: activations.affine_pieces
}

METHODS: dict[str, Handler] = _STEPS | {f"{name}_": handler for name, handler in _STEPS.items()}

FUNCTIONS: dict[Any, Handler] = {
    getattr(place, name): handler
    for place in (torch, F, operator)
    for name, handler in METHODS.items()
    if hasattr(place, name)
} | {abs: activations.absolute, getattr: shapes.attribute, select_channels: shapes.moved}

# Steps that rise with their input: at the end of a network they do not change its regions; its ending tells whether
# they change its classes.
FINAL_METHODS = frozenset(
    _several("sigmoid sigmoid_ logsigmoid log_sigmoid tanh tanh_ softmax log_softmax argmax", None)
)
FINAL_FUNCTIONS = {getattr(p, name) for p in (torch, F) for name in FINAL_METHODS if hasattr(p, name)}
FINAL_MODULES = (nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softmax, nn.LogSoftmax, nn.Softmax2d)


def supported_modules() -> tuple[str, ...]:
    """Names of the modules that the exact partition knows, ascending; functions and methods alike are read too.

    >>> "ReLU" in supported_modules(), "GELU" in supported_modules()
    (True, False)
    """
    return tuple(sorted(_MODULES))
