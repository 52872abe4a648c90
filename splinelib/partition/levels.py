"""Where an output has a given value: exact segments within regions."""

from typing import Annotated, NamedTuple

import numpy as np

from splinelib.checks import Within, checked
from splinelib.errors import SettingError
from splinelib.partition.engine.layout import Floats, Ints
from splinelib.partition.partition import Partition


class LevelSet(NamedTuple):
    """Segments ``[S, 2, 2]`` in the slice's coordinates, larger values on the left, and the region ``[S]`` of each."""

    segments: Floats
    region: Ints


@checked
def level_set(
    partition: Partition, output: int = 0, level: Annotated[float, Within("(-inf, inf)")] = 0.0
) -> LevelSet:
    """Where one output of the network equals ``level``; along the rim of an area on which it does, the lower side.

    Raises:
        SettingError: the partition was computed without ``outputs=True``, its outputs are without the network's last
            steps (``partition.left_out``), or there is no such output.

    >>> import torch
    >>> from splinelib.partition import Slice2D, compute_partition
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    >>> where = Slice2D.axis_aligned()
    >>> found = level_set(compute_partition(model, where, outputs=True), level=0.1)
    >>> bool((abs(model(where.at(found.segments.reshape(-1, 2)).float()) - 0.1) < 1e-5).all())
    True
    """
    if partition.outputs is None:
        raise SettingError("this partition holds no outputs; compute it with outputs=True")
    if partition.left_out:
        raise SettingError(
            f"the outputs of this partition are without the network's last step ({partition.left_out}); compute that "
            "of the network without it, and give the level before it"
        )
    if not 0 <= output < partition.outputs.shape[1]:
        raise SettingError(
            f"output is {output}: the network has outputs 0 … {partition.outputs.shape[1] - 1}"
        )
    f = partition.outputs[partition.edge_region, output]
    value = (f[:, :2] * partition.vertices).sum(axis=1) + f[:, 2] - level
    end, above = partition.edge_end, value >= 0
    # A region's edges where the value changes sign are two: one down, one up.
    down, up = (np.flatnonzero((above != above[end]) & (above == side)) for side in (True, False))
    share = [(value[edges] / (value[edges] - value[end[edges]]))[:, None] for edges in (down, up)]
    points = [
        partition.vertices[edges] + part * (partition.vertices[end[edges]] - partition.vertices[edges])
        for edges, part in zip((down, up), share, strict=True)
    ]
    segments = np.stack(points, axis=1)
    kept = (segments[:, 0] != segments[:, 1]).any(axis=1)
    return LevelSet(segments[kept], partition.edge_region[down][kept])
