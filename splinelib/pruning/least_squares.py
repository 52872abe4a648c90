"""Least squares: after units are gone, every reader gets the weights that best reproduce the dense network. Needs data.

Related: channel pruning by least squares (He et al., ICCV 2017), ThiNet (Luo et al., ICCV 2017), optimal brain surgeon
(Hassibi & Stork, 1993), and, for the batch norms, REPAIR (Jordan et al., ICLR 2023). No gradient step is taken.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.errors import SettingError
from splinelib.hooks import evaluating, watched
from splinelib.layers.images import check_images
from splinelib.layers.network import Layer, read_layers
from splinelib.layers.patches import CHUNK, equations, group_weights, seen, solvable
from splinelib.pruning.merging import merge_units
from splinelib.pruning.surgery import Selection, complement, lost_channels
from splinelib.regression import RIDGE, Equations, ridge_regression

_ROUNDING = 1e-10  # share of its squared mean up to which a variance counts as zero; float32 leaves 1e-14
_BATCH_NORM = nn.modules.batchnorm._BatchNorm


def reconstruct(
    model: nn.Module,
    selection: Selection,
    images: Tensor,
    ridge: float = RIDGE,
    seed: int = 0,
    layers: Sequence[Layer] | None = None,
) -> nn.Module:
    """Remove units, merge them into their twins, then re-solve all that comes after by least squares.

    Returns a smaller copy; no gradient step is taken. Convolutions and linear modules are taken in the order in which
    they run. Each gets the weights (and bias) with which its output, from the inputs that the smaller network gives it,
    is closest to its output in the dense network. Each batch norm's running statistics follow what its input has
    become, before anything behind it is solved: the mean moves by the difference, the variance is multiplied by the
    quotient, of the input's statistics on the images in the smaller and in the dense network. So the errors of earlier
    layers are seen and made good by later ones, and where no input has changed nothing does, whatever images the
    running statistics were taken from. Each group of a grouped convolution, and each filter of a depthwise one, is a
    problem of its own.

    Args:
        model: the dense network; left as it is.
        selection: units to remove by layer name.
        images: calibration batch [N, ...] as the model takes it, of the training distribution; a hundred help,
            a thousand or more are better.
        ridge: pull towards the present weights (see :data:`RIDGE`).
        seed: of the positions of feature maps that serve as equations.
        layers: those of ``model``, where they are known already.

    Raises:
        SettingError: for images that :func:`splinelib.layers.images.check_images` refuses, a ridge below 0, or images
            on
            which the inputs of a module do not determine its weights; and what :func:`splinelib.remove_units` raises.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[0].weight.data = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])  # the first two are twins
    >>> model[0].bias.data = torch.zeros(3)
    >>> images = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> smaller = reconstruct(model, {"0": [0]}, images)
    >>> smaller[0].out_features, torch.allclose(smaller(images), model(images), atol=0.01)
    (2, True)
    """
    check_images(model, images)
    if ridge < 0:
        raise SettingError(f"ridge is {ridge}: it must be at least 0")
    example = images[:2]
    layers = layers or read_layers(model, example)
    lost = _lost_outputs(model, layers, selection)
    smaller = merge_units(model, example, selection, layers=layers)
    modules = dict(smaller.named_modules())
    with evaluating(model), evaluating(smaller):
        for name in _in_order(smaller, example):
            module: Any = modules[name]
            kept = complement(lost.get(name, []), _channels(model.get_submodule(name)))
            if isinstance(module, _BATCH_NORM):
                _shift_statistics(model, smaller, name, kept, images)
            elif solvable(module):
                _solve(model, smaller, name, kept, images, ridge, seed)
    return smaller


def reestimate_norms(model: nn.Module, images: Tensor) -> nn.Module:
    """A copy of ``model`` whose batch norms have the statistics of ``images`` [N, ...], layer after layer.

    Each norm's running mean and variance become those of its input over all images (in eval mode, so with the norms
    in front already set): the correction that REPAIR makes after merging. Nothing else changes.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    >>> images = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> corrected = reestimate_norms(model, images)
    >>> torch.allclose(corrected[1].running_mean, model[0](images).mean(0), atol=1e-6)
    True
    """
    check_images(model, images)
    corrected = copy.deepcopy(model)
    modules = dict(corrected.named_modules())
    with evaluating(corrected):
        for name in _in_order(corrected, images[:2]):
            norm: Any = modules[name]
            if isinstance(modules[name], _BATCH_NORM) and norm.running_mean is not None:
                mean, variance = _input_statistics(corrected, name, images)
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(variance)
    return corrected


def _lost_outputs(model: nn.Module, layers: Sequence[Layer], selection: Selection) -> dict[str, list[int]]:
    """Output channels that each convolution, linear module and batch norm loses, by its name."""
    modules = dict(model.named_modules())
    lost: dict[str, list[int]] = {}
    for (name, writes, _), channels in lost_channels(model, layers, selection).items():
        module = modules.get(name)
        if isinstance(module, _BATCH_NORM) or (module is not None and writes and solvable(module)):
            lost.setdefault(name, []).extend(channels)
    return lost


def _in_order(model: nn.Module, example: Tensor) -> list[str]:
    """Names of convolutions, linear modules and batch norms in the order in which they first run."""
    order: dict[str, None] = {}
    kinds = (nn.Conv2d, nn.Linear, _BATCH_NORM)
    names = [name for name, module in model.named_modules() if isinstance(module, kinds)]

    def note(name: str) -> Callable[[Tensor], None]:
        return lambda _: order.setdefault(name)

    with evaluating(model), watched(model, {name: note(name) for name in names}, {}):
        model(example)
    return list(order)


def _channels(module: Any) -> int:
    """How many channels a convolution or linear module writes, or a batch norm passes on."""
    return module.num_features if isinstance(module, _BATCH_NORM) else len(module.weight)


def _shift_statistics(dense: nn.Module, smaller: nn.Module, name: str, kept: Tensor, images: Tensor) -> None:
    """Let the running statistics of a batch norm of ``smaller`` follow how its input differs from that in ``dense``.

    The dense network's running statistics come from other, augmented images: those of its input on the calibration
    images would change the function even where no unit is gone. A channel that is constant on the images, in either
    network, keeps its variance.
    """
    norm: Any = smaller.get_submodule(name)
    if norm.running_mean is None:
        return
    whole: Any = dense.get_submodule(name)
    kept = kept.to(images.device)
    before, spread_before = (values[kept] for values in _input_statistics(dense, name, images))
    now, spread = _input_statistics(smaller, name, images)
    varies = _varies(before, spread_before) & _varies(now, spread)
    factor = torch.where(varies, spread / spread_before, 1.0)
    norm.running_mean.copy_(whole.running_mean[kept] + (now - before))
    norm.running_var.copy_(whole.running_var[kept] * factor)


def _varies(mean: Tensor, variance: Tensor) -> Tensor:
    """Whether a variance is more than what rounding leaves of a constant."""
    return variance > _ROUNDING * mean.square()


def _input_statistics(model: nn.Module, name: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance, float64 [channels], of what a batch norm reads over all images and positions."""
    total: Any = 0.0
    square: Any = 0.0
    count = 0
    for chunk in images.split(CHUNK):
        values = seen(model, name, chunk, outputs=False).transpose(0, 1).flatten(1).double()
        total, square, count = total + values.sum(1), square + values.square().sum(1), count + values.shape[1]
    mean = total / count
    return mean, (square / count - mean.square()).clamp_min(0)


def _solve(
    dense: nn.Module, smaller: nn.Module, name: str, kept: Tensor, images: Tensor, ridge: float, seed: int
) -> None:
    """Set weight and bias of module ``name`` of ``smaller`` to the ridge solution."""
    module: Any = smaller.get_submodule(name)
    weight = group_weights(module)

    def misses() -> Equations:
        """What the module meets, and by how much its output misses the dense network's."""
        for rows, targets in equations(dense, smaller, name, images, seed, kept):
            error = targets - rows @ weight
            yield rows, error if module.bias is None else error - module.bias.detach().view(len(error), 1, -1)

    try:
        change, shift = ridge_regression(misses(), ridge, unknowns=weight.shape[1])
    except torch.linalg.LinAlgError as error:
        raise SettingError(
            f"{name!r} cannot be re-solved with ridge {ridge:g}: what it reads on the {len(images)} images is "
            "constant, not finite, or too little; give more and different images, or a larger ridge"
        ) from error
    module.weight.data.add_(change.mT.reshape(module.weight.shape))
    if module.bias is not None:
        module.bias.data.add_(shift.flatten())
