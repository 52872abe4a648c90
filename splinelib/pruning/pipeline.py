"""Pruning in one call: criterion, selection, surgery and compensation."""

import inspect
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from splinelib.checks import checked, shown
from splinelib.criteria.spline import Criterion, Spline
from splinelib.errors import SettingError
from splinelib.hooks import Inputs
from splinelib.layers.images import check_images
from splinelib.layers.layer import Layer
from splinelib.layers.network import eager, read_layers
from splinelib.pruning.least_squares import reconstruct
from splinelib.pruning.merging import merge_units
from splinelib.pruning.selection import RatioOf, Scope, check_ratio, choose_share
from splinelib.pruning.surgery import Selection, remove_units

Compensate = Literal["none", "merge", "least_squares"]


@checked
def prune(
    model: nn.Module,
    example_inputs: Inputs,
    ratio: float,
    scope: Scope = "layerwise",
    criterion: Criterion | None = None,
    compensate: Compensate = "none",
    data: Tensor | None = None,
    ratio_of: RatioOf = "units",
    ignore: Sequence[str | nn.Module | type] = (),
) -> nn.Module:
    """Prune a share of a network's units; returns a smaller copy, the original stays as it is.

    Args:
        model: any network that runs; one that ``torch.compile`` made is pruned as it was before.
        example_inputs: a batch of inputs [N, ...] on the model's device; a tuple of arguments or a dict of keywords.
        ratio: share to remove, strictly between 0 and 1; of what, ``ratio_of`` says.
        scope: the same share of each layer, or one threshold for all (see :func:`splinelib.pruning.select_units`).
        criterion: which units are redundant; by default the spline criterion, :class:`splinelib.Spline`.
        compensate: what the readers of removed units do about it: nothing (``"none"``); take over their outgoing
            weights by their twins (``"merge"``, :func:`splinelib.pruning.merge_units`); or be re-solved on data, with
            batch-norm statistics (``"least_squares"``, :func:`splinelib.pruning.reconstruct`). None is a training step.
        data: calibration batch [N, ...] for ``"least_squares"``: training images as the model takes them; a hundred
            help, a thousand or more are better.
        ratio_of: ``"units"``; or ``"flops"``, which removes the fewest units that take that share of the operations of
            a forward pass with them (see :func:`select_flops`), so that criteria compare at equal cost.
        ignore: modules that keep all that they write, by name, as modules, or by type.

    What cannot lose a unit, by its nature or by what the network does with it, is left whole, with a warning that says
    why (see :func:`splinelib.read_layers`).

    Raises:
        SettingError: for a ratio outside (0, 1), an unknown scope, compensation or ``ratio_of``, a criterion that is
            none, or a calibration batch that is missing, does not fit or says nothing, before any work; and for a ratio
            too small to remove a unit.
        UnsupportedModuleError: if nothing in the model can be pruned.

    >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> smaller = prune(model, torch.zeros(1, 2), ratio=0.5)
    >>> smaller[0].out_features, smaller[2].in_features, model[0].out_features
    (2, 2, 4)
    """
    check_ratio(ratio)
    _check_criterion(criterion)
    if compensate == "least_squares":
        check_images(model, data, example_inputs if isinstance(example_inputs, Tensor) else None)
    model = eager(model)
    layers = read_layers(model, example_inputs, ignore)
    scores = (criterion or Spline())(model, layers)
    selection = choose_share(model, example_inputs, layers, scores, ratio, scope, ratio_of)
    if not selection:
        largest = max(layers, key=lambda layer: layer.units)
        raise SettingError(
            f"ratio is {ratio!r}: that is no whole unit, not even of the largest layer {largest.name!r} with "
            f"{largest.units} (each keeps one at least); give a larger ratio or a wider network"
        )
    return remove_compensated(model, example_inputs, layers, selection, compensate, data)


def _check_criterion(criterion: object) -> None:
    try:
        if isinstance(criterion, type | nn.Module):
            raise TypeError
        if criterion is not None:
            inspect.signature(criterion).bind(nn.Module, ())  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise SettingError(f"criterion is {shown(criterion)}: give one such as splinelib.Spline()") from error


def remove_compensated(
    model: nn.Module,
    example_inputs: Inputs,
    layers: Sequence[Layer],
    selection: Selection,
    compensate: Compensate,
    data: Tensor | None,
) -> nn.Module:
    """Remove the selected units with the compensation of that name (see :func:`prune`); a smaller copy."""
    if compensate == "merge":
        return merge_units(model, example_inputs, selection, layers=layers)
    if compensate == "least_squares":
        check_images(model, data)
        return reconstruct(model, selection, data, layers=layers)  # type: ignore[arg-type]
    return remove_units(model, example_inputs, selection, layers)
