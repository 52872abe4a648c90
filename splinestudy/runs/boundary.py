"""How many units touch the decision boundary of trained image networks (claim C3), as records."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from splinelib.partition.trace import Trace, trace_boundary
from splinestudy.analysis.image_slices import image_slices, touching_rows
from splinestudy.runs.dense import (
    DenseRun,
    dense_record,
    dense_runs,
    load_run_data,
    missing_network,
    trained_model,
)
from splinestudy.runs.profiles import Profile
from splinestudy.runs.run import Run
from splinestudy.runs.store import RecordStore

SLICES = 3
"""Triangles between test images for every network of the committed records."""

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class BoundaryRun:
    """Trace the decision boundary of a trained network on triangles between test images.

    Attributes:
        dense: the run that trained the network.
        slices: number of triangles, drawn with the seed of ``dense``.
        grid: see :func:`splinelib.partition.trace_boundary`.
    """

    kind: ClassVar[str] = "boundary"
    dense: DenseRun
    slices: int
    grid: int = 48

    def needs(self, store: RecordStore) -> Sequence[Run]:
        """The dense run, with its weights."""
        return missing_network(self.dense, store)

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """Accuracy of the network; of each slice segments and regions met, and rows of units that touch, by layer."""
        found = traces(self, store)
        return {
            "accuracy": dense_record(self.dense, store).results["epochs"][-1]["accuracy"],
            "segments": [len(trace.boundary.segments) for trace in found],
            "regions": [trace.regions for trace in found],
            "rows": [row for number, trace in enumerate(found) for row in touching_rows(trace, number)],
        }


def small_cnn(profile: Profile, dataset: str) -> Profile:
    """The released code's SimpleCNN (two convolutional layers) at half width, briefly trained on ``dataset``."""
    smoke = profile.size == "smoke"
    return dataclasses.replace(
        profile, arch="simple_cnn", width=0.5, dataset=dataset, images=512 if smoke else 8_000,
        epochs=2 if smoke else 3, lr=0.02, batch_size=64 if smoke else 128, precision="float32", canvas_side=8,
    )  # fmt: skip


def boundary_runs(profile: Profile, slices: int = SLICES, dataset: str | None = None) -> list[BoundaryRun]:
    """The small network on ``dataset`` (MNIST, at size smoke digits) and the profile's own, for every seed.

    At size ``quick`` the grid is half as fine, at ``smoke`` a quarter.
    """
    dataset = dataset or ("digits" if profile.size == "smoke" else "mnist")
    grid = {"smoke": 12, "quick": 24}.get(profile.size, 48)
    settings = (small_cnn(profile, dataset), profile)
    return [BoundaryRun(dense, slices, grid) for setting in settings for dense in dense_runs(setting)]


def traces(run: BoundaryRun, weights: RecordStore, only: int | None = None) -> list[Trace]:
    """The decision boundary on each slice, or on the first ``only``; ``weights`` is the store with the dense run."""
    data = load_run_data(run.dense, _CPU)
    model = trained_model(run.dense, data, weights, _CPU)
    return [
        trace_boundary(model, where, grid=run.grid)
        for where in image_slices(data, run.slices, run.dense.seed)[:only]
    ]
