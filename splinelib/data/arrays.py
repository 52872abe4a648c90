"""The four arrays of a data set, their digest, and the one file that holds them.

The file has the safetensors layout (eight bytes of length, a JSON header, raw little-endian arrays): it loads
without unpickling anything, as fast as the disk gives it, and other tools can open it.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from splinelib.artifacts import atomic_path, sha256_of
from splinelib.errors import DataError

_TYPES = {"uint8": "U8", "int64": "I64"}
_SOFT_HEADER_LIMIT = 100_000_000  # bytes; a longer header can only come from a damaged length field


class Arrays(NamedTuple):
    """Decoded arrays: images uint8 ``[N, C, H, W]``, labels int64 ``[N]``."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def digest(arrays: Arrays) -> str:
    """SHA-256 over dtype, shape and content of the four arrays, in their order."""
    chunks: list[bytes | memoryview] = []
    for array in arrays:
        chunks.append(f"{array.dtype} {array.shape}\n".encode())
        chunks.append(np.ascontiguousarray(array).data.cast("B"))  # a view, not a copy
    return sha256_of(*chunks)


def write_arrays(path: Path, arrays: Arrays, class_names: tuple[str, ...]) -> None:
    """Write the file atomically, with a digest of arrays and class names in its header."""
    classes = json.dumps(class_names)
    check = sha256_of(digest(arrays).encode(), classes.encode())
    header: dict[str, object] = {"__metadata__": {"sha256": check, "classes": classes}}
    start = 0
    for name, array in arrays._asdict().items():
        span = [start, start + array.nbytes]
        header[name] = {"dtype": _TYPES[str(array.dtype)], "shape": list(array.shape), "data_offsets": span}
        start += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays:
            np.ascontiguousarray(array).tofile(file)


def read_arrays(path: Path, expected: str | None = None) -> tuple[Arrays, tuple[str, ...]]:
    """Read a file of :func:`write_arrays` and check it against its digest.

    Args:
        path: The file.
        expected: The digest that the arrays must have besides; None where none is known.

    Returns:
        The arrays and the names of the classes.

    Raises:
        DataError: The file is truncated, altered or of another kind; the message says which.
    """
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _SOFT_HEADER_LIMIT:
                raise ValueError("its header is unreadable")
            header = json.loads(file.read(length))
            start, size = 8 + length, path.stat().st_size
            entries = {name: header[name] for name in Arrays._fields}
            needed = start + max(entry["data_offsets"][1] for entry in entries.values())
            if size != needed:
                raise ValueError(f"it has {size} bytes instead of {needed}")
            arrays = Arrays(**{name: _read_one(file, start, entry) for name, entry in entries.items()})
        stored, classes = header["__metadata__"]["sha256"], header["__metadata__"]["classes"]
        class_names = tuple(json.loads(classes))
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}; delete it, it will be fetched again") from error
    found = digest(arrays)
    # The class names are part of the stored digest, so that no byte of the file can change unseen.
    if sha256_of(found.encode(), classes.encode()) != stored or expected not in (None, found):
        raise DataError(
            f"{path} is damaged: its arrays have SHA-256 {found}, not that of the data set; "
            "delete it, it will be fetched again"
        )
    return arrays, class_names


def _read_one(file, start: int, entry: dict) -> np.ndarray:  # type: ignore[no-untyped-def]
    dtype = {text: name for name, text in _TYPES.items()}[entry["dtype"]]
    first, last = entry["data_offsets"]
    file.seek(start + first)
    count = (last - first) // np.dtype(dtype).itemsize
    return np.fromfile(file, dtype=np.dtype(dtype).newbyteorder("<"), count=count).reshape(entry["shape"])
