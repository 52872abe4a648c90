"""Runs that say when they begin, for Ray's workers; as a script, a sweep of them on the cluster of ``$RAY_ADDRESS``."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from splinestudy.runs.executors import execute
from splinestudy.runs.store import RecordStore


@dataclass(frozen=True)
class NotedRun:
    """Notes its number and process in ``folder/log``, and ends once ``folder/go-NUMBER`` is there, if it is to wait."""

    kind: ClassVar[str] = "noted"
    number: int
    folder: str
    after: "NotedRun | None" = None
    held: bool = False

    def needs(self, store):
        return () if self.after is None or store.load(self.after) else (self.after,)

    def compute(self, store, device, progress):
        with open(Path(self.folder) / "log", "a") as log:
            log.write(f"{self.number} {os.getpid()} {os.getppid()}\n")
        if self.number < 0:
            raise ValueError("a number below 0")
        while self.held and not (Path(self.folder) / f"go-{self.number}").exists():
            time.sleep(0.05)
        return {"number": self.number}


class Start(NamedTuple):
    """Which run began, in which process, child of which node's."""

    number: int
    process: int
    node: int


def noted(folder):
    """Every start of a computation, in order."""
    log = Path(folder) / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [Start(*map(int, line.split())) for line in lines]


def plan(folder, held=()):
    """One run that four others need, each followed by one more."""
    first = NotedRun(0, str(folder), held=0 in held)
    middle = [NotedRun(number, str(folder), first, held=number in held) for number in range(1, 5)]
    return [first, *middle, *(NotedRun(10 + run.number, str(folder), run) for run in middle)]


if __name__ == "__main__":
    folder, *held = sys.argv[1:]
    report = execute(
        "ray",
        plan(folder, set(map(int, held))),
        RecordStore(Path(folder) / "store"),
        profile="x",
        gpus=0.0,
        progress=False,
    )
    sys.exit(len(report.failed) + len(report.left))
