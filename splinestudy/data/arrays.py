"""The four arrays of a data set, their digest, and the one file that holds them.

The file has the safetensors layout (eight bytes of length, a JSON header, raw little-endian arrays): it loads
without unpickling anything, as fast as the disk gives it, and other tools can open it.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from splinelib.checks import check_memory
from splinelib.errors import DataError
from splinelib.files import atomic_path, file_errors, sha256_of

_TYPES = {"uint8": "U8", "int64": "I64"}
_LONGEST_HEADER = 10_000_000  # bytes; a greater length can only come from damage


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
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(_header(arrays, class_names, digest(arrays)))
        for array in arrays:
            np.ascontiguousarray(array).tofile(file)


def read_arrays(path: Path, expected: str | None = None) -> tuple[Arrays, tuple[str, ...]]:
    """Read a file of :func:`write_arrays` and check every byte of it.

    Args:
        path: The file.
        expected: The digest that the arrays must have besides; None where none is known.

    Returns:
        The arrays and the names of the classes.

    Raises:
        FileNotFoundError: There is no such file.
        FileError: It cannot be read.
        DataError: The file is truncated, altered or of another kind; the message says which.
    """
    try:
        with file_errors(path, "read"), open(path, "rb") as file:
            length = file.read(8)
            header = file.read(min(int.from_bytes(length, "little"), _LONGEST_HEADER))
            fields = json.loads(header)
            kinds = [_kind(fields[name]) for name in Arrays._fields]
            needed = (
                8 + len(header) + sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in kinds)
            )
            if (size := path.stat().st_size) != needed:
                raise ValueError(f"it has {size} bytes instead of {needed}")
            check_memory(str(path), needed)
            arrays = Arrays(
                *(np.fromfile(file, dtype, math.prod(shape)).reshape(shape) for dtype, shape in kinds)
            )
        class_names = tuple(json.loads(fields["__metadata__"]["classes"]))
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error!r}); it must be fetched again") from error
    found = digest(arrays)
    if _header(arrays, class_names, found) != length + header or expected not in (None, found):
        raise DataError(f"{path} is damaged (its arrays have SHA-256 {found}); it must be fetched again")
    return arrays, class_names


def _header(arrays: Arrays, class_names: tuple[str, ...], arrays_sha256: str) -> bytes:
    """Length and JSON header; every byte of the file follows from the arguments, none can change unseen."""
    classes = json.dumps(class_names)
    check = sha256_of(arrays_sha256.encode(), classes.encode())
    header: dict[str, object] = {"__metadata__": {"sha256": check, "classes": classes}}
    start = 0
    for name, array in arrays._asdict().items():
        span = [start, start + array.nbytes]
        header[name] = {"dtype": _TYPES[str(array.dtype)], "shape": list(array.shape), "data_offsets": span}
        start += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _kind(field: dict) -> tuple[str, tuple[int, ...]]:
    """The dtype and shape of an array, from its field of the header."""
    dtype = {code: name for name, code in _TYPES.items()}[field["dtype"]]
    shape = tuple(field["shape"])
    if not all(isinstance(axis, int) and axis >= 0 for axis in shape):
        raise ValueError(f"shape {shape}")
    return dtype, shape
