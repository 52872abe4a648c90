"""What was cut from a network: it comes with the smaller one, and can be applied to another like the dense one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.checks import check_fields, checked
from splinelib.errors import SettingError
from splinelib.layers import cutting
from splinelib.layers.kinds import complement, kind_of

_PLACE = "_splinelib_cut"
_CHANGED = "_splinelib_changed"
REPORT = "_splinelib_report"
"""Where a network keeps its report (:mod:`splinelib.pruning.report`), which is gone once it is cut again."""


@dataclass(frozen=True)
class Channels:
    """Channels ``lost`` of the ``width`` that a module, or a lone tensor along ``dim``, wrote or read before.

    A number that a module keeps of them, such as its heads, had the value ``width``.
    """

    module: str
    writes: bool
    dim: int
    width: int
    lost: list[int]

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Cut:
    """Units that are gone from a network, numbered as in the dense one, however many steps it took.

    Attributes:
        selection: the units by layer: what ``remove_units``, ``mask_units`` and ``partition.kept_units`` take.
        units: of each layer that could be pruned, how many units it had.
        channels: what modules lost with them.
    """

    selection: dict[str, list[int]]
    units: dict[str, int]
    channels: list[Channels]

    def __post_init__(self) -> None:
        check_fields(self)

    def apply_to(self, model: nn.Module) -> nn.Module:
        """A copy of a dense ``model`` of the same architecture without these units; needs no example inputs.

        Raises :class:`SettingError` where the model is another one, or was pruned before.

        >>> model, fresh = (nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in range(2))
        >>> smaller = cut_of(splinelib.prune(model, torch.zeros(1, 2), ratio=0.5)).apply_to(fresh)
        >>> smaller[0].out_features
        2
        """
        for part in self.channels:
            try:
                width = _width(cutting.found(model, part.module), part.writes, part.dim)
            except (AttributeError, LookupError, ValueError):
                width = None
            if width != part.width:
                there = "is not there" if width is None else f"has {width} channels"
                raise SettingError(
                    f"the cut is of another network than this {type(model).__name__}: {part.module!r} {there}, and had "
                    f"{part.width}; give a dense network of the same architecture"
                )
        smaller = cutting.cut(model, self.lost())
        setattr(smaller, _PLACE, self)
        return smaller

    def lost(self) -> dict[tuple[str, bool, int], list[int]]:
        """The channels that each module loses, by its name, whether it writes them, and axis."""
        return {(part.module, part.writes, part.dim): part.lost for part in self.channels}

    def lost_since(self, earlier: "Cut") -> dict[tuple[str, bool, int], list[int]]:
        """The channels that each module loses after an ``earlier`` cut, numbered as that left them."""
        before, since = earlier.lost(), {}
        for key, part in zip(self.lost(), self.channels, strict=True):
            there = complement(before.get(key, []), part.width)
            since[key] = torch.isin(there, torch.tensor(part.lost)).nonzero().flatten().tolist()
        return since

    def after(self, earlier: "Cut") -> "Cut":
        """Both cuts in one, where ``earlier`` made the network that this one was made in."""
        units = {name: count + len(earlier.selection.get(name, [])) for name, count in self.units.items()}
        units |= earlier.units
        names = {name: None for name in units if name in earlier.selection or name in self.selection}
        before = {(part.module, part.writes, part.dim): part for part in earlier.channels}
        now = {(part.module, part.writes, part.dim): part for part in self.channels}
        channels = [_both(before.get(key), now.get(key)) for key in before | now]
        selection = {
            name: _joined(units[name], earlier.selection.get(name, []), self.selection.get(name, []))
            for name in names
        }
        return Cut(selection, units, channels)


@checked
def cut_of(model: nn.Module) -> Cut:
    """What was cut from a network that :func:`splinelib.prune` or another removal of units gave, or that holds one.

    Raises :class:`SettingError` where nothing was, or where ``compact_streams`` or ``fuse_norms`` has changed since
    what was left.

    >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> {name: len(units) for name, units in cut_of(splinelib.prune(model, torch.zeros(1, 2), 0.5)).selection.items()}
    {'0': 2}
    """
    if by := next((getattr(module, _CHANGED) for module in model.modules() if hasattr(module, _CHANGED)), ""):
        raise SettingError(
            f"this {type(model).__name__} was changed by {by}, so the cut fits it no more: take the cut, prune and "
            f"save before, and call {by} again on what load or apply_to gives"
        )
    return held_cut(model)


def held_cut(model: nn.Module) -> Cut:
    """What :func:`cut_of` gives, also of a network that was changed since."""
    if not is_cut(model):
        raise SettingError(
            f"nothing was cut from this {type(model).__name__}: give what prune or remove_units has returned"
        )
    return getattr(model, _PLACE, None) or _inside(model)


def is_cut(model: nn.Module) -> bool:
    """Whether the network is one of which :func:`cut_of` says what was cut: from all of it, or from parts of it."""
    return any(hasattr(module, _PLACE) for module in model.modules())


def _inside(model: nn.Module) -> Cut:
    """What was cut from modules inside a network, such as a detector's backbone, by their names in the network."""
    whole = Cut({}, {}, [])
    for name, module in model.named_modules():
        if cut := getattr(module, _PLACE, None):
            whole.selection.update({f"{name}.{layer}": units for layer, units in cut.selection.items()})
            whole.units.update({f"{name}.{layer}": count for layer, count in cut.units.items()})
            whole.channels.extend(
                replace(part, module=f"{name}.{part.module}".rstrip(".")) for part in cut.channels
            )
    return whole


def changed(model: nn.Module, by: str) -> nn.Module:
    """``model``, of which :func:`cut_of` says from now on that a function has changed it since."""
    if is_cut(model):
        setattr(model, _CHANGED, by)
    return model


def remove_channels(
    model: nn.Module,
    lost: Mapping[tuple[str, bool, int], list[int]],
    selection: dict[str, list[int]],
    units: dict[str, int],
) -> nn.Module:
    """A copy of ``model`` without these channels, which carries what was cut."""
    channels = [
        Channels(module, writes, dim, _width(cutting.found(model, module), writes, dim) or 0, gone)
        for (module, writes, dim), gone in lost.items()
    ]
    cut = Cut(selection, units, channels)
    smaller = cutting.cut(model, lost)
    for module in smaller.modules():
        vars(module).pop(_PLACE, None)
    setattr(smaller, _PLACE, cut.after(cut_of(model)) if is_cut(model) else cut)
    vars(smaller).pop(REPORT, None)
    return smaller


def _width(found: Any, writes: bool, dim: int) -> int | None:
    if isinstance(found, int):
        return found
    if isinstance(found, Tensor):
        return found.shape[dim] if dim < found.ndim else None
    kind = kind_of(found)
    return None if kind is None else (kind.writes if writes else kind.reads)


def _both(before: Channels | None, now: Channels | None) -> Channels:
    if before is None or now is None:
        return before or now  # type: ignore[return-value]
    return replace(before, lost=_joined(before.width, before.lost, now.lost))


def _joined(count: int, before: list[int], now: list[int]) -> list[int]:
    """What is lost of ``count`` things in two steps, the second numbered by what the first one left."""
    return sorted(before + complement(before, count)[now].tolist())
