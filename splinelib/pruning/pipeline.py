"""Pruning in one call: criterion, selection, surgery and compensation."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from splinelib.checks import Count, checked, shown
from splinelib.criteria.spline import Criterion, Spline
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import Inputs
from splinelib.layers.images import Images, calibration_images
from splinelib.layers.layer import Layer
from splinelib.layers.network import Ignore, eager, ignored, read_layers
from splinelib.pruning.cut import cut_of, is_cut
from splinelib.pruning.least_squares import reconstruct
from splinelib.pruning.merging import merge_units
from splinelib.pruning.report import attach, report
from splinelib.pruning.selection import Ratio, RatioOf, Scope, check_ratio, choose_share, share_left, shares
from splinelib.pruning.surgery import Selection, remove_units

Compensate = Literal["none", "merge", "least_squares"]


@checked
def prune(
    model: nn.Module,
    example_inputs: Inputs,
    ratio: Ratio,
    scope: Scope = "layerwise",
    criterion: Criterion | None = None,
    compensate: Compensate = "none",
    data: Images | None = None,
    ratio_of: RatioOf = "units",
    ignore: Ignore = (),
    round_to: Count | None = None,
    min_units: Count = 1,
    steps: Count = 1,
    finetune: Callable[[nn.Module], Any] | None = None,
) -> nn.Module:
    """Prune a share of a network's units; returns a smaller copy, the original stays as it is.

    What was cut comes with it (:func:`splinelib.pruning.cut_of`), and a table of what is left
    (:func:`splinelib.pruning.report_of`).

    Args:
        model: any network that runs; one that ``torch.compile`` made is pruned as it was before.
        example_inputs: a batch of inputs [N, ...] on the model's device; a tuple of arguments or a dict of keywords.
        ratio: share to remove, strictly between 0 and 1; of what, ``ratio_of`` says. Or a dict of shares by pattern of
            layers' names, ``{"layer4.*": 0.7, "*": 0.5}``: the first that fits counts, other layers stay whole.
        scope: the same share of each layer, or one threshold for all (see :func:`splinelib.pruning.select_units`).
        criterion: which units are redundant; by default the spline criterion, :class:`splinelib.Spline`.
        compensate: what the readers of removed units do about it: nothing (``"none"``); take over their outgoing
            weights by their twins (``"merge"``, :func:`splinelib.pruning.merge_units`); or be re-solved on data, with
            batch-norm statistics (``"least_squares"``, :func:`splinelib.pruning.reconstruct`). None is a training step.
        data: calibration batch [N, ...] for ``"least_squares"``: training images as the model takes them; a hundred
            help, a thousand or more are better. Or batches, as a DataLoader gives them: the first thousand images.
        ratio_of: ``"units"``; or ``"flops"``, ``"parameters"`` or ``"latency"``, which removes the fewest units that
            take that share of a forward pass's operations, of the parameters, or of the time of a forward pass on
            ``example_inputs`` with them (see :func:`splinelib.pruning.select_budget`).
        ignore: modules that keep all that they write, by name, as modules, or by type.
        round_to: a layer keeps the nearest multiple of so many channels; by default of 16, of 8 and less in narrow
            layers (see :func:`splinelib.pruning.select_units`), as backends like it; 1 to keep the exact share.
        min_units: so many units stay in each layer.
        steps: in how many steps of equal size to prune; each scores anew what the one before has left.
        finetune: called with the smaller network after each step, to train it in place.

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
    for share in ratio.values() if isinstance(ratio, Mapping) else [ratio]:
        check_ratio(share)
    _check_criterion(criterion)
    model = smaller = eager(model)
    if compensate == "least_squares":
        example = example_inputs if isinstance(example_inputs, Tensor) else None
        data = calibration_images(model, data, example)
    if is_cut(model):
        cut_of(model)  # which refuses a network that was changed since
    names = sorted(ignored(model, ignore))
    whole: dict[str, int] = {}
    for step in range(int(steps)):
        try:
            layers = _left(smaller, example_inputs, names, first=step == 0)
        except UnsupportedModuleError:
            if smaller is model:
                raise
            break  # nothing is left that can go
        whole = whole or {layer.name: layer.units for layer in layers}
        scores = (criterion or Spline())(smaller, layers)
        if steps > 1 and not step and ratio_of != "units":
            # Whether so much can go at all is said before anything is trained.
            choose_share(model, example_inputs, layers, scores, ratio, scope, ratio_of, 1, min_units)
        cost = partial(share_left, model, smaller, example_inputs, ratio_of)
        done = (step + 1) / int(steps)
        part = ratio if steps == 1 else _part(ratio, scope, ratio_of, layers, whole, done, cost)
        if not part:
            continue
        rounded = round_to if step + 1 == steps else 1  # widths in between need not suit a backend
        selection = choose_share(
            smaller, example_inputs, layers, scores, part, scope, ratio_of, rounded, min_units
        )
        if selection:
            smaller = remove_compensated(smaller, example_inputs, layers, selection, compensate, data)
            if finetune:
                finetune(smaller)
    if smaller is model:
        largest = max(layers, key=lambda layer: layer.units)
        raise SettingError(
            f"ratio is {ratio!r}: that is no whole unit, not even of the largest layer {largest.name!r} with "
            f"{largest.units} (each keeps one at least, and what round_to and min_units say); give a larger ratio or a "
            "wider network"
        )
    return attach(smaller, report(model, smaller, example_inputs))


