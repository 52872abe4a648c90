"""Partitions as vector drawings on given matplotlib axes, and as one HTML file to look around in.

Nothing is computed here. matplotlib is needed by what draws on axes, and imported when it does.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from splinelib.partition.decision import DecisionBoundary
from splinelib.partition.engine.layout import Floats
from splinelib.partition.partition import Partition

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Beyond this a vector file is slow to open, so the polygons (not the axes) become pixels in it.
MANY = 5_000


def draw_regions(
    axes: "Axes", partition: Partition, values: Floats | None = None, cmap: Any = "viridis"
) -> "Axes":
    """Fill every region by its value ``[R]``; without values by a colour that tells neighbours apart.

    The default colours follow the regions' keys, so a region keeps its colour in every picture of the network.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import Normalize

    if values is None:
        values, cmap = (partition.key >> np.uint64(40)) / 2.0**24, "Pastel1"
    scale = Normalize(float(np.min(values)), float(np.max(values)))
    sizes = np.diff(partition.offsets)
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        corners = partition.vertices[partition.offsets[members][:, None] + np.arange(size)]
        polygons = PolyCollection(list(corners), cmap=cmap, norm=scale, linewidths=0, antialiaseds=False)
        polygons.set_array(values[members])
        polygons.set_rasterized(len(sizes) > MANY)
        axes.add_collection(polygons)
    return set_frame(axes, partition)


def draw_edges(axes: "Axes", partition: Partition, colours: Any = None, linewidth: float = 0.6) -> "Axes":
    """Draw the boundary of every unit, in one colour for each layer, deep layers below shallow ones.

    Args:
        colours: one colour for each layer; by default the axes' colour cycle.
    """
    from matplotlib.collections import LineCollection

    layer = np.append(partition.unit_layer, -1)[partition.edge_unit]
    ends = np.stack([partition.vertices, partition.vertices[partition.edge_end]], axis=1)
    for number in reversed(range(len(partition.layers))):
        colour = f"C{number % 10}" if colours is None else colours[number]
        lines = LineCollection(
            list(ends[layer == number]), colors=[colour], linewidths=linewidth, capstyle="round"
        )
        lines.set_label(partition.layers[number].name)
        lines.set_rasterized(len(partition) > MANY)
        axes.add_collection(lines)
    return set_frame(axes, partition)


def draw_boundary(
    axes: "Axes", boundary: DecisionBoundary, colour: Any = "black", linewidth: float = 1.6
) -> "Axes":
    """Draw the decision boundary."""
    from matplotlib.collections import LineCollection

    axes.add_collection(
        LineCollection(list(boundary.segments), colors=[colour], linewidths=linewidth, capstyle="round")
    )
    return axes


def draw_partition(axes: "Axes", partition: Partition, title: str = "") -> "Axes":
    """Regions, the boundaries of all units and, if there is one, the decision boundary: the usual picture."""
    draw_regions(axes, partition)
    draw_edges(axes, partition, ["#555555"] * len(partition.layers), 0.4 if len(partition) < 3_000 else 0.15)
    if partition.boundary is not None:
        draw_boundary(axes, partition.boundary)
    axes.set(title=title, xticks=[], yticks=[])
    return axes


def set_frame(axes: "Axes", partition: Partition) -> "Axes":
    """Show the slice, and no more, with equal scales."""
    low, high = partition.slice.polygon.min(axis=0), partition.slice.polygon.max(axis=0)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal")
    return axes
