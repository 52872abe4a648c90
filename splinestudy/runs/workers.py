"""Processes of this machine that share a sweep: each is the same command, and finds in the store what others took."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from splinelib.checks import count_cores

_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""Tells glibc to keep freed buffers: given back after every operation and faulted in again, they cost a step 8 %."""

_PARENT = "SPLINESTUDY_PARENT"
"""Variable with the number of the process that started this one to share a sweep."""


def run_workers(jobs: int, arguments: Sequence[str], seconds: float | None = None) -> int:
    """Run the command of these ``arguments`` in ``jobs`` processes, which share its store and divide the cores.

    What still runs after so many ``seconds`` is ended, which is no failure. They end with this process, however it
    ends: they look out for it themselves (:func:`end_with_parent`).

    Returns:
        The largest exit status of all, 0 where every process succeeded.
    """
    threads = max(1, count_cores() // jobs)
    environment = {
        **_KEEP_MEMORY,
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        _PARENT: str(os.getpid()),
    }
    name, *rest = (
        arguments  # what stands behind "--" is no option; of an option that is given twice the last counts
    )
    place = rest.index("--") if "--" in rest else len(rest)
    command = [sys.executable, "-m", "splinestudy", name, *rest[:place], "--jobs", "1", *rest[place:]]
    processes = [subprocess.Popen(command, env=environment) for _ in range(jobs)]
    end = None if seconds is None else time.monotonic() + seconds
    # -9 means killed by signal 9, which is no success.
    return max(abs(_ended(process, end)) for process in processes)


def _ended(process: subprocess.Popen[bytes], end: float | None) -> int:
    """The exit status of a process, or 0 where it had to be ended at the moment ``end`` of the monotonic clock."""
    try:
        return process.wait(None if end is None else max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return 0


def end_with_parent() -> None:
    """End this process once the one that started it to share a sweep is gone; nothing happens in any other process."""
    if parent := os.environ.get(_PARENT):
        threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
