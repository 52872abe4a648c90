"""Training passes recorded as CUDA graphs: on a GPU, a small network waits for launches more than it computes."""

import contextlib
import gc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


class _Passes(nn.Module):
    """A network under autocast. Its cache would hold casts of weights from one pass to the next."""

    def __init__(self, model: nn.Module, low: bool) -> None:
        super().__init__()
        self.model, self.low = model, low

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=self.low, cache_enabled=False):
            return self.model(images)


def captured(model: nn.Module, images: Tensor, low: bool) -> Callable[[Tensor], Tensor]:
    """The forward pass of ``model`` in training mode, recorded with its backward pass and replayed at every call.

    The kernels are those of the network itself, without Python and launches between them. Weights may change in place
    between calls, but must stay where they are. Call this outside autocast.

    Args:
        model: network on a GPU, in training mode; it is left as it was.
        images: a batch [B, C, H, W] there; the recorded pass takes this shape alone.
        low: compute in bfloat16 where autocast does.
    """
    kept = [
        buffer.clone() for buffer in model.buffers()
    ]  # recording runs the network, which moves statistics
    with _undisturbed():
        recorded: Any = torch.cuda.make_graphed_callables(_Passes(model, low), (images.clone(),))
    with torch.no_grad():
        for buffer, before in zip(model.buffers(), kept, strict=True):
            buffer.copy_(before)
    return recorded


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Nothing is collected inside: to destroy an old recording would break the new one (pytorch, pull request 195397).

    Torch's warnings about the stream of its own that it records on are kept from the screen.
    """
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The AccumulateGrad node's stream|Attempting to run cuBLAS")
            yield
    finally:
        if collecting:
            gc.enable()
