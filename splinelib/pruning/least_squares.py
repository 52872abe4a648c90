"""Least squares: after units are gone, every reader gets the weights that best reproduce the dense network. Needs data.

Related: channel pruning by least squares (He et al., ICCV 2017), ThiNet (Luo et al., ICCV 2017), optimal brain surgeon
(Hassibi & Stork, 1993), and, for the batch norms, REPAIR (Jordan et al., ICLR 2023). No gradient step is taken.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from splinelib.checks import NonNegative, Seed, checked
from splinelib.hooks import duplicate, evaluating
from splinelib.layers.fit import layers_of
from splinelib.layers.images import Images, calibration_images
from splinelib.layers.kinds import BATCH_NORM
from splinelib.layers.layer import Layer
from splinelib.layers.patches import solvable
from splinelib.layers.visits import Rows, image_rows, in_order, runs, together, visit
from splinelib.pruning.goals import Goals, NormMoments
from splinelib.pruning.merging import merge_units
from splinelib.pruning.surgery import Units, lost_channels
from splinelib.regression import RIDGE


@checked
def reconstruct(
    model: nn.Module,
    selection: Units,
    images: Images,
    ridge: NonNegative = RIDGE,
    seed: Seed = 0,
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
    problem of its own. A module that runs several times is solved, for its first run, only where it reads what was cut;
    one that shares or masks its weight, or whose forward pass does something else with it, is left as it is. Either is
    told where it reads what was cut.

    Args:
        model: the dense network; left as it is.
        selection: units to remove by layer name.
        images: calibration batch [N, ...] as the model takes it, of the training distribution; a hundred help,
            a thousand or more are better; or batches, of which the first thousand images are taken.
        ridge: pull towards the present weights (see :data:`RIDGE`).
        seed: of the positions of feature maps that serve as equations.
        layers: those of ``model``, where they are known already.

    Raises:
        SettingError: for images that :func:`splinelib.layers.images.calibration_images` refuses, a ridge below 0, or
            images on which the inputs of a module do not determine its weights; and what
            :func:`splinelib.remove_units` raises.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[0].weight.data = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])  # the first two are twins
    >>> model[0].bias.data = torch.zeros(3)
    >>> images = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> smaller = reconstruct(model, {"0": [0]}, images)
    >>> smaller[0].out_features, torch.allclose(smaller(images), model(images), atol=0.01)
    (2, True)
    """
    images = calibration_images(model, images)
    example = images[:2]
    layers = layers_of(model, example, layers)
    lost = _lost_outputs(model, layers, selection)
    smaller = merge_units(model, example, selection, layers=layers)
    with evaluating(model), evaluating(smaller, restore=False):
        met = runs(smaller, _mended(smaller), example)
        order = list(met)
        rows = image_rows(smaller, order, images)
        # In their order, each once.
        readers = dict.fromkeys(
            name for layer in layers if selection.get(layer.name) for name, _ in layer.reading()
        )
        _name_unsolved(model, readers, rows, met)
        norms = [name for name in order if isinstance(smaller.get_submodule(name), BATCH_NORM)]
        # The first of several runs says nothing of the others, so what reads nothing that was cut stays as it is.
        once = [name for name in order if name in {*rows, *norms} and (met[name] == 1 or name in readers)]
        for names in together(model, once, images):
            goals = Goals(model, smaller, names, lost, images, int(seed), rows)
            visit(smaller, names, images, partial(goals.reach, ridge=ridge), rows)
    return smaller


@checked
def reestimate_norms(model: nn.Module, images: Images) -> nn.Module:
    """A copy of ``model`` whose batch norms have the statistics of ``images`` ([N, ...] or batches), layer after layer.

    Each norm's running mean and variance become those of its input over all images (in eval mode, so with the norms
    in front already set): the correction that REPAIR makes after merging. Nothing else changes.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    >>> images = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> corrected = reestimate_norms(model, images)
    >>> torch.allclose(corrected[1].running_mean, model[0](images).mean(0), atol=1e-6)
    True
    """
    images = calibration_images(model, images)
    corrected = duplicate(model)
    modules = dict(corrected.named_modules())
    with evaluating(corrected, restore=False):
        names = in_order(corrected, [n for n in modules if _has_statistics(modules[n])], images[:2])
        for group in together(corrected, names, images) if names else ():
            visit(corrected, group, images, lambda name, inputs: _restart(modules[name], inputs))
    return corrected


def _has_statistics(module: Any) -> bool:
    return isinstance(module, BATCH_NORM) and module.running_mean is not None


def _restart(norm: Any, inputs: Iterable[Tensor]) -> None:
    """Give a batch norm the statistics of ``inputs``."""
    mean, variance = NormMoments().of(inputs)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def _lost_outputs(model: nn.Module, layers: Sequence[Layer], selection: Units) -> dict[str, list[int]]:
    """Output channels that each convolution, linear module and batch norm loses, by its name."""
    modules = dict(model.named_modules())
    lost: dict[str, list[int]] = {}
    for (name, writes, _), channels in lost_channels(model, layers, selection).items():
        module = modules.get(name)
        if isinstance(module, BATCH_NORM) or (module is not None and writes and solvable(module)):
            lost.setdefault(name, []).extend(channels)
    return lost


def _name_unsolved(
    model: nn.Module, readers: Iterable[str], rows: Mapping[str, Rows], met: Mapping[str, int]
) -> None:
    """Warn of readers of removed units that keep their weights, or that are solved for the first of several runs."""
    said = (
        (
            "leaves the weights of {} as they are: it re-solves linear modules and convolutions that apply a weight of "
            "their own as it is, and read as much of every image",
            [name for name in readers if name not in rows],
        ),
        (
            "solves {} for the first of several runs alone, which the others need not be like: compare the outcome "
            "with that of no compensation",
            [name for name in readers if name in rows and met[name] > 1],
        ),
    )
    for words, names in said:
        if names:
            listed = ", ".join(f"{name!r} ({type(model.get_submodule(name)).__name__})" for name in names)
            warnings.warn(f"least squares {words.format(listed)}", stacklevel=4)


def _mended(model: nn.Module) -> list[str]:
    """Names of what can be re-solved, and of batch norms; a weight that two modules share solves neither's problem."""
    modules = dict(model.named_modules())
    users = Counter(
        id(held) for module in modules.values() if (held := module._parameters.get("weight")) is not None
    )
    return [
        name
        for name, module in modules.items()
        if isinstance(module, BATCH_NORM)
        or (
            solvable(module)
            and users[id(module._parameters.get("weight"))] <= 1
            and not hasattr(module, "weight_mask")  # of torch.nn.utils.prune, which would undo the solution
        )
    ]
