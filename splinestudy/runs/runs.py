"""The kinds of runs: what their settings are, and what they share: data, networks, images to look at."""

import dataclasses
import math
import shutil
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from filelock import FileLock
from torch import Tensor, nn

from splinelib.errors import SettingError
from splinelib.files import atomic_path, load_tensors
from splinelib.pruning.pipeline import Compensate
from splinelib.pruning.selection import RatioOf, Scope, check_ratio, check_ratio_of
from splinestudy.data import Dataset, load_dataset, normalize, subset
from splinestudy.models import CHAINS, build_model
from splinestudy.runs.methods import CALIBRATION, FRESH, PROCEDURES, Calibration, Start, check_method
from splinestudy.runs.records import RecordStore
from splinestudy.training.loop import train
from splinestudy.training.trainer import TrainSettings

Draw = int | Literal["end", "spline", "mask"]
"""When the units are chosen: after so many epochs of dense training (0: at initialisation), at its end, or after the
epoch that a detector drew: the partition's, or that of EB Train's mask at the pruning ratio.
"""


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
        test_images: at most so many test images, class-balanced and the same for every seed; None for all.
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
    test_images: int | None = field(default=None, metadata={"later": True})


@dataclass(frozen=True)
class PruneRun:
    """Prune the network of a dense run, measure it as it is, then train it on and measure it again.

    Attributes:
        dense: the run whose network is pruned.
        criterion: one of :data:`splinestudy.runs.methods.METHODS`.
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

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        check_method(self.criterion, self.compensate, self.start, self.scope)
        _check_draw(self)
        _check_ratio_of(self)
        if self.ratio_of != "units" and self.draw == "mask":
            raise SettingError(f"ratio_of is {self.ratio_of!r} with draw 'mask': masks count units")


def _check_ratio_of(run: "PruneRun | OneShotRun") -> None:
    check_ratio_of(run.ratio_of)
    if run.ratio_of != "units" and run.criterion in PROCEDURES:
        raise SettingError(
            f"ratio_of is {run.ratio_of!r} with criterion {run.criterion!r}: {' and '.join(PROCEDURES)} count units"
        )


def _check_draw(run: PruneRun) -> None:
    """Raise :class:`SettingError` for a draw or start that does not go with the other settings."""
    epochs = run.dense.train.epochs
    if isinstance(run.draw, int) and not 0 <= run.draw <= epochs:
        raise SettingError(
            f"draw is {run.draw}: the dense run has {epochs} epochs, choose from 0 to {epochs}"
        )
    if not isinstance(run.draw, int) and run.draw not in ("end", "spline", "mask"):
        raise SettingError(f"draw is {run.draw!r}: choose a number of epochs, 'end', 'spline' or 'mask'")
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
    if run.draw != "end" and run.criterion == "sfp":
        raise SettingError(f"criterion 'sfp' zeroes units while training: draw is {run.draw!r}, choose 'end'")


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
        check_ratio(self.ratio)
        check_method(self.criterion, self.compensate, "trained", self.scope)
        _check_ratio_of(self)
        if self.images < 2:
            raise SettingError(f"images is {self.images}: a calibration batch needs at least 2")


@dataclass(frozen=True)
class SensitivityRun:
    """Cut one layer at a time of a dense run's network, without any training: where does a criterion do harm?

    Attributes:
        dense: the run whose network is cut.
        criteria: those of :data:`splinestudy.runs.methods.CRITERIA` that are compared.
        ratio: share of its units that the one layer loses.
    """

    kind: ClassVar[str] = "sensitivity"
    dense: DenseRun
    criteria: tuple[str, ...]
    ratio: float

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        for name in self.criteria:
            if name in PROCEDURES:
                raise SettingError(
                    f"criteria hold {name!r}, a method of its own: it has no ranking of one layer"
                )
            check_method(name, "none", "trained", "layerwise")


@dataclass(frozen=True)
class Canvas:
    """A canvas that a settling run watches.

    Attributes:
        inputs: ``"pair"`` (the two-image grid), ``"images"`` (test images) or ``"noise"`` (uniform).
        points: how many; for a pair a square number.
        draw: which of several such canvases; draw 0 of the pair is the dense run's own pair.
    """

    inputs: Literal["pair", "images", "noise"]
    points: int
    draw: int = 0

    def __post_init__(self) -> None:
        if self.inputs not in ("pair", "images", "noise"):
            raise SettingError(f"inputs is {self.inputs!r}: choose 'pair', 'images' or 'noise'")
        if self.points < 1 or (self.inputs == "pair" and math.isqrt(self.points) ** 2 != self.points):
            raise SettingError(f"points is {self.points}: give at least 1, and for a pair a square number")


@dataclass(frozen=True)
class SettlingRun:
    """Train as a dense run does, and watch its partition on several canvases, also with the weights averaged.

    Attributes:
        training: how the network is made and trained.
        canvases: the first one is watched with averaged weights as well.
    """

    kind: ClassVar[str] = "settling"
    training: DenseRun
    canvases: tuple[Canvas, ...]

    def __post_init__(self) -> None:
        if not self.canvases:
            raise SettingError("canvases are empty: give at least one")


Run = DenseRun | PruneRun | OneShotRun | SensitivityRun | SettlingRun


def needed_run(run: Run) -> DenseRun | None:
    """The dense run whose weights ``run`` starts from, if any."""
    return run.dense if isinstance(run, PruneRun | OneShotRun | SensitivityRun) else None


def dense_settings(run: Run) -> DenseRun:
    """The settings of data, network and dense training behind ``run``."""
    if isinstance(run, DenseRun):
        return run
    return run.training if isinstance(run, SettlingRun) else run.dense


EARLY = 2
"""Epochs after which weights are taken for a lottery ticket that starts from early weights."""

FRESH_SEED = 10_000
"""Added to the seed for weights that have nothing to do with the dense run's."""


