"""Runs the compiled search on threads and collects what it finds."""

import contextlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from splinelib.errors import LimitError
from splinelib.partition.engine.job import Job, Piece, Progress, Wanted
from splinelib.partition.engine.layout import Floats
from splinelib.partition.engine.program import Network
from splinelib.partition.engine.state import Chunk


def search(
    network: Network,
    polygon: Floats,
    wanted: Wanted,
    progress: str = "",
    reduce: Callable[[Chunk, int], Any] | None = None,
    drop_outputs: bool = False,
) -> list[Piece]:
    """All regions of the network within ``polygon`` (the slice's coordinates), as pieces in no fixed order.

    Args:
        progress: what a bar says in front; without it none is shown.
        reduce: called on each full chunk with the number of regions in it, in the thread that filled it.
        drop_outputs: the outputs are for ``reduce`` only.

    Raises:
        LimitError: ``wanted.max_regions`` or ``wanted.max_bytes`` is exceeded, and nothing is kept: none is wanted
            in part, or none was found. So it is with an interrupt from the keyboard.
    """
    job = Job.of(network, polygon, wanted, reduce, drop_outputs)
    found: list[list[Piece]] = [[] for _ in range(job.wanted.threads)]
    begun = job.pieces(0)

    def work(thread: int) -> None:
        for piece in begun if thread == 0 else job.pieces(thread):
            if piece is not None:
                found[thread].append(piece)

    with tqdm(total=100, unit="%", disable=not progress, desc=progress, leave=False) as bar:
        try:
            # The generator says None once, when what a small network takes is done.
            for piece in begun:
                if piece is None:
                    _run_threads(work, job.wanted.threads, job.shared, bar)
                    break
                found[0].append(piece)
        except (LimitError, KeyboardInterrupt):
            if not wanted.partial or not any(found):
                raise
    return [piece for pieces in found for piece in pieces]


def stream(network: Network, polygon: Floats, wanted: Wanted) -> Iterator[Piece]:
    """The same pieces one by one, each found while the one before is looked at: memory does not grow."""
    job = Job.of(network, polygon, replace(wanted, max_bytes=sys.maxsize))
    ready: queue.Queue[Piece | BaseException | None] = queue.Queue(maxsize=1)

    def put(item: Piece | BaseException | None) -> None:
        while not job.shared.stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def work(thread: int) -> None:
        try:
            for piece in job.pieces(thread):
                if piece is not None:
                    put(piece)
            put(None)
        except BaseException as error:  # raised again where the pieces are taken
            put(error)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(job.wanted.threads)]
    for thread in threads:
        thread.start()
    try:
        running = len(threads)
        while running:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        job.shared.stop.set()
        for thread in threads:
            thread.join()


def _run_threads(work: Callable[[int], None], threads: int, shared: Progress, bar: tqdm) -> None:
    """Run all threads to their end; on any exception (an interrupt too) tell the others to stop, then raise it."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            pending = {pool.submit(work, thread) for thread in range(threads)}
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                bar.update(min(100 * shared.covered / shared.area, 100) - bar.n)  # rounding may go beyond
                bar.set_postfix_str(f"{shared.regions} regions", refresh=False)
        finally:
            shared.stop.set()
