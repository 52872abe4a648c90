"""One short training loop, with callbacks for measuring, and the accuracy on the test images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from splinelib.checks import Count, NonNegative, Seed, Whole, checked
from splinelib.errors import SettingError
from splinelib.hooks import evaluating
from splinelib.layers.images import check_fit
from splinelib.progress import progress_bar
from splinestudy.data import Dataset, evaluation_batches, normalize
from splinestudy.training import distributed
from splinestudy.training.settings import TrainSettings
from splinestudy.training.trainer import Callback, Trainer


@checked
def train(
    model: nn.Module,
    dataset: Dataset,
    settings: TrainSettings,
    *,
    seed: Seed,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
    checkpoint_every: NonNegative = 60.0,
    first: Whole = 0,
    stop: Count | None = None,
    keep: Callable[[int], Path | None] = lambda epochs: None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Train ``model`` in place on ``dataset.train``; on a CPU the result depends on ``seed`` and threads, bit by bit.

    Args:
        model: network on the device of the data set's tensors.
        dataset: images in memory.
        settings: schedule and optimiser.
        seed: of the order of images and of augmentation.
        callbacks: asked after every epoch; their values join that epoch's row.
        checkpoint: file to resume from if it is there, written every ``checkpoint_every`` seconds and at the end.
            A run that was killed at any moment and starts again with the same arguments ends with the same result. It
            keeps its number of threads, or says that there are fewer now. A damaged file is set aside.
        first: start at this epoch of the schedule, as if those before it were done.
        stop: leave off after this many epochs of the schedule; by default at its end.
        keep: asked after every epoch with the number of epochs done; if it names a file, a checkpoint is left there
            from which training without callbacks goes on.
        progress: show a progress bar.

    Returns:
        One row an epoch: epoch (from 0), lr, loss (mean over the training images), accuracy (share of test images
        right), seconds (so far, of training alone), joules (likewise, where the device counts them:
        :class:`splinestudy.training.energy.EnergyMeter`), and what the callbacks measured.

    Raises:
        TrainingError: when the loss is no longer finite; names epoch and settings.
        RecordError: when the checkpoint belongs to other settings.
    """
    _check_classifier(model, dataset)
    trainer = Trainer(model, settings, int(seed), callbacks, checkpoint, checkpoint_every)
    trainer.state.epoch = first
    last = settings.epochs if stop is None else min(stop, settings.epochs)
    with (
        trainer.resumed() as state,
        progress_bar(last, "epoch", initial=state.epoch, shown=progress) as bar,
    ):
        while state.epoch < last:
            trainer.run_epoch(dataset)
            row = {
                "epoch": state.epoch,
                "lr": settings.lr_at(state.epoch),
                "loss": state.loss_sum / state.seen,
                "accuracy": evaluate(model, dataset),
                "seconds": state.seconds,
            }
            if state.joules is not None:
                row["joules"] = state.joules
            for callback in callbacks:
                row |= callback.after_epoch(model, state.epoch)
            state.rows.append(row)
            state.epoch, state.step, state.loss_sum, state.seen = state.epoch + 1, 0, 0.0, 0
            if kept := keep(state.epoch):
                trainer.write(kept, callbacks=())
            if trainer.due() or state.epoch == last:
                trainer.save()
            bar.update()
            bar.set_postfix(loss=f"{row['loss']:.3f}", accuracy=f"{row['accuracy']:.4f}")
    return state.rows


def _check_classifier(model: nn.Module, dataset: Dataset) -> None:
    """Raise :class:`SettingError` unless ``model`` gives a number for each class of each image."""
    images = normalize(dataset.train.images[:2], dataset)
    outputs = check_fit(model, images)
    if outputs.ndim != 2 or outputs.shape[1] < dataset.num_classes:
        raise SettingError(
            f"outputs of {type(model).__name__} have shape {tuple(outputs.shape)}: data set {dataset.name!r} needs "
            f"[N, {dataset.num_classes}]"
        )


EVALUATED = {"cpu": 100, "cuda": 1000}
"""Test images a batch, by device. A CPU's are few so that a layer's maps stay in a core's cache: a third of the time of
500 images on PreResNet-20.
"""


@checked
def evaluate(model: nn.Module, dataset: Dataset) -> float:
    """Share of ``dataset.test`` whose label has the largest output, in eval mode; in [0, 1]."""
    _check_classifier(model, dataset)
    device = dataset.test.images.device
    right = torch.zeros((), dtype=torch.int64, device=device)
    with evaluating(model):
        for images, labels in evaluation_batches(
            dataset.test, dataset, EVALUATED[device.type], distributed.part()
        ):
            outputs = model(images.contiguous(memory_format=torch.channels_last))
            right += (outputs.argmax(dim=1) == labels).sum()
    return int(distributed.total(right)) / len(dataset.test.labels)
