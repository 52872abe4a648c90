"""Folders of images, decoded as they are needed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from splinelib.artifacts import sha256_of
from splinelib.data.imagefolder import DEFAULT_SIZE, MEAN, STD
from splinelib.errors import DataError
from splinelib.methods import Calibration
from splinelib.trainer import seeded


class Images(TorchDataset[tuple[Tensor, int]]):
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
        with seeded(self.seed + 1_000_000_007 * (index + 1), torch.device("cpu")):
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


def loader(images: Images, indices: Sequence[int], batch_size: int, workers: int, whole: bool = False) -> Any:
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
    images = Images(folder.train, evaluation_transform(folder.size))
    parts = list(loader(images, chosen, 50, workers))
    return Calibration(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))
