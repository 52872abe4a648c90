"""Partitions as files: NPZ, to read back, and JSON in the manner of GeoJSON, for other programs."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from splinelib.artifacts import atomic_path
from splinelib.errors import RecordError
from splinelib.partition.decision import DecisionBoundary
from splinelib.partition.partition import Partition
from splinelib.partition.program import UnitLayer
from splinelib.partition.slices import Slice2D

_ARRAYS = ("vertices", "offsets", "area", "key", "edge_lane", "edge_other", "lane_unit", "lane_key")
_OPTIONAL = ("codes", "outputs")
_BOUNDARY = ("segments", "classes", "region", "units", "along")
_FORMAT = "splinelib partition 1"


def save_partition(partition: Partition, path: Path | str) -> None:
    """Write everything to ``path`` (``.npz``), whole or not at all."""
    arrays = {name: getattr(partition, name) for name in _ARRAYS}
    arrays |= {name: getattr(partition, name) for name in _OPTIONAL if getattr(partition, name) is not None}
    for name in ("origin", "first", "second"):
        arrays[f"slice_{name}"] = getattr(partition.slice, name).numpy()
    arrays["slice_polygon"] = partition.slice.polygon
    if partition.boundary is not None:
        arrays |= {f"boundary_{name}": getattr(partition.boundary, name) for name in _BOUNDARY}
    meta = {"format": _FORMAT, "layers": [asdict(layer) for layer in partition.layers]}
    arrays["meta"] = np.array(json.dumps(meta))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def load_partition(path: Path | str) -> Partition:
    """Read what :func:`save_partition` wrote.

    Raises:
        RecordError: the file is not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
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
            # Files from before there were segments along units' boundaries hold four of the arrays.
            held = {name: arrays[f"boundary_{name}"] for name in _BOUNDARY if f"boundary_{name}" in arrays}
            boundary = DecisionBoundary(**held)
        fields = {name: arrays[name] for name in _ARRAYS} | {name: arrays.get(name) for name in _OPTIONAL}
        return Partition(slice=where, layers=layers, boundary=boundary, **fields)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise RecordError(f"{path} is not a saved partition ({error}); save it again") from error


def write_geojson(partition: Partition, path: Path | str) -> None:
    """Write regions as polygon features and the decision boundary as line features, whole or not at all.

    Coordinates are the slice's, not geographic. A region's properties are its number, key, area and the unit of each
    edge (-1 at the border).
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


def _feature(kind: str, coordinates: object, properties: dict[str, object]) -> str:
    geometry = {"type": kind, "coordinates": coordinates}
    return json.dumps({"type": "Feature", "properties": properties, "geometry": geometry})
