"""Canvases: the fixed batches of inputs on which codes are read.

Every function returns a batch ``[N, ...]`` that goes as it is into :func:`splinelib.early_bird.codes.sign_codes` or a
detector.
Build the canvas once and keep it for the whole training: codes read on different canvases cannot be compared. The
paper's canvas is the grid between two images, :func:`two_image_canvas`.
"""

from typing import Annotated

import torch
from torch import Tensor

from splinelib.checks import Count, Seed, Within, check_finite, check_memory, checked
from splinelib.errors import SettingError


@checked
def two_image_canvas(first: Tensor, second: Tensor, side: Annotated[int, Within("[2, inf)")] = 32) -> Tensor:
    """The paper's canvas: all ``α·first + β·second`` for α, β on an even grid of [0, 1]² [side², ...].

    ``first`` and ``second`` are (normalised) images of one shape, usually of different classes. α varies slowest.

    The paper's ``side`` is 100. The default has a tenth of its points and costs a small part of an epoch's training on
    CIFAR-10; the book's chapter *Early birds* shows how much the canvas matters.

    Raises :class:`SettingError` for images of different shapes or no float dtype, or a ``side`` below 2.

    >>> two_image_canvas(torch.zeros(3, 8, 8), torch.ones(3, 8, 8), side=4).shape
    torch.Size([16, 3, 8, 8])
    """
    if first.shape != second.shape:
        raise SettingError(
            f"canvas images have shapes {tuple(first.shape)} and {tuple(second.shape)}: use equal ones"
        )
    if not first.is_floating_point():
        raise SettingError(f"canvas images are {first.dtype}: normalise them to a float dtype first")
    for name, image in (("first", first), ("second", second)):
        check_finite(name, image)
    check_memory(f"a canvas of {side} x {side} points", side**2 * max(first.nbytes, 8))
    steps = torch.linspace(0, 1, side, dtype=first.dtype, device=first.device)
    alpha, beta = torch.meshgrid(steps, steps, indexing="ij")
    shape = (-1, *[1] * first.ndim)
    return alpha.reshape(shape) * first + beta.reshape(shape) * second


@checked
def noise_canvas(images: Tensor, count: Count, seed: Seed) -> Tensor:
    """Uniform noise that fills the range of given images, channel by channel: [count, C, ...].

    ``images`` is a (normalised) batch [N, C, ...]; each value of channel c is drawn independently and uniformly between
    the least and the largest value that channel c has anywhere in the batch. Such points look like no image: they
    show whether a detector needs a canvas near the data. Device and dtype are those of ``images``; the draw itself is
    made on the CPU, so it is the same on every device.

    Raises :class:`SettingError` if ``images`` are no finite float batch or ``count`` is below 1.

    >>> images = torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8)
    >>> noise = noise_canvas(images, count=5, seed=0)
    >>> noise.shape, bool((noise.abs() <= 1).all())
    (torch.Size([5, 1, 8, 8]), True)
    """
    if images.ndim < 2 or images.numel() == 0 or not images.is_floating_point():
        raise SettingError(
            f"images is {images.dtype} of shape {tuple(images.shape)}: "
            "pass a non-empty float batch [N, C, ...], normalised as for training"
        )
    check_memory(f"a canvas of {count} points", 8 * count * images[0].numel())
    channels = images.transpose(0, 1).flatten(1)
    low, high = channels.amin(1), channels.amax(1)
    if not bool((low.isfinite() & high.isfinite()).all()):
        raise SettingError("images hold NaN or infinite values: a range needs finite ones")
    generator = torch.Generator().manual_seed(int(seed))
    noise = torch.rand(count, *images.shape[1:], generator=generator, dtype=torch.float64)
    shape = (-1, *[1] * (images.ndim - 2))
    low, high = low.cpu().double().view(shape), high.cpu().double().view(shape)
    return (low + (high - low) * noise).to(images.device, images.dtype)
