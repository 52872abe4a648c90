"""Runs without any training: networks of dense runs pruned and measured as they are, whole or one layer at a time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from splinelib.checks import check_fields
from splinelib.errors import SettingError
from splinelib.layers.network import read_layers
from splinelib.pruning.pipeline import Compensate
from splinelib.pruning.selection import RatioOf, Scope, check_ratio
from splinelib.pruning.surgery import remove_units
from splinestudy.analysis.neighbours import norm_ranks
from splinestudy.data import CALIBRATION, calibration
from splinestudy.runs.dense import DenseRun, dense_record, load_run_data, missing_network, trained_model
from splinestudy.runs.measuring import check_share, measured
from splinestudy.runs.methods import names_of
from splinestudy.runs.run import Run
from splinestudy.runs.shrinking import Choice, check_method, choose_units, shrink
from splinestudy.runs.store import RecordStore
from splinestudy.training.loop import evaluate


@dataclass(frozen=True)
class OneShotRun:
    """Prune the network of a dense run and measure it without any training; attributes as of :class:`PruneRun`.

    ``images`` is the number of training images that criterion and compensation look at.
    """

    kind: ClassVar[str] = "oneshot"
    dense: DenseRun
    criterion: str
    scope: Scope
    ratio: float
    compensate: Compensate = "none"
    ratio_of: RatioOf = field(default="units", metadata={"later": True})
    images: int = field(default=CALIBRATION, metadata={"later": True})

    def __post_init__(self) -> None:
        check_fields(self)
        check_ratio(self.ratio)
        check_method(self.criterion, self.compensate, "trained", self.scope)
        check_share(self.ratio_of, self.criterion)
        if self.images < 2:
            raise SettingError(f"images is {self.images}: a calibration batch needs at least 2")

    def needs(self, store: RecordStore) -> Sequence[Run]:
        """The dense run, with its weights."""
        return missing_network(self.dense, store)

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """Prune and measure."""
        data = load_run_data(self.dense, device)
        dense_accuracy = dense_record(self.dense, store).results["epochs"][-1]["accuracy"]
        dense = trained_model(self.dense, data, store, device)
        known = calibration(data, self.dense.seed, self.images)
        started = time.monotonic()
        choice = Choice(self.criterion, self.ratio, self.scope, self.ratio_of)
        pruned = shrink(dense, choice, self.compensate, self.dense.seed, known)
        seconds = time.monotonic() - started
        found = measured(dense, pruned, data, known.images)
        return {"dense_accuracy": dense_accuracy, "seconds": seconds, **found}


@dataclass(frozen=True)
class SensitivityRun:
    """Cut one layer at a time of a dense run's network, without any training: where does a criterion do harm?

    Attributes:
        dense: the run whose network is cut.
        criteria: the scores and variants of :data:`splinestudy.runs.methods.METHODS` that are compared.
        ratio: share of its units that the one layer loses.
    """

    kind: ClassVar[str] = "sensitivity"
    dense: DenseRun
    criteria: tuple[str, ...]
    ratio: float

    def __post_init__(self) -> None:
        check_fields(self)
        check_ratio(self.ratio)
        for name in self.criteria:
            if name in names_of("procedure"):
                raise SettingError(
                    f"criteria hold {name!r}, a method of its own: it has no ranking of one layer"
                )
            check_method(name, "none", "trained", "layerwise")

    def needs(self, store: RecordStore) -> Sequence[Run]:
        """The dense run, with its weights."""
        return missing_network(self.dense, store)

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """Test accuracy with one layer cut, and the mean rank by folded norm of what is cut: by criterion and layer."""
        data = load_run_data(self.dense, device)
        dense_accuracy = dense_record(self.dense, store).results["epochs"][-1]["accuracy"]
        dense = trained_model(self.dense, data, store, device)
        known = calibration(data, self.dense.seed)
        layers = read_layers(dense, known.images[:2])
        results: dict[str, Any] = {"dense_accuracy": dense_accuracy, "accuracy": {}, "norm_rank": {}}
        for name in self.criteria:
            chosen = choose_units(dense, Choice(name, self.ratio), self.dense.seed, known)
            cuts = {
                layer.name: {layer.name: chosen[layer.name]} for layer in layers if chosen.get(layer.name)
            }
            results["accuracy"][name] = {
                layer: evaluate(remove_units(dense, known.images[:2], cut), data)
                for layer, cut in cuts.items()
            }
            ranks = norm_ranks(dense, [layer for layer in layers if layer.name in cuts], chosen)
            results["norm_rank"][name] = dict(zip(cuts, ranks, strict=True))
        return results
