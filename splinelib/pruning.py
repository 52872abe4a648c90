"""Pruning in one call: criterion, selection, surgery and compensation."""

from typing import Literal

from torch import Tensor, nn

from splinelib.compensation import merge_units
from splinelib.criterion import Criterion, Spline
from splinelib.errors import SettingError
from splinelib.network import read_layers
from splinelib.reconstruction import check_images, reconstruct
from splinelib.surgery import Scope, Selection, check_ratio, remove_units, select_units

Compensate = Literal["none", "merge", "least_squares"]
COMPENSATIONS: tuple[Compensate, ...] = ("none", "merge", "least_squares")


def prune(
    model: nn.Module,
    example_inputs: Tensor,
    ratio: float,
    scope: Scope = "layerwise",
    criterion: Criterion | None = None,
    compensate: Compensate = "none",
    data: Tensor | None = None,
) -> nn.Module:
    """Prune a share of a network's units; returns a smaller copy, the original stays as it is.

    Args:
        model: any network that Torch-Pruning can trace.
        example_inputs: a batch of inputs [N, ...] on the model's device, used to trace it.
        ratio: share of the units to remove, strictly between 0 and 1.
        scope: the same share of each layer, or one threshold for all (see :func:`splinelib.select_units`).
        criterion: which units are redundant; by default the spline criterion, :class:`splinelib.Spline`.
        compensate: what the readers of removed units do about it: nothing (``"none"``); take over their outgoing
            weights by their twins (``"merge"``, :func:`splinelib.merge_units`); or be re-solved on data, with
            batch-norm statistics (``"least_squares"``, :func:`splinelib.reconstruct`). None is a training step.
        data: calibration batch [N, ...] for ``"least_squares"``: some hundred training images as the model takes them.

    Raises:
        SettingError: for a ratio outside (0, 1), an unknown scope or compensation, or a calibration batch that is
            missing or does not fit, before any work.
        UnsupportedModuleError: if nothing in the model can be pruned.
    """
    check_ratio(ratio)
    if compensate not in COMPENSATIONS:
        raise SettingError(f"compensate is {compensate!r}: choose one of {', '.join(COMPENSATIONS)}")
    if compensate == "least_squares":
        check_images(model, data)
    layers = read_layers(model, example_inputs)
    scores = (criterion or Spline())(model, layers)
    selection = select_units(layers, scores, ratio, scope)
    return remove_compensated(model, example_inputs, selection, compensate, data)


def remove_compensated(
    model: nn.Module,
    example_inputs: Tensor,
    selection: Selection,
    compensate: Compensate,
    data: Tensor | None,
) -> nn.Module:
    """Remove the selected units with the compensation of that name (see :func:`prune`); a smaller copy."""
    if compensate == "merge":
        return merge_units(model, example_inputs, selection)
    if compensate == "least_squares":
        check_images(model, data)
        return reconstruct(model, selection, data)  # type: ignore[arg-type]
    return remove_units(model, example_inputs, selection)
