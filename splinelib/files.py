"""Files that are either whole or absent: atomic writes, digests, and reading without unpickling."""

import contextlib
import hashlib
import os
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from splinelib.errors import RecordError


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, delete it on any exception.

    A reader sees the old file or the whole new one, never a part, also after the process is killed
    (what is then left behind is a hidden ``.name.*.tmp`` file that nothing reads).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix of the target stays last, since some writers (numpy, PIL) choose the format by it.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(*chunks: bytes | memoryview) -> str:
    """Hexadecimal SHA-256 of the chunks, taken as one sequence of bytes."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def load_tensors(path: Path) -> dict[str, Any]:
    """A file written by ``torch.save``, read without unpickling anything but tensors and plain values, on the CPU.

    Raises :class:`RecordError` naming the file if it is damaged; the check sums in the file are compared, which
    ``torch.load`` does not do.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if member := archive.testzip():
                raise zipfile.BadZipFile(f"check sum of {member} is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds: zip, pickle, end of file, key
        raise RecordError(
            f"{path} cannot be read ({type(error).__name__}): delete it to compute it anew"
        ) from error
    if not isinstance(content, dict):
        raise RecordError(f"{path} holds a {type(content).__name__} where a dict was expected: delete it")
    return content
