"""Partitions for other programs: NPZ, to read back, JSON in the manner of GeoJSON, and the graph of neighbours."""

import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splinelib.checks import check_memory, checked
from splinelib.errors import FileError, RecordError
from splinelib.files import atomic_path, file_errors
from splinelib.partition.decision import DecisionBoundary
from splinelib.partition.engine.unit_layers import UnitLayer
from splinelib.partition.partition import Partition
from splinelib.partition.slices import Slice2D
from splinelib.partition.topology import Topology

_ARRAYS = ("vertices", "offsets", "area", "key", "edge_lane", "edge_other", "lane_unit", "lane_key")
_OPTIONAL = ("codes", "outputs")
_BOUNDARY = ("segments", "classes", "region", "units", "along")
_FORMAT = "splinelib partition 1"


@checked
def save_partition(partition: Partition, path: Path | str) -> None:
    """Write everything to ``path`` (``.npz``), whole or not at all.

    >>> import tempfile
    >>> from splinelib.partition import Slice2D, compute_partition
    >>> path = f"{tempfile.mkdtemp()}/cross.npz"
    >>> save_partition(compute_partition(nn.ReLU(), Slice2D.axis_aligned()), path)
    >>> len(load_partition(path))
    4
    """
    arrays = {name: getattr(partition, name) for name in _ARRAYS}
    arrays |= {name: getattr(partition, name) for name in _OPTIONAL if getattr(partition, name) is not None}
    for name in ("origin", "first", "second"):
        arrays[f"slice_{name}"] = getattr(partition.slice, name).numpy()
    arrays["slice_polygon"] = partition.slice.polygon
    if partition.boundary is not None:
        arrays |= {f"boundary_{name}": getattr(partition.boundary, name) for name in _BOUNDARY}
    layers = [asdict(layer) for layer in partition.layers]
    meta = {"format": _FORMAT, "layers": layers, "left_out": partition.left_out}
    arrays["meta"] = np.array(json.dumps(meta))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


