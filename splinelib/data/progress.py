"""Progress bars for long steps, where tqdm is installed and somebody is watching a terminal."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], title: str, total: int | None = None, unit: str = "it") -> Iterator[Item]:
    """Yield the items, drawing a bar on standard error if that is a terminal.

    tqdm is optional: a cluster node that only unpacks and trains may lack it.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        yield from items
        return
    # disable=None switches the bar off where standard error is a file or a pipe.
    yield from tqdm(items, desc=title, total=total, unit=unit, disable=None, leave=False)
