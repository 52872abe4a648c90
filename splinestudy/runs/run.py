"""What a run is: settings that can compute themselves."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from splinelib.errors import SettingError
from splinestudy.data import load_dataset
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


def check_data(runs: Sequence[Run]) -> None:
    """Load every data set that the runs are trained on, once; :class:`SettingError` for more images than it has."""
    for name, images in dict.fromkeys(_training_data(run) for run in runs):
        held = len(load_dataset(name).train) if name else 0
        if name and images is not None and images > held:
            raise SettingError(
                f"images is {images}: the training images of {name!r} are {held}, 0 takes them all"
            )


def _training_data(run: Run) -> tuple[str | None, int | None]:
    """The data set that the run, or the network that it starts from, is trained on, and how many images of it."""
    networks = [run, getattr(run, "dense", None), getattr(run, "training", None)]
    owner = next((one for one in networks if hasattr(one, "dataset")), None)
    return getattr(owner, "dataset", None), getattr(owner, "images", None)
