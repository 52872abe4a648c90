"""Prune runs: take units from the network of a dense run, measure it, train it on, and measure it again."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import nn

from splinelib.checks import Within, check_fields
from splinelib.errors import SettingError
from splinelib.pruning.flops import counted_flops
from splinelib.pruning.least_squares import reestimate_norms
from splinelib.pruning.pipeline import Compensate
from splinelib.pruning.selection import RatioOf, Scope, check_ratio
from splinelib.pruning.surgery import remove_units
from splinestudy.data import Calibration, Dataset, calibration
from splinestudy.models import CHAINS
from splinestudy.runs.dense import (
    DenseRun,
    dense_record,
    load_run_data,
    missing_network,
    new_model,
    partly_trained,
    trained_model,
)
from splinestudy.runs.measuring import check_share, measured
from splinestudy.runs.methods import FRESH, Start
from splinestudy.runs.records import Record
from splinestudy.runs.run import Run
from splinestudy.runs.shrinking import (
    Choice,
    NormalizeOrFlops,
    SoftPruning,
    check_method,
    choose_units,
    shrink,
)
from splinestudy.runs.store import RecordStore
from splinestudy.training.loop import evaluate, train
from splinestudy.training.settings import TrainSettings
from splinestudy.training.starts import boundaries_through_data, greedy_layerwise, lsuv

Draw = int | Literal["end", "spline", "mask"]
"""When the units are chosen: after so many epochs of dense training (0: at initialisation), at its end, or after the
epoch that a detector drew: the partition's, or that of EB Train's mask at the pruning ratio.
"""

REWIND_EPOCHS = 2
"""Epochs after which weights are taken for a lottery ticket that starts from early weights."""

FRESH_SEED = 10_000
"""Added to the seed for weights that have nothing to do with the dense run's."""

_ORDERS_APART = 1_000  # seeds between two orders of one dense run: more than the studies have

INITIALISING = 256
"""Training images that data-dependent starts look at."""


@dataclass(frozen=True)
class PruneRun:
    """Prune the network of a dense run, measure it as it is, then train it on and measure it again.

    Attributes:
        dense: the run whose network is pruned.
        criterion: one of :func:`splinestudy.runs.methods.choices`.
        scope: ``"layerwise"`` or ``"global"``.
        ratio: share to remove.
        finetune: how the pruned network is trained on.
        compensate: what is done about the removed units before that (:func:`splinelib.prune`).
        start: the weights that training starts from (:data:`splinestudy.runs.methods.Start`), ``"trained"`` being
            those at the draw.
        draw: when in the dense training the units are chosen.
        onward: the pruned network goes on in the schedule of ``finetune`` at the epoch of the draw; else that schedule
            starts at its beginning.
        ratio_of: what ``ratio`` is a share of, units or FLOPs (:func:`splinelib.prune`).
        normalize: what makes scores of different layers comparable in global scope (:func:`.choose_units`).
        allocation: the criterion whose global cut says how many units each layer loses; ``""`` for its own.
        order: which order of images fine-tuning takes; the others tell how much of a spread is its doing.
    """

    kind: ClassVar[str] = "prune"
    dense: DenseRun
    criterion: str
    scope: Scope
    ratio: float
    finetune: TrainSettings
    compensate: Compensate = field(default="none", metadata={"later": True})
    start: Start = field(default="trained", metadata={"later": True})
    draw: Draw = field(default="end", metadata={"later": True})
    onward: bool = field(default=False, metadata={"later": True})
    ratio_of: RatioOf = field(default="units", metadata={"later": True})
    order: Annotated[int, Within("[0, 1000)")] = field(default=0, metadata={"later": True})
    normalize: NormalizeOrFlops = field(default="mean", metadata={"later": True})
    allocation: str = field(default="", metadata={"later": True})

    def __post_init__(self) -> None:
        check_fields(self)
        check_ratio(self.ratio)
        check_method(self.criterion, self.compensate, self.start, self.scope)
        _check_draw(self)
        check_share(self.ratio_of, self.criterion)
        _check_global(self)
        if self.ratio_of != "units" and self.draw == "mask":
            raise SettingError(f"ratio_of is {self.ratio_of!r} with draw 'mask': masks count units")

    def choice(self) -> Choice:
        """Which units go."""
        return Choice(self.criterion, self.ratio, self.scope, self.ratio_of, self.normalize, self.allocation)

    def needs(self, store: RecordStore) -> Sequence[Run]:
        """The dense run where its record is missing, or its weights and the pruned network starts from its end.

        A network drawn earlier is trained again up to that moment only.
        """
        record = store.load(self.dense)
        early = record is not None and dense_epochs(self, record)[0] < self.dense.train.epochs
        return () if early else missing_network(self.dense, store)

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """Prune, measure, train on, measure."""
        data = load_run_data(self.dense, device)
        record = dense_record(self.dense, store)
        epochs, drawn = dense_epochs(self, record)
        dense = _network_at(self.dense, epochs, data, store, device)
        known = calibration(data, self.dense.seed)
        pruned, scoring = _pruned(self, dense, data, known, store, device)
        before = record.results["epochs"][epochs - 1] if epochs else {"seconds": 0.0, "joules": 0.0}
        results = {
            "dense_accuracy": record.results["epochs"][-1]["accuracy"],
            "dense_seconds": before["seconds"],
            "dense_joules": before.get("joules"),
            "training_images": len(data.train),
            "dense_epochs": epochs,
            "drawn": drawn,
            **scoring,
            **measured(dense, pruned, data, known.images),
        }
        soft = self.criterion == "sfp"  # which is trained at full width, and cut at the end
        rows = train(
            dense if soft else pruned,
            data,
            self.finetune,
            seed=self.dense.seed + 1 + _ORDERS_APART * self.order,
            callbacks=[SoftPruning(self.ratio, known)] if soft else [],
            checkpoint=store.checkpoint_path(self),
            first=epochs if self.onward else 0,
            progress=progress,
        )
        if soft:
            cut = shrink(dense, self.choice(), "none", self.dense.seed, known)
            accuracy = evaluate(reestimate_norms(cut, known.images), data)
        else:  # no row where a detector never drew, and nothing is left of the schedule
            accuracy = rows[-1]["accuracy"] if rows else results["reestimated_accuracy"]
        return {**results, "accuracy": accuracy, "epochs": rows}


