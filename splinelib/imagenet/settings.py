"""What a run on ImageNet is: network, pruning, fine-tuning."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from splinelib.data.imagefolder import DEFAULT_SIZE
from splinelib.errors import SettingError
from splinelib.methods import check_method
from splinelib.pruning import Compensate
from splinelib.surgery import Scope, check_ratio

_AUXILIARY = ("googlenet", "inception_v3")  # return more than one tensor in training


@dataclass(frozen=True)
class FineTune:
    """How a pruned network is trained on. The defaults are the paper's for ImageNet [eb] but for ``lr`` and ``epochs``.

    Attributes:
        epochs: passes over the training images; 0 leaves fine-tuning out.
        batch_size: images a step, over all processes together.
        lr: learning rate at the start. Training starts at 0.1; 0.01 is its rate after the first fall, from which a
            network that has been trained once goes on [ours].
        schedule: ``"step"`` falls at the milestones, ``"cosine"`` to 0 along half a wave.
        milestones: when the step schedule falls, as shares of the epochs (epochs 30 and 60 of 90).
        decay: by which factor it falls there.
        momentum: SGD's.
        weight_decay: L2 on all parameters.
        precision: ``"float32"``, or ``"bfloat16"`` for autocast of the forward pass.
    """

    epochs: int = 5
    batch_size: int = 256
    lr: float = 0.01
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[float, ...] = (1 / 3, 2 / 3)
    decay: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_size < 2:
            raise SettingError(
                f"epochs is {self.epochs}, batch_size {self.batch_size}: need at least 0 and 2"
            )
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise SettingError(f"lr is {self.lr}: give a positive, finite rate such as 0.01")
        for name, choices in (("schedule", ("step", "cosine")), ("precision", ("float32", "bfloat16"))):
            if getattr(self, name) not in choices:
                raise SettingError(f"{name} is {getattr(self, name)!r}: choose from {', '.join(choices)}")

    def lr_at(self, epoch: float) -> float:
        """Learning rate after ``epoch`` epochs, parts of one included."""
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        return self.lr * self.decay ** sum(epoch >= share * self.epochs for share in self.milestones)


@dataclass(frozen=True)
class ImageNetRun:
    """Prune a torchvision network, measure it as it is and compensated, fine-tune it and measure it again.

    Attributes:
        dataset: name of the images (see :class:`splinelib.imagenet.folders.Folder`).
        arch: one of :func:`architectures`.
        weights: name of torchvision weights, digest of a file, or None for random ones drawn with ``seed``.
        ratio: share of units to remove.
        scope: ``"layerwise"`` or ``"global"``.
        compensate: see :func:`splinelib.prune`.
        criterion: one of :data:`splinelib.methods.CRITERIA`.
        calibration: training images that criterion and compensation may look at.
        image_size: side of the images in pixels.
        seed: of calibration images, order, augmentation and random weights.
        finetune: how the pruned network is trained on.
    """

    kind: ClassVar[str] = "imagenet"
    dataset: str
    arch: str
    weights: str | None
    ratio: float
    scope: Scope = "layerwise"
    compensate: Compensate = "none"
    criterion: str = "spline"
    calibration: int = 500
    image_size: int = DEFAULT_SIZE
    seed: int = 0
    finetune: FineTune = field(default_factory=FineTune)

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        check_method(self.criterion, self.compensate, "trained", self.scope)
        check_arch(self.arch)
        for name, least in (("calibration", 2), ("image_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise SettingError(f"{name} is {getattr(self, name)}: it must be at least {least}")


def architectures() -> list[str]:
    """Names of torchvision's classification networks that can be trained here."""
    from torchvision import models

    return [name for name in models.list_models(module=models) if name not in _AUXILIARY]


def check_arch(arch: str) -> None:
    """Raise :class:`SettingError` unless ``arch`` is one of :func:`architectures`."""
    if arch not in architectures():
        raise SettingError(f"arch is {arch!r}: choose one of torchvision's {', '.join(architectures())}")
