"""How nearly the closest boundaries of trained networks coincide, layer by layer, as records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from splinelib import read_layers
from splinestudy.analysis.neighbours import nearest_neighbours, neighbour_rows
from splinestudy.data import normalize
from splinestudy.runs.dense import DenseRun, dense_record, load_run_data, missing_network, trained_model
from splinestudy.runs.run import Run
from splinestudy.runs.store import RecordStore

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class NeighboursRun:
    """Every unit's nearest neighbour by direction in a trained network, beside what chance gives.

    Attributes:
        dense: the run that trained the network; its seed draws the random directions.
    """

    kind: ClassVar[str] = "neighbours"
    dense: DenseRun

    def needs(self, store: RecordStore) -> Sequence[Run]:
        """The dense run, with its weights."""
        return missing_network(self.dense, store)

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """Accuracy of the network, and its layers' :func:`.neighbour_rows`."""
        data = load_run_data(self.dense, _CPU)
        model = trained_model(self.dense, data, store, _CPU)
        layers = read_layers(model, normalize(data.test.images[:2], data))
        return {
            "accuracy": dense_record(self.dense, store).results["epochs"][-1]["accuracy"],
            "rows": neighbour_rows(nearest_neighbours(model, layers, self.dense.seed)),
        }


def neighbours_runs(dense: Sequence[DenseRun]) -> list[NeighboursRun]:
    """One for each dense run."""
    return [NeighboursRun(run) for run in dense]
