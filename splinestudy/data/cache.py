"""One file per data set that is either read and checked, or made anew."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from splinelib.errors import DataError
from splinelib.files import remove_temporaries
from splinestudy.caches import leased
from splinestudy.data.arrays import Arrays, read_arrays, write_arrays

log = logging.getLogger(__name__)

Named = tuple[Arrays, tuple[str, ...]]  # arrays and the names of their classes


def cache_path(name: str, root: Path) -> Path:
    """Where the decoded arrays of ``name`` are kept below ``root``."""
    return root / f"{name}.safetensors"


def cached(
    path: Path,
    make: Callable[[], Named],
    expected: str | None = None,
    check: Callable[[Named], None] = lambda named: None,
) -> Named:
    """Read the file at ``path``; where it is absent or damaged, make its content and write it first.

    Of several processes that want the same file, one makes it and the others wait. A damaged file is named in
    a warning of the log, and stays until it is replaced.

    Args:
        path: A file of :func:`splinestudy.data.arrays.write_arrays`.
        make: Gives arrays and class names.
        expected: SHA-256 that the arrays must have; None where none is known.
        check: raises DataError for arrays and names that are not those wanted.

    Raises:
        DataError: ``make`` raised it, or the folder cannot be written.
        FileError: The file is there but cannot be read.
    """

    def read() -> Named:
        named = read_arrays(path, expected)
        check(named)
        return named

    try:
        return read()
    except FileNotFoundError:
        pass
    except DataError as error:
        log.warning("%s", error)
    with writing(path), leased(path.with_name(f".{path.stem}.lease")):
        remove_temporaries(path.parent, path.stem)
        # Another process may have finished while this one waited.
        with contextlib.suppress(FileNotFoundError, DataError):
            return read()
        arrays, class_names = make()
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
