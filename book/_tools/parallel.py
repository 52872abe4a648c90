"""Tasks in processes of their own, several at a time; the pipeline runs the chapters so."""

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import psutil

from splinelib.checks import count_cores

# Returns what went wrong, or None.
Task = Callable[[], str | None]

MOST_JOBS = 4  # chapters share training runs: more of them at a time would mostly wait for each other
MEMORY = 2.5e9  # bytes that a chapter needs at most, at profile quick
PATIENCE = 15  # seconds for a process to stop by itself; papermill grants its kernel five
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class _Child:
    name: str
    process: BaseProcess
    answer: Connection
    start: float


def count_jobs(tasks: int, wanted: int | None = None) -> int:
    """How many of ``tasks`` to run at a time: ``wanted``, or what cores and free memory allow."""
    fitting = min(MOST_JOBS, count_cores(), int(psutil.virtual_memory().available // MEMORY))
    return max(1, min(tasks, fitting if wanted is None else wanted))


def run_all(tasks: Mapping[str, Task], jobs: int) -> dict[str, str]:
    """Run every task, ``jobs`` at a time in the given order; return what went wrong, by name.

    A task that fails, or whose process dies, keeps no other from running. An exception in this process, such as an
    interruption, stops them all. Tasks must be picklable. One line tells when each starts and ends, and what is left.
    """
    waiting, running, failures = list(tasks), dict[Connection, _Child](), dict[str, str]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                child = _start(waiting[0], tasks[waiting[0]])
                running[child.answer] = child
                print(f"{waiting.pop(0)}: started", flush=True)
            for answer in wait(list(running)):
                child = running.pop(answer)
                failure = _end(child)
                _tell(child, failure, [other.name for other in running.values()] + waiting)
                if failure is not None:
                    failures[child.name] = failure
    finally:
        _stop([child.process for child in running.values()])
    return failures


def _start(name: str, task: Task) -> _Child:
    answer, sender = _SPAWN.Pipe(duplex=False)
    # A daemon is stopped with this process even if an interruption comes before it is known to `run_all`.
    process = _SPAWN.Process(target=_work, args=(name, task, sender), daemon=True)
    process.start()
    sender.close()  # the child holds the only other copy, so that its death ends the connection
    return _Child(name, process, answer, time.monotonic())


def _work(name: str, task: Task, sender: Connection) -> None:
    """What a child process does."""
    # Ctrl-C reaches every process of a terminal. The parent alone decides, and its SIGTERM unwinds the task, so that
    # papermill stops the kernel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        try:
            sender.send(task())
        except Exception as error:
            sender.send(f"{name}: {type(error).__name__}: {error}")


def _end(child: _Child) -> str | None:
    try:
        failure = child.answer.recv()
    except EOFError:
        failure = f"{child.name}: its process died"
    child.process.join()
    child.answer.close()
    return failure


def _tell(child: _Child, failure: str | None, left: list[str]) -> None:
    state = "done" if failure is None else "failed"
    rest = f"; left: {', '.join(left)}" if left else ""
    print(f"{child.name}: {state} after {time.monotonic() - child.start:.0f} s{rest}", flush=True)
    if failure is not None:
        print(failure, file=sys.stderr, flush=True)


def _stop(processes: Iterable[BaseProcess]) -> None:
    processes = list(processes)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(PATIENCE)
        process.kill()  # does nothing where it has ended
