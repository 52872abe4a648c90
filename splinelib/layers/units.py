"""From channels that go together to layers of units."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from splinelib.layers.channel_selection import ChannelSelection
from splinelib.layers.groups import channel_groups
from splinelib.layers.kinds import AFFINE, BATCH_NORM, kind_of
from splinelib.layers.layer import Layer, Part, Writer
from splinelib.layers.observed import Observed, Side, sides

Order = dict[str, list[Side]]
"""For the modules that may name a layer, first choice first: the sides of the layer in their order, as far as known."""


@dataclass(frozen=True)
class Left:
    """Writers that are left whole, and why; no reason where that needs no word."""

    names: tuple[str, ...]
    why: str


def components(observed: Observed) -> np.ndarray:
    """For each channel the lowest number among those that it goes with."""
    label = np.arange(sum(observed.width.values()))
    edges = np.concatenate([np.zeros((2, 0), int), *observed.edges], axis=1)
    while True:
        lowest = np.minimum(label[edges[0]], label[edges[1]])
        after = label.copy()
        np.minimum.at(after, edges[0], lowest)
        np.minimum.at(after, edges[1], lowest)
        after = after[after]
        if np.array_equal(after, label):
            return label
        label = after


def group(model: nn.Module, observed: Observed, order: Order) -> tuple[list[Layer], list[Left]]:
    """Layers, one for each set of units that some module writes as a whole, and the writers that belong to none."""
    label = components(observed)
    modules = dict(model.named_modules())
    written = {name: label[observed.numbers(side, 0)] for name, side in _roots(modules, observed)}
    names = sorted(written, key=lambda name: list(order).index(name) if name in order else len(order))
    streams = [(label[observed.numbers(side, 0)], "") for _, side in read_streams(modules, observed)]
    stays = _stays([*((label[numbers], why) for numbers, why in observed.stays), *streams])
    layers: list[Layer] = []
    left: list[Left] = []
    taken: set[int] = set()
    for name in sorted(names, key=lambda name: len(set(written[name]))):
        units = dict.fromkeys(written[name].tolist())
        why = [stays[unit] for unit in units if unit in stays]
        if isinstance(modules[name], ChannelSelection) and _normalised(modules, observed, name) is None:
            left.append(
                Left(
                    (name,), "a ChannelSelection must follow a batch norm, which reads a sum of convolutions"
                )
            )
        elif taken.isdisjoint(units) and not why and (len(units) > 1 or len(written[name]) == 1):
            taken.update(units)
            layer = _layer(modules, observed, label, name, list(units), order.get(name, []))
            lone = any(part.module not in modules for part in layer.parts)
            if layer.groups > 1 and (layer.units < 2 * layer.groups or layer.units % layer.groups):
                text = (
                    f"{layer.units} units in {layer.groups} groups of channels, which must stay equally large"
                )
                left.append(Left((name,), text))
            elif layer.readers or lone or len(units) == 1:
                layers.append(layer)
            else:  # what the network gives may hide it: an array, a file
                left.append(
                    Left(
                        (name,),
                        "nothing is seen to read it (inputs of zeros may hide what does: give real ones)",
                    )
                )
        elif not taken.issuperset(units):
            mixed = "" if why or len(units) > 1 else "its channels all depend on one another"
            left.append(Left((name,), next(filter(None, why), mixed)))
    return layers, left


def _roots(modules: dict[str, nn.Module], observed: Observed) -> list[tuple[str, Side]]:
    found = []
    for name, module in modules.items():
        kind = kind_of(module)
        if kind is not None and isinstance(module, (*AFFINE, ChannelSelection)):
            side = sides(name, kind)[1]
            if side in observed.first:
                found.append((name, side))
    return found


def read_streams(modules: dict[str, nn.Module], observed: Observed) -> list[tuple[ChannelSelection, Side]]:
    """The selections that run, each with the side that it reads: a stream, which stays whole when units go."""
    found = [(module, (name, "in")) for name, module in modules.items()]
    return [
        (one, side) for one, side in found if isinstance(one, ChannelSelection) and side in observed.first
    ]


def _stays(reasons: Sequence[tuple[np.ndarray, str]]) -> dict[int, str]:
    """Why units must stay, by the label of the unit; what needs no word outranks what does."""
    found: dict[int, str] = {}
    for units, why in reasons:
        for unit in set(units.tolist()):
            found[unit] = why if found.get(unit, why) else ""
    return found


def _layer(
    modules: dict[str, nn.Module],
    observed: Observed,
    label: np.ndarray,
    name: str,
    units: list[int],
    order: Sequence[Side],
) -> Layer:
    place = np.full(len(label), -1)
    place[units] = np.arange(len(units))
    unit_of = place[label]
    every, starts = list(observed.first), np.array(list(observed.first.values()))
    met = np.unique(np.searchsorted(starts, np.flatnonzero(unit_of >= 0), side="right") - 1)
    found = [every[place] for place in met]
    if set(order) == set(found):
        found = list(order)
    parts = [_part(modules, side, unit_of[observed.numbers(side, 0)]) for side in found]
    writers = [
        part.module
        for part in parts
        if part.writes and isinstance(modules.get(part.module), (*AFFINE, ChannelSelection))
    ]
    norm = None
    if isinstance(modules[name], ChannelSelection):
        norm, writers = _normalised(modules, observed, name)  # type: ignore[misc]
    readers = tuple(part.module for part in parts if not part.writes and part.module in modules)
    groups = math.lcm(*(channel_groups(modules[part.module]) for part in parts if part.module in modules))
    own = tuple(
        Writer(writer, None if norm else _norm_behind(modules, observed, writer)) for writer in writers
    )
    return Layer(name, len(units), own, norm, readers, groups, tuple(parts))


def _part(modules: dict[str, nn.Module], side: Side, unit_of: np.ndarray) -> Part:
    name, end = side
    module = modules.get(name)
    kind = None if module is None or isinstance(end, int) else kind_of(module)
    writes = kind is None or kind.coupled or end == "out"
    channels = np.flatnonzero(unit_of >= 0)
    channels = channels[np.argsort(unit_of[channels], kind="stable")]
    affine = kind is not None and isinstance(module, AFFINE)
    units = torch.from_numpy(unit_of[channels])
    return Part(name, writes, torch.from_numpy(channels), units, affine, end if isinstance(end, int) else 0)


def _normalised(modules: dict[str, nn.Module], observed: Observed, name: str) -> tuple[str, list[str]] | None:
    """The batch norm in front of a selection, and the modules whose sum it reads; None where these are others."""
    ((names, untouched),) = observed.sources[name]
    if len(names) != 1 or not untouched or not isinstance(modules[names[0]], BATCH_NORM):
        return None
    ((summands, _),) = observed.sources[names[0]]
    alike = all(isinstance(modules.get(summand), AFFINE) for summand in summands)
    return (names[0], summands) if alike and summands else None


def _norm_behind(modules: dict[str, nn.Module], observed: Observed, writer: str) -> str | None:
    """The batch norm that alone reads what a module writes, as it is."""
    reader = sole_reader(observed, writer)
    return reader if reader is not None and isinstance(modules[reader], BATCH_NORM) else None


def sole_reader(observed: Observed, writer: str) -> str | None:
    """The module that alone reads what a module writes, as it is, whenever both run."""
    readers = {
        (name, untouched)
        for name, reads in observed.sources.items()
        for names, untouched in reads
        if writer in names
    }
    ((reader, untouched),) = readers if len(readers) == 1 else [(None, False)]
    return reader if untouched else None
