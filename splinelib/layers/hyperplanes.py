"""What units are on the input side: hyperplanes with batch norm folded in, rows of weights, batch-norm scales."""

from typing import Any

import torch
from torch import Tensor, nn

from splinelib.checks import check_finite, checked
from splinelib.errors import UnsupportedModuleError
from splinelib.layers.channel_selection import ChannelSelection
from splinelib.layers.fit import check_layers
from splinelib.layers.kinds import BATCH_NORM
from splinelib.layers.layer import Layer


@checked
def folded(model: nn.Module, layer: Layer, norms: bool = True) -> tuple[Tensor, Tensor]:
    """Hyperplanes of a layer's units with batch norm folded in: ``w`` [units, d] and ``b`` [units], in float64.

    ``w = γ/σ · W`` and ``b = β + γ/σ · (bias − μ)``. A convolution's row is its flattened filter. Several writers
    are one hyperplane in the product of their input spaces: their rows stand side by side and their offsets add up
    (our reading; exact where the unit's pre-activation is the sum of its writers). A unit of several boundaries, since
    it has several channels (a pixel shuffle) or writers in sequence (an expansion and the depthwise convolution behind
    it), has all of them side by side, offsets included, and ``b`` is 0: two units are parallel where all their
    boundaries coincide. ``norms=False`` leaves batch norm out. Raises :class:`SettingError` for numbers that are not
    finite.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)).eval()
    >>> (layer,) = splinelib.read_layers(model, torch.zeros(1, 2))
    >>> weight, bias = folded(model, layer)
    >>> inputs = torch.ones(1, 2)
    >>> torch.allclose((inputs.double() @ weight.T + bias).float(), model[:2](inputs), atol=1e-6)
    True
    """
    check_layers(model, (layer,))
    rows, offsets = [], []
    for writer in layer.writers:
        row, offset = _affine(model.get_submodule(writer.module))
        offset = offset[:, None]
        if norms and writer.norm is not None:
            row, offset = _fold(model, writer.norm, row, offset)
        rows.append(layer.side_by_side(writer.module, row))
        offsets.append(layer.side_by_side(writer.module, offset))
    weight, apart = _joined(layer, rows), _boundaries(model, layer, offsets)
    if norms and layer.norm is not None:
        weight, apart = _fold(model, layer.norm, weight, apart)
    bias = apart[:, 0]
    if apart.shape[1] > 1:  # a unit without weights has no boundary, wherever it lies
        weight = torch.cat((weight, apart * weight.any(dim=1, keepdim=True)), dim=1)
        bias = torch.zeros_like(bias)
    weight, bias = _selected(model, layer, weight), _selected(model, layer, bias)
    for name, values in (("weights", weight), ("offsets", bias)):
        check_finite(
            f"{name} of layer {layer.name!r}", values, "the network has diverged, lower its learning rate"
        )
    return weight, bias


def _boundaries(model: nn.Module, layer: Layer, offsets: list[Tensor]) -> Tensor:
    """Offsets [units, boundaries]: the sum over writers, or those of all, where units have several boundaries each."""
    modules = [model.get_submodule(writer.module) for writer in layer.writers]
    # A grouped convolution among several writers is behind another: it is by its groups that their units are tied.
    in_sequence = len(modules) > 1 and any(getattr(module, "groups", 1) > 1 for module in modules)
    if in_sequence or any(offset.shape[1] > 1 for offset in offsets):
        return torch.cat(offsets, dim=1)
    return torch.stack(offsets).sum(0)


def raw_rows(model: nn.Module, layer: Layer) -> Tensor:
    """Weights of a layer's units without batch norm, float64 [units, d]; several writers stand side by side."""
    names = [writer.module for writer in layer.writers]
    rows = [layer.side_by_side(name, _affine(model.get_submodule(name))[0]) for name in names]
    return _selected(model, layer, _joined(layer, rows))


def _joined(layer: Layer, rows: list[Tensor]) -> Tensor:
    if len({len(row) for row in rows}) > 1:
        raise UnsupportedModuleError(
            f"layer {layer.name!r} is written by {[writer.module for writer in layer.writers]}, of different widths "
            f"{[len(row) for row in rows]}: such units have no hyperplane, use a criterion that needs none"
        )
    return torch.cat(rows, dim=1)


def unit_scales(model: nn.Module, layer: Layer) -> Tensor:
    """``|γ|`` of each unit [units] in float64: the batch-norm scale, summed over writers that have one of their own.

    Where none has, it is that of the only batch norm that the units pass further on, such as behind a ReLU.

    Raises :class:`UnsupportedModuleError` if no batch norm belongs to the layer.
    """
    norms = [layer.norm] if layer.norm is not None else [w.norm for w in layer.writers if w.norm is not None]
    if not norms:
        modules = dict(model.named_modules())
        passed = [part.module for part in layer.parts if isinstance(modules.get(part.module), BATCH_NORM)]
        norms = passed if len(passed) == 1 else []
    if not norms:
        raise UnsupportedModuleError(
            f"layer {layer.name!r} has no batch norm: use a criterion that needs none"
        )
    scales = [layer.by_unit(norm, _scale(model.get_submodule(norm)).abs()) for norm in norms]
    scale = torch.stack(scales).sum(0)
    return _selected(model, layer, scale)


def _selected(model: nn.Module, layer: Layer, values: Tensor) -> Tensor:
    """``values`` [channels, ...] of the units that the layer still has."""
    root = model.get_submodule(layer.name)
    return values[root.indexes] if isinstance(root, ChannelSelection) else values


def _affine(module: Any) -> tuple[Tensor, Tensor]:
    weight, groups = module.weight.detach().double(), getattr(module, "groups", 1)
    if isinstance(module, nn.modules.conv._ConvTransposeNd):  # [in, out / groups, ...]
        weight = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    row = weight.flatten(1)
    # Filters of different groups read different channels: give each group its own columns. A depthwise filter's one
    # channel is its own unit of the expansion in front, with which it is coupled: such filters compare as they are.
    if 1 < groups < len(row):
        row = torch.block_diag(*row.reshape(groups, -1, row.shape[1]))
    bias = module.bias.detach().double() if module.bias is not None else row.new_zeros(len(row))
    return row, bias


def _scale(norm: Any) -> Tensor:
    if norm.weight is None:
        return torch.ones_like(norm.running_var, dtype=torch.float64)
    return norm.weight.detach().double()


def _fold(model: nn.Module, name: str, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``weight`` [units, d] and offsets ``bias`` [units, boundaries] behind a batch norm."""
    norm: Any = model.get_submodule(name)
    if norm.running_mean is None:
        raise UnsupportedModuleError(
            f"{name!r}, {norm}, keeps no running statistics, so it is no affine map: build it with "
            "track_running_stats=True, or name what it reads in `ignore`"
        )
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    gain = _scale(norm) / (variance + norm.eps).sqrt()
    shift = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach().double()
    return gain[:, None] * weight, shift[:, None] + gain[:, None] * (bias - mean[:, None])
