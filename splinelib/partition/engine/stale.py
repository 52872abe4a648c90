"""Compiled code on disk that other sources were compiled to: numba looks for changes in a function's own file only."""

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path

from numba import njit

from splinelib.files import atomic_path

_MARK = "sources.sha256"


def cache_folder(folder: Path) -> Path | None:
    """Where numba keeps what it compiles of the functions in ``folder``; None if neither there nor at home it may."""
    try:
        return Path(str(njit(cache=True)(_function_in(folder)).stats.cache_path))
    except RuntimeError:
        return None


def drop_stale(folder: Path, sources: Iterable[Path]) -> None:
    """Delete what numba keeps of the functions in ``folder`` unless it was compiled while ``sources`` were as now.

    A kernel calls functions of other files. After an update of one of these alone numba would load the old kernel, and
    hand it arguments that it does not expect. Where nothing may be deleted, nothing is.
    """
    kept = cache_folder(folder)
    if kept is None:
        return
    digest = hashlib.sha256()
    for source in sorted(sources):
        digest.update(source.read_bytes())
    mark = kept / _MARK
    with contextlib.suppress(OSError):
        if mark.exists() and mark.read_text() == digest.hexdigest():
            return
        for file in kept.glob("*.nb[ic]"):
            file.unlink(missing_ok=True)
        kept.mkdir(parents=True, exist_ok=True)
        with atomic_path(mark) as path:
            path.write_text(digest.hexdigest())


def _function_in(folder: Path):  # type: ignore[no-untyped-def]
    """A function that seems to be defined in a module there."""

    def probe() -> None: ...

    probe.__code__ = probe.__code__.replace(co_filename=str(folder / "__init__.py"))
    return probe
