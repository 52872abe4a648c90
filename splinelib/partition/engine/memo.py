"""What tells one small network from another, so that it is read once and not each time its partition is asked for."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.partition.engine.tracing import chain
from splinelib.partition.slices import Plane

# Above this many weights, looking whether any has changed is no longer fast, and reading no longer what takes the time.
_MOST_WEIGHTS = 50_000
_PLAIN = (int, float, str, bool, type(None))


@dataclass(frozen=True)
class Content:
    """Everything that a network and a reading hang on: equal contents are read alike.

    Only for chains of known modules that nothing was added to; of the plane the shape counts, and its magnitude, for
    what would overflow.
    """

    key: tuple[Any, ...]
    model: nn.Module = field(compare=False)
    where: Plane = field(compare=False)


def content_of(model: nn.Module, where: Plane, *settings: bool) -> Content | None:
    """The content of a small network, or None for one that is better read each time."""
    if chain(model) is None or sum(p.numel() for p in model.parameters()) > _MOST_WEIGHTS:
        return None
    key: list[Any] = [tuple(where.origin.shape), _magnitude(where), settings]
    for name, module in model.named_modules(remove_duplicate=False):
        own = _own(module)
        if own is None:
            return None
        key.append((name, own))
    return Content(tuple(key), model, where)


def _magnitude(where: Plane) -> int:
    reach = float(np.abs(where.polygon).max())
    first, second = (float(direction.abs().max()) for direction in (where.first, where.second))
    return int(np.frexp(float(where.origin.abs().max()) + reach * (first + second))[1])


def _own(module: nn.Module) -> tuple[Any, ...] | None:
    """A module without its children: type, settings and weights; None if there is more to it."""
    found: list[Any] = [type(module), len(module._modules)]
    for name, value in vars(module).items():
        if name in ("_parameters", "_buffers"):
            found += [(name, key, _weights(tensor)) for key, tensor in value.items()]
        elif name.endswith("_hooks"):
            if value:
                return None
        elif isinstance(value, _PLAIN):
            found.append((name, value))
        elif isinstance(value, (tuple, list)) and all(isinstance(item, _PLAIN) for item in value):
            found.append((name, tuple(value)))
        elif name not in _KNOWN:
            return None
    return tuple(found)


# Of every module: children, and how they are saved.
_KNOWN = frozenset(
    name for name, value in vars(nn.Module()).items() if not isinstance(value, (*_PLAIN, tuple, list))
)


def _weights(tensor: Tensor | None) -> Any:
    return (
        None
        if tensor is None
        else (tensor.dtype, tensor.shape, tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    )
