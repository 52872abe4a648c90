"""Clever starts for chains of modules: LSUV, boundaries through data, greedy layerwise training."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from splinelib.checks import Count, NonNegative, Seed, checked
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import duplicate
from splinelib.layers.images import check_fit
from splinestudy.data import Dataset
from splinestudy.models.initialise import seeded_weights
from splinestudy.training.loop import train
from splinestudy.training.settings import TrainSettings

_AFFINE = (nn.Conv2d, nn.Linear)
_BATCH_NORM = nn.modules.batchnorm._BatchNorm


@checked
def lsuv(
    model: nn.Module, inputs: Tensor, seed: Seed, tolerance: NonNegative = 0.01, tries: Count = 10
) -> nn.Sequential:
    """Layer-sequential unit variance (Mishkin & Matas, "All you need is a good init", ICLR 2016); returns a copy.

    Module by module the weights of a convolution or linear module become orthonormal and its biases 0; the weights are
    then divided by the standard deviation of its outputs on a batch, until their variance is 1. Batch norms normalise
    by the batch and keep their statistics; behind one, the scale of the weights makes no difference.

    Args:
        model: a chain of modules.
        inputs: a batch ``[N, *input]`` of data.
        seed: of the orthonormal weights.
        tolerance: largest distance of a variance from 1 that is left.
        tries: divisions a module, at most.

    Raises:
        SettingError: the outputs of a module do not vary on the batch.
        UnsupportedModuleError: the model is no chain.
    """
    check_fit(model, inputs)
    started = _copied_chain(model)
    with torch.no_grad(), seeded_weights(seed):
        for name, module, reads in _walk(started, inputs):
            if not isinstance(module, _AFFINE):
                continue
            nn.init.orthogonal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            for _ in range(tries):
                variance = float(module(reads).var())
                if not variance > 0:
                    raise SettingError(
                        f"outputs of {name!r} have variance {variance} on the batch: give other inputs"
                    )
                if abs(variance - 1) <= tolerance:
                    break
                module.weight /= variance**0.5
    return started


@checked
def boundaries_through_data(model: nn.Module, inputs: Tensor, seed: Seed) -> nn.Sequential:
    """Move every unit's boundary so that it passes through the data; returns a copy. An idea of this book.

    For each unit one of the ``inputs`` is drawn (for a convolution a position as well), and the unit's offset is chosen
    such that its pre-activation there is 0: the bias of the affine module or, where a batch norm follows, the shift of
    that, whose running statistics become those of the batch. The last affine module, the head, is left as it is.

    Args:
        model: a chain of modules.
        inputs: a batch ``[N, *input]`` of data.
        seed: of the inputs drawn.

    Raises:
        UnsupportedModuleError: the model is no chain, or a unit has neither bias nor batch norm.
    """
    check_fit(model, inputs)
    moved = _copied_chain(model)
    generator = torch.Generator().manual_seed(int(seed))
    head = [module for module in moved if isinstance(module, _AFFINE)][-1]
    modules = list(moved)
    with torch.no_grad():
        for place, (name, module, reads) in enumerate(_walk(moved, inputs)):
            following = modules[place + 1] if place + 1 < len(modules) else None
            if isinstance(module, _BATCH_NORM):
                _adopt_statistics(module, reads)
                target: nn.Module = module
            elif (
                isinstance(module, _AFFINE) and module is not head and not isinstance(following, _BATCH_NORM)
            ):
                target = module
            else:
                continue
            if not isinstance(target.bias, Tensor):
                raise UnsupportedModuleError(
                    f"{name!r} has no bias to move: give it one, or a batch norm behind it"
                )
            values = target(reads).transpose(0, 1).flatten(1)
            picked = torch.randint(values.shape[1], (len(values), 1), generator=generator).to(values.device)
            target.bias -= values.gather(1, picked)[:, 0]
    return moved


def greedy_layerwise(
    model: nn.Module, data: Dataset, settings: TrainSettings, seed: int
) -> tuple[nn.Sequential, int]:
    """Train a chain block by block, each with a local classifier on top and all earlier ones frozen; returns a copy.

    A block ends with a non-linearity. Its local head is a global average (for images) and a linear module, thrown away
    afterwards (Belilovsky, Eickenberg & Oyallon, "Greedy Layerwise Learning Can Scale to ImageNet", ICML 2019). The
    batch norms of frozen blocks go on adapting their running statistics. The model's own head is not trained.

    Args:
        model: a chain of modules for images ``[N, C, H, W]``.
        data: images to train on.
        settings: of each block's training, so that the epochs add up to their number times the blocks.
        seed: of heads and order.

    Returns:
        The pretrained copy, and the number of blocks.
    """
    trained = _copied_chain(model)
    modules = list(trained)
    ends = [place for place, module in enumerate(modules) if isinstance(module, nn.ReLU)]
    example = torch.zeros(1, *data.train.images.shape[1:], device=data.train.images.device)
    for number, end in enumerate(ends):
        with torch.no_grad():
            units = duplicate(nn.Sequential(*modules[: end + 1])).eval()(example).shape[1]
        with seeded_weights(seed + number):
            pool = (
                []
                if any(isinstance(m, nn.Flatten) for m in modules[: end + 1])
                else [nn.AdaptiveAvgPool2d(1)]
            )
            head = nn.Sequential(*pool, nn.Flatten(), nn.Linear(units, data.num_classes)).to(example.device)
        block = nn.Sequential(*modules[: end + 1], head)
        for parameter in block.parameters():
            parameter.requires_grad_(False)
        for module in [*modules[ends[number - 1] + 1 if number else 0 : end + 1], head]:
            for parameter in module.parameters():
                parameter.requires_grad_(True)
        train(block, data, settings, seed=seed + number, progress=False)
    for parameter in trained.parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
    return trained, len(ends)


def _adopt_statistics(norm: _BATCH_NORM, values: Tensor) -> None:
    """Make the statistics of a batch the running ones."""
    axes = [axis for axis in range(values.ndim) if axis != 1]
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean.copy_(values.mean(axes))
        norm.running_var.copy_(values.var(axes, correction=0))


def _copied_chain(model: nn.Module) -> nn.Sequential:
    if not isinstance(model, nn.Sequential) or not any(isinstance(module, _AFFINE) for module in model):
        raise UnsupportedModuleError(
            f"{type(model).__name__} is no chain of modules with weights: give an nn.Sequential such as vgg16_bn"
        )
    for name, module in model.named_children():
        if any(module.children()):
            raise UnsupportedModuleError(
                f"module {name!r} ({type(module).__name__}) has modules inside, whose order only it knows: give a flat "
                "nn.Sequential such as vgg16_bn"
            )
    copied = duplicate(model)
    assert isinstance(copied, nn.Sequential)
    return copied


def _walk(model: nn.Module, inputs: Tensor) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Each module with its name and what it reads, after the modules before it have been changed.

    Batch norms normalise by the batch and keep their running statistics; dropout is off. The model's mode is restored.
    """
    training, value = model.training, inputs
    model.eval()
    for name, module in model.named_children():
        yield name, module, value
        kept = {key: buffer.clone() for key, buffer in module.named_buffers()}
        value = module.train(isinstance(module, _BATCH_NORM))(value)
        for key, buffer in module.named_buffers():
            buffer.copy_(kept[key])
    model.train(training)