@checked
def load_partition(path: Path | str) -> Partition:
    """Read what :func:`save_partition` wrote.

    Raises:
        RecordError: the file is not such a file, or would not fit memory.
        FileError: it cannot be read.

    >>> import tempfile
    >>> from splinelib.partition import Slice2D, compute_partition
    >>> path = f"{tempfile.mkdtemp()}/cross.npz"
    >>> save_partition(compute_partition(nn.ReLU(), Slice2D.axis_aligned()), path)
    >>> load_partition(path).area.tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    try:
        with file_errors(path, "read"), open(path, "rb") as opened:
            with zipfile.ZipFile(opened) as archive:  # which reads no more of a member than it says here
                check_memory(str(path), sum(member.file_size for member in archive.infolist()))
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as file:
                arrays = dict(file)
        meta = json.loads(str(arrays["meta"]))
        if meta["format"] != _FORMAT:
            raise ValueError(f"format is {meta['format']!r}")
        layers = tuple(UnitLayer(**{**layer, "shape": tuple(layer["shape"])}) for layer in meta["layers"])
        origin, first, second = (
            torch.from_numpy(arrays[f"slice_{n}"]) for n in ("origin", "first", "second")
        )
        where = Slice2D(origin, first, second, arrays["slice_polygon"])
        boundary = None
        if "boundary_segments" in arrays:
            boundary = DecisionBoundary(**{name: arrays[f"boundary_{name}"] for name in _BOUNDARY})
        fields = {name: arrays[name] for name in _ARRAYS} | {name: arrays.get(name) for name in _OPTIONAL}
        partition = Partition(
            slice=where, layers=layers, boundary=boundary, left_out=meta["left_out"], **fields
        )
        _check(partition)
        return partition
    except (FileNotFoundError, FileError):
        raise
    except Exception as error:
        raise RecordError(f"{path} is not a saved partition ({error}); save it again") from error


def _check(partition: Partition) -> None:
    """Raise ValueError unless shapes, types and numbers fit together: compiled code reads the arrays unchecked."""
    p, regions, corners, lanes = (
        partition,
        len(partition.area),
        len(partition.vertices),
        len(partition.lane_unit),
    )
    kinds = {
        "vertices": ("f8", (corners, 2)), "offsets": ("i8", (regions + 1,)), "area": ("f8", (regions,)),
        "key": ("u8", (regions,)), "edge_lane": ("i4", (corners,)), "lane_unit": ("i4", (lanes,)),
        "lane_key": ("u8", (lanes,)), "edge_other": ("i4", (corners if len(p.edge_other) else 0,)),
    }  # fmt: skip
    for name, (kind, shape) in kinds.items():
        _fits(name, getattr(p, name), kind, shape)
    steps = np.diff(p.offsets)
    _demand(
        regions > 0 and p.offsets[0] == 0 and p.offsets[-1] == corners, "offsets do not span the vertices"
    )
    _demand(bool((steps >= 3).all()), "a region has fewer than three corners")
    _demand(
        bool(np.isfinite(p.vertices).all() and np.isfinite(p.area).all()), "corners or areas are not finite"
    )
    for name in ("edge_lane", "edge_other"):
        _within(name, getattr(p, name), lanes)
    _within("lane_unit", p.lane_unit, p.units)
    first = np.cumsum([0, *(layer.units for layer in p.layers)])[:-1]
    _demand(
        [layer.first for layer in p.layers] == first.tolist(),
        "the layers' first units do not follow one another",
    )
    bits = sum(layer.units * layer.pieces for layer in p.layers)
    if p.codes is not None:
        _fits("codes", p.codes, "u8", (regions, (bits + 63) // 64))
    if p.outputs is not None:
        _fits("outputs", p.outputs, "f8", (regions, p.outputs.shape[1] if p.outputs.ndim > 1 else 0, 3))
    if p.boundary is not None:
        _check_boundary(p)


def _check_boundary(partition: Partition) -> None:
    boundary = partition.boundary
    assert boundary is not None
    count = len(boundary.segments)
    shapes = {"classes": (count, 2), "region": (count,), "units": (count, 2), "along": (count,)}
    _fits("boundary_segments", boundary.segments, "f8", (count, 2, 2))
    for name, shape in shapes.items():
        _fits(f"boundary_{name}", getattr(boundary, name), "i8", shape)
    _demand(bool(np.isfinite(boundary.segments).all()), "boundary_segments are not finite")
    _within("boundary_region", boundary.region, len(partition), least=0)
    _within("boundary_units", boundary.units, partition.units, least=-2)
    _within("boundary_along", boundary.along, partition.units)


def _fits(name: str, array: np.ndarray, kind: str, shape: tuple[int, ...]) -> None:
    found = (array.dtype.str[1:], array.shape)
    _demand(found == (kind, shape), f"{name} has type and shape {found} instead of {(kind, shape)}")


def _within(name: str, array: np.ndarray, stop: int, least: int = -1) -> None:
    inside = not array.size or (array.min() >= least and array.max() < stop)
    _demand(bool(inside), f"{name} holds numbers outside of {least} … {stop - 1}")


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


@checked
def write_geojson(partition: Partition, path: Path | str) -> None:
    """Write regions as polygon features and the decision boundary as line features, whole or not at all.

    Coordinates are the slice's, not geographic. A region's properties are its number, key, area and the unit of each
    edge (-1 at the border).

    >>> import json, pathlib, tempfile
    >>> from splinelib.partition import Slice2D, compute_partition
    >>> path = f"{tempfile.mkdtemp()}/cross.geojson"
    >>> write_geojson(compute_partition(nn.ReLU(), Slice2D.axis_aligned()), path)
    >>> len(json.loads(pathlib.Path(path).read_text())["features"])
    4
    """
    unit = partition.edge_unit
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        separator = "\n"
        for region in range(len(partition)):
            start, stop = partition.offsets[region], partition.offsets[region + 1]
            ring = partition.vertices[start:stop].tolist()
            properties = {
                "region": region,
                "key": f"{int(partition.key[region]):016x}",
                "area": float(partition.area[region]),
                "edge_units": unit[start:stop].tolist(),
            }
            file.write(separator + _feature("Polygon", [[*ring, ring[0]]], properties))
            separator = ",\n"
        for line in partition.boundary.polylines() if partition.boundary is not None else ():
            properties = {"classes": list(line.classes), "units": line.units.tolist()}
            file.write(separator + _feature("LineString", line.points.tolist(), properties))
            separator = ",\n"
        file.write("\n]}\n")


@checked
def dual_graph(partition: Partition, topology: Topology) -> Any:
    """The regions as nodes of a ``networkx.Graph``, with an edge between every two that share a side.

    Nodes are region numbers with ``area`` and ``centre``, the centroid (s, t). Edges have ``length``, that of the
    common sides, and ``units``, on whose boundaries these lie. Needs networkx.

    >>> from splinelib.partition import Slice2D, compute_partition, topology
    >>> partition = compute_partition(nn.ReLU(), Slice2D.axis_aligned())
    >>> graph = dual_graph(partition, topology(partition))
    >>> graph.number_of_nodes(), graph.number_of_edges()
    (4, 4)
    """
    import networkx

    topology.check_of(partition)
    graph, centres = networkx.Graph(), partition.centroids().tolist()
    for region, (area, centre) in enumerate(zip(partition.area.tolist(), centres, strict=True)):
        graph.add_node(region, area=area, centre=tuple(centre))
    inner = np.flatnonzero(topology.neighbour > partition.edge_region)
    columns = (partition.edge_region, topology.neighbour, partition.edge_unit, partition.edge_length)
    for here, there, unit, length in zip(*(column[inner].tolist() for column in columns), strict=True):
        if not graph.has_edge(here, there):
            graph.add_edge(here, there, units=[], length=0.0)
        edge = graph.edges[here, there]
        edge["units"] = sorted({*edge["units"], unit})
        edge["length"] += length
    return graph


def _feature(kind: str, coordinates: object, properties: dict[str, object]) -> str:
    geometry = {"type": kind, "coordinates": coordinates}
    return json.dumps({"type": "Feature", "properties": properties, "geometry": geometry})
