"""Pre-activation bottleneck networks whose blocks can drop channels of the shared stream."""

from collections import OrderedDict

from torch import Tensor, nn

from splinelib.layers.channel_selection import ChannelSelection
from splinestudy.models.initialise import initialise
from splinestudy.models.plain import scaled

EXPANSION = 4
STAGE_PLANES = (16, 32, 64)


class Bottleneck(nn.Module):
    """Pre-activation bottleneck (He et al., ECCV 2016): 1×1, 3×3, 1×1, each behind batch norm and ReLU.

    Input ``[N, channels, H, W]``, output ``[N, 4·planes, H/stride, W/stride]``. Only the first block of a
    stage has a shortcut convolution; it reads the raw stream, before the batch norm.
    """

    def __init__(self, channels: int, planes: int, stride: int, shortcut: nn.Module):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.select = ChannelSelection(channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes)
        self.relu3 = nn.ReLU()
        self.conv3 = nn.Conv2d(planes, planes * EXPANSION, 1, bias=False)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Return the stream after this block."""
        z = self.conv1(self.relu1(self.select(self.bn1(x))))
        z = self.conv2(self.relu2(self.bn2(z)))
        z = self.conv3(self.relu3(self.bn3(z)))
        return z + self.shortcut(x)


def _stage(channels: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    """Return ``blocks`` bottlenecks in a row; the first one changes the stream's width and resolution."""
    out = planes * EXPANSION
    first = Bottleneck(channels, planes, stride, nn.Conv2d(channels, out, 1, stride=stride, bias=False))
    return nn.Sequential(first, *(Bottleneck(out, planes, 1, nn.Identity()) for _ in range(blocks - 1)))


def preresnet(depth: int, num_classes: int, in_channels: int, width: float, image_size: int) -> nn.Module:
    """Pre-activation ResNet of ``depth = 9n + 2`` layers: three stages of n bottlenecks of 16, 32, 64 planes.

    ``width`` scales the planes (and so the stream, four times as wide) and the stem.
    """
    blocks = (depth - 2) // 9
    planes = [scaled(count, width) for count in STAGE_PLANES]
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    modules["conv1"] = nn.Conv2d(in_channels, planes[0], 3, padding=1, bias=False)
    channels = planes[0]
    for stage, count in enumerate(planes, start=1):
        modules[f"stage{stage}"] = _stage(channels, count, blocks, stride=1 if stage == 1 else 2)
        channels = count * EXPANSION
    modules["bn"] = nn.BatchNorm2d(channels)
    modules["select"] = ChannelSelection(channels)
    modules["relu"] = nn.ReLU()
    modules["average"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["head"] = nn.Linear(channels, num_classes)
    return initialise(nn.Sequential(modules))
