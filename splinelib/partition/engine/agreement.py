"""Whether what was read is the model: its values at a few points of the slice beside the model's own."""

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from splinelib.errors import UnsupportedModuleError
from splinelib.partition.engine.as_float64 import AsFloat64
from splinelib.partition.engine.ending import Ending
from splinelib.partition.engine.geometry import OPTIONS
from splinelib.partition.engine.handlers import FINAL_METHODS
from splinelib.partition.engine.layout import LINEAR, MAX, Floats, Layout, Node, Value
from splinelib.partition.slices import Plane

# Few points do: what differs is another affine map, hence differs almost everywhere in some region.
_POINTS = 4
# Half the distance of 1 to the next number: the largest relative error of one operation.
_ROUNDING = 2.0**-53
# The model may sum in another order, and fuse what we keep apart: this many times the estimated rounding passes.
_SLACK = 1e3
# Below this share of the largest output no difference matters, wherever it comes from.
_SHARE = 1e-9


def check_agreement(
    model: nn.Module,
    layout: Layout,
    result: Value,
    where: Plane,
    ending: Ending | None = None,
) -> None:
    """Compare the layout with the model, one input at a time, in float64.

    Args:
        model: what the layout was read from, float64 on the CPU.
        result: the tensor of the layout that stands for the model's output.
        ending: the last steps that were left out; what the first of them gets is compared then, and what the model
            returns with what they make of it.

    Raises:
        UnsupportedModuleError: the layout holds numbers that are not finite, or the outputs differ.
    """
    _check_finite(layout, result)
    points = _some_points(where.polygon)
    inputs = where.origin + torch.tensordot(
        torch.from_numpy(points), torch.stack([where.first, where.second]), dims=1
    )
    values = [result] if ending is None else [*ending.heads.values(), *ending.others.values()]
    with np.errstate(over="ignore", invalid="ignore"):
        read = [_outputs(layout, value, inputs) for value in values]
    theirs = (
        [_model_outputs(model, inputs, read[0][0])]
        if ending is None
        else _before(model, inputs, ending, read)
    )
    # What stands beside these is compared by the output.
    for (mine, error), their in zip(read, theirs, strict=False):
        _compare(model, points, mine, error, their)


def _compare(model: nn.Module, points: Floats, mine: Floats, error: Floats, theirs: Floats) -> None:
    """Raise UnsupportedModuleError where numbers ``[P, *shape]`` are not finite, or differ by more than rounding."""
    if not (np.isfinite(theirs).all() and np.isfinite(mine).all()):
        raise UnsupportedModuleError(
            f"{type(model).__name__} has outputs that are not finite at inputs of the slice; look for a negative "
            "variance, a division by zero, an overflow, or values that are not finite in its tensors"
        )
    allowed = _SLACK * error + _SHARE * np.abs(theirs).max(initial=0.0)
    worst = int(np.argmax((np.abs(mine - theirs) - allowed).reshape(len(points), -1).max(axis=1)))
    gap = float(np.abs(mine - theirs)[worst].max(initial=0.0))
    if (np.abs(mine - theirs) > allowed).any():
        raise UnsupportedModuleError(
            f"{type(model).__name__}: at the point {points[worst].tolist()} of the slice its output is {gap:.3g} off "
            "the map that was read from its graph; remove forward hooks that change outputs, and operations in place "
            "on a tensor that is read again afterwards (inplace=True, +=, relu_)"
        )


def _model_outputs(model: nn.Module, inputs: Tensor, mine: Floats) -> Floats:
    """The model's outputs ``[P, *shape]``, computed one by one: what it does to a batch is not asked."""
    outputs = []
    for one in inputs:
        with torch.no_grad(), AsFloat64():
            output = model(one[None].clone())
        _check_shape(model, output, (1, *mine.shape[1:]))
        outputs.append(output[0].numpy())
    return np.stack(outputs)


