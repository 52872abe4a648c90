"""What different criteria choose, how far they agree, and what each choice removes from a slice."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from splinelib.partition import Partition, Slice2D, compare, compute_partition
from splinelib.pruning.surgery import Selection, mask_units


def jaccard(first: Selection, second: Selection) -> float:
    """Units in both selections as a share of those in either, all layers together; 1 for two empty ones."""
    pairs = [{(name, unit) for name, units in chosen.items() for unit in units} for chosen in (first, second)]
    union = pairs[0] | pairs[1]
    return len(pairs[0] & pairs[1]) / len(union) if union else 1.0


def jaccard_matrix(selections: Mapping[str, Selection]) -> np.ndarray:
    """:func:`jaccard` of every two selections, ``[n, n]`` in the mapping's order."""
    chosen = list(selections.values())
    return np.array([[jaccard(first, second) for second in chosen] for first in chosen])


def slice_effect(
    model: nn.Module,
    example_inputs: Tensor,
    selection: Selection,
    before: Partition,
    max_regions: int = 1_000_000,
) -> dict[str, float]:
    """What masking a selection does to the partition of a slice.

    Args:
        model: the network that ``before`` was computed from, in eval mode.
        before: the partition of the slice by the whole network.

    Returns:
        regions and length: the shares of regions, and of boundary length, that are gone (below 0 where there are more
        afterwards, since the boundaries of deeper layers move).
    """
    masked = mask_units(model, example_inputs, selection).eval()
    after = compute_partition(masked, before.slice, max_regions=max_regions, threads=1)
    change = compare(before, after)
    return {"regions": 1 - change.regions[1] / change.regions[0], "length": 1 - change.length_kept}


def region_summary(partition: Partition, points: np.ndarray) -> dict[str, float]:
    """Regions of a slice in numbers.

    Args:
        points: places of data on the slice, ``[N, 2]``, inside it.

    Returns:
        regions; area_median and area_spread (quartile distance of log10 of the area as a share of the slice);
        nearest: mean distance from the points to the nearest boundary, in the slice's coordinates (NaN without points).
    """
    shares = np.log10(np.maximum(partition.area, 1e-300) / partition.slice.area)
    low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75])
    distances = [nearest_boundary(partition, point) for point in points]
    return {
        "regions": float(len(partition)),
        "area_median": float(middle),
        "area_spread": float(high - low),
        "nearest": float(np.mean(distances)) if distances else float("nan"),
    }


def nearest_boundary(partition: Partition, point: Sequence[float] | np.ndarray) -> float:
    """Distance from a place ``[2]`` on the slice to the nearest boundary of a unit, infinite where there is none.

    Neither the slice's border counts nor max pools: equal pixels put a data point onto a boundary of these.
    """
    pools = np.repeat(
        [layer.pieces > 1 for layer in partition.layers], [layer.units for layer in partition.layers]
    )
    inner = (partition.edge_unit >= 0) & ~np.append(pools, True)[partition.edge_unit]
    if not inner.any():
        return float("inf")
    start = partition.vertices[inner]
    step = partition.vertices[partition.edge_end][inner] - start
    offset = np.asarray(point, dtype=float) - start
    along = ((offset * step).sum(1) / np.maximum((step**2).sum(1), 1e-300)).clip(0, 1)
    return float(np.linalg.norm(offset - along[:, None] * step, axis=1).min())


def effects_table(
    model: nn.Module,
    example_inputs: Tensor,
    selections: Mapping[str, Selection],
    windows: Sequence[Slice2D],
    max_regions: int = 1_000_000,
) -> list[dict[str, object]]:
    """:func:`slice_effect` of every selection, mean over windows: rows with criterion, regions, length."""
    before = [compute_partition(model, window, max_regions=max_regions, threads=1) for window in windows]
    rows: list[dict[str, object]] = []
    for name, selection in selections.items():
        effects = [slice_effect(model, example_inputs, selection, part, max_regions) for part in before]
        means = {key: float(np.mean([effect[key] for effect in effects])) for key in ("regions", "length")}
        rows.append({"criterion": name, **means})
    return rows
