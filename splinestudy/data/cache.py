"""One file per data set that is either read and checked, or made anew."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from splinelib.errors import DataError
from splinestudy.data.arrays import Arrays, read_arrays, write_arrays

log = logging.getLogger(__name__)

Named = tuple[Arrays, tuple[str, ...]]  # arrays and the names of their classes


def cache_path(name: str, root: Path) -> Path:
    """Where the decoded arrays of ``name`` are kept below ``root``."""
    return root / f"{name}.safetensors"


def cached(path: Path, make: Callable[[], Named], expected: str | None = None) -> Named:
    """Read the file at ``path``; where it is absent or damaged, make its content and write it first.

    Of several processes that want the same file, one makes it and the others wait. A damaged file is named in
    a warning of the log, and stays until it is replaced.

    Args:
        path: A file of :func:`splinestudy.data.arrays.write_arrays`.
        make: Gives arrays and class names.
        expected: SHA-256 that the arrays must have; None where none is known.

    Raises:
        DataError: ``make`` raised it, or the folder cannot be written.
    """
    try:
        return read_arrays(path, expected)
    except FileNotFoundError:
        pass
    except DataError as error:
        log.warning("%s", error)
    with _locked(path):
        # Another process may have finished while this one waited for the lock.
        with contextlib.suppress(FileNotFoundError, DataError):
            return read_arrays(path, expected)
        arrays, class_names = make()
        with writing(path):
            write_arrays(path, arrays, class_names)
        return arrays, class_names


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating-system error into a DataError that says how to store data elsewhere."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error}); "
            "set SPLINELIB_DATA to a folder that can be written, with room for the data set"
        ) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock  # torch depends on it, so that it is always there

    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
