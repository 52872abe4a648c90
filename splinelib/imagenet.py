"""torchvision's networks on ImageNet, or any folder of that layout: prune, compensate, fine-tune, measure.

From the command line, on one device or, by ``torchrun``, with one process for each GPU::

    python -m splinelib.imagenet --data /data/imagenet --arch resnet50 --weights IMAGENET1K_V1 --ratio 0.3
    torchrun --nproc-per-node=4 -m splinelib.imagenet --data /data/imagenet --arch resnet50 --weights IMAGENET1K_V1 \\
        --ratio 0.3 --scope global --compensate least_squares --epochs 5 --out record.json

Images are decoded as they are needed. A run that was killed goes on from its last checkpoint when it is started again.
"""

import argparse
import contextlib
import copy
import dataclasses
import logging
import math
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler
from torch.utils.data import Dataset as TorchDataset

from splinelib.artifacts import atomic_path, cache_dir, sha256_of
from splinelib.bars import progress_bar
from splinelib.cost import cost
from splinelib.data.imagefolder import DEFAULT_SIZE, MEAN, STD
from splinelib.errors import DataError, RecordError, SettingError, SplineError, TrainingError
from splinelib.methods import CRITERIA, Calibration, check_method, choose_units
from splinelib.models.initialise import seeded_weights
from splinelib.network import read_layers
from splinelib.pruning import COMPENSATIONS, Compensate, remove_compensated
from splinelib.reconstruction import check_images
from splinelib.records import Record, RecordStore, provenance, settings_dict
from splinelib.surgery import Scope, Selection, check_ratio, remove_units
from splinelib.taps import evaluating
from splinelib.training import _seeded, load_tensors

