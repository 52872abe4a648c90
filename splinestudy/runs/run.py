"""What a run is: settings that can compute themselves."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from splinestudy.runs.records import Settings
from splinestudy.runs.store import RecordStore


class Run(Settings, Protocol):
    """Settings of one computation, a frozen dataclass; its record is named by their hash.

    Field names, kinds and values never change once there are records, since the hash would.
    """

    def needs(self, store: RecordStore) -> "Sequence[Run]":
        """Runs that must be computed first, of those that ``store`` does not hold already."""

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """The results as JSON values; weights and checkpoints go to ``store``, ``progress`` asks for bars."""
