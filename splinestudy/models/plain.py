"""Networks that are one chain of modules: VGG-16-BN, AlexNet-like, SimpleCNN, MLP."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from splinelib.checks import Count, Seed, checked
from splinelib.errors import SettingError
from splinestudy.models.initialise import initialise, seeded_weights

# Channels of the 3×3 convolutions, one tuple for each resolution (Simonyan & Zisserman, ICLR 2015, column D).
VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# (channels, kernel, halve the image afterwards)
ALEXNET_CONVOLUTIONS = ((64, 5, True), (192, 5, True), (384, 3, False), (256, 3, False), (256, 3, True))
ALEXNET_HIDDEN = 1024
SIMPLE_CNN_CONVOLUTIONS = ((16, 21), (16, 5))
MLP_HIDDEN = (300, 100)


def scaled(channels: int, width: float) -> int:
    """``channels · width``, rounded to the nearest integer, at least 1."""
    return max(1, round(channels * width))


def vgg16_bn(num_classes: int, in_channels: int, width: float, image_size: int) -> nn.Module:
    """VGG-16 with batch norm for small images: 13 convolutions without bias and one linear head.

    Max pooling halves the image after each of the first four stages and a global average ends the fifth, so a
    32×32 image has 276,480 pre-activations at width 1. ``width`` scales every hidden channel count.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_channels
    for stage, counts in enumerate(VGG16_STAGES, start=1):
        if stage > 1:
            modules[f"pool{stage - 1}"] = nn.MaxPool2d(2)
        for place, count in enumerate(counts, start=1):
            units = scaled(count, width)
            modules[f"conv{stage}_{place}"] = nn.Conv2d(channels, units, 3, padding=1, bias=False)
            modules[f"bn{stage}_{place}"] = nn.BatchNorm2d(units)
            modules[f"relu{stage}_{place}"] = nn.ReLU()
            channels = units
    modules["average"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["head"] = nn.Linear(channels, num_classes)
    return initialise(nn.Sequential(modules))


def alexnet(num_classes: int, in_channels: int, width: float, image_size: int) -> nn.Module:
    """AlexNet-like network for small images: five convolutions, one hidden and one output linear layer.

    As in the released Spline-EB code the convolutions have biases and batch norms behind them; kernels,
    strides and the single hidden layer are ours, made for 32×32 instead of 227×227 pixels. ``width`` scales
    all hidden widths. The hidden layer reads ``image_size // 8`` squared positions and grows with the image.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    channels, size = in_channels, image_size
    for place, (count, kernel, halve) in enumerate(ALEXNET_CONVOLUTIONS, start=1):
        units = scaled(count, width)
        modules[f"conv{place}"] = nn.Conv2d(channels, units, kernel, padding=kernel // 2)
        modules[f"bn{place}"] = nn.BatchNorm2d(units)
        modules[f"relu{place}"] = nn.ReLU()
        if halve:
            modules[f"pool{place}"] = nn.MaxPool2d(2)
            size //= 2
        channels = units
    hidden = scaled(ALEXNET_HIDDEN, width)
    modules["flatten"] = nn.Flatten()
    modules["linear6"] = nn.Linear(channels * size * size, hidden)
    modules["relu6"] = nn.ReLU()
    modules["head"] = nn.Linear(hidden, num_classes)
    return initialise(nn.Sequential(modules))


def simple_cnn(num_classes: int, in_channels: int, width: float, image_size: int) -> nn.Module:
    """Two convolutions (21×21, then 5×5, 16 channels each, batch norm) and a linear head, for pictures.

    Nothing is padded or pooled: the head reads ``image_size - 24`` squared positions (Spline-EB's SimpleCNN).
    ``width`` scales the channels.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    channels, size = in_channels, image_size
    for place, (count, kernel) in enumerate(SIMPLE_CNN_CONVOLUTIONS, start=1):
        units = scaled(count, width)
        modules[f"conv{place}"] = nn.Conv2d(channels, units, kernel, bias=False)
        modules[f"bn{place}"] = nn.BatchNorm2d(units)
        modules[f"relu{place}"] = nn.ReLU()
        channels, size = units, size - kernel + 1
    modules["flatten"] = nn.Flatten()
    modules["head"] = nn.Linear(channels * size * size, num_classes)
    return initialise(nn.Sequential(modules))


@checked
def mlp(widths: Sequence[Count], seed: Seed) -> nn.Sequential:
    """Flatten, then linear layers with biases and a ReLU between every two of them.

    Args:
        widths: numbers of inputs, units of each hidden layer, and outputs: ``(2, 20, 2)`` for the 2-D toy.
        seed: the weights follow from it alone. They keep PyTorch's initialisation, uniform ±1/√fan_in.

    Returns:
        A network from ``[N, ...]`` with ``widths[0]`` values per input to ``[N, widths[-1]]``; its modules
        are ``flatten``, ``linear1``, ``relu1``, …, ``head``.

    Raises:
        SettingError: fewer than two widths, or one below 1.
    """
    if len(widths) < 2:
        raise SettingError(f"widths is {tuple(widths)}; give at least the inputs and the outputs")
    with seeded_weights(seed):
        return mlp_modules(widths)


def mlp_modules(widths: Sequence[int]) -> nn.Sequential:
    """Build what ``mlp`` returns, with weights from the global RNG."""
    modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for place, (before, after) in enumerate(zip(widths[:-2], widths[1:-1], strict=True), start=1):
        modules[f"linear{place}"] = nn.Linear(before, after)
        modules[f"relu{place}"] = nn.ReLU()
    modules["head"] = nn.Linear(widths[-2], widths[-1])
    return nn.Sequential(modules)


def mlp_for_images(num_classes: int, in_channels: int, width: float, image_size: int) -> nn.Module:
    """MLP with two hidden layers, 300 and 100 units at width 1 (LeCun et al., Proc. IEEE 1998, on MNIST)."""
    hidden = [scaled(units, width) for units in MLP_HIDDEN]
    return mlp_modules([in_channels * image_size**2, *hidden, num_classes])
