"""Several processes, as torchrun starts them: one for each GPU."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def place() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) outside torchrun."""
    together = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if together else (0, 1)


@contextlib.contextmanager
def processes() -> Iterator[torch.device]:
    """Within the block, the processes that torchrun started (told by the environment) are joined; yields the device."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if gpu else torch.device("cpu")
    if "WORLD_SIZE" not in os.environ:
        yield device
        return
    if gpu:
        torch.cuda.set_device(device)
    # The others wait while the first one compensates, which may take long on a CPU.
    dist.init_process_group("nccl" if gpu else "gloo", timeout=timedelta(hours=6))
    try:
        yield device
    finally:
        dist.destroy_process_group()


def agree(model: nn.Module) -> None:
    """Give all processes the first one's parameters and buffers."""
    if place()[1] > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)


def told(value: Any, device: torch.device) -> Any:
    """The first process's ``value`` in all processes."""
    if place()[1] > 1:
        box = [value]
        dist.broadcast_object_list(box, 0, device=device)
        return box[0]
    return value


def total(sums: Tensor) -> list[float]:
    """Sums over all processes."""
    if place()[1] > 1:
        dist.all_reduce(sums)
    return sums.tolist()
