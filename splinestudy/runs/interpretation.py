"""The runs of the chapter on interpretation: trained networks read through their partition, and watched in training."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch

from splinelib.checks import Count, NonNegative, check_fields
from splinelib.layers.network import read_layers
from splinelib.pruning.selection import select_units
from splinelib.pruning.surgery import Selection
from splinestudy.analysis import boundary_share, complexity_watch, overlap
from splinestudy.analysis.trained_network import (
    Subject,
    boundary_windows,
    channel_rows,
    effect_rows,
    removal_rows,
    sampled_points,
)
from splinestudy.data import Calibration, Dataset, load_dataset, normalize, subset
from splinestudy.models import build_model
from splinestudy.runs.columns import columns
from splinestudy.runs.dense import DenseRun, load_run_data, missing_network, trained_model
from splinestudy.runs.methods import make_criterion
from splinestudy.runs.run import Run
from splinestudy.runs.store import RecordStore
from splinestudy.training.loop import train
from splinestudy.training.settings import TrainSettings

CRITERIA = ("spline", "l1", "bn_scale", "fpgm", "synflow", "random")
"""What networks are read by."""


@dataclass(frozen=True)
class ReadingRun:
    """One trained network, read through its partition.

    Attributes:
        dense: the run that trained it.
        images: test images for class means and accuracies.
        lines: straight lines between test images on which points of the decision boundary are sought.
        ratios: shares of each layer's units to remove.
        windows: exact windows around points of the decision boundary.
        regions: about so many regions in each.
        noise: standard deviation of noise added to the ends of the lines: where pixels of equal value tie max pools,
            endlessly many boundaries would meet in one point.
    """

    kind: ClassVar[str] = "reading"
    dense: DenseRun
    images: Count
    lines: Count
    ratios: tuple[float, ...]
    windows: Count
    regions: Count
    noise: NonNegative = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    def needs(self, store: RecordStore) -> Sequence[Run]:
        """The dense run, with its weights."""
        return missing_network(self.dense, store)

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """All that is read off one network."""
        subject = load_subject(self, store)
        points = sampled_points(subject, self.lines, self.noise)
        rates = boundary_share.touch_rates(subject.model, points)
        unit_rates = boundary_share.unit_rates(subject.model, subject.layers, subject.example, points)
        selections = {ratio: selections_of(subject, ratio) for ratio in self.ratios}
        windows = boundary_windows(subject, points, self.windows, self.regions)
        exact = [boundary_share.exact_window(subject.model, window) for window in windows]
        return {
            "accuracy": subject.accuracy(subject.model),
            "points": len(points.inputs),
            "channels": columns(channel_rows(subject, unit_rates), 5),
            "touching": columns(
                [{"layer": n, **row} for n, row in enumerate(boundary_share.touching_share(rates))], 5
            ),
            "windows": columns(
                [
                    {"window": number, "regions": len(part), **_finite(row)}
                    for number, part in enumerate(exact)
                    for row in boundary_share.window_rows(part)
                ],
                5,
            ),
            "removal": columns(removal_rows(subject, unit_rates, self.ratios), 5),
            "overlap": [
                {
                    "ratio": ratio,
                    "criteria": list(chosen),
                    "jaccard": overlap.jaccard_matrix(chosen).round(4).tolist(),
                }
                for ratio, chosen in selections.items()
            ],
            "effects": columns(effect_rows(subject, selections, windows), 5),
        }


def selections_of(subject: Subject, ratio: float) -> dict[str, Selection]:
    """What every one of :data:`CRITERIA` takes from each layer."""
    known = Calibration(subject.inputs, subject.labels)
    return {
        name: select_units(
            subject.layers, make_criterion(name, 0, known)(subject.model, subject.layers), ratio
        )
        for name in CRITERIA
    }


@dataclass(frozen=True)
class ProgressRun:
    """A network watched while it trains.

    Attributes:
        dataset, images, arch, width: data set, number of training images, network and its width factor.
        epochs: of training.
        points: of each kind around which local complexity is measured.
        directions, radius: of the cross-polytopes, see :class:`splinestudy.analysis.complexity_watch.ProgressWatch`.
        regions: about so many regions in each window after the first epoch.
        noise: as for :class:`ReadingRun`, added to training and test images.
        seed: of everything.
    """

    kind: ClassVar[str] = "reading_progress"
    dataset: str
    images: int
    arch: str
    width: float
    epochs: int
    points: int
    directions: int = 8
    radius: float = 0.005
    regions: int = 300
    lr: float = 0.1
    seed: int = 0
    noise: float = 0.0

    def needs(self, store: RecordStore) -> Sequence[Run]:
        """Nothing."""
        return ()

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """Train the network and measure it after every epoch: ``rows`` and ``epochs``."""
        data = load_dataset(self.dataset)
        data = _thinned(data, self)
        images = data.train.images
        model = build_model(
            self.arch,
            num_classes=data.num_classes,
            in_channels=images.shape[1],
            width=self.width,
            image_size=images.shape[-1],
            seed=self.seed,
        )
        points = complexity_watch.probe_points(data, self.points, self.seed, self.noise)
        watch = complexity_watch.ProgressWatch(points, self.directions, self.radius, self.regions, self.seed)
        settings = TrainSettings(self.epochs, lr=self.lr)
        epochs = train(model, data, settings, seed=self.seed, callbacks=[watch], progress=False)
        rows = [_finite(row) for row in watch.rows]
        return {"rows": columns(rows), "epochs": columns(epochs)}


@dataclass(frozen=True)
class _Size:
    """What the sizes of a profile set."""

    images: int
    lines: int
    ratios: tuple[float, ...]
    windows: int
    regions: int
    progress: ProgressRun
    noise: float = 0.0


_SIZES: MappingProxyType[str, _Size] = MappingProxyType(
    {
        "smoke": _Size(
            images=120,
            lines=80,
            ratios=(0.1,),
            windows=1,
            regions=20,
            progress=ProgressRun("digits", 300, "vgg16_bn", 1 / 16, 3, 20, regions=30, noise=0.02),
            noise=0.02,
        ),
        "quick": _Size(
            600, 300, (0.1, 0.2), 1, 60, ProgressRun("cifar10", 1500, "vgg16_bn", 1 / 8, 5, 30, regions=50)
        ),
        "reference": _Size(
            2000,
            1000,
            (0.05, 0.1, 0.2),
            2,
            200,
            ProgressRun("cifar10", 20_000, "vgg16_bn", 1 / 8, 16, 100, regions=100),
        ),
    }
)


def reading_runs(size: str, runs: Sequence[DenseRun]) -> list[ReadingRun]:
    """A reading of each of the dense ``runs``, as thorough as ``size`` says."""
    chosen = _SIZES[size]
    return [
        ReadingRun(
            run, chosen.images, chosen.lines, chosen.ratios, chosen.windows, chosen.regions, chosen.noise
        )
        for run in runs
    ]


def progress_runs(size: str, seeds: Sequence[int]) -> list[ProgressRun]:
    """A training to watch with each of the ``seeds``, as long as ``size`` says."""
    return [dataclasses.replace(_SIZES[size].progress, seed=seed) for seed in seeds]


def load_subject(study: ReadingRun, networks: RecordStore) -> Subject:
    """The study's network, whose weights its run left in ``networks``, and test images."""
    device = torch.device("cpu")
    data = load_run_data(study.dense, device)
    model = trained_model(study.dense, data, networks, device)
    chosen = subset(data.test, min(study.images, len(data.test)), seed=0)
    inputs = normalize(chosen.images[:], data)
    return Subject(model, read_layers(model, inputs[:2]), inputs, chosen.labels)


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """NaN, which JSON has not, as None."""
    return {name: None if value != value else value for name, value in row.items()}


def _thinned(data: Dataset, study: ProgressRun) -> Dataset:
    test = subset(data.test, min(1000, len(data.test)), seed=study.seed)
    return dataclasses.replace(data, train=subset(data.train, study.images, seed=study.seed), test=test)
