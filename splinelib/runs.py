"""The kinds of runs: what their settings are, what they compute, what they measure."""

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from splinelib.artifacts import atomic_path
from splinelib.codes import two_image_canvas
from splinelib.cost import cost
from splinelib.data import Dataset, load_dataset, normalize, subset
from splinelib.earlybird import MaskEarlyBird, SplineEarlyBird
from splinelib.errors import RecordError
from splinelib.methods import CALIBRATION, Calibration, SoftPruning, Start, check_method, choose_units, shrink
from splinelib.models import build_model
from splinelib.network import read_layers
from splinelib.pruning import Compensate
from splinelib.reconstruction import reestimate_norms
from splinelib.records import RecordStore
from splinelib.surgery import Scope, check_ratio, remove_units
from splinelib.training import TrainSettings, evaluate, load_tensors, train


@dataclass(frozen=True)
class DenseRun:
    """Train a full network from scratch and watch its partition and its batch-norm masks after every epoch.

    Attributes:
        dataset: name of the data set.
        images: training images, class-balanced; None for all.
        arch: architecture.
        width: its width factor.
        seed: of weights, order, augmentation and canvas.
        train: how it is trained.
        canvas_side: the two-image canvas has this many points a side.
        mask_ratios: ratios at which EB Train's mask is watched.
    """

    kind: ClassVar[str] = "dense"
    dataset: str
    images: int | None
    arch: str
    width: float
    seed: int
    train: TrainSettings
    canvas_side: int
    mask_ratios: tuple[float, ...]


@dataclass(frozen=True)
class PruneRun:
    """Prune the network of a dense run, measure it as it is, then fine-tune it and measure it again.

    Attributes:
        dense: the run whose network is pruned.
        criterion: one of :data:`splinelib.methods.METHODS`.
        scope: ``"layerwise"`` or ``"global"``.
        ratio: share of units to remove.
        finetune: how the pruned network is trained on.
        compensate: what is done about the removed units before that (:func:`splinelib.prune`).
        start: the weights that training starts from (:data:`splinelib.methods.Start`).
    """

    kind: ClassVar[str] = "prune"
    dense: DenseRun
    criterion: str
    scope: Scope
    ratio: float
    finetune: TrainSettings
    compensate: Compensate = field(default="none", metadata={"later": True})
    start: Start = field(default="trained", metadata={"later": True})

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        check_method(self.criterion, self.compensate, self.start, self.scope)


@dataclass(frozen=True)
class OneShotRun:
    """Prune the network of a dense run and measure it without any training; attributes as of :class:`PruneRun`."""

    kind: ClassVar[str] = "oneshot"
    dense: DenseRun
    criterion: str
    scope: Scope
    ratio: float
    compensate: Compensate = "none"

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        check_method(self.criterion, self.compensate, "trained", self.scope)


Run = DenseRun | PruneRun | OneShotRun

EARLY = 2
"""Epochs after which weights are taken for a lottery ticket that starts from early weights."""

FRESH_SEED = 10_000
"""Added to the seed for weights that have nothing to do with the dense run's."""


def execute(run: Run, store: RecordStore, device: torch.device, progress: bool = True) -> dict[str, Any]:
    """Compute ``run`` and return its results as JSON values; weights and checkpoints go to ``store``.

    ``progress`` says whether training shows a bar.
    """
    data = load_run_data(run if isinstance(run, DenseRun) else run.dense, device)
    if isinstance(run, DenseRun):
        return _execute_dense(run, data, store, device, progress)
    if isinstance(run, OneShotRun):
        return _execute_one_shot(run, data, store, device)
    return _execute_prune(run, data, store, device, progress)


def load_run_data(run: DenseRun, device: torch.device) -> Dataset:
    """The run's data set on ``device``, thinned to the run's number of training images."""
    data = load_dataset(run.dataset)
    chosen = subset(data.train, run.images, seed=run.seed)
    return dataclasses.replace(data, train=chosen.to(device), test=data.test.to(device))


def _new_model(run: DenseRun, data: Dataset, device: torch.device) -> nn.Module:
    channels, size = data.train.images.shape[1], data.train.images.shape[-1]
    model = build_model(
        run.arch,
        num_classes=data.num_classes,
        in_channels=channels,
        width=run.width,
        image_size=size,
        seed=run.seed,
    )
    return model.to(device)


def _example(data: Dataset) -> Tensor:
    return normalize(data.test.images[:2], data)


def canvas_pair(data: Dataset, seed: int) -> tuple[int, int]:
    """Indices of two test images of different classes, drawn with ``seed``."""
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(seed)).tolist()
    labels = data.test.labels.cpu()
    other = next(index for index in order if labels[index] != labels[order[0]])
    return order[0], other


