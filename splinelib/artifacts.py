"""Files that are either whole or absent: atomic writes, digests, and where caches live."""

import contextlib
import hashlib
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path


def cache_dir(variable: str, name: str) -> Path:
    """Folder for generated files: ``$variable`` if set, else ``splinelib/name`` in the user's cache folder.

    The folder is not created here.
    """
    if chosen := os.environ.get(variable):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "splinelib" / name


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
