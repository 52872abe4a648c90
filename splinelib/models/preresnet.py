"""Pre-activation bottleneck networks whose blocks can drop channels of the shared stream."""

from collections import OrderedDict
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from splinelib.models.initialise import initialise
from splinelib.models.plain import scaled

EXPANSION = 4
STAGE_PLANES = (16, 32, 64)


def select_channels(x: Tensor, indexes: Tensor) -> Tensor:
    """``x[:, indexes]`` for ``x`` of shape ``[N, channels, ...]``, in the memory format that ``x`` has.

    Selecting along dimension 1 copies images into channels-first memory, and their gradients with them; everything
    behind it, batch norms above all, would then be slower than in the network that was not pruned.
    """
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        if x.dtype == torch.bfloat16:
            return _SelectByProduct.apply(x, indexes)
        return x.movedim(1, -1).index_select(-1, indexes).movedim(-1, 1)
    return x.index_select(1, indexes)


class _SelectByProduct(torch.autograd.Function):
    """Channels of images in channels-last memory, selected by a product with a matrix of zeros and ones.

    The values are those of indexing, bit for bit, as long as they are finite. PyTorch indexes the last dimension of
    bfloat16 one number at a time: on a CPU that takes six times as long as the product, and made pruned residual
    networks slower than dense ones.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, indexes: Tensor) -> Tensor:
        chosen = torch.zeros(x.shape[1], len(indexes), dtype=x.dtype, device=x.device)
        chosen[indexes, torch.arange(len(indexes), device=x.device)] = 1
        ctx.save_for_backward(chosen)
        return (x.movedim(1, -1) @ chosen).movedim(-1, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (chosen,) = ctx.saved_tensors
        (gradient,) = gradients
        return (gradient.movedim(1, -1) @ chosen.T).movedim(-1, 1), None


torch.fx.wrap("select_channels")  # which looks at memory, so it is not traced into


class ChannelSelection(nn.Module):
    """Keep some channels of the input: ``x[:, indexes]``, for ``x`` of shape ``[N, channels, ...]``.

    The first batch norm of a pre-activation block reads a stream that all other blocks of its stage also read
    and write, so one of its channels cannot be removed without removing it from all of them. Network slimming
    (Liu et al., ICCV 2017) puts this module behind that batch norm: the stream and the batch norm stay whole,
    the block reads fewer of its channels.

    Attributes:
        channels: width of the stream, that is, channels coming in.
        indexes: int64 buffer ``[k]``, the channels kept, strictly ascending; all of them at first.
    """

    indexes: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.register_buffer("indexes", torch.arange(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, k, ...]``; without a copy as long as no channel has been dropped."""
        if self.indexes.numel() == self.channels:
            # A view, not x itself: Torch-Pruning finds a module in the graph by its output's own grad_fn.
            return x.view_as(x)
        return select_channels(x, self.indexes)

    def extra_repr(self) -> str:
        """Channels coming in and going out, for ``print(model)``."""
        return f"{self.channels}, kept={self.indexes.numel()}"


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
