"""Batches, from images in memory, where crop and flip act on whole batches, or from files that threads decode."""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from splinelib.checks import Count, Whole, checked
from splinestudy.data.dataset import Dataset, Split, rescale, scale_and_shift
from splinestudy.data.imagefolder import ImageFiles

PADDING = 4  # zero pixels on every side before the random crop, the usual choice for 32x32 images

Batch = tuple[Tensor, Tensor]
Part = tuple[int, int]
WHOLE: Part = (0, 1)


@checked
def batches(
    split: Split,
    dataset: Dataset,
    batch_size: Count,
    *,
    generator: torch.Generator,
    augment: bool,
    skip: Whole = 0,
    part: Part = WHOLE,
) -> Iterator[Batch]:
    """Go through ``split`` once in random order.

    Everything random of the epoch (order, crops, flips) is drawn from ``generator`` when this function is
    called, so that an epoch can be taken up again: put the generator back to its state before the call and
    pass the number of batches already used as ``skip``; what follows is bit-identical.

    Args:
        split: uint8 images ``[N, C, H, W]`` and labels; the batches stay on its device.
        dataset: Gives mean, standard deviation and whether flips are allowed.
        batch_size: Images per batch. The last batch holds the rest; a rest of one image joins the batch
            before it, since batch norm cannot train on a single image.
        generator: Source of all randomness; it may live on another device than the images.
        augment: Whether to crop at random (after padding with 4 zero pixels; of image files by
            :func:`.imagefolder.random_box`), and to flip at random.
        skip: Number of batches at the start of the epoch to leave out.
        part: (i, n) for the i-th (from 0) of n parts of every batch, as several processes share it.

    Returns:
        Iterator over (float32 normalised images ``[B, C, H, W]``, int64 labels ``[B]``).

    Raises:
        SettingError: ``batch_size`` is below 1 or ``skip`` below 0.
    """
    bounds = _bounds(len(split), batch_size)
    count, device = len(split), split.images.device
    slices = _slices(bounds[skip:], part)
    order = torch.randperm(count, generator=generator, device=generator.device).to(device)
    raw: Iterable[Batch]
    if isinstance(split.images, ImageFiles):
        return _finished(
            _from_files(split, dataset, order, slices, generator if augment else None), dataset, device
        )
    if augment:
        offsets = _draw(2 * PADDING + 1, (count, 2), generator).to(device)
        flips = (
            _draw(2, (count,), generator).to(device).bool() if dataset.flip else torch.zeros_like(order) > 0
        )
        raw = (
            (crop_and_flip(split.images[order[own]], offsets[own], flips[own]), split.labels[order[own]])
            for own in slices
        )
    else:
        raw = ((split.images[order[own]], split.labels[order[own]]) for own in slices)
    return _finished(raw, dataset, device)


@checked
def evaluation_batches(
    split: Split, dataset: Dataset, batch_size: Count, part: Part = WHOLE
) -> Iterator[Batch]:
    """Go through ``split`` once in its own order, without augmentation; batches as in :func:`batches`."""
    slices = _slices(_bounds(len(split), batch_size), part)
    raw: Iterable[Batch]
    if isinstance(split.images, ImageFiles):
        raw = _from_files(split, dataset, torch.arange(len(split)), slices, None)
    else:
        raw = ((split.images[own], split.labels[own]) for own in slices)
    return _finished(raw, dataset, split.images.device)


def _from_files(
    split: Split, dataset: Dataset, order: Tensor, slices: list[slice], chance: torch.Generator | None
) -> Iterable[Batch]:
    """Batches of image files, by random parts and mirrored, or by their centres where there is no ``chance``."""
    assert isinstance(split.images, ImageFiles)
    order, crops, flips = order.cpu(), None, torch.zeros(len(order)).bool()
    if chance is not None:
        crops = torch.rand(len(order), 4, generator=chance, device=chance.device).cpu()
        flips = _draw(2, (len(order),), chance).cpu().bool() & dataset.flip
    decoded = split.images.stream((order[own] for own in slices), crops)
    for own, images in zip(slices, decoded, strict=True):
        mirrored = flips[order[own]].to(images.device)[:, None, None, None]
        yield torch.where(mirrored, images.flip(3), images), split.labels[order[own].to(split.labels.device)]


@checked
def batch_count(count: Whole, batch_size: Count) -> int:
    """Number of batches that ``count`` images make."""
    return len(_bounds(count, batch_size))


def crop_and_flip(images: Tensor, offsets: Tensor, flips: Tensor) -> Tensor:
    """Pad by 4 zero pixels, cut windows of the original size, mirror some of them left to right.

    Args:
        images: ``[B, C, H, W]``, any dtype.
        offsets: int64 ``[B, 2]``, top and left edge of each window, 0 to 8.
        flips: bool ``[B]``.

    Returns:
        A new tensor like ``images``.
    """
    count, channels, height, width = images.shape
    padded = F.pad(images, (PADDING,) * 4)
    columns = torch.arange(width, device=images.device)
    columns = torch.where(flips[:, None], width - 1 - columns, columns) + offsets[:, 1, None]
    rows = torch.arange(height, device=images.device) + offsets[:, 0, None]
    # A window is a gather in the flattened image; one set of positions serves all channels.
    positions = (rows * padded.shape[3])[:, :, None] + columns[:, None, :]
    positions = positions.view(count, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, positions).view(images.shape)


def _draw(bound: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(bound, shape, generator=generator, device=generator.device)


def _finished(raw: Iterable[Batch], dataset: Dataset, device: torch.device) -> Iterator[Batch]:
    """Normalise the images of every batch; the constants reach the device once an epoch."""
    scale, shift = scale_and_shift(dataset, device)
    return ((rescale(images, scale, shift), labels) for images, labels in raw)


def _slices(bounds: list[tuple[int, int]], part: Part) -> list[slice]:
    """One part of every batch."""
    number, of = part
    return [slice(a + number, b, of) for a, b in bounds]


def _bounds(count: int, batch_size: int) -> list[tuple[int, int]]:
    """Start and end of every batch."""
    edges = [*range(0, count, batch_size), count]
    if batch_size > 1 and len(edges) > 2 and edges[-1] - edges[-2] == 1:
        del edges[-2]
    return list(zip(edges[:-1], edges[1:], strict=True))
