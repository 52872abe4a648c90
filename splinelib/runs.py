"""The kinds of runs: what their settings are, what they compute, what they measure."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from splinelib.artifacts import atomic_path
from splinelib.baselines import BatchNormScale, FilterNorm, Random
from splinelib.codes import two_image_canvas
from splinelib.cost import cost
from splinelib.criterion import Criterion, Spline
from splinelib.data import Dataset, load_dataset, normalize, subset
from splinelib.earlybird import MaskEarlyBird, SplineEarlyBird
from splinelib.errors import RecordError, SettingError
from splinelib.models import build_model
from splinelib.network import read_layers
from splinelib.pruning import Scope, check_ratio, remove_units, select_units
from splinelib.records import RecordStore
from splinelib.training import TrainSettings, evaluate, load_tensors, train

CRITERIA = ("spline", "spline_geometric", "l1", "bn_scale", "random")


def make_criterion(name: str, seed: int) -> Criterion:
    """The criterion of that name; ``seed`` is used by ``random`` alone."""
    table: dict[str, Criterion] = {
        "spline": Spline(),
        "spline_geometric": Spline(offset="geometric"),
        "l1": FilterNorm(1),
        "bn_scale": BatchNormScale(),
        "random": Random(seed),
    }
    if name not in table:
        raise SettingError(f"criterion is {name!r}: choose one of {', '.join(CRITERIA)}")
    return table[name]


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
        criterion: one of :data:`CRITERIA`.
        scope: ``"layerwise"`` or ``"global"``.
        ratio: share of units to remove.
        finetune: how the pruned network is trained on.
    """

    kind: ClassVar[str] = "prune"
    dense: DenseRun
    criterion: str
    scope: Scope
    ratio: float
    finetune: TrainSettings

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        make_criterion(self.criterion, 0)


Run = DenseRun | PruneRun


def execute(run: Run, store: RecordStore, device: torch.device, progress: bool = True) -> dict[str, Any]:
    """Compute ``run`` and return its results as JSON values; weights and checkpoints go to ``store``.

    ``progress`` says whether training shows a bar.
    """
    data = load_run_data(run if isinstance(run, DenseRun) else run.dense, device)
    if isinstance(run, DenseRun):
        return _execute_dense(run, data, store, device, progress)
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


def _execute_prune(
    run: PruneRun, data: Dataset, store: RecordStore, device: torch.device, progress: bool
) -> dict[str, Any]:
    record = store.load(run.dense)
    if record is None:
        raise RecordError(f"store {store.root} has no record of {run.dense}: run it first, as a sweep does")
    dense = trained_model(run.dense, data, store, device)
    example = _example(data)
    layers = read_layers(dense, example)
    scores = make_criterion(run.criterion, run.dense.seed)(dense, layers)
    selection = select_units(layers, scores, run.ratio, run.scope)
    pruned = remove_units(dense, example, selection)
    raw_accuracy = evaluate(pruned, data)
    rows = train(
        pruned,
        data,
        run.finetune,
        seed=run.dense.seed + 1,
        checkpoint=store.checkpoint_path(run),
        progress=progress,
    )
    return {
        "dense_accuracy": record.results["epochs"][-1]["accuracy"],
        "pruned_accuracy": raw_accuracy,
        "accuracy": rows[-1]["accuracy"],
        "epochs": rows,
        "dense_cost": dataclasses.asdict(cost(dense, example)),
        "cost": dataclasses.asdict(cost(pruned, example)),
        "widths": {layer.name: layer.units - len(selection.get(layer.name, [])) for layer in layers},
        "dense_widths": {layer.name: layer.units for layer in layers},
    }
