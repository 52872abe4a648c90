"""What a data set is: two splits of uint8 images with labels, and how to normalise or thin them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from splinelib.checks import Count, Finite, Seed, check_fields, checked
from splinelib.errors import SettingError
from splinestudy.data.imagefolder import ImageFiles


@dataclass(frozen=True)
class Split:
    """Images and labels that belong together.

    Args:
        images: uint8 tensor ``[N, C, H, W]``, values 0 to 255, or files that are decoded when an index asks for them.
        labels: int64 tensor ``[N]`` on the same device.
    """

    images: Tensor | ImageFiles
    labels: Tensor

    def __post_init__(self) -> None:
        check_fields(self)
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise SettingError(
                f"Split.images is {self.images.dtype} of shape {tuple(self.images.shape)}; "
                "give a uint8 tensor [N, C, H, W]"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise SettingError(
                f"Split.labels is {self.labels.dtype} of shape {tuple(self.labels.shape)} beside "
                f"{len(self.images)} images; give one int64 label per image"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        """Return the split with both tensors on ``device``."""
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, indices: Tensor) -> "Split":
        """Return the images and labels of these indices."""
        files = isinstance(self.images, ImageFiles)
        return Split(self.images.take(indices) if files else self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """A data set, in memory or as image files.

    Args:
        name: The name that :func:`splinestudy.data.load_dataset` knows it by.
        train: Training images and labels.
        test: Held-out images and labels.
        num_classes: Labels lie in ``range(num_classes)``.
        mean: Mean of each channel over the training images, in units of 0 to 1.
        std: Standard deviation of each channel, in the same units.
        flip: Whether a mirrored image keeps its label.
        class_names: One name per label.
    """

    name: str
    train: Split
    test: Split
    num_classes: Count
    mean: tuple[Finite, ...]
    std: tuple[Finite, ...]
    flip: bool
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        check_fields(self)


@checked
def normalize(images: Tensor, dataset: Dataset) -> Tensor:
    """Return ``(images / 255 - mean) / std`` per channel, as float32 on the images' device.

    Args:
        images: uint8 tensor ``[N, C, H, W]``.
        dataset: Where ``mean`` and ``std`` come from; it must have ``C`` channels.

    Raises:
        SettingError: ``images`` is not uint8, or its channels are not those of ``dataset``.
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != len(dataset.mean):
        raise SettingError(
            f"images is {images.dtype} of shape {tuple(images.shape)}; "
            f"data set {dataset.name!r} needs uint8 [N, {len(dataset.mean)}, H, W]"
        )
    return rescale(images, *scale_and_shift(dataset, images.device))


def scale_and_shift(dataset: Dataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """The two float32 constants ``[C, 1, 1]`` of :func:`normalize`, which is ``images * scale + shift``."""
    std = torch.tensor(dataset.std, dtype=torch.float64)
    shift = -torch.tensor(dataset.mean, dtype=torch.float64) / std
    return (1 / (255 * std)).float().view(-1, 1, 1).to(device), shift.float().view(-1, 1, 1).to(device)


def rescale(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return ``images * scale + shift`` in float32."""
    return images.to(torch.float32).mul_(scale).add_(shift)


@checked
def subset(split: Split, count: Count | None, seed: Seed) -> Split:
    """Return ``count`` images with the classes as balanced as they can be, in their original order.

    With one seed a smaller subset is part of every larger one of the same split.

    Args:
        split: Where to take from; it is not changed.
        count: Number of images, at most ``len(split)``; None returns the split itself.
        seed: Decides which images of a class, and which classes get one more where ``count`` is no multiple.

    Raises:
        SettingError: ``count`` is above the number of images.
    """
    if count is None:
        return split
    if count > len(split):
        raise SettingError(f"count is {count}; a subset of this split has 1 to {len(split)} images")
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(int(seed)))
    labels = split.labels.cpu()[order]
    rank = torch.empty_like(labels)
    for label in labels.unique():
        members = labels == label
        rank[members] = torch.arange(int(members.sum()))
    # The first image of every class, then the second of every class, and so on.
    chosen = order[rank.argsort(stable=True)[:count]].sort().values.to(split.labels.device)
    return split.take(chosen)
