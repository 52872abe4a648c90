"""The affine map of a region in the full input space."""

import torch
from torch import Tensor, nn

from splinelib.checks import checked
from splinelib.errors import SettingError
from splinelib.partition.engine.as_float64 import AsFloat64
from splinelib.partition.engine.ending import check_order
from splinelib.partition.engine.handlers import FINAL_METHODS
from splinelib.partition.engine.reader import frozen_copy, read_layout
from splinelib.partition.partition import Partition


@checked
def region_map(model: nn.Module, partition: Partition, region: int) -> tuple[Tensor, Tensor]:
    """``(A, b)`` with ``f(x) = A x + b`` on the region that ``partition`` shows a slice of; the theory's ``A_ω, b_ω``.

    As for ``partition.outputs`` a last softmax or sigmoid of ``f`` is left out.

    Args:
        model: the network that ``partition`` was computed from; it is not changed.

    Returns:
        ``A [K, *input]`` and ``b [K]``, float64: the derivative at the region's centre of gravity, where no unit
        is at its kink.

    >>> from splinelib.partition import Slice2D, compute_partition
    >>> partition = compute_partition(nn.ReLU(), Slice2D.axis_aligned())
    >>> (region,) = partition.locate([[0.5, -0.5]])
    >>> region_map(nn.ReLU(), partition, int(region))[0].tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    frozen = frozen_copy(model)
    partition.polygon(region)  # which says so if there is no such region
    point = partition.slice.at(partition.centroids()[region][None])[0]
    ending = read_layout(model, partition.slice.plane).ending
    check_order(ending)

    def scores(x: Tensor) -> Tensor:
        with AsFloat64(() if ending is None else FINAL_METHODS) as watch:
            output: Tensor = frozen(x[None])
        return output[0] if ending is None else ending.picked(watch.seen[ending.call])[0]

    try:
        matrix = torch.func.jacrev(scores)(point)
        bias = scores(point) - matrix.flatten(1) @ point.flatten()
    except Exception as error:
        raise SettingError(
            f"model is a {type(model).__name__} without scores [K] at the partition's inputs; give the one that it was "
            f"computed from ({error})"
        ) from error
    return matrix, bias
