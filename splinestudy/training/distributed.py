"""Several processes that train one network, a GPU each, started by ``torchrun``: every one has a part of each batch.

Whatever a step sums over a batch (loss, gradients, the statistics of batch norms) is summed over all parts, so that
losses are those of one process with the whole batch but for rounding, and the same settings name the same record.
Outside ``torchrun`` there is one process, and nothing here does anything.
"""

import contextlib
import datetime
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_PATIENCE = datetime.timedelta(days=7)  # of processes that wait while the first one waits for a lease


def part() -> tuple[int, int]:
    """Number of this process, from 0, and how many there are.

    >>> part()
    (0, 1)
    """
    return (
        (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)
    )


def alone() -> bool:
    """Whether this process trains by itself."""
    return part()[1] == 1


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Within the block this process and the others that ``torchrun`` started, if it did, train together."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def total(value: Tensor) -> Tensor:
    """Sum of ``value`` over all processes, in place, without a gradient."""
    if not alone():
        dist.all_reduce(value)
    return value


class _Total(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return total(value.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return total(gradient.clone())


def meet() -> None:
    """Wait for all processes, so that each finds the files that the first one wrote before."""
    if not alone():
        dist.barrier()


def sum_gradients(model: nn.Module) -> None:
    """Replace the gradients of ``model`` by their sums over all processes.

    At once after the backward pass, and not by ``DistributedDataParallel``, whose hooks would stay on parameters that
    criteria differentiate later.
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if alone() or not gradients:
        return
    flat = total(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))


@contextlib.contextmanager
def shared_norms(model: nn.Module) -> Iterator[None]:
    """Within the block the batch norms of ``model`` take their statistics in training over all parts of a batch.

    (Torch's own ``SyncBatchNorm`` is for GPUs alone, and another module.)
    """
    norms = [] if alone() else [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    try:
        for norm in norms:
            norm.forward = partial(_normalised, norm)  # type: ignore[method-assign]
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalised(norm: nn.modules.batchnorm._BatchNorm, inputs: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, inputs)
    values = inputs.float()
    axes = [axis for axis in range(values.ndim) if axis != 1]
    shape = [1, -1] + [1] * (values.ndim - 2)
    count = total(torch.tensor(float(values.numel() // values.shape[1]), device=values.device))
    mean = _Total.apply(values.sum(axes)) / count
    centred = values - mean.view(shape)
    variance = _Total.apply(centred.square().sum(axes)) / count
    if norm.running_mean is not None and norm.running_var is not None:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1
        rate = norm.momentum if norm.momentum is not None else 1 / int(norm.num_batches_tracked)
        norm.running_mean.lerp_(mean.detach(), rate)
        norm.running_var.lerp_(variance.detach() * count / (count - 1), rate)
    scaled = centred * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        scaled = scaled * norm.weight.view(shape) + norm.bias.view(shape)
    return scaled.to(inputs.dtype)
