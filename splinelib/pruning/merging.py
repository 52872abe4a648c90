"""Remove the boundary, keep the function: a removed unit's twin takes over its outgoing weights. Needs no data.

Removing one of two units whose boundaries coincide changes the function although no boundary is lost: the readers lose
what the unit handed on. Related: data-free parameter pruning (Srinivas & Babu, BMVC 2015) and Neuron Merging (Kim et
al., NeurIPS 2020). With data, :mod:`splinelib.pruning.least_squares` does better.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.checks import NonNegative, checked
from splinelib.criteria.spline import spline_distance
from splinelib.hooks import Inputs, duplicate, evaluating, run, watched
from splinelib.layers.fit import layers_of
from splinelib.layers.groups import grouped, one_each
from splinelib.layers.hyperplanes import folded
from splinelib.layers.kinds import BATCH_NORM, channel_axis, set_weight
from splinelib.layers.layer import Layer, Part
from splinelib.layers.own import applies_its_weight, hands_weights_on
from splinelib.layers.probe import disturbed, drawn
from splinelib.pruning.surgery import Units, remove_units

_ROUNDING = 1e-5  # of numbers that are alike but for the order of sums in float32
# How far off twice as much may be; behind one writer alone GELU and its kin are, by up to 0.25, bounded ones by more.
_EXACTLY, _NEARLY = 1e-3, 0.3
_DRAWS = 8  # inputs on which a constant must be one: fewer may miss a gate that is open or shut


@checked
def merge_units(
    model: nn.Module,
    example_inputs: Inputs,
    selection: Units,
    rho: NonNegative = 0.05,
    layers: Sequence[Layer] | None = None,
) -> nn.Module:
    """Remove units and add their outgoing weights to those of their twins; returns a smaller copy. Needs no data.

    The twin of a unit k is the unit j, among those kept whose normals point the same way (cos > 0), with the closest
    boundary (:func:`splinelib.criteria.spline_distance` with the geometric offset). Every reader's weights for j grow
    by
    α·(its weights for k) with ``α = cos · ‖w_k‖ / ‖w_j‖`` of the folded hyperplanes: exact for coinciding boundaries
    if what lies between unit and reader is positively homogeneous (ReLU, leaky ReLU, pooling).

    A unit whose weights are all zero (as L1 on batch-norm scales makes them) has no boundary and hands on a constant:
    what a reader makes of it moves into the reader's bias, or into the mean of the batch norm behind a reader without
    one. That is exact where the reader pads with no zeros, and inside the image where it does; grouped and transposed
    convolutions are left as they are. Any other unit without a twin is removed without compensation, and so is one that
    is normalised again before it is read, or meets numbers of its own on the way (a scale or slope for each channel),
    or does not grow with its writers, since these stand in sequence (an expansion and the depthwise convolution behind
    it) or multiply (a gate), or since what lies behind them is bounded (a sigmoid). Both are tried on the example and
    on noise.
    Readers with a forward pass of their own take part if they do with other weights what these say.

    Args:
        model: the dense network; left as it is.
        example_inputs: batch [N, ...] to trace it with.
        selection: units to remove by layer name.
        rho: weight of the offset in the distance.
        layers: those of ``model``, where they are known already.

    Raises what :func:`splinelib.remove_units` raises.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model[0].weight.data = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])  # the first two are twins
    >>> model[0].bias.data = torch.zeros(3)
    >>> images = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> smaller = merge_units(model, images, {"0": [0]})
    >>> smaller[0].out_features, torch.allclose(smaller(images), model(images), atol=1e-6)
    (2, True)
    """
    layers = layers_of(model, example_inputs, layers)
    merged = duplicate(model)
    norms = {writer.module: writer.norm for layer in layers for writer in layer.writers}
    with torch.no_grad():
        for layer in layers:  # remove_units names those that are not there
            if not selection.get(layer.name) or _told_apart(merged, layer):
                continue
            lost = torch.tensor(selection[layer.name])
            weight, bias = folded(model, layer)
            twin, alpha = _twins(weight, bias, lost, layer.groups, rho)
            constant = lost[~weight[lost].any(dim=1).cpu()]
            if bool(alpha.any()) and scales_with_its_writers(merged, layer, example_inputs):
                read_twins(merged, layer, lost, twin, alpha)
            done: set[int] = set()
            for reader, columns in layer.reading() if len(constant) > 0 else ():
                module = merged.get_submodule(reader)
                if applies_its_weight(module) and untouched(module, "bias", done):
                    _absorb(merged, reader, norms.get(reader), columns[constant].flatten(), example_inputs)
    return remove_units(merged, example_inputs, selection, layers)


def untouched(module: nn.Module, name: str, done: set[int]) -> bool:
    """Whether what a module keeps as its weight or bias was not met yet: modules may share it. It is noted in ``done``.

    One that is computed, from a parametrisation, or is not there, is no one else's.
    """
    held = module._parameters.get(name)
    new = held is None or id(held) not in done
    done.add(id(held))
    return new


def read_twins(model: nn.Module, layer: Layer, lost: Tensor, twin: Tensor, alpha: Tensor) -> None:
    """Let all that reads a layer read twins, weighted by ``alpha``, for the units that are lost, in place."""
    done: set[int] = set()
    for part in layer.parts:
        module: Any = dict(model.named_modules()).get(part.module)
        columns = None if part.writes else part.by_unit(layer.units)
        if isinstance(module, nn.RNNBase) and columns is not None:
            _read_recurrently(module, columns, lost, twin, alpha)
        elif (
            part.affine
            and columns is not None
            and hands_weights_on(module)
            and untouched(module, "weight", done)
        ):
            taken = module.weight.detach().clone()
            for unit, other, factor in zip(lost.tolist(), twin.tolist(), alpha.tolist(), strict=True):
                for source, target in zip(columns[unit].tolist(), columns[other].tolist(), strict=True):
                    column(module, taken, target).add_(column(module, taken, source), alpha=factor)
            set_weight(module, taken)


def _read_recurrently(module: nn.RNNBase, columns: Tensor, lost: Tensor, twin: Tensor, alpha: Tensor) -> None:
    for name, weight in module.named_parameters():
        if name.startswith("weight_ih_l0"):
            taken = weight[:, columns[lost]] * alpha.to(weight).view(1, -1, 1)
            weight.index_add_(1, columns[twin.cpu()].flatten().to(weight.device), taken.flatten(1))


def _told_apart(model: nn.Module, layer: Layer) -> bool:
    """Whether units of one boundary may still hand on different things.

    So it is where a norm that takes each unit by itself, but the units' own, stands between them and a reader, or
    numbers that are not the same for all of them.
    """
    own = {layer.norm, *(writer.norm for writer in layer.writers)}
    modules = dict(model.named_modules())
    norms = {name for name in {part.module for part in layer.parts} if _by_unit(modules.get(name))}
    return bool(norms - own) or any(_differ(modules, part) for part in layer.parts)


def _differ(modules: Mapping[str, nn.Module], part: Part) -> bool:
    """Whether a part is a slope or a number for each channel, and these are not all alike."""
    module = modules.get(part.module)
    values: Any = module.weight if isinstance(module, nn.PReLU) else None
    if module is None:
        owner, _, name = part.module.rpartition(".")
        values = getattr(modules.get(owner), name, None)
    if not isinstance(values, Tensor):
        return False
    each = values.movedim(part.dim, 0)[part.channels.to(values.device)]
    return bool((each != each[:1]).any())


def _by_unit(module: Any) -> bool:
    return isinstance(module, (BATCH_NORM, nn.modules.instancenorm._InstanceNorm)) or one_each(module)


def _absorb(model: nn.Module, name: str, norm: str | None, constant: Tensor, example_inputs: Inputs) -> None:
    """Move what module ``name`` makes of its constant input channels to its bias, or to the mean of ``norm``."""
    module: Any = model.get_submodule(name)
    behind: Any = None if norm is None else model.get_submodule(norm)
    if isinstance(module, nn.modules.conv._ConvTransposeNd) or getattr(module, "groups", 1) > 1:
        return
    caught: list[Tensor] = []
    axis = -1 if isinstance(module, nn.Linear) else 1
    catch = {name: lambda values: caught.append(values.detach().movedim(axis, 0)[constant].flatten(1))}
    with evaluating(model), watched(model, catch, {}):
        for draw in range(_DRAWS):
            run(model, drawn(example_inputs, draw))
    channels = caught[0]
    values = channels.median(dim=1).values  # all alike, but for borders of padded pooling
    near = _ROUNDING * values[:, None].abs().clamp_min(1)
    alike = ((channels - values[:, None]).abs() <= near).double().mean(dim=1) > 0.5
    still = torch.stack([((other - channels).abs() <= near).all(dim=1) for other in caught]).all(dim=0)
    values = values.where(alike & still, 0.0)  # else no constant: a gate stands between
    weight = module.weight.detach()[:, constant]
    shift = weight.reshape(*weight.shape[:2], -1).sum(2) @ values
    if module.bias is not None:
        module.bias += shift
    elif behind is not None and behind.running_mean is not None:
        behind.running_mean -= shift


def scales_with_its_writers(model: nn.Module, layer: Layer, example_inputs: Inputs) -> bool:
    """Whether a unit whose writers' numbers are twice another's hands on twice as much: so it is where writers add up.

    Tried on a copy of ``model``, in which the second half of a group is twice the first. What a norm follows is doubled
    in the norm.
    """
    there = dict(model.named_modules())
    own = [there[part.module] for part in layer.parts if part.module in there]
    kept = {id(tensor) for module in own for tensor in [*module.parameters(), *module.buffers()]}
    shared = {id(t): t for t in [*model.parameters(), *model.buffers()] if id(t) not in kept}
    trial, half = duplicate(model, shared), layer.units // layer.groups // 2
    modules = dict(trial.named_modules())
    twice = {writer.module: 1.0 if writer.norm or layer.norm else 2.0 for writer in layer.writers}
    norms = {name: 1.0 if layer.norm else 2.0 for writer in layer.writers if (name := writer.norm)}
    norms |= {layer.norm: 2.0} if layer.norm else {}
    done: set[int] = set()
    for part in layer.parts:
        factor = norms.get(part.module) or (twice.get(part.module) if part.writes else None)
        if factor is None or (channels := part.by_unit(layer.units)) is None:
            continue
        module = modules[part.module]
        for name in ("weight", "bias", "running_mean", "running_var"):
            if name.startswith("running") or untouched(module, name, done):
                _copy_numbers(module, name, channels, half, factor)
    seen: list[tuple[Tensor, Tensor]] = []
    recurrent = [part for part in layer.parts if isinstance(modules.get(part.module), nn.RNNBase)]
    reading = [*layer.reading(), *((part.module, part.by_unit(layer.units)) for part in recurrent)]
    catch = {
        reader: partial(_catch, modules[reader], columns, half, seen)
        for reader, columns in reading
        if columns is not None
    }
    with evaluating(trial), watched(trial, catch, {}):
        run(trial, example_inputs)
        run(trial, disturbed(example_inputs))  # an example of zeros shows nothing
    errors = [error for one, other in seen if (error := _from_twice(one, other)) is not None]
    return bool(errors) and max(errors) < (_NEARLY if len(layer.writers) == 1 else _EXACTLY)


def _copy_numbers(module: Any, name: str, channels: Tensor, half: int, twice: float) -> None:
    """Give the second ``half`` of a writer's channels, or of a norm's, the numbers of the first, ``twice`` as large."""
    values = getattr(module, name, None)
    if not isinstance(values, Tensor):
        return
    factor = 1.0 if name.startswith("running") else twice
    taken = values.detach().clone()
    taken[channels[half : 2 * half]] = factor * taken[channels[:half]]
    if name == "weight":
        set_weight(module, taken)
    else:
        values.data.copy_(taken)


def _catch(
    module: nn.Module, columns: Tensor, half: int, seen: list[tuple[Tensor, Tensor]], values: Tensor
) -> None:
    channels = values.detach().movedim(channel_axis(module, values), 0)
    seen.append((channels[columns[:half]], channels[columns[half : 2 * half]]))


def _from_twice(one: Tensor, other: Tensor) -> float | None:
    """How far the second is from twice the first, as a share of that; None where there are no numbers."""
    there = one.isfinite() & other.isfinite()
    wanted, found = 2 * one[there].double(), other[there].double()
    return float((found - wanted).norm() / wanted.norm()) if bool(wanted.any()) else None


def _twins(
    weight: Tensor, bias: Tensor, lost: Tensor, groups: int, rho: NonNegative
) -> tuple[Tensor, Tensor]:
    """For each lost unit its twin among those kept and the factor α, 0 where there is none."""
    norm = weight.norm(dim=1)
    safe = norm.clamp_min(torch.finfo(norm.dtype).tiny)
    cosine = (weight / safe[:, None]) @ (weight / safe[:, None]).T
    distance = spline_distance(weight, bias, rho, "geometric")
    group = torch.arange(len(weight), device=weight.device) // (len(weight) // groups)
    distance[(cosine <= 0) | (group[:, None] != group)] = torch.inf
    distance[:, lost] = torch.inf
    nearest, twin = distance[lost].min(dim=1)
    alpha = cosine[lost, twin] * norm[lost] / safe[twin]
    return twin, alpha.masked_fill(nearest.isinf(), 0.0)


def column(module: Any, weight: Tensor, channel: int) -> Tensor:
    """Of the ``weight`` of ``module``, a view of what it reads one of its input channels with."""
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return weight[channel]
    if grouped(module):
        group, place = divmod(channel, weight.shape[1])
        return weight.chunk(module.groups)[group][:, place]
    return weight[:, channel]
