"""Measuring and fine-tuning on a folder of images, in one process or several."""

import logging
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DistributedSampler

from splinelib.artifacts import atomic_path, load_tensors
from splinelib.bars import progress_bar
from splinelib.errors import RecordError, SettingError, TrainingError
from splinelib.imagenet.folders import Folder, Images, evaluation_transform, loader, training_transform
from splinelib.imagenet.processes import agree, place, total
from splinelib.imagenet.settings import FineTune
from splinelib.taps import evaluating
from splinelib.trainer import seeded

_LOG = logging.getLogger(__name__)
SAVE_STEPS = 500
"""Steps between two checkpoints: a few minutes of ResNet-50 on a GPU."""


def evaluate(
    model: nn.Module, folder: Folder, device: torch.device, batch_size: int = 256, workers: int = 0
) -> dict[str, float]:
    """Shares of all validation images whose label has the largest output (top1), or one of the five largest (top5).

    Several processes share the images; each image counts once.
    """
    rank, world = place()
    images = Images(folder.val, evaluation_transform(folder.size))
    batches = loader(images, range(rank, len(images), world), batch_size, workers)
    right = torch.zeros(2, dtype=torch.float64, device=device)
    shown = rank == 0 and sys.stderr.isatty()
    with evaluating(model), progress_bar(len(batches), "batch", title="evaluating", shown=shown) as bar:
        for pictures, labels in batches:
            best = model(pictures.to(device)).topk(min(5, len(folder.classes))).indices
            hits = best == labels.to(device)[:, None]
            right += torch.stack([hits[:, 0].sum(), hits.sum()])
            bar.update()
    top1, top5 = (value / len(images) for value in total(right))
    return {"top1": top1, "top5": top5}


@dataclass
class _Progress:
    """Where fine-tuning stands: all that a checkpoint holds besides tensors."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)


def finetune(
    model: nn.Module,
    folder: Folder,
    settings: FineTune,
    *,
    seed: int,
    device: torch.device,
    workers: int = 0,
    checkpoint: Path | None = None,
    save_steps: int = SAVE_STEPS,
) -> list[dict[str, float]]:
    """Train ``model`` in place on the training images; under torchrun, on all its processes together.

    The processes share each batch, and batch norms take the statistics of their own part; the running statistics kept
    are the first process's, as DistributedDataParallel has it. All end with the same weights.

    Args:
        model: network on ``device``, the same in all processes.
        folder: images.
        settings: schedule and optimiser.
        seed: of order, augmentation and dropout.
        device: where this process computes.
        workers: processes that decode images, for each process that trains; the result does not depend on it.
        checkpoint: file to resume from if it is there; the first process writes it after each epoch and every
            ``save_steps`` steps. On a CPU, a run that was killed and starts again ends with the same weights.

    Returns:
        One row an epoch: epoch (from 0), lr (at its end), loss (mean), top1, top5, seconds (of training, so far).

    Raises:
        SettingError: if the batch cannot be shared evenly, or exceeds the number of training images.
        TrainingError: when the loss is no longer finite.
        RecordError: when the checkpoint belongs to other settings.
    """
    world = place()[1]
    check_batch(folder, settings, world)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    marks = {"settings": json_of(settings), "seed": seed}
    state = _resume(checkpoint, model, optimizer, marks)
    parallel = nn.parallel.DistributedDataParallel(model) if world > 1 else model
    while state.epoch < settings.epochs:
        for _ in _epoch(parallel, folder, settings, optimizer, state, seed, device, workers, save_steps):
            _save(checkpoint, model, optimizer, state, marks)
        agree(model)  # the running statistics of batch norms
        row = {"epoch": state.epoch, "lr": optimizer.param_groups[0]["lr"]}
        row |= {"loss": state.loss_sum / state.step, **evaluate(model, folder, device, workers=workers)}
        state.rows.append(row | {"seconds": state.seconds})
        state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
        _save(checkpoint, model, optimizer, state, marks)
        _LOG.info("%s", state.rows[-1])
    return state.rows


def json_of(settings: FineTune) -> dict[str, Any]:
    """Settings of fine-tuning as a checkpoint keeps them."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(settings).items()}


def check_batch(folder: Folder, settings: FineTune, world: int) -> None:
    """Raise :class:`SettingError` unless ``world`` processes can share the batches that the folder gives."""
    if settings.batch_size % world or settings.batch_size // world < 2:
        raise SettingError(
            f"batch_size is {settings.batch_size} for {world} processes: "
            f"give a multiple of {world}, at least {2 * world}"
        )
    if settings.epochs and settings.batch_size > len(folder.train):
        raise SettingError(
            f"batch_size is {settings.batch_size}, but train/ has {len(folder.train)} images: "
            "lower it, or give epochs 0"
        )


def _epoch(
    parallel: nn.Module,
    folder: Folder,
    settings: FineTune,
    optimizer: torch.optim.Optimizer,
    state: _Progress,
    seed: int,
    device: torch.device,
    workers: int,
    save_steps: int,
) -> Iterator[None]:
    """One pass over the training images from ``state.step`` on; yields whenever a checkpoint is due."""
    rank, world = place()
    share, own = settings.batch_size // world, seed * 100_003 + state.epoch
    images = Images(folder.train, training_transform(folder.size), own)
    sampler: Any = DistributedSampler(images, world, rank, seed=seed, drop_last=True)
    sampler.set_epoch(state.epoch)
    batches = loader(images, list(sampler)[state.step * share :], share, workers, whole=True)
    steps, low = state.step + len(batches), settings.precision == "bfloat16"
    loss_sum = torch.zeros(1, dtype=torch.float64, device=device)
    before, started = state.seconds, time.monotonic()
    parallel.train()
    shown = rank == 0 and sys.stderr.isatty()
    with progress_bar(steps, "step", title=f"epoch {state.epoch}", initial=state.step, shown=shown) as bar:
        for pictures, labels in batches:
            for group in optimizer.param_groups:
                group["lr"] = settings.lr_at(state.epoch + state.step / steps)
            with seeded(own + 1_000_000_007 * (state.step * world + rank + 1), device):
                with torch.autocast(device.type, torch.bfloat16, enabled=low):
                    loss = F.cross_entropy(parallel(pictures.to(device)), labels.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            loss_sum += loss.detach()
            state.step += 1
            bar.update()
            if state.step % save_steps == 0 or state.step == steps:
                state.loss_sum += total(loss_sum)[0] / world
                loss_sum.zero_()
                state.seconds = before + time.monotonic() - started
                if not math.isfinite(state.loss_sum):
                    raise TrainingError(
                        f"the loss is not finite in epoch {state.epoch} with {settings}: lower lr"
                    )
                if state.step < steps:
                    yield


def _save(
    checkpoint: Path | None,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: _Progress,
    marks: dict[str, Any],
) -> None:
    if checkpoint is not None and place()[0] == 0:
        tensors = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        with atomic_path(checkpoint) as path:
            torch.save({**marks, "progress": asdict(state), **tensors}, path)


def _resume(
    checkpoint: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer, marks: dict[str, Any]
) -> _Progress:
    if checkpoint is None or not checkpoint.exists():
        return _Progress()
    content = load_tensors(checkpoint)
    if any(content.get(name) != value for name, value in marks.items()):
        raise RecordError(
            f"checkpoint {checkpoint} was not made with {marks}: delete it, or use its settings"
        )
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return _Progress(**content["progress"])
