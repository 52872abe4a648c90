"""Dense runs: train a full network and watch its partition. Most other runs start from one."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from torch import nn

from splinelib.checks import Count, Positive, Seed, Share, Within, check_fields, check_finite
from splinelib.early_bird.canvas import two_image_canvas
from splinelib.errors import LostError, RecordError
from splinelib.files import remove_temporaries, save_tensors
from splinelib.pruning.flops import cost
from splinestudy.data import Dataset, canvas_pair, example_inputs, load_dataset, normalize, subset
from splinestudy.models import build_model
from splinestudy.runs.detection import DetectionWatch
from splinestudy.runs.profiles import RECIPES, Profile
from splinestudy.runs.records import Record
from splinestudy.runs.run import Run
from splinestudy.runs.store import RecordStore
from splinestudy.training.loop import train
from splinestudy.training.settings import TrainSettings


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
    images: Count | None
    arch: str
    width: Positive
    seed: Seed
    train: TrainSettings
    canvas_side: Annotated[int, Within("[2, inf)")]
    mask_ratios: tuple[Share, ...]
    test_images: Count | None = field(default=None, metadata={"later": True})

    def __post_init__(self) -> None:
        check_fields(self)

    def needs(self, store: RecordStore) -> Sequence[Run]:
        """Nothing."""
        return ()

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """Train, and leave the weights in ``store``: rows of epochs, cost, and what the detectors saw."""
        data = load_run_data(self, device)
        model = new_model(self, data, device)
        pair = torch.tensor(canvas_pair(data, self.seed), device=device)
        first, second = normalize(data.test.images[pair], data)
        watch = DetectionWatch(two_image_canvas(first, second, self.canvas_side), self.mask_ratios, model)
        rows = train(
            model,
            data,
            self.train,
            seed=self.seed,
            callbacks=[watch],
            checkpoint=store.checkpoint_path(self),
            keep=lambda epochs: store.moment_path(self, epochs) if watch.drew(epochs - 1) else None,
            progress=progress,
        )
        save_tensors(store.weights_path(self), model.state_dict())
        return {
            "epochs": rows,
            "cost": dataclasses.asdict(cost(model, example_inputs(data))),
            **watch.results(),
        }


def dense_record(run: DenseRun, store: RecordStore) -> Record:
    """What is known of a dense run that another starts from; :class:`RecordError` where it has not been computed."""
    record = store.load(run)
    if record is None:
        raise RecordError(f"store {store.root} has no record of {run}: run it first, as a sweep does")
    return record


def missing_network(run: DenseRun, store: RecordStore) -> Sequence[Run]:
    """The dense run, unless ``store`` holds its record and the weights of its end."""
    return () if store.load(run) is not None and store.holds(store.weights_path(run)) else (run,)


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


def trained_model(run: DenseRun, data: Dataset, store: RecordStore, device: torch.device) -> nn.Module:
    """The network that a finished dense run left in ``store``, in eval mode."""
    model = new_model(run, data, device)

    def use(state: dict[str, Any]) -> None:
        for name, values in state.items():
            check_finite(name, values)
        model.load_state_dict(state)

    if store.load_tensors(store.weights_path(run), use) is None:
        raise LostError(f"store {store.root} has no sound weights of {run}: run it again, as a sweep does")
    return model.eval()


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
    with store.leased(path):
        remove_temporaries(path.parent, path.stem)
        earlier = (store.load_tensors(store.moment_path(run, number)) for number in range(epochs, 0, -1))
        start = next((moment for moment in earlier if moment is not None), None)
        if start is not None and not path.exists():
            save_tensors(path, start)
        train(model, data, run.train, seed=run.seed, checkpoint=path, stop=epochs, progress=False)
    return model.eval()


MASK_RATIOS = (0.3, 0.5, 0.7)
"""Ratios at which dense runs watch EB Train's mask [eb]; the same for all, so that dense runs are shared."""


def dense_runs(profile: Profile) -> list[DenseRun]:
    """One dense run for each seed."""
    settings = TrainSettings(
        profile.epochs,
        batch_size=profile.batch_size,
        lr=profile.lr,
        precision=profile.precision,  # type: ignore[arg-type]
        **RECIPES[profile.recipe],
    )
    return [
        DenseRun(
            dataset=profile.dataset,
            images=profile.images,
            arch=profile.arch,
            width=profile.width,
            seed=seed,
            train=settings,
            canvas_side=profile.canvas_side,
            mask_ratios=MASK_RATIOS,
            test_images=profile.test_images,
        )
        for seed in profile.seeds
    ]


SLIMMING_L1 = 1e-4
"""L1 on batch-norm scales with which network slimming trains [code, eb]."""


def slimming_runs(profile: Profile) -> list[DenseRun]:
    """The dense runs once more, trained with network slimming's L1 on the batch-norm scales."""
    runs = dense_runs(profile)
    return [dataclasses.replace(r, train=dataclasses.replace(r.train, norm_l1=SLIMMING_L1)) for r in runs]


def finetuning(profile: Profile, dense: DenseRun) -> TrainSettings:
    """How networks pruned from ``dense`` are trained on: as it was, for less long and at a lower rate, without L1."""
    return dataclasses.replace(
        dense.train, epochs=profile.finetune_epochs, lr=profile.finetune_lr, norm_l1=0.0
    )
