"""A partition as one HTML file to look around in: zoom, and what is known of the region under the pointer."""

import base64
import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from splinelib.checks import checked
from splinelib.files import atomic_path
from splinelib.partition.partition import Partition


@checked
def write_html(partition: Partition, path: Path | str, title: str = "Partition") -> None:
    """Write a page that needs nothing else, neither a server nor other files; whole or not at all.

    It shows regions and decision boundary, and for the region under the pointer its area, and its code and affine map
    if the partition holds them (``codes=True``, ``outputs=True``). It takes about 100 bytes for each region, and these.

    >>> import tempfile
    >>> from splinelib.partition import Slice2D, compute_partition
    >>> write_html(compute_partition(nn.ReLU(), Slice2D.axis_aligned()), f"{tempfile.mkdtemp()}/cross.html")
    """
    low, high = partition.slice.polygon.min(axis=0), partition.slice.polygon.max(axis=0)
    middle, half = (low + high) / 2, float((high - low).max()) / 2
    # Pastel colours that follow the regions' keys.
    shades = (partition.key[:, None] >> np.array([16, 32, 48], dtype=np.uint64)).astype(np.uint8)
    arrays = {
        "vertices": ((partition.vertices - middle) / half).astype("<f4"),
        "offsets": partition.offsets.astype("<i4"),
        "colours": (175 + shades // 4).astype(np.uint8),
        "areas": partition.area.astype("<f8"),
    }
    if partition.codes is not None:
        arrays["codes"] = partition.codes.astype("<u8").view(np.uint8)
    if partition.outputs is not None:
        arrays["outputs"] = partition.outputs.astype("<f8")
    if partition.boundary is not None:
        arrays["segments"] = ((partition.boundary.segments - middle) / half).astype("<f4")
    data: dict[str, Any] = {
        name: base64.b64encode(array.tobytes()).decode() for name, array in arrays.items()
    }
    data["layers"] = [(layer.name, layer.units * layer.pieces) for layer in partition.layers]
    page = files("splinelib.partition").joinpath("viewer.html").read_text(encoding="utf-8")
    page = page.replace("TITLE", html.escape(title))
    # In a script "<" could end it; in JSON it may be written like this.
    page = page.replace("DATA", json.dumps(data).replace("<", "\\u003c"), 1)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