def _left(model: nn.Module, example_inputs: Inputs, ignored: list[str], first: bool) -> tuple[Layer, ...]:
    """The layers that can be cut; what cannot is said before the first step, not again of what earlier ones used up."""
    with warnings.catch_warnings():
        if not first:
            warnings.filterwarnings("ignore", "left whole")
        return read_layers(model, example_inputs, ignored)


def _part(
    ratio: Ratio,
    scope: Scope,
    ratio_of: RatioOf,
    layers: Sequence[Layer],
    whole: Mapping[str, int],
    done: float,
    cost: Callable[[], float],
) -> Ratio:
    """The share of what is left before a step that goes in it, such that what was rounded before does not add up.

    After the step a share ``done`` of all that is to go is gone; ``cost`` finds what is left of the dense network's.
    """
    if ratio_of != "units" and not isinstance(ratio, Mapping):
        return max(0.0, 1 - (1 - ratio * done) / cost())
    units = [whole.get(layer.name, layer.units) for layer in layers]
    asked = shares(layers, ratio, scope, whole)
    if scope == "global":
        left = max(1, sum(units) - round(done * asked[0] * sum(units)))
        return max(0.0, 1 - left / sum(layer.units for layer in layers))
    left_of = [max(1, n - round(done * share * n)) for share, n in zip(asked, units, strict=True)]
    return {
        layer.name: 1 - left / layer.units
        for layer, left in zip(layers, left_of, strict=True)
        if left < layer.units
    }


def _check_criterion(criterion: object) -> None:
    try:
        if isinstance(criterion, type | nn.Module):
            raise TypeError
        if criterion is not None:
            inspect.signature(criterion).bind(nn.Module, ())  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"criterion is {shown(criterion)}: give an object such as splinelib.Spline()"
        ) from error


def remove_compensated(
    model: nn.Module,
    example_inputs: Inputs,
    layers: Sequence[Layer],
    selection: Selection,
    compensate: Compensate,
    data: Images | None,
) -> nn.Module:
    """Remove the selected units with the compensation of that name (see :func:`prune`); a smaller copy."""
    if compensate == "merge":
        return merge_units(model, example_inputs, selection, layers=layers)
    if compensate == "least_squares":
        assert data is not None  # as prune has asked
        return reconstruct(model, selection, data, layers=layers)
    return remove_units(model, example_inputs, selection, layers)
