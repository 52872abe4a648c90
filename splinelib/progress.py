"""Progress bars. tqdm is optional: a cluster node may lack it, and then nothing is drawn."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


def is_watched() -> bool:
    """Whether somebody may look on: standard error is a terminal, or this is a notebook; not where it is a file."""
    return "ipykernel" in sys.modules or sys.stderr.isatty()


class _NoBar:
    """Stands in for a bar that nobody sees."""

    def update(self) -> None:
        """Count one more."""

    def set_postfix(self, **values: str) -> None:
        """Show values behind the bar."""


@contextlib.contextmanager
def progress_bar(
    total: int, unit: str, *, title: str | None = None, initial: int = 0, shown: bool = True
) -> Iterator[Any]:
    """Within the block, a bar with the time left; it has tqdm's methods ``update()`` and ``set_postfix(name=text)``.

    Args:
        total: how many there are to do.
        unit: what is counted.
        title: text in front of the bar.
        initial: how many were done before.
        shown: whether to draw it where somebody looks on (:func:`is_watched`).
    """
    try:
        from tqdm import tqdm
    except ImportError:
        yield _NoBar()
        return
    seen = shown and is_watched()
    with tqdm(total=total, unit=unit, desc=title, initial=initial, disable=not seen, leave=False) as bar:
        yield bar


def progress(items: Iterable[Item], title: str, total: int | None = None, unit: str = "it") -> Iterator[Item]:
    """Yield the items, drawing a bar on standard error if that is a terminal."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield from items
        return
    # disable=None switches the bar off where standard error is a file or a pipe.
    yield from tqdm(items, desc=title, total=total, unit=unit, disable=None, leave=False)