_LOG = logging.getLogger(__name__)
_AUXILIARY = ("googlenet", "inception_v3")  # return more than one tensor in training
_SAVE_STEPS = 500  # steps between two checkpoints: a few minutes of ResNet-50 on a GPU


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
        dataset: name of the images (:attr:`Folder.name`).
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
        _check_arch(self.arch)
        for name, least in (("calibration", 2), ("image_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise SettingError(f"{name} is {getattr(self, name)}: it must be at least {least}")


# --- images -------------------------------------------------------------------------------------------------------


class _Images(TorchDataset[tuple[Tensor, int]]):
    """Images of one split as the network takes them. With a seed, augmentation follows from it and the index alone."""

    def __init__(self, samples: Sequence[tuple[str, int]], transform: Any, seed: int | None = None) -> None:
        self.samples, self.transform, self.seed = samples, transform, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from torchvision.datasets.folder import pil_loader

        path, label = self.samples[index]
        try:
            picture = pil_loader(path)
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{path} cannot be decoded ({error}); replace it or take it out") from error
        if self.seed is None:
            return self.transform(picture), label
        # So the same images come whatever the number of workers and processes, and after a restart in mid-epoch.
        with _seeded(self.seed + 1_000_000_007 * (index + 1), torch.device("cpu")):
            return self.transform(picture), label


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder with ``train/<class>/*`` and ``val/<class>/*``, listed but not decoded.

    Attributes:
        train: path and label of every training image.
        val: the same of the validation images.
        classes: their names in the order of the labels, which is that of torchvision's weights for ImageNet.
        size: side of the images in pixels.
        name: changes with the paths below the folder and the labels.
    """

    train: list[tuple[str, int]]
    val: list[tuple[str, int]]
    classes: tuple[str, ...]
    size: int
    name: str


def open_folder(root: Path | str, size: int = DEFAULT_SIZE) -> Folder:
    """List the images below ``root``. Raises :class:`DataError` if the layout is not that of :class:`Folder`."""
    from torchvision.datasets import ImageFolder

    root = Path(root).expanduser()
    wanted = f"the layout must be {root}/train/<class>/* and {root}/val/<class>/* with the same classes"
    for folder in (root, root / "train", root / "val"):
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder; {wanted}")
    try:
        train, val = ImageFolder(str(root / "train")), ImageFolder(str(root / "val"))
    except FileNotFoundError as error:  # no class, or one without images
        raise DataError(f"{root} cannot be used ({error}); {wanted}") from error
    if odd := sorted(set(train.classes) ^ set(val.classes)):
        raise DataError(f"{root} has classes in one of train/ and val/ only, such as {odd[0]!r}; {wanted}")
    lines = [f"{os.path.relpath(path, root)} {label}" for path, label in (*train.samples, *val.samples)]
    name = f"imagefolder-{sha256_of(chr(10).join(lines).encode())[:16]}"
    return Folder(train.samples, val.samples, tuple(train.classes), size, name)


def evaluation_transform(size: int) -> Any:
    """Shorter side to 256/224 of ``size`` (bilinear, antialiased), centre of ``size`` pixels, ImageNet's statistics."""
    from torchvision import transforms as T

    steps = [T.Resize(round(size * 256 / 224)), T.CenterCrop(size), T.ToTensor(), T.Normalize(MEAN, STD)]
    return T.Compose(steps)


def training_transform(size: int) -> Any:
    """A random part of 8 to 100 % of the image scaled to ``size`` pixels, flipped or not, ImageNet's statistics."""
    from torchvision import transforms as T

    steps = [T.RandomResizedCrop(size), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(MEAN, STD)]
    return T.Compose(steps)


def _loader(
    images: _Images, indices: Sequence[int], batch_size: int, workers: int, whole: bool = False
) -> Any:
    """Batches of the images ``indices`` in that order; ``whole`` leaves out a last one that is not full."""
    return DataLoader(
        images,
        batch_size,
        sampler=indices,
        num_workers=workers,
        drop_last=whole,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else workers' seeds are drawn from the global one
    )


def calibration_batch(folder: Folder, count: int, seed: int, workers: int = 0) -> Calibration:
    """``count`` training images (all, if there are fewer) without augmentation, drawn with ``seed``, in memory."""
    chosen = torch.randperm(len(folder.train), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    images = _Images(folder.train, evaluation_transform(folder.size))
    parts = list(_loader(images, chosen, 50, workers))
    return Calibration(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))


# --- networks -----------------------------------------------------------------------------------------------------


def architectures() -> list[str]:
    """Names of torchvision's classification networks that can be trained here."""
    from torchvision import models

    return [name for name in models.list_models(module=models) if name not in _AUXILIARY]


def _check_arch(arch: str) -> None:
    if arch not in architectures():
        raise SettingError(f"arch is {arch!r}: choose one of torchvision's {', '.join(architectures())}")


def check_weights(arch: str, weights: str | None, classes: int) -> str | None:
    """The name that a record gives ``weights``; see :func:`build_network`.

    Raises:
        SettingError: if they are neither a file nor one of torchvision's for ``arch``, or not for so many classes.
    """
    from torchvision import models

    _check_arch(arch)
    if weights is None:
        return None
    if Path(weights).is_file():
        return f"sha256:{sha256_of(Path(weights).read_bytes())[:16]}"
    known = models.get_model_weights(arch).__members__
    if weights not in known:
        raise SettingError(
            f"weights is {weights!r}, neither a file nor torchvision's for {arch}: give a .pt or .safetensors file, "
            f"or one of {', '.join(known)}"
        )
    if (given := len(known[weights].meta["categories"])) != classes:
        raise SettingError(
            f"weights {weights} of {arch} know {given} classes, the folder has {classes}: give ImageNet's folder, or "
            "a file with weights for these classes"
        )
    return weights


def build_network(arch: str, weights: str | None, num_classes: int = 1000, seed: int = 0) -> nn.Module:
    """A torchvision network in eval mode on the CPU.

    Args:
        arch: one of :func:`architectures`.
        weights: a file with a state dict (``.safetensors``, or by ``torch.save``; read without unpickling objects), the
            name of torchvision weights such as ``"IMAGENET1K_V1"`` (downloaded once), or None for random ones.
        num_classes: outputs.
        seed: of random weights; the global RNG is not touched.
    """
    from torchvision import models

    check_weights(arch, weights, num_classes)
    with seeded_weights(seed):
        model = models.get_model(arch, weights=None, num_classes=num_classes)
    if weights is not None:
        named = not Path(weights).is_file()
        state = (
            models.get_model_weights(arch)[weights].get_state_dict(check_hash=True)
            if named
            else _read(weights)
        )
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise SettingError(
                f"weights {weights} do not fit {arch} with {num_classes} classes ({error})"
            ) from error
    return model.eval()


def _read(path: str) -> dict[str, Tensor]:
    """A state dict, also one that stands under ``model`` or ``state_dict``, or was saved from a parallel network."""
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise SettingError(f"weights {path} need the package safetensors: pip install safetensors") from error
    except Exception as error:  # torch and safetensors raise many kinds
        raise SettingError(
            f"weights {path} cannot be read as tensors ({type(error).__name__}: {str(error)[:200]}): "
            "save them by torch.save(model.state_dict(), path)"
        ) from error
    state = content.get("model", content.get("state_dict", content))
    nn.modules.utils.consume_prefix_in_state_dict_if_present(state, "module.")
    return state