class _Watch:
    """Training callback that keeps one spline detector and one mask detector for each ratio."""

    def __init__(self, run: DenseRun, data: Dataset, model: nn.Module) -> None:
        pair = torch.tensor(canvas_pair(data, run.seed), device=data.test.images.device)
        first, second = normalize(data.test.images[pair], data)
        self.spline = SplineEarlyBird(two_image_canvas(first, second, run.canvas_side))
        # A network without batch norm has no such mask; the spline detector needs none.
        has_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
        self.masks = {ratio: MaskEarlyBird(ratio) for ratio in run.mask_ratios if has_norm}

    def after_epoch(self, model: nn.Module, epoch: int) -> dict[str, Any]:
        for detector in (self.spline, *self.masks.values()):
            detector.update(model)
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {
            "spline": self.spline.state_dict(),
            "masks": [mask.state_dict() for mask in self.masks.values()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.spline.load_state_dict(state["spline"])
        for mask, saved in zip(self.masks.values(), state["masks"], strict=True):
            mask.load_state_dict(saved)

    def results(self) -> dict[str, Any]:
        consecutive = [
            self.spline.layer_distances[t, t - 1].round(6).tolist()
            for t in range(1, len(self.spline.distances))
        ]
        return {
            "spline": {
                "epoch": self.spline.epoch,
                "threshold": self.spline.threshold,
                "window": self.spline.window,
                "distances": self.spline.distances.round(6).tolist(),
                "consecutive_by_layer": consecutive,
            },
            "masks": [
                {"ratio": ratio, "epoch": mask.epoch, "distances": mask.distances.round(6).tolist()}
                for ratio, mask in self.masks.items()
            ],
        }


def _execute_dense(
    run: DenseRun, data: Dataset, store: RecordStore, device: torch.device, progress: bool
) -> dict[str, Any]:
    model = _new_model(run, data, device)
    watch = _Watch(run, data, model)
    checkpoint = store.checkpoint_path(run)
    rows = train(
        model, data, run.train, seed=run.seed, callbacks=[watch], checkpoint=checkpoint, progress=progress
    )
    with atomic_path(store.weights_path(run)) as path:
        torch.save(model.state_dict(), path)
    return {"epochs": rows, "cost": dataclasses.asdict(cost(model, _example(data))), **watch.results()}


def trained_model(run: DenseRun, data: Dataset, store: RecordStore, device: torch.device) -> nn.Module:
    """The network that a finished dense run left in ``store``, in eval mode."""
    model = _new_model(run, data, device)
    model.load_state_dict(load_tensors(store.weights_path(run)))
    return model.eval()


def calibration(data: Dataset, seed: int) -> Calibration:
    """Training images without augmentation, class-balanced, that criteria and compensations may look at."""
    chosen = subset(data.train, min(CALIBRATION, len(data.train)), seed=seed)
    return Calibration(normalize(chosen.images, data), chosen.labels)


def _dense_of(
    run: PruneRun | OneShotRun, data: Dataset, store: RecordStore, device: torch.device
) -> tuple[nn.Module, float]:
    """The trained network that a run starts from, and its accuracy."""
    record = store.load(run.dense)
    if record is None:
        raise RecordError(f"store {store.root} has no record of {run.dense}: run it first, as a sweep does")
    return trained_model(run.dense, data, store, device), record.results["epochs"][-1]["accuracy"]


def _measured(dense: nn.Module, pruned: nn.Module, data: Dataset, images: Tensor) -> dict[str, Any]:
    """A pruned network before any training: accuracy as it is and with batch norms re-estimated; cost and widths."""
    example = images[:2]
    return {
        "pruned_accuracy": evaluate(pruned, data),
        "reestimated_accuracy": evaluate(reestimate_norms(pruned, images), data),
        "dense_cost": dataclasses.asdict(cost(dense, example)),
        "cost": dataclasses.asdict(cost(pruned, example)),
        "widths": {layer.name: layer.units for layer in read_layers(pruned, example)},
        "dense_widths": {layer.name: layer.units for layer in read_layers(dense, example)},
    }


def _execute_one_shot(
    run: OneShotRun, data: Dataset, store: RecordStore, device: torch.device
) -> dict[str, Any]:
    dense, dense_accuracy = _dense_of(run, data, store, device)
    known = calibration(data, run.dense.seed)
    started = time.monotonic()
    pruned = shrink(dense, run.criterion, run.ratio, run.scope, run.compensate, run.dense.seed, known)
    seconds = time.monotonic() - started
    measured = _measured(dense, pruned, data, known.images)
    return {"dense_accuracy": dense_accuracy, "seconds": seconds, **measured}


def _execute_prune(
    run: PruneRun, data: Dataset, store: RecordStore, device: torch.device, progress: bool
) -> dict[str, Any]:
    dense, dense_accuracy = _dense_of(run, data, store, device)
    known = calibration(data, run.dense.seed)
    pruned = _pruned(run, dense, data, known, device)
    results = {"dense_accuracy": dense_accuracy, **_measured(dense, pruned, data, known.images)}
    soft = run.criterion == "sfp"  # which is trained at full width, and cut at the end
    rows = train(
        dense if soft else pruned,
        data,
        run.finetune,
        seed=run.dense.seed + 1,
        callbacks=[SoftPruning(run.ratio, known)] if soft else [],
        checkpoint=store.checkpoint_path(run),
        progress=progress,
    )
    if soft:
        cut = shrink(dense, "sfp", run.ratio, run.scope, "none", run.dense.seed, known)
        accuracy = evaluate(reestimate_norms(cut, known.images), data)
    else:
        accuracy = rows[-1]["accuracy"]
    return {**results, "accuracy": accuracy, "epochs": rows}


def _pruned(
    run: PruneRun, dense: nn.Module, data: Dataset, known: Calibration, device: torch.device
) -> nn.Module:
    """The small network as its training starts."""
    seed = run.dense.seed
    if run.start == "trained":
        return shrink(dense, run.criterion, run.ratio, run.scope, run.compensate, seed, known)
    selection = choose_units(dense, run.criterion, run.ratio, run.scope, seed, known)
    fresh = dataclasses.replace(run.dense, seed=seed + FRESH_SEED) if run.start == "fresh" else run.dense
    source = _new_model(fresh, data, device)
    if run.start == "early":  # as in the dense run, bit by bit
        train(source, data, run.dense.train, seed=seed, stop=EARLY, progress=False)
    return remove_units(source, known.images[:2], selection)
