"""SGD along a schedule: one step, one epoch, and checkpoints that resume exactly."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splinelib.errors import RecordError, SplineError, TrainingError
from splinelib.files import load_tensors, save_tensors, sound
from splinestudy.data import Dataset, batch_count, batches
from splinestudy.training import distributed
from splinestudy.training.cuda_graphs import captured
from splinestudy.training.energy import EnergyMeter
from splinestudy.training.settings import TrainSettings
from splinestudy.training.small_maps import SmallMapsAsProducts, has_matrix_units

_LOG = logging.getLogger(__name__)


class Callback(Protocol):
    """Looks at a network after every epoch, once its accuracy is measured. Its state travels in the checkpoint."""

    def after_epoch(self, model: nn.Module, epoch: int) -> dict[str, Any]:
        """Values for the epoch's row (JSON types). Only soft pruning changes the model."""

    def state_dict(self) -> dict[str, Any]:
        """State as tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state over."""


@dataclass
class _Progress:
    """Where training stands: all that a checkpoint holds besides the tensors of model and optimiser."""

    epoch: int = 0
    step: int = 0  # batches already taken in this epoch
    loss_sum: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    joules: float | None = None  # None: nothing on this machine counts them
    rows: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """A model with its optimiser and the place where its training stands, which go into a checkpoint together."""

    def __init__(
        self,
        model: nn.Module,
        settings: TrainSettings,
        seed: int,
        callbacks: Sequence[Callback],
        checkpoint: Path | None,
        every: float,
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last)
        self.forward = torch.compile(model) if settings.compile else model
        products = has_matrix_units() and not settings.compile
        self.faster: Any = SmallMapsAsProducts() if products else contextlib.nullcontext()
        self.recorded: tuple[torch.Size, Callable[[Tensor], Tensor]] | None = None
        self.settings, self.seed, self.callbacks = settings, seed, callbacks
        self.checkpoint, self.every, self.saved = checkpoint, every, time.monotonic()
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov,
        )
        self.scales: list[Any] = [
            module.weight
            for module in model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            and module.weight is not None
            and module.weight.requires_grad
        ]
        self.state = _Progress()

    def run_epoch(self, dataset: Dataset) -> None:
        """One pass over the training images, from ``state.step`` on."""
        state = self.state
        # All chance of an epoch comes from (seed, epoch, step), so the data position is the step number alone.
        seed = self.seed * 100_003 + state.epoch
        generator = torch.Generator().manual_seed(seed)
        stream = batches(
            dataset.train,
            dataset,
            self.settings.batch_size,
            generator=generator,
            augment=True,
            skip=state.step,
            part=distributed.part(),
        )
        self.model.train()
        alone = distributed.alone()
        before, started = state.seconds, time.monotonic()
        device = dataset.train.images.device
        # What was trained without a counter has no energy, and so has not the whole.
        # And of several processes each sees its own GPU only.
        used, meter = state.joules if state.seconds else 0.0, EnergyMeter(device)
        loss_sum = torch.tensor(state.loss_sum, dtype=torch.float64, device=device)
        steps = batch_count(len(dataset.train), self.settings.batch_size)
        for images, labels in stream:
            # Half a step on, so that neither the first nor the last step has a rate of 0.
            self._set_lr(self.settings.lr_at(state.epoch + (state.step + 0.5) / steps))
            # The factor is a prime below 2^32, since the CPU's generator takes the lower 32 bits of a seed alone.
            chance = seed + 1_000_000_007 * (state.step + 1) + 15_485_863 * distributed.part()[0]
            count = len(labels) if alone else int(distributed.total(torch.tensor(len(labels), device=device)))
            with seeded(chance, device):
                loss_sum += self._step(images, labels, count) * count
            state.step += 1
            state.seen += count
            if self.due():
                state.seconds = before + time.monotonic() - started
                state.loss_sum, state.joules = self._finite(loss_sum), _added(used, meter.joules())
                self.save()
        state.loss_sum, state.joules = self._finite(loss_sum), _added(used, meter.joules())
        state.seconds = before + time.monotonic() - started

    def _set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def _step(self, images: Tensor, labels: Tensor, count: int | None = None) -> Tensor:
        """One step of SGD; the mean loss, detached, of the batch, which has ``count`` images in all processes."""
        images = images.contiguous(memory_format=torch.channels_last)
        low, forward = self.settings.precision == "bfloat16", self._passes(images)
        with self.faster, torch.autocast(images.device.type, torch.bfloat16, enabled=low):
            loss = F.cross_entropy(forward(images), labels, label_smoothing=self.settings.label_smoothing)
        if count is not None and not distributed.alone():  # of the mean over all parts, the share of this one
            loss = loss * (len(labels) / count) if len(labels) else forward(images).sum()
        self.optimizer.zero_grad()
        loss.backward()
        distributed.sum_gradients(self.model)
        if self.settings.norm_l1:
            for scale in self.scales:
                scale.grad.add_(scale.detach().sign(), alpha=self.settings.norm_l1)
        self.optimizer.step()
        return distributed.total(loss.detach())

    def _passes(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """The forward pass; on a GPU, for all but a smaller last batch, a recorded one."""
        if not images.is_cuda or self.settings.compile or not distributed.alone():
            return self.forward
        if self.recorded is None:
            self.recorded = images.shape, captured(self.model, images, self.settings.precision == "bfloat16")
        shape, recorded = self.recorded
        return recorded if images.shape == shape else self.forward

    def _finite(self, loss_sum: Tensor) -> float:
        value = float(loss_sum)
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} in epoch {self.state.epoch} with {self.settings}: "
                "lower lr, or check the images for NaN"
            )
        return value

    def due(self) -> bool:
        """Whether there is a checkpoint to write, and the last one is old enough."""
        return self.checkpoint is not None and time.monotonic() - self.saved > self.every

    def save(self) -> None:
        """Write the checkpoint, if there is to be one."""
        if self.checkpoint is not None:
            self.write(self.checkpoint, self.callbacks)
            self.saved = time.monotonic()

    def write(self, path: Path, callbacks: Sequence[Callback]) -> None:
        """Write where the training stands, whole or not at all; of several processes the first one does."""
        if distributed.part()[0]:
            return
        content = {
            "settings": asdict(self.settings),
            "seed": self.seed,
            "threads": torch.get_num_threads(),
            "progress": asdict(self.state),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "callbacks": [callback.state_dict() for callback in callbacks],
        }
        save_tensors(path, content)

    @contextlib.contextmanager
    def resumed(self) -> Iterator[_Progress]:
        """Take the checkpoint over, if there is one, and within the block its number of threads.

        Several processes share the statistics of batch norms there, and have all read the checkpoint before one writes.
        """
        threads = torch.get_num_threads()
        try:
            self._resume()
            with distributed.shared_norms(self.model):
                yield self.state
            distributed.meet()
        finally:
            torch.set_num_threads(threads)

    def _resume(self) -> None:
        content = None if self.checkpoint is None else sound(load_tensors, self.checkpoint)
        if content is None:
            return
        if content.get("settings") != asdict(self.settings) or content.get("seed") != self.seed:
            raise RecordError(
                f"checkpoint {self.checkpoint} was made with seed {content.get('seed')} and {content.get('settings')}: "
                "delete it, or train with those settings"
            )
        try:
            self.model.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
            for callback, state in zip(self.callbacks, content["callbacks"], strict=True):
                callback.load_state_dict(state)
            self.state = _Progress(**content["progress"])
        except SplineError:
            raise
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise RecordError(
                f"checkpoint {self.checkpoint} is of another network ({error}): delete it"
            ) from error
        _keep_threads(content["threads"], self.checkpoint)


def _keep_threads(before: int, checkpoint: Path | None) -> None:
    """Go on with as many threads as the checkpoint was made with, since sums depend on them, or say what changes."""
    now = torch.get_num_threads()
    if before == now:
        return
    if before < now:
        torch.set_num_threads(before)
    _LOG.warning(
        "%s was made with %d threads and goes on with %d: %s",
        checkpoint,
        before,
        min(before, now),
        "as if undisturbed"
        if before < now
        else f"last digits may differ (OMP_NUM_THREADS={before} keeps them)",
    )


def _added(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout inside draws from ``seed``, since it can use global generators only; these are left as they were."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.random.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed(seed)
        yield