def _check_global(run: PruneRun) -> None:
    """Raise :class:`SettingError` for a normalisation or allocation that would change nothing, or is none."""
    if (run.normalize != "mean" or run.allocation) and run.scope != "global":
        raise SettingError(
            f"normalize is {run.normalize!r}, allocation {run.allocation!r} and scope {run.scope!r}: only in global "
            "scope do layers compete"
        )
    if run.allocation:
        check_method(run.allocation, "none", "trained", run.scope)


def _check_draw(run: PruneRun) -> None:
    """Raise :class:`SettingError` for a draw or start that does not go with the other settings."""
    epochs = run.dense.train.epochs
    if isinstance(run.draw, int) and not 0 <= run.draw <= epochs:
        raise SettingError(
            f"draw is {run.draw}: the dense run has {epochs} epochs, choose from 0 to {epochs}"
        )
    if run.draw == "mask" and run.ratio not in run.dense.mask_ratios:
        raise SettingError(
            f"draw is 'mask' at ratio {run.ratio}: the dense run watches masks at {run.dense.mask_ratios}"
        )
    if run.onward and (run.start != "trained" or run.draw == "end" or run.finetune.epochs != epochs):
        raise SettingError(
            f"onward goes on with the weights of the draw to the end of the dense schedule: start is {run.start!r}, "
            f"draw {run.draw!r}, finetune.epochs {run.finetune.epochs} of {epochs}"
        )
    if run.start in FRESH[1:] and run.dense.arch not in CHAINS:
        raise SettingError(
            f"start is {run.start!r} and arch {run.dense.arch!r}: clever starts are for chains of modules, "
            f"{', '.join(CHAINS)}"
        )
    if run.draw not in ("end", 0) and run.criterion == "sfp":
        raise SettingError(
            f"criterion 'sfp' zeroes units while training: draw is {run.draw!r}, choose 0, for a whole training as its "
            "authors meant it, or 'end'"
        )


def dense_epochs(run: PruneRun, dense: Record) -> tuple[int, bool]:
    """Epochs of dense training before the units are chosen, and whether a detector (where one is asked) drew at all.

    A detector that never drew leaves the dense run to its end.
    """
    if isinstance(run.draw, int):
        return run.draw, True
    total = run.dense.train.epochs
    if run.draw == "end":
        return total, True
    if run.draw == "spline":
        epoch = dense.results["spline"]["epoch"]
    else:
        found = {mask["ratio"]: mask["epoch"] for mask in dense.results["masks"]}
        epoch = found.get(run.ratio)  # a network without batch norm has no masks
    return (total, False) if epoch is None else (epoch + 1, True)


def _network_at(
    run: DenseRun, epochs: int, data: Dataset, store: RecordStore, device: torch.device
) -> nn.Module:
    """The dense run's network after so many epochs; its end was kept when it was trained."""
    if epochs == run.train.epochs:
        return trained_model(run, data, store, device)
    return partly_trained(run, epochs, data, store, device)


def _pruned(
    run: PruneRun,
    dense: nn.Module,
    data: Dataset,
    known: Calibration,
    store: RecordStore,
    device: torch.device,
) -> tuple[nn.Module, dict[str, float]]:
    """The small network as its training starts, and what it took to choose its units, to compensate, to initialise."""
    seed, started = run.dense.seed, time.monotonic()
    with counted_flops() as flops:
        if run.start == "trained":
            network = shrink(dense, run.choice(), run.compensate, seed, known)
        else:
            selection = choose_units(dense, run.choice(), seed, known)
    scoring = {"scoring_seconds": time.monotonic() - started, "scoring_flops": flops()}
    if run.start == "trained":
        return network, scoring
    if run.start == "early":
        source = partly_trained(run.dense, REWIND_EPOCHS, data, store, device)
    else:
        fresh = run.start in FRESH
        own = dataclasses.replace(run.dense, seed=seed + FRESH_SEED) if fresh else run.dense
        source = new_model(own, data, device)
    small = remove_units(source, known.images[:2], selection)
    started = time.monotonic()
    with counted_flops() as flops:
        small = _initialised(run, small, data, known)
    spent = {"scoring_seconds": time.monotonic() - started, "scoring_flops": flops()}
    return small, {name: scoring[name] + spent[name] for name in scoring}


def _initialised(run: PruneRun, model: nn.Module, data: Dataset, known: Calibration) -> nn.Module:
    """A small network with new weights, after the clever start that the run asks for, if any."""
    seed, inputs = run.dense.seed + FRESH_SEED, known.images[:INITIALISING]
    if run.start == "lsuv":
        return lsuv(model, inputs, seed)
    if run.start == "through_data":
        return boundaries_through_data(model, inputs, seed)
    if run.start == "layerwise":
        one_epoch = dataclasses.replace(run.finetune, epochs=1, milestones=())
        return greedy_layerwise(model, data, one_epoch, seed)[0]
    return model
