"""Slow and obvious versions of what splinestudy.data does to whole batches."""

import torch
from torch import Tensor


def crop_and_flip_one(image: Tensor, top: int, left: int, flip: bool) -> Tensor:
    """Pad ``[C, H, W]`` by four zeros, copy a window pixel by pixel, mirror it if asked."""
    channels, height, width = image.shape
    out = torch.zeros_like(image)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                source_y, source_x = y + top - 4, (width - 1 - x if flip else x) + left - 4
                if 0 <= source_y < height and 0 <= source_x < width:
                    out[c, y, x] = image[c, source_y, source_x]
    return out
