"""ResNet-18, ResNet-50 and MobileNetV2 as torchvision defines them, with a stem for small images.

torchvision is imported by the functions that need it, so that this module can be imported without it.
"""

from typing import Any

from torch import nn

from splinelib.errors import SettingError
from splinestudy.models.initialise import initialise

# Up to this many pixels a side the stem keeps the resolution; above it is the one made for ImageNet.
SMALL_IMAGE = 64
# Expansion, channels, blocks, stride of a stage (Sandler et al., CVPR 2018, table 2); the second stride is 1.
MOBILENET_SMALL_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def resnet18(num_classes: int, in_channels: int, width: float, image_size: int) -> nn.Module:
    """ResNet-18; torchvision's basic blocks have one width only, so ``width`` must be 1."""
    from torchvision import models

    if width != 1:
        raise SettingError(
            f"resnet18 cannot be built at width {width}: its basic blocks come in width 1 only; use "
            "width 1 or another architecture"
        )
    return _finished_resnet(models.resnet18(num_classes=num_classes), in_channels, image_size)


def resnet50(num_classes: int, in_channels: int, width: float, image_size: int) -> nn.Module:
    """ResNet-50; ``width`` scales the 3×3 convolutions inside the bottlenecks, the stream keeps its width."""
    from torchvision import models

    inner = max(1, round(64 * width))
    model = models.resnet50(num_classes=num_classes, width_per_group=inner)
    return _finished_resnet(model, in_channels, image_size)


def mobilenet_v2(num_classes: int, in_channels: int, width: float, image_size: int) -> nn.Module:
    """MobileNetV2 (ReLU6); ``width`` is its width multiplier, channels are rounded to multiples of 8.

    For small images the first convolution and the second stage have stride 1, so 32×32 shrinks to 4×4.
    """
    from torchvision import models

    small = image_size <= SMALL_IMAGE
    stages = [list(stage) for stage in MOBILENET_SMALL_STAGES] if small else None
    model = models.mobilenet_v2(num_classes=num_classes, width_mult=width, inverted_residual_setting=stages)
    stem = model.features[0]
    stem[0] = nn.Conv2d(in_channels, stem[0].out_channels, 3, stride=1 if small else 2, padding=1, bias=False)
    return _not_in_place(initialise(model))


def _finished_resnet(model: Any, in_channels: int, image_size: int) -> nn.Module:
    """Give a torchvision ResNet its stem and weights; small images see a 3×3 stem without pooling."""
    if image_size <= SMALL_IMAGE:
        model.conv1 = nn.Conv2d(in_channels, model.conv1.out_channels, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    else:
        model.conv1 = nn.Conv2d(in_channels, model.conv1.out_channels, 7, stride=2, padding=3, bias=False)
    return _not_in_place(initialise(model))


def _not_in_place(model: nn.Module) -> nn.Module:
    """Let no activation overwrite its input, which is where sign codes are read."""
    for module in model.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6):
            module.inplace = False
    return model
