"""Local complexity: how many units' boundaries cross a small ball around a point (Humayun et al., 2024)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.errors import SettingError
from splinelib.hooks import evaluating, tapped
from splinelib.partition import Partition, Slice2D, compute_partition

_BATCH = 256  # vertices in one forward pass: bounds memory, leaves the result as it is


def random_directions(shape: Sequence[int], count: int, seed: int) -> Tensor:
    """``count`` random orthonormal directions ``[count, *shape]``, float64, drawn with the seed."""
    size = int(np.prod(shape))
    if not 1 <= count <= size:
        raise SettingError(
            f"count is {count}: an input of {size} values has 1 to {size} orthonormal directions"
        )
    normals = torch.randn(size, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(normals).Q.T.reshape(count, *shape)


def local_complexity(model: nn.Module, inputs: Tensor, directions: Tensor, radius: float) -> Tensor:
    """For every input and layer of units, how many units change sign among the corners of a small cross-polytope.

    The corners around x are ``x ± radius · v`` for the orthonormal ``directions`` v: "Deep Networks Always Grok and
    Here is Why" (Humayun, Balestriero & Baraniuk, ICML 2024) takes this for the number of boundaries that cross the
    ball. In the first layer it is exactly the number of boundaries that cross the cross-polytope; in deeper ones a bent
    boundary may enter and leave between corners, so it is a lower bound (:func:`exact_local_complexity` counts all).

    Args:
        model: any network; its max pools do not count.
        inputs: ``[N, *input]`` on the model's device.
        directions: ``[P, *input]``.
        radius: in units of the inputs.

    Returns:
        int64 ``[N, layers]``, layers in execution order.

    Raises:
        SettingError: shapes do not fit, or the radius is not positive.
    """
    if inputs.shape[1:] != directions.shape[1:] or not radius > 0:
        raise SettingError(
            f"inputs {tuple(inputs.shape)}, directions {tuple(directions.shape)}, radius {radius}: give directions of "
            "the inputs' shape and a positive radius"
        )
    steps = radius * torch.cat([directions, -directions]).to(inputs)
    counts = []
    for chunk in inputs.split(max(1, _BATCH // len(steps))):
        corners = (chunk[:, None] + steps).flatten(0, 1)
        rows: list[Tensor] = []

        def observe(index: int, z: Tensor, number: int = len(chunk), rows: list[Tensor] = rows) -> None:
            active = (z > 0).reshape(number, len(steps), -1)
            rows.append((active.any(1) & ~active.all(1)).sum(1))

        with evaluating(model), tapped(observe):
            model(corners)
        counts.append(torch.stack(rows, dim=1))
    return torch.cat(counts)


def crossing_units(partition: Partition) -> dict[str, int]:
    """How many units of each layer have a boundary within the slice. Max pools are left out."""
    units = np.unique(partition.edge_unit)
    return {
        layer.name: int(((units >= layer.first) & (units < layer.first + layer.units)).sum())
        for layer in partition.layers
        if layer.pieces == 1
    }


def exact_local_complexity(
    model: nn.Module, point: Tensor, first: Tensor, second: Tensor, radius: float
) -> dict[str, int]:
    """Units of each layer whose boundary crosses the square with corners ``point ± radius · first, second``: exact.

    What :func:`local_complexity` estimates with these two directions. Errors as for
    :func:`splinelib.partition.compute_partition`.
    """
    corners = radius * np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    where = Slice2D(point, first, second, corners)
    return crossing_units(compute_partition(model, where, max_regions=100_000, threads=1))
