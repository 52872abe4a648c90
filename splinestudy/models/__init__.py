"""The networks of the experiments, built by name from a seed."""

import functools
import math
from collections.abc import Callable
from types import MappingProxyType

from torch import nn

from splinelib.errors import SettingError
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


def build_model(
    arch: str,
    *,
    num_classes: int,
    in_channels: int = 3,
    width: float = 1.0,
    image_size: int = 32,
    seed: int,
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
    for name, value, least in (
        ("num_classes", num_classes, 1),
        ("in_channels", in_channels, 1),
        ("image_size", image_size, smallest),
    ):
        if value < least:
            raise SettingError(f"{name} is {value} for {arch}; it must be at least {least}")
    if not (width > 0 and math.isfinite(width)):
        raise SettingError(f"width is {width} for {arch}; give a positive, finite factor such as 0.25")
    with seeded_weights(seed):
        return build(num_classes, in_channels, width, image_size)
