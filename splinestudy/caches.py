"""Where generated files are kept, data sets and runs of one's own, and who may write them."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import SoftFileLease

from splinelib.files import file_errors

LEASE = 120.0
"""Seconds without a sign of life after which a lease of another machine is taken over."""


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


def lease(path: Path) -> SoftFileLease:
    """A lock for one of several processes, on any file system that creates files exclusively (flock is not needed).

    Its holder gives a sign of life every ``LEASE / 3`` seconds. Another process on the same machine takes it over as
    soon as the holder is dead, one on another machine once it has seen no sign for ``LEASE`` seconds.
    """
    with file_errors(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
    return SoftFileLease(path, lease_duration=LEASE)


@contextlib.contextmanager
def leased(path: Path) -> Iterator[None]:
    """Within the block this process alone holds the lease ``path``, for which it waits."""
    lock = lease(path)
    with file_errors(path, "written"):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
