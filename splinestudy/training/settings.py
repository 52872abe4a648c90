"""How a network is trained: SGD's settings and the learning rate along the schedule."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from splinelib.checks import Count, NonNegative, Within, check_fields
from splinelib.errors import SettingError

_Below1 = Annotated[float, Within("[0, 1)")]


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained. The defaults are the paper's for CIFAR [code, eb], except the number of epochs.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        lr: learning rate at the start.
        milestones: when it falls, as shares of the epochs (epochs 80 and 120 of 160).
        decay: by which factor it falls at each milestone.
        cosine: let it fall along half a cosine to 0 instead, with neither milestones nor decay.
        linear: let it fall linearly to 0 instead, from step to step, with neither milestones nor decay.
        warmup: share of all steps over which it climbs linearly from 0 to ``lr`` before it falls.
        momentum: SGD's.
        nesterov: take SGD's momentum as Nesterov does.
        weight_decay: L2 on all parameters.
        label_smoothing: share of every label that is spread evenly over all classes.
        norm_l1: L1 on batch-norm scales, as network slimming trains (1e-4 there); 0 is off.
        precision: ``"float32"``, or ``"bfloat16"`` for autocast of the forward pass.
        compile: run the forward pass, and the backward pass of it, through ``torch.compile``.
    """

    epochs: Count
    batch_size: Annotated[int, Within("[2, inf)")] = 128
    lr: NonNegative = 0.1
    milestones: tuple[Annotated[float, Within("[0, 1]")], ...] = (0.5, 0.75)
    decay: NonNegative = 0.1
    momentum: _Below1 = 0.9
    weight_decay: NonNegative = 1e-4
    norm_l1: NonNegative = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    cosine: bool = field(default=False, metadata={"later": True})
    linear: bool = field(default=False, metadata={"later": True})
    warmup: _Below1 = field(default=0.0, metadata={"later": True})
    nesterov: bool = field(default=False, metadata={"later": True})
    label_smoothing: _Below1 = field(default=0.0, metadata={"later": True})

    def __post_init__(self) -> None:
        check_fields(self)
        if self.cosine and self.linear:
            raise SettingError(
                "cosine and linear are both set: the learning rate falls in one way, choose one"
            )

    def lr_at(self, epoch: float) -> float:
        """Learning rate after so many epochs; it changes within an epoch where it climbs or falls linearly."""
        done = epoch / self.epochs
        if done < self.warmup:
            return self.lr * done / self.warmup
        if self.linear:
            return self.lr * (1 - done) / (1 - self.warmup)
        if self.cosine:
            return self.lr * (1 + math.cos(math.pi * math.floor(epoch) / self.epochs)) / 2
        passed = sum(epoch >= math.ceil(share * self.epochs) for share in self.milestones)
        return self.lr * self.decay**passed
