"""Runs that the processes of ``torchrun`` compute together: the first one sweeps, the others follow."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from splinelib.errors import SettingError, SplineError
from splinestudy.runs.records import run_key
from splinestudy.runs.run import Run
from splinestudy.runs.store import RecordStore
from splinestudy.training import distributed

_LOG = logging.getLogger(__name__)
_END = "0" * 16


def announce(run: Run | None, device: torch.device) -> None:
    """Tell the others which run comes next, or that none does; nothing where this process is alone."""
    if not distributed.alone():
        _broadcast(run_key(run) if run else _END, device)


def follow(runs: Sequence[Run], store: RecordStore, device: torch.device) -> None:
    """Compute what the first process announces until it ends; records, checkpoints and leases are left to it.

    Raises :class:`SettingError` for a store that is no folder, since all have to see the same files.
    """
    if type(store) is not RecordStore:
        raise SettingError(
            f"store is {store.address}: processes of torchrun share a folder, name one that all see"
        )
    mine = _Follower(store.root)
    while (key := _broadcast(_END, device)) != _END:
        run = next(each for run in runs for each in (run, *run.needs(store)) if run_key(each) == key)
        try:
            run.compute(mine, device, False)
        except SplineError as error:  # as in the first process, which notes it
            _LOG.debug("%s", error)


class _Follower(RecordStore):
    """The store as those see it who do not hold its leases."""

    @contextlib.contextmanager
    def leased(self, path: Path) -> Iterator[None]:
        """No lease: the first process has it."""
        yield


def _broadcast(key: str, device: torch.device) -> str:
    """What the first process gives for ``key``."""
    held = torch.tensor(list(key.encode()), dtype=torch.uint8, device=device)
    dist.broadcast(held, 0)
    return bytes(held.tolist()).decode()
