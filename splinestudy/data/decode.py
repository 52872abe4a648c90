"""From the published files of a data set to arrays. Nothing is unpickled, no archive is extracted to disk."""

import gzip
import io
import json
import lzma
import tarfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from splinelib.errors import DataError
from splinestudy.data.arrays import Arrays

Files = Mapping[str, bytes]
SIDE = 32  # every data set is served with images of this height and width

CIFAR10_BINARY = (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin")
CIFAR10_PNG = (
    *(f"data_batch_{k}.png" for k in range(1, 6)),
    "test_batch.png",
    "train_lables.json",  # the package spells it so
    "test_lables.json",
)
CIFAR100_BINARY = ("train.bin", "test.bin")
IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

LARGEST = 2**27
"""Bytes that a published file has at most once it is unpacked (MNIST's images take 47 million)."""

_BROKEN = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)


def read_files(path: Path, wanted: Collection[str]) -> dict[str, bytes]:
    """Read the wanted files of a folder or a tar archive, at any depth, by their last name.

    A file ``name.gz`` stands for ``name`` and is decompressed. Files that are absent are left out.

    Raises:
        DataError: ``path`` cannot be read as what it is.
    """
    found = {}
    try:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.name.removesuffix(".gz") in wanted and file.is_file():
                    with open(file, "rb") as opened:
                        found[file.name] = _limited(opened, file.name)
        else:
            with tarfile.open(path) as archive:
                for member in archive:
                    name = Path(member.name).name
                    if name.removesuffix(".gz") in wanted and member.isfile():
                        found[name] = _limited(archive.extractfile(member), name)  # type: ignore[arg-type]
        return {
            n.removesuffix(".gz"): _limited(gzip.open(io.BytesIO(b)), n) if n.endswith(".gz") else b
            for n, b in found.items()
        }
    except _BROKEN as error:
        raise DataError(
            f"{path} cannot be read ({error}); delete it or put an intact copy in its place"
        ) from error


def _limited(file: IO[bytes] | gzip.GzipFile, name: str) -> bytes:
    """All that a file holds, unless that is more than any published one does."""
    content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise DataError(f"{name} has more than {LARGEST} bytes, so it is no published file; get it again")
    return content


def cifar10(files: Files) -> Arrays:
    """CIFAR-10 from the six binary files of the archive, or from the six wide PNG files of the package."""
    if all(name in files for name in CIFAR10_BINARY):
        parts = [_cifar_binary(files, name, label_bytes=1) for name in CIFAR10_BINARY]
        images, labels = [part[0] for part in parts], [part[1] for part in parts]
        return Arrays(np.concatenate(images[:5]), np.concatenate(labels[:5]), images[5], labels[5])
    _require(files, CIFAR10_PNG, "CIFAR-10")
    *train, test = (_rows_of_png(files[name], name) for name in CIFAR10_PNG[:6])
    train_labels, test_labels = (_json_labels(files[name], name) for name in CIFAR10_PNG[6:])
    return Arrays(np.concatenate(train), train_labels, test, test_labels)


def cifar100(files: Files) -> Arrays:
    """CIFAR-100 with its 100 fine labels, from ``train.bin`` and ``test.bin`` of the binary archive."""
    _require(files, CIFAR100_BINARY, "CIFAR-100")
    train, test = (_cifar_binary(files, name, label_bytes=2) for name in CIFAR100_BINARY)
    return Arrays(*train, *test)


def idx(files: Files) -> Arrays:
    """MNIST and its kin from four IDX files; 28x28 images get two rows or columns of zeros on every side."""
    _require(files, IDX, "IDX")
    arrays = [_idx_array(files[name], name) for name in IDX]
    padded = [_padded(images) for images in arrays[::2]]
    return Arrays(padded[0], arrays[1].astype(np.int64), padded[1], arrays[3].astype(np.int64))


def _require(files: Files, names: tuple[str, ...], what: str) -> None:
    if missing := [name for name in names if name not in files]:
        raise DataError(f"{what} files {', '.join(missing)} are missing; get the whole archive or folder")


def _cifar_binary(files: Files, name: str, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Records of one or two label bytes (the last one is wanted), then red, green and blue planes."""
    record = label_bytes + 3 * SIDE * SIDE
    content = np.frombuffer(files[name], dtype=np.uint8)
    if content.size == 0 or content.size % record:
        raise DataError(
            f"{name} has {content.size} bytes, no multiple of {record}; it is truncated, get it again"
        )
    rows = content.reshape(-1, record)
    images = np.ascontiguousarray(rows[:, label_bytes:]).reshape(-1, 3, SIDE, SIDE)
    return images, rows[:, label_bytes - 1].astype(np.int64)


def _rows_of_png(content: bytes, name: str) -> np.ndarray:
    """One image per row of the PNG: 1,024 RGB pixels, row by row."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.width != SIDE * SIDE or picture.height > 10_000:
                raise DataError(
                    f"{name} has {picture.width} x {picture.height} pixels instead of {SIDE * SIDE} a row and at most "
                    "10,000 rows; get it again"
                )
            pixels = np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, zlib.error) as error:
        raise DataError(f"{name} is not an intact PNG file ({error}); get it again") from error
    return np.ascontiguousarray(pixels.reshape(-1, SIDE, SIDE, 3).transpose(0, 3, 1, 2))


def _json_labels(content: bytes, name: str) -> np.ndarray:
    try:
        return np.array(json.loads(content), dtype=np.int64)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{name} is not a JSON list of labels ({error}); get it again") from error


def _idx_array(content: bytes, name: str) -> np.ndarray:
    """IDX of unsigned bytes: 0, 0, type 8, number of axes, their lengths as big-endian int32, content."""
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"{name} is not an IDX file of unsigned bytes; get it again")
    axes = content[3]
    start = 4 + 4 * axes
    shape = tuple(int.from_bytes(content[k : k + 4], "big") for k in range(4, start, 4))
    if len(content) != start + int(np.prod(shape)):
        raise DataError(f"{name} has {len(content)} bytes, its header promises another number; get it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _padded(images: np.ndarray) -> np.ndarray:
    rows, columns = (SIDE - images.shape[1]) // 2, (SIDE - images.shape[2]) // 2
    return np.pad(images, ((0, 0), (rows, rows), (columns, columns)))[:, None]
