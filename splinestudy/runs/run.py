"""What a run is: settings that can compute themselves."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from splinestudy.runs.records import Settings, run_key
from splinestudy.runs.store import RecordStore


class Run(Settings, Protocol):
    """Settings of one computation, a frozen dataclass; its record is named by their hash.

    Field names, kinds and values never change once there are records, since the hash would.
    """

    def needs(self, store: RecordStore) -> "Sequence[Run]":
        """Runs that must be computed first, of those that ``store`` does not hold already."""

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """The results as JSON values; weights and checkpoints go to ``store``, ``progress`` asks for bars."""


_SHOWN = (
    "criterion",
    "scope",
    "ratio",
    "compensate",
    "draw",
    "start",
    "arch",
    "width",
    "dataset",
    "images",
    "seed",
)


def brief(run: Run) -> str:
    """A run on one line: its kind, its key, and what people tell runs apart by."""
    networks = [run, getattr(run, "dense", None), getattr(run, "training", None)]
    found: dict[str, Any] = {}
    for name in _SHOWN:
        owner = next((one for one in networks if hasattr(one, name)), None)
        usual = getattr(type(owner), name, None)  # a dataclass keeps its defaults there
        if owner is not None and getattr(owner, name) != usual:
            found[name] = getattr(owner, name)
    return " ".join([run.kind, run_key(run), *(f"{name}={value}" for name, value in found.items())])


def dataset_of(run: Run) -> str | None:
    """The data set that the run, or the network that it starts from, is trained on; None without one."""
    networks = [run, getattr(run, "dense", None), getattr(run, "training", None)]
    return next((str(getattr(one, "dataset")) for one in networks if hasattr(one, "dataset")), None)  # noqa: B009