def _check_shape(model: nn.Module, output: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(output, Tensor) or tuple(output.shape) != shape:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UnsupportedModuleError(
            f"{type(model).__name__} returns {found}, its graph a tensor of shape {shape}; remove forward hooks that "
            "change outputs"
        )


def _before(
    model: nn.Module, inputs: Tensor, ending: Ending, read: list[tuple[Floats, Floats]]
) -> list[Floats]:
    """What the steps that rise get in the model, one array ``[P, *shape]`` for each of the ending's heads.

    Of all that it gives to such functions that which comes nearest to what was read.

    Raises:
        UnsupportedModuleError: the model returns something else than what its last steps make of it.
    """
    theirs, count = [], len(ending.heads)
    slack = max((float((_SLACK * e).max() + _SHARE * np.abs(v).max()) for v, e in read[count:]), default=0.0)
    for point, one in enumerate(inputs):
        with torch.no_grad(), AsFloat64(FINAL_METHODS) as watch:
            output = model(one[None].clone())
        calls = [_nearest(model, watch.seen, mine[point]) for mine, _ in read[:count]]
        ending.call = calls[0]
        numbers = [watch.seen[call] for call in calls]
        beside = [torch.from_numpy(mine[point])[None] for mine, _ in read[count:]]
        with torch.no_grad(), AsFloat64():
            last = ending.applied(
                dict(zip([*ending.heads, *ending.others], [*numbers, *beside], strict=True))
            )
        _check_shape(model, output, tuple(last.shape))
        if not torch.allclose(
            output.double(), last.double(), rtol=_SHARE, atol=_SHARE + slack, equal_nan=True
        ):
            raise UnsupportedModuleError(
                f"{type(model).__name__} returns other numbers than its last steps ({', '.join(ending.names)}) make "
                "of what they get; remove forward hooks that change outputs"
            )
        theirs.append([number[0].numpy() for number in numbers])
    return [np.stack(parts) for parts in zip(*theirs, strict=True)]


def _nearest(model: nn.Module, seen: list[Tensor], expected: Floats) -> int:
    """Which of the tensors comes nearest to the expected one."""
    alike = [number for number, tensor in enumerate(seen) if tensor.shape == (1, *expected.shape)]
    if not alike:
        _check_shape(model, seen[-1] if seen else None, (1, *expected.shape))
    gap = [float((seen[number] - torch.from_numpy(expected)).abs().max()) for number in alike]
    return alike[int(np.argmin(gap))]


def _check_finite(layout: Layout, result: Value) -> None:
    """Constants and weights of every node, so that the message can name the step."""
    for node in layout.nodes:
        weights = [link.weight if link.table is None else link.table for link in node.links]
        if not all(
            np.isfinite(part).all() for part in (node.const, node.slope, *weights) if part is not None
        ):
            raise UnsupportedModuleError(
                f"the step '{node.name}' has weights or constants that are not finite once norms and products are "
                "folded in; look for a negative variance, a division by zero, or a buffer that is not finite"
            )
    if not (np.isfinite(result.scale).all() and np.isfinite(result.shift).all()):
        raise UnsupportedModuleError(
            "the output is scaled or shifted by values that are not finite; look for a division by zero or a buffer"
        )


def _some_points(polygon: Floats) -> Floats:
    """Points ``[P, 2]`` strictly inside a convex polygon, the same ones each time."""
    generator = np.random.default_rng(0)
    middle = polygon.mean(axis=0)
    corner = generator.integers(len(polygon), size=_POINTS)
    shares = generator.dirichlet(np.ones(3), size=_POINTS)
    triangles = np.stack([np.tile(middle, (_POINTS, 1)), polygon[corner], polygon[corner - 1]], axis=1)
    return np.einsum("pk,pkc->pc", shares, triangles)


def _outputs(layout: Layout, result: Value, batch: Tensor) -> tuple[Floats, Floats]:
    """The output tensor for a batch ``[P, *input]``, and an estimate of its rounding error, both ``[P, *shape]``."""
    inputs = batch.flatten(1).numpy()
    passed, error = np.zeros((2, len(inputs), layout.size))
    for number, node in enumerate(layout.nodes):
        own = slice(node.first, node.first + node.size)
        if number == 0:
            passed[:, own] = inputs
            error[:, own] = _ROUNDING * np.abs(inputs)
        else:
            passed[:, own], error[:, own] = _node(node, passed, error)
    values, spread = passed[:, result.lanes], error[:, result.lanes]
    scaled = result.scale * values
    rounding = _ROUNDING * (np.abs(scaled) + np.abs(result.shift))
    return scaled + result.shift, np.abs(result.scale) * spread + rounding


def node_sums(node: Node, passed: Floats, error: Floats, share: Floats) -> tuple[Floats, Floats]:
    """What reaches a node's lanes ``[P, lanes]`` with its error: of its own sum in full, of its inputs as independent.

    Args:
        passed, error: of all lanes of the layout, ``[P, size]``.
        share: ``[P]`` how many times the constants are in the sums.
    """
    sums, sizes = np.multiply.outer(share, node.const), np.multiply.outer(np.abs(share), node.const_sizes())
    squares = np.zeros_like(sums)
    for link in node.links:
        if link.table is None:
            assert link.weight is not None
            table, row = link.weight.reshape(-1, 1), np.arange(len(link.source))
            start = link.cell * node.width + link.row
        else:
            table, row, start = link.table, link.row, link.cell * node.width
        _add(link.source, start, row, table, passed, error, sums, sizes, squares)
    return sums, _ROUNDING * sizes + np.sqrt(squares)


def _node(node: Node, passed: Floats, error: Floats) -> tuple[Floats, Floats]:
    """What a node passes on, and its error."""
    sums, spread = node_sums(node, passed, error, np.ones(len(passed)))
    if node.kind == LINEAR:
        return sums, spread
    if node.kind == MAX:
        return _largest(node, sums, spread)
    off = sums < -_SLACK * spread  # beyond doubt: nearer to the kink the model may see the unit active
    factor = np.where(off, np.abs(node.slope), np.maximum(1.0, np.abs(node.slope)))
    return np.where(sums > 0, sums, node.slope * sums), factor * spread


def _largest(node: Node, sums: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """The maximum of each cell in its first lane, which is the one that others read."""
    unused = np.arange(node.width) >= node.used[:, None]
    cells = np.where(unused, -np.inf, sums.reshape(len(sums), node.cells, node.width))
    result, error = np.zeros((2, *cells.shape))
    result[:, :, 0] = cells.max(axis=2)
    error[:, :, 0] = np.where(unused, 0.0, spread.reshape(cells.shape)).max(axis=2)
    return result.reshape(sums.shape), error.reshape(sums.shape)


# Not the engine's options: here numbers may be anything.
@njit(**OPTIONS | {"fastmath": False})
def _add(source, start, row, table, passed, error, sums, sizes, squares):  # type: ignore[no-untyped-def]
    """Add rows of the table, times what their sources pass on, at their places."""
    for m in range(len(source)):
        weights = table[row[m]]
        for point in range(len(passed)):
            value, spread = passed[point, source[m]], error[point, source[m]]
            if value == 0.0 and spread == 0.0:
                continue
            here = slice(start[m], start[m] + len(weights))
            total, size, square = sums[point, here], sizes[point, here], squares[point, here]
            for i in range(len(weights)):
                total[i] += weights[i] * value
            for i in range(len(weights)):
                size[i] += abs(weights[i] * value)
            for i in range(len(weights)):
                square[i] += (weights[i] * spread) ** 2
