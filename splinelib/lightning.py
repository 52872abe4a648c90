"""Early-bird detection as a callback of Lightning (optional: ``pip install lightning``).

Nothing else in splinelib imports this module, so nothing else needs the package::

    from splinelib.lightning import SplineEarlyBirdCallback

    bird = SplineEarlyBirdCallback(canvas, stop=True)
    Trainer(callbacks=[bird]).fit(module, loader)
    bird.drawn, bird.epoch, bird.step
"""

from typing import Any

from torch import Tensor

from splinelib.earlybird import SplineEarlyBird
from splinelib.errors import RecordError, SettingError

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise SettingError(
        "splinelib.lightning needs the package lightning, which is not installed: pip install lightning"
    ) from error


class SplineEarlyBirdCallback(Callback):
    """Lets a :class:`~splinelib.earlybird.SplineEarlyBird` watch a module that Lightning trains.

    Args:
        canvas: batch of inputs [points, ...] that the module's ``forward`` takes. Its device and dtype follow the
            module's parameters.
        threshold: the bird is drawn when the distances to the ``window`` observations before are below it.
        window: number of observations looked back at.
        every_n_steps: observe after every n-th optimiser step, counted over the whole training; None observes at the
            end of every epoch. The window counts observations, whatever their interval.
        stop: end the training once the bird is drawn (Lightning's own ``min_epochs`` and ``min_steps`` still hold).
        name: tells apart, in a checkpoint, callbacks of one trainer that differ in nothing but the canvas or ``stop``.

    Attributes:
        detector: the detector with its codes and distances; ``detector.epoch`` is an index of observations.
        steps: optimiser steps done at each observation.
        epochs: Lightning's epoch, from 0, at each observation.

    The state travels in Lightning's checkpoints: a resumed training draws as if never interrupted. With several
    processes, each observes its own copy of the module, and all stop as soon as one has drawn.

    Raises :class:`SettingError` if a setting is out of range; in training, see :func:`splinelib.codes.sign_codes`.
    """

    def __init__(
        self,
        canvas: Tensor,
        threshold: float = 0.16,
        window: int = 3,
        every_n_steps: int | None = None,
        stop: bool = False,
        name: str = "",
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise SettingError(f"every_n_steps is {every_n_steps}: use at least 1, or None for every epoch")
        self.detector = SplineEarlyBird(canvas, threshold, window)
        self.every_n_steps = every_n_steps
        self.stop = stop
        self.name = name
        self.steps: list[int] = []
        self.epochs: list[int] = []

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
            every_n_steps=self.every_n_steps,
            name=self.name,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Observe if ``every_n_steps`` more optimiser steps are done (several batches may make one step)."""
        step = trainer.global_step
        due = self.every_n_steps is not None and step > 0 and step % self.every_n_steps == 0
        if due and step not in self.steps[-1:]:
            self._observe(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Observe unless ``every_n_steps`` says when."""
        if self.every_n_steps is None:
            self._observe(trainer, pl_module)

    def _observe(self, trainer: Trainer, module: LightningModule) -> None:
        parameter = next(module.parameters())
        self.detector.canvas = self.detector.canvas.to(parameter.device, parameter.dtype)
        drawn = self.detector.update(module)
        self.steps.append(trainer.global_step)
        self.epochs.append(trainer.current_epoch)
        if self.stop:
            # Batch-norm statistics may differ between processes, but all must stop together or they hang.
            together = trainer.strategy.reduce_boolean_decision(drawn, all=False)
            trainer.should_stop = trainer.should_stop or together

    def state_dict(self) -> dict[str, Any]:
        """The detector's state, and the steps and epochs of its observations."""
        return {
            "detector": self.detector.state_dict(),
            "steps": list(self.steps),
            "epochs": list(self.epochs),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state made by :meth:`state_dict`. Raises :class:`RecordError` if entries are missing."""
        if missing := {"detector", "steps", "epochs"} - state_dict.keys():
            raise RecordError(f"callback state lacks {sorted(missing)}: it was not made by state_dict()")
        self.detector.load_state_dict(state_dict["detector"])
        self.steps, self.epochs = list(state_dict["steps"]), list(state_dict["epochs"])
