"""Two workers on one store, killed at their writes, out of disk, their node gone, among damaged files.

``python tests/chaos.py 50`` (``make test-long``) goes on until so many were killed, and until every kind of file was
damaged in every way, as far as the kills last; then compares the store with that of a sweep that nothing disturbed.
"""

import collections
import dataclasses
import functools
import itertools
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
from breaking import damaged
from tiny_runs import SETTINGS, sweep_tiny, tiny_dataset

from splinelib.errors import FileError
from splinelib.files import load_tensors
from splinestudy import caches
from splinestudy.runs import dense, prune
from splinestudy.runs import sweep as sweeps
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.records import run_key
from splinestudy.runs.store import RecordStore
from splinestudy.training.loop import train

KINDS = ("dense", "prune", "weights", "moments", "checkpoints")
WAYS = ("altered", "truncated", "empty", "other", "another's")
CLOCKS = {"seconds", "joules", "dense_seconds", "dense_joules", "scoring_seconds"}
MEMORY = Path("/dev/shm")  # where a kill is felt as on a disk, and a write does not wait for one
FULL, DONE = 3, 0  # exit statuses of a worker


def plan():
    """Runs that write every kind of file: dense ones, pruned ones, and early birds, which start from moments."""
    networks = [DenseRun("tiny", 48, "mlp", 0.1, seed, SETTINGS, 4, (0.5,)) for seed in range(3)]
    short = dataclasses.replace(SETTINGS, epochs=1)
    pruned = [
        PruneRun(run, criterion, "layerwise", 0.5, short)
        for run in networks
        for criterion in ("l1", "random")
    ]
    birds = [PruneRun(run, "l1", "layerwise", 0.5, SETTINGS, draw=2, onward=True) for run in networks]
    return [*networks, *pruned, *birds]


def worker(folder, fault=None):
    """Start a process that sweeps the plan, and what ``fault`` does to it; its number."""
    if number := os.fork():
        return number
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        if fault:
            fault()
        report = sweep_tiny(folder, plan())
        status = 1 if report.failed or report.left else DONE
    except FileError:
        status = FULL
    finally:
        os._exit(status)


def prepare():
    """Have sweeps save at every step, and find leases of other nodes dead soon."""
    dense.load_dataset = lambda name: tiny_dataset()
    dense.train = prune.train = functools.partial(train, checkpoint_every=0.0)
    caches.LEASE, sweeps._WAIT = 1.0, 0.02


def killed_at(kind, when, writes):
    """A fault: the process is killed at a write of that kind of file, before, in the midst of or after it."""

    def fault():
        replace, left = os.replace, itertools.count(writes, -1)

        def replacing(source, target):
            if Path(target).parent.name == kind and Path(source).suffix != ".damaged" and next(left) <= 0:
                if when == "amidst":
                    os.truncate(source, os.path.getsize(source) // 2)
                if when == "after":
                    replace(source, target)
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = replacing

    return fault


def out_of_disk():
    """A fault: no file can be larger than a lease."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))


def damage(folder, kind, way, chance):
    """Break a file, and take away a record that was made from it, so that it is asked for; False if there is none."""
    files = sorted((folder / kind).glob("[!.]*.json" if kind in ("dense", "prune") else "[!.]*.pt"))
    if not files:
        return False
    path = chance.choice(files)
    other = chance.choice(sorted(set(folder.glob(f"*/[!.]*{path.suffix}")) - {path}) or files)
    path.write_bytes(other.read_bytes() if way == "another's" else damaged(path.read_bytes())[way])
    if kind in ("weights", "moments"):
        runs = (
            run for run in plan() if isinstance(run, PruneRun) and path.stem.startswith(run_key(run.dense))
        )
        RecordStore(folder).path(next(run for run in runs if run.onward == (kind == "moments"))).unlink(
            missing_ok=True
        )
    return True


def leave_node(folder, number):
    """What a killed process held looks as if it had been on another machine."""
    for lease in (folder / "locks").glob("*.lease"):
        lines = lease.read_text().split("\n")
        if f"pid={number}" in lines:
            lease.write_text(
                "\n".join("host=elsewhere" if line.startswith("host=") else line for line in lines)
            )


def content(folder):
    """All that a store holds, leases and what was set aside left out; of records the results, without clocks."""

    def plain(value):
        if isinstance(value, torch.Tensor):
            return value.numpy().tobytes()
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items() if name not in CLOCKS}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    held = {}
    for path in sorted(path for path in folder.glob("*/*") if path.suffix not in (".lease", ".damaged")):
        name = f"{path.parent.name}/{path.name}"
        if path.suffix == ".json":
            held[name] = plain(json.loads(path.read_text())["results"])
        else:
            held[name] = plain(load_tensors(path)) if path.suffix == ".pt" else "left behind"
    return held


def disturb(folder, kills, chance):
    """Let workers go on with the store and disturb them, until so many were killed; what happened, counted."""
    happened, damages = collections.Counter(), list(itertools.product(KINDS, WAYS))
    chance.shuffle(damages)
    faults = itertools.cycle(itertools.product(KINDS, ("before", "amidst", "after")))
    running = set()
    while happened["killed"] < kills:
        while len(running) < 2:
            full = chance.random() < 0.1
            running.add(
                worker(folder, out_of_disk if full else killed_at(*next(faults), chance.randint(0, 3)))
            )
        number, ended = os.wait()
        running.remove(number)
        killed = os.WIFSIGNALED(ended)
        happened["killed" if killed else {DONE: "done", FULL: "out of disk"}[os.WEXITSTATUS(ended)]] += 1
        if killed and happened["killed"] % 5 == 0:
            leave_node(folder, number)
            happened["node gone"] += 1
        # Everything may be done by now: then there is work for those who come only where something is broken.
        broken = next((one for one in damages if damage(folder, *one, chance)), None)
        if broken:
            damages.remove(broken)
            happened[f"damaged in {broken[0]}"] += 1
        elif not killed:
            for record in (folder / chance.choice(KINDS[:2])).glob("[!.]*.json"):
                record.unlink()
    for number in running:
        os.waitpid(number, 0)
    return happened


def main(kills, seed=0):
    """Disturb, compare, say what happened; the exit status is 1 if the stores differ."""
    prepare()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as temporary:
        calm, stormy = Path(temporary, "calm"), Path(temporary, "stormy")
        sweep_tiny(calm, plan())  # here, so that the workers have all modules
        started = time.monotonic()
        happened = disturb(stormy, kills, random.Random(seed))
        statuses = [os.waitpid(number, 0)[1] for number in (worker(stormy), worker(stormy))]
        theirs, ours = content(stormy), content(calm)
    unlike = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    took = time.monotonic() - started
    print(
        f"{dict(sorted(happened.items()))} in {took:.0f} s; {len(ours)} files, {len(unlike)} differ", *unlike
    )
    return int(bool(unlike or any(statuses)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(int(sys.argv[1]), *map(int, sys.argv[2:])))
