"""What moves or picks numbers and computes nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from splinelib.partition.engine.handlers.call import Call, NotHandled
from splinelib.partition.engine.layout import Value


def size(call: Call, value: Value, dim: int | None = None) -> Any:
    """``x.size()`` with a batch of one."""
    shape = (1, *value.shape)
    return shape if dim is None else shape[dim]


def attribute(call: Call, value: Value, name: str) -> Any:
    """``x.shape``."""
    if name != "shape":
        raise NotHandled(f"attribute '{name}' of an activation; only its shape can be read")
    return size(call, value)


def reshaped(value: Value, shape: tuple[int, ...]) -> Value:
    """The same numbers in another shape."""
    return Value(
        value.lanes.reshape(shape), value.scale.reshape(shape), value.shift.reshape(shape), value.whole
    )


def reshape(call: Call, value: Value, *_: Any, **__: Any) -> Value:
    """Flatten, reshape and view, which keep the batch dimension."""
    if int(np.prod(call.shape)) != value.lanes.size:
        raise NotHandled("it moves elements between the batch dimension and the others")
    return reshaped(value, call.shape)


def getitem(call: Call, value: Value, index: Any) -> Value:
    """``x[:, indexes]`` with fixed indexes."""
    index = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, Value) for part in index) or index[0] not in (slice(None), Ellipsis):
        raise NotHandled("only x[:, indexes] with fixed indexes is known")
    fixed = tuple(part.numpy() if isinstance(part, Tensor) else part for part in index)
    fixed = fixed if index[0] is Ellipsis else fixed[1:]
    return Value(value.lanes[fixed], value.scale[fixed], value.shift[fixed])


def index_select(call: Call, value: Value, dim: int, index: Tensor) -> Value:
    """Entries along a dimension after the batch."""
    if dim < 1:
        raise NotHandled(f"dim={dim}; select along a dimension after the batch")
    kept = (slice(None),) * (dim - 1) + (index.numpy(),)
    return Value(value.lanes[kept], value.scale[kept], value.shift[kept])


def select_channels(call: Call, value: Value, indexes: Tensor) -> Value:
    """Channels that a ``ChannelSelection`` keeps."""
    return index_select(call, value, 1, indexes)


def cat(call: Call, values: Sequence[Value], dim: int = 0) -> Value:
    """A concatenation along a dimension after the batch."""
    if dim == 0 or not all(isinstance(v, Value) for v in values):
        raise NotHandled("only a concatenation of activations along a dimension after the batch is known")
    axis = dim - 1 if dim > 0 else dim
    return Value(
        np.concatenate([v.lanes for v in values], axis),
        np.concatenate([v.scale for v in values], axis),
        np.concatenate([v.shift for v in values], axis),
    )
