"""What each unit contributes to a partition, and what pruning does to it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splinelib.checks import NonNegative, check_fields, checked
from splinelib.errors import SettingError
from splinelib.partition.engine.layout import Floats, Ints
from splinelib.partition.partition import Partition
from splinelib.partition.topology import Topology

# Units vanish from a slice when the length left is rounding alone (a share of the slice's perimeter).
_NO_LENGTH = 1e-12


@checked
def boundary_length(partition: Partition) -> Floats:
    """Length of each unit's boundary within the slice, ``[units]``, in the slice's coordinates.

    Where the boundaries of several units coincide, the length is counted once, for one of them.

    >>> from splinelib.partition import Slice2D, compute_partition
    >>> boundary_length(compute_partition(nn.ReLU(), Slice2D.axis_aligned())).tolist()
    [2.0, 2.0]
    """
    unit = partition.edge_unit
    inner = unit >= 0
    return np.bincount(unit[inner], partition.edge_length[inner], partition.units) / 2


@checked
def bordering_regions(partition: Partition) -> Ints:
    """For each unit the number of regions with an edge on its boundary, ``[units]``.

    >>> from splinelib.partition import Slice2D, compute_partition
    >>> bordering_regions(compute_partition(nn.ReLU(), Slice2D.axis_aligned())).tolist()
    [4, 4]
    """
    unit = partition.edge_unit
    inner = unit >= 0
    pairs = np.unique(np.stack([unit[inner], partition.edge_region[inner]]), axis=1)
    return np.bincount(pairs[0], minlength=partition.units)


@checked
def region_statistics(partition: Partition) -> dict[str, NDArray[Any]]:
    """What can be said of each region, ``[R]`` by name, ready for a table.

    ``area``, ``sides``, ``perimeter``; ``roundness``, which is 4π area / perimeter² and 1 for a disc; and with
    ``outputs=True`` ``stretch``, the largest factor by which the network stretches a step of the slice there: the norm
    of its Jacobian ``outputs[:, :, :2]`` (that in the full input space is from :func:`region_map`).

    >>> import torch
    >>> from splinelib.partition import Slice2D, compute_partition
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU())
    >>> partition = compute_partition(model, Slice2D.axis_aligned())
    >>> sorted(region_statistics(partition))
    ['area', 'perimeter', 'roundness', 'sides']
    """
    perimeter = np.add.reduceat(partition.edge_length, partition.offsets[:-1])
    found = {"area": partition.area, "sides": np.diff(partition.offsets), "perimeter": perimeter}
    found["roundness"] = 4 * np.pi * partition.area / perimeter**2
    if partition.outputs is not None:
        found["stretch"] = np.linalg.norm(partition.outputs[:, :, :2], ord=2, axis=(1, 2))
    return found


@checked
def separated_pairs(partition: Partition, topology: Topology, unit: int) -> Ints:
    """The pairs of neighbouring regions ``[n, 2]`` that the boundary of ``unit`` separates, ascending.

    >>> from splinelib.partition import Slice2D, compute_partition, topology
    >>> partition = compute_partition(nn.ReLU(), Slice2D.axis_aligned())
    >>> separated_pairs(partition, topology(partition), unit=0).shape
    (2, 2)
    """
    if not 0 <= unit < partition.units:
        raise SettingError(f"unit {unit} does not exist; units are 0 … {partition.units - 1}")
    topology.check_of(partition)
    edges = np.flatnonzero((partition.edge_unit == unit) & (topology.twin >= 0))
    pairs = np.stack([partition.edge_region[edges], topology.neighbour[edges]], axis=1)
    return np.unique(np.sort(pairs, axis=1), axis=0)


@checked
def share_of_units_touching(partition: Partition) -> float:
    """Share of all units whose boundary meets the decision boundary within the slice (claim C3); NaN without units.

    Raises:
        SettingError: the partition was computed without ``boundary=True``.

    >>> from splinelib.partition import Slice2D, compute_partition
    >>> model = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
    >>> share = share_of_units_touching(compute_partition(model, Slice2D.axis_aligned(), boundary=True))
    >>> share in (0.0, 0.5, 1.0)
    True
    """
    if partition.boundary is None:
        raise SettingError("this partition holds no decision boundary; compute it with boundary=True")
    return len(partition.boundary.touching) / partition.units if partition.units else math.nan


@checked
def axis_parallel_share(partition: Partition, layer: int = 0, tolerance: NonNegative = 1e-9) -> float:
    """Share of a layer's boundary length that runs parallel to one of the slice's two axes; NaN without boundary.

    On an axis-aligned slice of the input this counts, for the first layer, the paper's claim that weight pruning
    turns boundaries parallel to an axis.

    Args:
        tolerance: largest angle to the axis, in radians; zeroed weights give exactly 0.

    >>> from splinelib.partition import Slice2D, compute_partition
    >>> axis_parallel_share(compute_partition(nn.ReLU(), Slice2D.axis_aligned()))
    1.0
    """
    unit = partition.edge_unit
    if not 0 <= layer < len(partition.layers):
        has = f"layers 0 … {len(partition.layers) - 1}" if partition.layers else "no layers of units"
        raise SettingError(f"layer is {layer}: the partition has {has}")
    first = partition.layers[layer].first
    chosen = (unit >= first) & (unit < first + partition.layers[layer].units)
    steps = np.abs(partition.vertices[partition.edge_end] - partition.vertices)[chosen]
    length = np.linalg.norm(steps, axis=1)
    parallel = steps.min(axis=1) <= tolerance * length
    return float(length[parallel].sum() / length.sum()) if length.sum() > 0 else float("nan")


@dataclass(frozen=True, eq=False)
class Change:
    """What became of a partition: region counts, the boundary length ``[units]`` of every unit before and after."""

    regions: tuple[int, int]
    length_before: Floats
    length_after: Floats
    vanished: NDArray[np.int64]
    appeared: NDArray[np.int64]

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def length_kept(self) -> float:
        """Total boundary length after, as a share of that before."""
        return float(self.length_after.sum() / self.length_before.sum())


@checked
def compare(before: Partition, after: Partition, kept: Ints | None = None) -> Change:
    """Compare the partitions of one slice by a network and its pruned version.

    Units whose boundary is gone are ``vanished``.

    Args:
        kept: ``[units after]`` for each unit of the pruned network which one it is of the other's, as
            :func:`kept_units` finds it; by default both have the same units. Units that were removed have no boundary.

    Raises:
        SettingError: the two networks have different units, or the partitions different slices.

    >>> import torch
    >>> from splinelib.partition import Slice2D, compute_partition, kept_units
    >>> from splinelib.pruning import remove_units
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> where, selection = Slice2D.axis_aligned(), {"0": [1, 5]}
    >>> smaller = remove_units(model, torch.zeros(1, 2), selection)
    >>> kept = kept_units(model, where, selection)
    >>> change = compare(compute_partition(model, where), compute_partition(smaller, where), kept)
    >>> kept.tolist(), set(change.vanished.tolist()) <= {1, 5}
    ([0, 2, 3, 4, 6, 7], True)
    """
    if not before.slice.same_as(after.slice):
        raise SettingError(
            "compare: the partitions are those of different slices; compute both on one Slice2D"
        )
    shapes = [[(layer.kind, layer.shape) for layer in p.layers] for p in (before, after)]
    if kept is None and shapes[0] != shapes[1]:
        raise SettingError(f"units {shapes[0]} before, {shapes[1]} after; say which were kept, by kept_units")
    lengths = boundary_length(before), boundary_length(after)
    if kept is not None:
        lengths = lengths[0], _in_place(lengths[1], kept, before.units)
    least = _NO_LENGTH * float(np.ptp(before.slice.polygon, axis=0).sum())
    present = [length > least for length in lengths]
    return Change(
        (len(before), len(after)),
        lengths[0],
        lengths[1],
        np.flatnonzero(present[0] & ~present[1]),
        np.flatnonzero(present[1] & ~present[0]),
    )


def _in_place(lengths: Floats, kept: Ints, units: int) -> Floats:
    """Lengths of the units that were kept at their old numbers, zero for the others."""
    if (
        kept.dtype.kind not in "iu"
        or kept.shape != lengths.shape
        or len(np.unique(kept)) != len(kept)
        or not ((kept >= 0) & (kept < units)).all()
    ):
        raise SettingError(
            f"kept names {len(kept)} units, the pruned network has {len(lengths)}; give each a different one of the "
            f"{units} units before"
        )
    found = np.zeros(units)
    found[kept] = lengths
    return found