def load_run_data(run: DenseRun, device: torch.device) -> Dataset:
    """The run's data set on ``device``, thinned to the run's numbers of training and test images."""
    data = load_dataset(run.dataset)
    chosen = subset(data.train, run.images, seed=run.seed)
    fewer = run.test_images is not None and run.test_images < len(data.test)
    test = subset(data.test, run.test_images, seed=0) if fewer else data.test
    return dataclasses.replace(data, train=chosen.to(device), test=test.to(device))


def new_model(run: DenseRun, data: Dataset, device: torch.device) -> nn.Module:
    """The run's network with its initial weights."""
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


def example_inputs(data: Dataset) -> Tensor:
    """Two normalised test images."""
    return normalize(data.test.images[:2], data)


def canvas_pair(data: Dataset, seed: int) -> tuple[int, int]:
    """Indices of two test images of different classes, drawn with ``seed``."""
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(seed)).tolist()
    labels = data.test.labels.cpu()
    other = next(index for index in order if labels[index] != labels[order[0]])
    return order[0], other


def trained_model(run: DenseRun, data: Dataset, store: RecordStore, device: torch.device) -> nn.Module:
    """The network that a finished dense run left in ``store``, in eval mode."""
    model = new_model(run, data, device)
    model.load_state_dict(load_tensors(store.weights_path(run)))
    return model.eval()


def calibration(data: Dataset, seed: int, images: int = CALIBRATION) -> Calibration:
    """At most so many training images, plain and class-balanced, that criteria and compensations may look at."""
    chosen = subset(data.train, min(images, len(data.train)), seed=seed)
    return Calibration(normalize(chosen.images, data), chosen.labels)


def partly_trained(
    run: DenseRun, epochs: int, data: Dataset, store: RecordStore, device: torch.device
) -> nn.Module:
    """The network of a dense run after its first ``epochs`` epochs, bit by bit, in eval mode.

    It is trained once and kept in ``store`` with its optimiser, so that a later moment goes on from the nearest earlier
    one. Processes that ask for one moment wait for the first.
    """
    model = new_model(run, data, device)
    if not epochs:
        return model.eval()
    path = store.moment_path(run, epochs)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        earlier = [store.moment_path(run, number) for number in range(epochs - 1, 0, -1)]
        start = next((other for other in earlier if other.exists()), None)
        if start is not None and not path.exists():
            with atomic_path(path) as temporary:
                shutil.copyfile(start, temporary)
        train(model, data, run.train, seed=run.seed, checkpoint=path, stop=epochs, progress=False)
    return model.eval()
