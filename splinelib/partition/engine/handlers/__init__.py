"""What each supported module, function and method does to a tensor of the layout: the tables."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from splinelib.layers.channel_selection import select_channels
from splinelib.partition.engine.handlers import arithmetic, layers, pooling, shapes
from splinelib.partition.engine.handlers.call import Call as Call
from splinelib.partition.engine.handlers.call import NotHandled as NotHandled

TRAINING_SENSITIVE = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)

Handler = Callable[..., Any]

MODULES: dict[type, Handler] = {
    nn.Linear: layers.linear,
    nn.Conv2d: layers.conv,
    nn.BatchNorm1d: layers.batch_norm,
    nn.BatchNorm2d: layers.batch_norm,
    nn.ReLU: layers.relu,
    nn.ReLU6: layers.relu6,
    nn.Hardtanh: layers.clamp,
    nn.LeakyReLU: layers.leaky,
    nn.PReLU: layers.prelu,
    nn.MaxPool2d: pooling.max_pool,
    nn.AdaptiveMaxPool2d: pooling.adaptive_max_pool,
    nn.AvgPool2d: pooling.avg_pool,
    nn.AdaptiveAvgPool2d: pooling.adaptive_avg_pool,
    nn.Flatten: shapes.reshape,
    nn.Identity: layers.identity,
    nn.Dropout: layers.identity,
    nn.Dropout1d: layers.identity,
    nn.Dropout2d: layers.identity,
}

FUNCTIONS: dict[Any, Handler] = {
    torch.relu: layers.relu,
    torch.relu_: layers.relu,
    F.relu: layers.relu,
    F.dropout: layers.dropout,
    getattr: shapes.attribute,
    F.relu6: layers.relu6,
    F.hardtanh: layers.clamp,
    F.leaky_relu: layers.leaky,
    F.prelu: layers.prelu,
    torch.abs: layers.absolute,
    abs: layers.absolute,
    operator.abs: layers.absolute,
    F.max_pool2d: pooling.max_pool,
    torch.max_pool2d: pooling.max_pool,
    F.adaptive_max_pool2d: pooling.adaptive_max_pool,
    F.avg_pool2d: pooling.avg_pool,
    F.adaptive_avg_pool2d: pooling.adaptive_avg_pool,
    torch.mean: pooling.mean,
    torch.flatten: shapes.reshape,
    torch.reshape: shapes.reshape,
    torch.index_select: shapes.index_select,
    select_channels: shapes.select_channels,
    torch.cat: shapes.cat,
    torch.add: arithmetic.add,
    operator.add: arithmetic.add,
    operator.iadd: arithmetic.add,
    torch.sub: arithmetic.sub,
    operator.sub: arithmetic.sub,
    operator.isub: arithmetic.sub,
    torch.mul: arithmetic.mul,
    operator.mul: arithmetic.mul,
    operator.imul: arithmetic.mul,
    operator.truediv: arithmetic.div,
    torch.div: arithmetic.div,
    operator.neg: arithmetic.neg,
    torch.neg: arithmetic.neg,
    operator.getitem: shapes.getitem,
}

METHODS: dict[str, Handler] = {
    "relu": layers.relu,
    "relu_": layers.relu,
    "abs": layers.absolute,
    "flatten": shapes.reshape,
    "reshape": shapes.reshape,
    "view": shapes.reshape,
    "view_as": shapes.reshape,
    "size": shapes.size,
    "contiguous": layers.identity,
    "clone": layers.identity,
    "mean": pooling.mean,
    "index_select": shapes.index_select,
    "add": arithmetic.add,
    "add_": arithmetic.add,
    "sub": arithmetic.sub,
    "mul": arithmetic.mul,
    "neg": arithmetic.neg,
}


def supported_modules() -> tuple[str, ...]:
    """Names of the modules that the exact partition knows, ascending; functions and methods alike are read too."""
    return tuple(sorted(module.__name__ for module in MODULES))
