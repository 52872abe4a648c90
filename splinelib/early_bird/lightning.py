"""Early-bird detection as a callback of Lightning (optional: the extra ``lightning``, or ``pip install lightning``).

Nothing else in splinelib imports this module, so nothing else needs the package::

    from splinelib.early_bird.lightning import SplineEarlyBirdCallback

    bird = SplineEarlyBirdCallback(canvas, stop=True)
    Trainer(callbacks=[bird]).fit(module, loader)
    bird.drawn, bird.epoch, bird.step
"""

from typing import Any

from torch import Tensor

from splinelib.checks import Count, checked
from splinelib.early_bird.detectors import RELEASED_THRESHOLD, SplineEarlyBird, Threshold
from splinelib.errors import RecordError, SettingError

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise SettingError(
        "splinelib.early_bird.lightning needs the package lightning, which is not installed: pip install lightning"
    ) from error


class SplineEarlyBirdCallback(Callback):
    """Lets a :class:`~splinelib.early_bird.detectors.SplineEarlyBird` watch a module that Lightning trains.

    Args:
        canvas: batch of inputs [points, ...] that the module's ``forward`` takes. Its device follows the module's
            parameters, and its dtype too unless it holds integers.
        threshold: the bird is drawn when the distances to the ``window`` observations before are below it.
        window: number of observations looked back at.
        every_n_steps: observe after every n-th batch at whose end a step is made, counted over the whole training;
            steps of several optimisers in one batch count as one. None observes at the end of every epoch. The window
            counts observations, whatever their interval.
        stop: end the training once the bird is drawn (Lightning's own ``min_epochs`` and ``min_steps`` still hold).
        name: tells apart, in a checkpoint, callbacks of one trainer that differ in nothing but the canvas or ``stop``.
        bits: signs kept of each layer (:func:`splinelib.early_bird.codes.sign_codes`).

    Attributes:
        detector: the detector with its codes and distances; ``detector.epoch`` is an index of observations.
        steps: optimiser steps done at each observation, Lightning's ``global_step``, in which each optimiser's count.
        epochs: Lightning's epoch, from 0, at each observation.

    The state travels in Lightning's checkpoints: a resumed training draws as if never interrupted. With several
    processes, each observes its own copy of the module, and all stop as soon as one has drawn.

    Raises :class:`SettingError` if a setting is out of range; in training, see
    :func:`splinelib.early_bird.codes.sign_codes`.
    """

    @checked
    def __init__(
        self,
        canvas: Tensor,
        threshold: Threshold = RELEASED_THRESHOLD,
        window: Count = 3,
        every_n_steps: Count | None = None,
        stop: bool = False,
        name: str = "",
        bits: Count = 2**17,
    ) -> None:
        self.detector = SplineEarlyBird(canvas, threshold, window, bits)
        self.every_n_steps = every_n_steps
        self.stop = stop
        self.name = name
        self.steps: list[int] = []
        self.epochs: list[int] = []
        self._stepped = self._last = 0  # batches that made a step; ``global_step`` at the end of the latest

    @property
    def drawn(self) -> bool:
        """Whether the bird has been drawn."""
        return self.detector.epoch is not None

    @property
    def step(self) -> int | None:
        """Optimiser steps done when the bird was drawn, or None."""
        return None if self.detector.epoch is None else self.steps[self.detector.epoch]

    @property
    def epoch(self) -> int | None:
        """Lightning's epoch, from 0, in or after which the bird was drawn, or None."""
        return None if self.detector.epoch is None else self.epochs[self.detector.epoch]

    @property
    def state_key(self) -> str:
        """Under what name a checkpoint keeps the state: class, settings of the rule, and ``name``."""
        return self._generate_state_key(
            threshold=self.detector.threshold,
            window=self.detector.window,
            bits=self.detector.bits,
            every_n_steps=self.every_n_steps,
            name=self.name,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Observe if ``every_n_steps`` more batches have made a step (several batches may make one)."""
        if trainer.global_step == self._last:
            return
        self._last = trainer.global_step
        self._stepped += 1
        if self.every_n_steps is not None and self._stepped % self.every_n_steps == 0:
            self._observe(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Observe unless ``every_n_steps`` says when."""
        if self.every_n_steps is None:
            self._observe(trainer, pl_module)

    def _observe(self, trainer: Trainer, module: LightningModule) -> None:
        canvas = self.detector.canvas
        parameter = next(module.parameters(), canvas)
        dtype = parameter.dtype if canvas.is_floating_point() else canvas.dtype
        self.detector.canvas = canvas.to(parameter.device, dtype)
        drawn = self.detector.update(module)
        self.steps.append(trainer.global_step)
        self.epochs.append(trainer.current_epoch)
        if self.stop:
            # Batch-norm statistics may differ between processes, but all must stop together or they hang.
            together = trainer.strategy.reduce_boolean_decision(drawn, all=False)
            trainer.should_stop = trainer.should_stop or together

    def state_dict(self) -> dict[str, Any]:
        """The detector's state, the steps and epochs of its observations, and the count of steps."""
        return {
            "detector": self.detector.state_dict(),
            "steps": list(self.steps),
            "epochs": list(self.epochs),
            "stepped": self._stepped,
            "last": self._last,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state made by :meth:`state_dict`. Raises :class:`RecordError` as the detector does."""
        if missing := {"detector", "steps", "epochs", "stepped", "last"} - state_dict.keys():
            raise RecordError(f"callback state lacks {sorted(missing)}: it was not made by state_dict()")
        self.detector.load_state_dict(state_dict["detector"])
        self.steps, self.epochs = list(state_dict["steps"]), list(state_dict["epochs"])
        self._stepped, self._last = state_dict["stepped"], state_dict["last"]
