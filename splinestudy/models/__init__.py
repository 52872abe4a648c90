"""The networks of the experiments, built by name from a seed."""

import functools
import math
from collections.abc import Callable
from types import MappingProxyType

from torch import nn

from splinelib.checks import Count, Seed, checked
from splinelib.errors import LimitError, SettingError
from splinelib.layers.channel_selection import ChannelSelection
from splinestudy.models.initialise import seeded_weights
from splinestudy.models.plain import alexnet, mlp, mlp_for_images, simple_cnn, vgg16_bn
from splinestudy.models.preresnet import preresnet
from splinestudy.models.vision import mobilenet_v2, resnet18, resnet50

__all__ = ["ARCHITECTURES", "CHAINS", "ChannelSelection", "build_model", "mlp"]

# Name -> (builder, smallest image side that leaves every layer something to read).
_BUILDERS: MappingProxyType[str, tuple[Callable[[int, int, float, int], nn.Module], int]] = MappingProxyType(
    {
        "vgg16_bn": (vgg16_bn, 16),
        "preresnet20": (functools.partial(preresnet, 20), 1),
        "preresnet101": (functools.partial(preresnet, 101), 1),
        "alexnet": (alexnet, 8),
        "simple_cnn": (simple_cnn, 25),
        "mlp": (mlp_for_images, 1),
        "resnet18": (resnet18, 1),
        "resnet50": (resnet50, 1),
        "mobilenet_v2": (mobilenet_v2, 1),
    }
)
ARCHITECTURES: tuple[str, ...] = tuple(_BUILDERS)
CHAINS = ("vgg16_bn", "alexnet", "simple_cnn", "mlp")
"""Those that are one ``nn.Sequential``, module after module."""

_LARGEST = 100_000  # units of a layer; a layer between two of them has 40 GB


@checked
def build_model(
    arch: str,
    *,
    num_classes: Count,
    in_channels: Count = 3,
    width: float = 1.0,
    image_size: int = 32,
    seed: Seed,
) -> nn.Module:
    """Build a network with fresh weights, on the CPU, in training mode.

    Args:
        arch: one of ``ARCHITECTURES``.
        num_classes: number of outputs.
        in_channels: channels of the image, 1 for grey.
        width: factor on the hidden widths, rounded to the nearest integer, at least one channel. The
            torchvision networks take what they support: ``resnet18`` 1 only, ``resnet50`` scales its inner
            3×3 convolutions, ``mobilenet_v2`` rounds to multiples of 8.
        image_size: side of the square image, in pixels. Up to 64 the torchvision networks get a stem that
            keeps the resolution, above it the original one.
        seed: the weights follow from it alone; the global RNG is neither used nor moved.

    Returns:
        A network from ``[N, in_channels, image_size, image_size]`` to ``[N, num_classes]``. No module works
        in place, so hooks on activations see true pre-activations.

    Raises:
        SettingError: an unknown architecture, or a number out of range.
    """
    if arch not in _BUILDERS:
        raise SettingError(f"arch is {arch!r}, which is not known; choose one of {', '.join(ARCHITECTURES)}")
    build, smallest = _BUILDERS[arch]
    if image_size < smallest:
        raise SettingError(f"image_size is {image_size} for {arch}; it must be at least {smallest}")
    if not (width > 0 and math.isfinite(width)):
        raise SettingError(f"width is {width} for {arch}; give a positive, finite factor such as 0.25")
    largest = max(num_classes, in_channels, image_size, round(4096 * width))
    if largest > _LARGEST:
        raise LimitError(
            f"num_classes is {num_classes}, in_channels {in_channels}, image_size {image_size}, width {width:g}: no "
            f"network with layers of {largest} units is meant; give smaller numbers"
        )
    with seeded_weights(int(seed)):
        return build(num_classes, in_channels, width, image_size)
