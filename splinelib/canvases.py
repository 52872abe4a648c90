"""Canvases: the fixed batches of inputs on which codes are read.

Every function returns a batch ``[N, ...]`` that goes as it is into :func:`splinelib.codes.sign_codes` or a detector.
Build the canvas once and keep it for the whole training: codes read on different canvases cannot be compared. The
paper's canvas, the grid between two images, is :func:`splinelib.codes.two_image_canvas`, also to be had from here.
"""

import torch
from torch import Tensor

from splinelib.codes import two_image_canvas as two_image_canvas
from splinelib.data import Dataset, normalize, subset
from splinelib.errors import SettingError


def image_canvas(data: Dataset, count: int, seed: int) -> Tensor:
    """A batch of real test images, normalised: float32 [count, C, H, W] on the device of ``data.test``.

    The images are drawn with ``seed``, the classes as balanced as ``count`` allows (:func:`splinelib.data.subset`), so
    a smaller canvas of one seed is part of every larger one. Unlike the two-image grid, this canvas lies where
    the data lie. Raises :class:`SettingError` if ``count`` is below 1 or above the number of test images.
    """
    return normalize(subset(data.test, count, seed).images, data)


def noise_canvas(images: Tensor, count: int, seed: int) -> Tensor:
    """Uniform noise that fills the range of given images, channel by channel: [count, C, ...].

    ``images`` is a (normalised) batch [N, C, ...]; each value of channel c is drawn independently and uniformly between
    the least and the largest value that channel c has anywhere in the batch. Such points look like no image: they
    show whether a detector needs a canvas near the data. Device and dtype are those of ``images``; the draw itself is
    made on the CPU, so it is the same on every device.

    Raises :class:`SettingError` if ``images`` are no finite float batch or ``count`` is below 1.
    """
    if images.ndim < 2 or images.numel() == 0 or not images.is_floating_point():
        raise SettingError(
            f"images is {images.dtype} of shape {tuple(images.shape)}: "
            "pass a non-empty float batch [N, C, ...], normalised as for training"
        )
    if count < 1:
        raise SettingError(f"count is {count}: a canvas holds at least one point")
    channels = images.transpose(0, 1).flatten(1)
    low, high = channels.amin(1), channels.amax(1)
    if not bool((low.isfinite() & high.isfinite()).all()):
        raise SettingError("images hold NaN or infinite values: a range needs finite ones")
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, *images.shape[1:], generator=generator, dtype=torch.float64)
    shape = (-1, *[1] * (images.ndim - 2))
    low, high = low.cpu().double().view(shape), high.cpu().double().view(shape)
    return (low + (high - low) * noise).to(images.device, images.dtype)
