"""Mean and covariance of what a module reads, over images and positions."""

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.layers.patches import groups, positions_read, rows_of, wanted_positions
from splinelib.regression import covariance

_MOST = 10_000  # numbers of an image up to which products of its places are formed


def moments_read(
    module: nn.Module, inputs: Iterable[Tensor], images: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Covariance [groups, d, d] and mean [groups, d], float64, of what a module reads at :func:`.places`.

    Args:
        module: one that :func:`.solvable` knows.
        inputs: what it reads of all images, in chunks.
        images: their number.
        seed: of the positions.
    """
    inputs = iter(inputs)
    first = next(inputs)
    inputs = itertools.chain([first], inputs)
    if _by_places(module, first, images):
        return _of_places(module, torch.cat(list(inputs)))
    return covariance(rows_of(module, inputs, images, seed))


def _by_places(module: Any, values: Tensor, images: int) -> bool:
    """Whether windows of a small feature map overlap so much that its own products are fewer than theirs."""
    if isinstance(module, nn.Linear) or module.padding_mode != "zeros" or values[0].numel() > _MOST:
        return False
    read = positions_read(module, values)
    pairs = int(read.ne(-1).sum(1).square().sum())
    return wanted_positions(module, images) >= len(read) and values[0, 0].numel() ** 2 < pairs


def _of_places(module: Any, values: Tensor) -> tuple[Tensor, Tensor]:
    """From products of the places of a feature map, of which a pair is in many windows."""
    read = positions_read(module, values)
    # [groups, places, channels, images]; float64, since nothing is centred.
    values = values.double().flatten(2).unflatten(1, (groups(module), -1)).permute(1, 3, 2, 0).contiguous()
    shape = len(values), read.shape[1], values.shape[2]
    gram, total = values.new_zeros(*shape, *shape[1:]), values.new_zeros(shape)
    for place in range(values.shape[1]):
        # What comes later in a window comes later in the image, so half of all pairs say everything.
        products = values[:, place] @ values[:, place:].flatten(1, 2).mT
        products = products.unflatten(2, (-1, shape[2]))
        for window, k in (read == place).nonzero().tolist():
            total[:, k] += values[:, place].sum(2)
            for other in range(k, shape[1]):
                if (at := int(read[window, other])) >= 0:
                    gram[:, k, :, other] += products[:, :, at - place]
    for k in range(shape[1]):
        gram[:, k + 1 :, :, k] = gram[:, k, :, k + 1 :].permute(0, 2, 3, 1)
    count = values.shape[3] * len(read)
    mean = total.transpose(1, 2).flatten(1) / count
    gram = gram.permute(0, 2, 1, 4, 3).flatten(3).flatten(1, 2) / count
    return gram - mean[:, :, None] * mean[:, None], mean
