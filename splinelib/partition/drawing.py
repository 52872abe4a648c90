"""Partitions as vector drawings on given matplotlib axes.

Nothing is computed here. matplotlib is needed by what draws on axes, and imported when it does.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from splinelib.checks import NonNegative, check, checked, shown
from splinelib.errors import SettingError
from splinelib.partition.decision import DecisionBoundary
from splinelib.partition.engine.layout import Floats
from splinelib.partition.engine.points import as_numbers
from splinelib.partition.partition import Partition

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any  # looked at when matplotlib is there

# Beyond this a vector file is slow to open, so the polygons (not the axes) become pixels in it.
MANY = 5_000


@checked
def draw_regions(
    axes: Axes, partition: Partition, values: Floats | None = None, cmap: Any = "viridis"
) -> Axes:
    """Fill every region by its value ``[R]``; without values by a colour that tells neighbours apart.

    The default colours follow the regions' keys, so a region keeps its colour in every picture of the network.

    >>> import matplotlib.pyplot as plt
    >>> from splinelib.partition import Slice2D, compute_partition
    >>> axes = draw_regions(plt.figure().add_subplot(), compute_partition(nn.ReLU(), Slice2D.axis_aligned()))
    >>> plt.close("all")
    """
    from matplotlib import colormaps
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import Normalize

    _check_axes(axes)
    if values is None:
        values, cmap = (partition.key >> np.uint64(40)) / 2.0**24, "Pastel1"
    values, cmap = as_numbers("values", values, len(partition)), _known("cmap", colormaps.get_cmap, cmap)
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


@checked
def draw_edges(axes: Axes, partition: Partition, colours: Any = None, linewidth: NonNegative = 0.6) -> Axes:
    """Draw the boundary of every unit, in one colour for each layer, deep layers below shallow ones.

    Args:
        colours: one colour for each layer; by default the axes' colour cycle.

    >>> import matplotlib.pyplot as plt
    >>> from splinelib.partition import Slice2D, compute_partition
    >>> axes = draw_edges(plt.figure().add_subplot(), compute_partition(nn.ReLU(), Slice2D.axis_aligned()))
    >>> plt.close("all")
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba_array

    _check_axes(axes)
    if colours is None:
        colours = [f"C{number % 10}" for number in range(len(partition.layers))]
    rgba = _known("colours", to_rgba_array, colours)
    if len(rgba) != len(partition.layers):
        raise SettingError(
            f"colours are {len(rgba)}: give one for each of the {len(partition.layers)} layers"
        )
    layer = np.append(partition.unit_layer, -1)[partition.edge_unit]
    ends = np.stack([partition.vertices, partition.vertices[partition.edge_end]], axis=1)
    for number in reversed(range(len(partition.layers))):
        lines = LineCollection(
            list(ends[layer == number]), colors=rgba[[number]], linewidths=linewidth, capstyle="round"
        )
        lines.set_label(partition.layers[number].name)
        lines.set_rasterized(len(partition) > MANY)
        axes.add_collection(lines)
    return set_frame(axes, partition)


@checked
def draw_boundary(
    axes: Axes, boundary: DecisionBoundary, colour: Any = "black", linewidth: NonNegative = 1.6
) -> Axes:
    """Draw the decision boundary.

    >>> import matplotlib.pyplot as plt
    >>> from splinelib.partition import Slice2D, compute_partition
    >>> partition = compute_partition(nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), Slice2D.axis_aligned(), boundary=True)
    >>> axes = draw_boundary(plt.figure().add_subplot(), partition.boundary)
    >>> plt.close("all")
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    _check_axes(axes)
    colour = _known("colour", to_rgba, colour)
    axes.add_collection(
        LineCollection(list(boundary.segments), colors=[colour], linewidths=linewidth, capstyle="round")
    )
    return axes


@checked
def draw_partition(axes: Axes, partition: Partition, title: str = "") -> Axes:
    """Regions, the boundaries of all units and, if there is one, the decision boundary: the usual picture.

    >>> import matplotlib.pyplot as plt
    >>> from splinelib.partition import Slice2D, compute_partition
    >>> axes = draw_partition(plt.figure().add_subplot(), compute_partition(nn.ReLU(), Slice2D.axis_aligned()))
    >>> plt.close("all")
    """
    draw_regions(axes, partition)
    draw_edges(axes, partition, ["#555555"] * len(partition.layers), 0.4 if len(partition) < 3_000 else 0.15)
    if partition.boundary is not None:
        draw_boundary(axes, partition.boundary)
    axes.set(title=title, xticks=[], yticks=[])
    return axes


def set_frame(axes: Axes, partition: Partition) -> Axes:
    """Show the slice, and no more, with equal scales."""
    low, high = partition.slice.polygon.min(axis=0), partition.slice.polygon.max(axis=0)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal")
    return axes


def _check_axes(axes: Any) -> None:
    import matplotlib.axes

    check("axes", axes, matplotlib.axes.Axes)


def _known(name: str, read: Callable[[Any], Any], value: Any) -> Any:
    """What matplotlib reads a colour or a map of colours as."""
    try:
        return read(value)
    except (TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        raise SettingError(f"{name} is {shown(value)}: matplotlib knows none such ({error})") from error
