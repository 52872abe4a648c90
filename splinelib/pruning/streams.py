"""Streams that blocks select from, made small: what no block reads goes, and selections become slices."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.checks import checked
from splinelib.hooks import Inputs, duplicate, evaluating, run, tensors_in
from splinelib.layers import cutting
from splinelib.layers.channel_selection import ChannelSelection
from splinelib.layers.images import check_inputs
from splinelib.layers.kinds import BATCH_NORM, complement, cut_module, keep_channels, kind_of, narrower
from splinelib.layers.network import as_double, eager, follows
from splinelib.layers.observe import observe
from splinelib.layers.observed import Observed, Side
from splinelib.layers.probe import disturbed
from splinelib.layers.steady import in_float64
from splinelib.layers.units import components, read_streams
from splinelib.pruning.cut import changed

Pairs = Sequence[tuple[str, str]]
"""Names of modules, and of those that alone read them."""

_ROUNDING = 1e-9  # of float64, relative to the largest output


@checked
def compact_streams(model: nn.Module, example_inputs: Inputs) -> nn.Module:
    """A copy whose :class:`splinelib.layers.ChannelSelection` modules cost little, to train or to run.

    It computes the same. Channels of a stream that no module reads are removed, with what writes them. The others are
    put into such an order that the channels of each selection are neighbours, which a slice reads without an index:
    possible wherever at most two different selections read a stream. Each selection moves in front of its batch norm,
    which then norms what is kept. Compact last: what was cut (:func:`splinelib.pruning.cut_of`) fits the network as it
    was, so take the cut, or save, before. The state of a compact network that was trained fits
    ``compact_streams(cut.apply_to(fresh), example_inputs)``.

    Args:
        model: left as it is; one without selections is copied as it is.
        example_inputs: a batch [N, ...], a tuple of arguments or a dict of keywords.

    Raises :class:`SettingError` where the model does not take the inputs.

    >>> norm, selection = nn.BatchNorm2d(4), splinelib.layers.ChannelSelection(4)
    >>> selection.indexes = torch.tensor([0, 2])
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), norm, selection, nn.ReLU(), nn.Conv2d(2, 1, 3))
    >>> compact_streams(model, torch.zeros(1, 1, 8, 8))[0].out_channels
    2
    """
    model = eager(model)
    check_inputs(model, example_inputs)
    inputs = disturbed(as_double(example_inputs))
    whole = duplicate(model).double()
    kept = _kept(model, observe(duplicate(whole), as_double(inputs)))
    if not same(whole, _arranged(whole, kept), inputs):  # something counts on the channels' places
        kept = {}
    arranged = _arranged(model, kept)
    pairs = [pair for pair in follows(model, example_inputs).items() if _selects(arranged, *pair)]
    whole = duplicate(arranged).double()
    pairs = [pair for pair in pairs if same(whole, _in_front(whole, [pair]), inputs)]
    compact = _in_front(arranged, pairs)
    return changed(compact, "compact_streams") if kept or pairs else compact


def same(model: nn.Module, other: nn.Module, inputs: Inputs) -> bool:
    """Whether two networks in float64 give the same outputs."""
    with evaluating(model), evaluating(other), in_float64():
        wanted = tensors_in(run(model, inputs))
        try:
            values = zip(wanted, tensors_in(run(other, inputs)), strict=True)
            return all(_close(one, two) for one, two in values)
        except Exception:  # shapes that do not fit, or the forward pass wants what is no longer there
            return False


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one - other).abs() <= _ROUNDING * one.abs().max()).all())


def _kept(model: nn.Module, observed: Observed) -> dict[Side, Tensor]:
    """For the sides of streams, and of what selections write, the channels that stay, in their new order."""
    label = components(observed)
    modules = dict(model.named_modules())
    sides = {side: label[observed.numbers(side, 0)] for side in observed.first}
    selections = {side: one for one, side in read_streams(modules, observed)}
    read = {side: sides[side][one.indexes.cpu().numpy()] for side, one in selections.items()}
    plain = [labels for side, labels in sides.items() if _reads(modules, side) and side not in selections]
    plain += [label[numbers] for numbers, _ in observed.stays]
    kept: dict[Side, Tensor] = {}
    for stream in {tuple(sides[side].tolist()) for side in selections}:
        readers = [side for side in selections if set(stream) & set(sides[side])]
        order = _order(stream, [read[side] for side in readers], set(np.concatenate([[-1], *plain]).tolist()))
        kept |= _places(sides, stream, order)
        for side in readers:
            units = np.argsort([order.index(one) for one in read[side]])
            written = sides[side[0], "out"]
            kept |= _places(sides, written, written[units])
    return kept


def _reads(modules: Mapping[str, nn.Module], side: Side) -> bool:
    kind = kind_of(modules.get(side[0]))
    return side[1] == "in" and kind is not None and not kind.coupled


def _order(stream: Sequence[int], reads: list[np.ndarray], others: set[int]) -> list[int]:
    """The channels of a stream that something reads: those of one selection, of both, of the other, of none."""
    distinct = list({tuple(sorted(one)): set(one.tolist()) for one in reads}.values())
    everything = others.union(*distinct)
    left = [one for one in stream if one in everything]
    if len(distinct) > 2:
        return left
    place = {(True, False): 0, (True, True): 1, (False, True): 2, (False, False): 3}
    first, last = distinct[0], distinct[-1]
    return sorted(left, key=lambda one: place[one in first, one in last])


def _places(
    sides: Mapping[Side, np.ndarray], before: Sequence[int], after: Sequence[int]
) -> dict[Side, Tensor]:
    """The channels that stay at each side that has some of ``before``, which become ``after``."""
    rank = {int(one): place for place, one in enumerate(after)}
    kept: dict[Side, Tensor] = {}
    for side, labels in sides.items():
        inside = np.flatnonzero(np.isin(labels, before))
        if len(inside):
            moved = np.arange(len(labels))
            moved[inside] = sorted(inside, key=lambda at: rank.get(int(labels[at]), len(rank)))
            gone = [at for at in inside if labels[at] not in rank]
            kept[side] = torch.from_numpy(moved[~np.isin(moved, gone)])
    return kept


def _arranged(model: nn.Module, kept: Mapping[Side, Tensor]) -> nn.Module:
    """A copy with these channels, in this order."""
    arranged = duplicate(model)
    for (name, end), channels in kept.items():
        found = cutting.found(arranged, name)
        if not isinstance(found, nn.Module):
            path, _, last = name.rpartition(".")
            setattr(arranged.get_submodule(path), last, narrower(found, int(end), channels))
        elif not isinstance(found, ChannelSelection):
            keep_channels(found, end == "out" or kind_of(found).coupled, channels)  # type: ignore[union-attr]
        elif end == "in":
            places = torch.argsort(channels)[torch.isin(channels.sort().values, found.indexes.cpu())]
            found.indexes, found.channels = places.sort().values.to(found.indexes.device), len(channels)
            start, stop = int(places.min()), int(places.max()) + 1
            found.consecutive = slice(start, stop) if stop - start == len(places) else None
    return arranged


def _selects(model: nn.Module, first: str, second: str) -> bool:
    norm, selection = model.get_submodule(first), model.get_submodule(second)
    chosen = isinstance(selection, ChannelSelection) and len(selection.indexes) < selection.channels
    return chosen and isinstance(norm, BATCH_NORM)


def _in_front(model: nn.Module, pairs: Pairs) -> nn.Module:
    """A copy with each selection in front of the batch norm that it alone reads."""
    moved = duplicate(model)
    for first, second in pairs:
        norm: Any = moved.get_submodule(first)
        selection: Any = moved.get_submodule(second)
        cut_module(norm, True, complement(selection.indexes.tolist(), selection.channels).tolist())
        moved.set_submodule(first, nn.Sequential(selection, norm))
        moved.set_submodule(second, nn.Identity())
    return moved
