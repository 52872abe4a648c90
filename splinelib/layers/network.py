"""A model read as layers of units: which modules write a unit, and which read it.

What feeds what is observed (:mod:`splinelib.layers.observe`), and every layer is cut once on trial
(:mod:`splinelib.layers.trial`): what cannot be cut is left whole, with a warning that says why. Coupled channels (a
residual stream, an expansion and its depthwise convolution) are one layer whose units are written by several modules.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from splinelib.checks import checked
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import Inputs, as_written, duplicate, with_tensors
from splinelib.layers.counts import choices, counts_of
from splinelib.layers.images import check_inputs
from splinelib.layers.kinds import OPEN
from splinelib.layers.layer import Layer
from splinelib.layers.observe import observe
from splinelib.layers.observed import Observed
from splinelib.layers.tracing import traced_order
from splinelib.layers.trial import Trial
from splinelib.layers.units import Left, Order, group, sole_reader

Ignore = Sequence[str | nn.Module | type]
"""Modules by name, as they are, or by type."""

_IDLE = "did not run, so what it reads is not seen: give inputs with which it does, or name what it reads in `ignore`"
_BLOCKS = (2, 3, 4, 8)  # into how many equal blocks a network may divide channels: chunk, split, shuffle


@checked
def read_layers(model: nn.Module, example_inputs: Inputs, ignore: Ignore = ()) -> tuple[Layer, ...]:
    """The prunable layers of ``model`` in the order of ``model.named_modules()``.

    Left out are layers whose units are outputs of the network, in eval or in train mode, and residual streams that a
    :class:`~splinelib.layers.channel_selection.ChannelSelection` reads (there the selections are pruned, not the
    stream). Other layers that cannot lose a unit are left out with a warning that names them, and why.

    The network runs on noise for it, some copies of it in float64: forward hooks of one's own that record what they see
    record that as well.

    Args:
        model: any model that runs; not changed.
        example_inputs: a batch of inputs [N, ...] on the model's device; a tuple of several arguments, or a dict of
            keywords.
        ignore: layers to leave out: those that a module of this name, this module, or a module of this type writes.

    Raises:
        UnsupportedModuleError: if the model has no layer that can be pruned, or is a scripted or exported one.
        SettingError: under ``torch.inference_mode``, or for a name in ``ignore`` that the model does not have.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> [(layer.name, layer.units, layer.readers) for layer in read_layers(model, torch.zeros(1, 2))]
    [('0', 3, ('2',))]
    """
    model = eager(model)
    unwanted = ignored(model, ignore)
    check_inputs(model, example_inputs)
    with as_written():
        order = traced_order(duplicate(model), with_tensors(example_inputs, torch.clone))
        layers, left, observed = _read(model, example_inputs, order)
        # Blocks are pixels of a shuffle, whose channels go together, or heads: which cuts more?
        if observed.shared:
            other = _read(model, example_inputs, order, observed.shared)
            layers, left, observed = max(
                (layers, left, observed), other, key=lambda read: _cut_modules(read[0])
            )
    layers = [
        layer for layer in layers if unwanted.isdisjoint(part.module for part in layer.parts if part.writes)
    ]
    _warn(
        [
            *left,
            *(Left((name,), _IDLE) for name in sorted(observed.idle)),
        ]
    )
    if not layers:
        said = [f"; {', '.join(map(repr, item.names))}: {item.why}" for item in left if item.why]
        why = "".join(said[:3]) + (f"; and {len(said) - 3} more, each in a warning" if len(said) > 3 else "")
        raise UnsupportedModuleError(
            f"{type(model).__name__} has no layer that can be pruned: it needs a convolution or linear module "
            f"whose outputs are not those of the network{why}"
        )
    places = {name: position for position, (name, _) in enumerate(model.named_modules())}
    return tuple(sorted(layers, key=lambda layer: places[layer.name]))


def eager(model: nn.Module) -> nn.Module:
    """The model inside a compiled one, or the model itself; raises where there is none that can be traced."""
    model = unwrapped(model)
    if torch.is_inference_mode_enabled():
        raise SettingError(
            "torch.inference_mode is on, where nothing can be traced: use torch.no_grad instead"
        )
    check_there(model)
    return model


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside a compiled one, or the model itself; raises where its modules cannot be read."""
    model = getattr(model, "_orig_mod", model)
    for name, module in model.named_modules():
        made = _made(module)
        if made is not None:
            what = f"{name!r} of {type(model).__name__}" if name else type(model).__name__
            raise UnsupportedModuleError(
                f"{what} is {made}, so its modules cannot be read: give the model that it was made of"
            )
    return model


def _made(module: nn.Module) -> str | None:
    """How a module whose insides cannot be read was made; None for any other."""
    if isinstance(module, torch.jit.ScriptModule):
        return "scripted"
    # torch.export gives its modules an ``eval`` and a ``train`` of their own, which only raise.
    exported = isinstance(module, torch.fx.GraphModule) and {"eval", "train"} <= vars(module).keys()
    return "exported" if exported else None


def check_there(model: nn.Module) -> None:
    """Raise :class:`SettingError` for a parameter or a buffer whose values are not there."""
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_meta or nn.parameter.is_lazy(value):
            raise SettingError(
                f"{name!r} of {type(model).__name__} holds no values yet: materialise the network first (run lazy "
                "layers once, load weights into what is on the meta device)"
            )


def check_real(model: nn.Module) -> None:
    """Raise :class:`SettingError` for a parameter or a buffer whose values are not there, or not one for each place."""
    check_there(model)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            raise SettingError(
                f"{name!r} of {type(model).__name__} is sparse, quantised or nested: give the network with a plain "
                "tensor there (to_dense, dequantize)"
            )


def ignored(model: nn.Module, ignore: Ignore) -> set[str]:
    """Names of the modules that are meant, and of those inside them."""
    modules = dict(model.named_modules())
    for item in ignore:
        if isinstance(item, str) and item not in modules:
            raise SettingError(f"ignore names {item!r}, which {type(model).__name__} does not have")
        if isinstance(item, nn.Module) and not any(item is module for module in modules.values()):
            raise SettingError(
                f"ignore holds a {type(item).__name__} that is no module of this {type(model).__name__}: name it"
            )
    meant = {
        name
        for name, module in modules.items()
        for item in ignore
        if name == item or module is item or (isinstance(item, type) and isinstance(module, item))
    }
    return {name for name in modules if any(name == top or name.startswith(f"{top}.") for top in meant)}


def as_double(values: Any) -> Any:
    """Inputs of one's own, their floating-point tensors in float64."""
    return with_tensors(values, lambda t: (t.double() if t.is_floating_point() else t).detach().clone())


def follows(model: nn.Module, example_inputs: Inputs) -> dict[str, str]:
    """For modules that one other module alone reads, and that it reads alone and untouched, the name of that reader."""
    observed = observe(duplicate(model).double(), as_double(example_inputs))
    found = {writer: sole_reader(observed, writer) for writer in observed.sources}
    return {
        writer: reader
        for writer, reader in found.items()
        if reader is not None and observed.sources[reader] == [([writer], True)]
    }


def _read(
    model: nn.Module, example_inputs: Inputs, order: Order, opened: Iterable[str] = ()
) -> tuple[list[Layer], list[Left], Observed]:
    """What can be cut, what not, and what was observed of a copy, with the inside of some norms looked into."""
    copy = duplicate(model).double()
    for name in opened:
        setattr(copy.get_submodule(name), OPEN, True)
    observed = observe(copy, as_double(example_inputs))
    trial = Trial(model, copy, as_double(example_inputs), observed)
    return *_tried(trial, observed, order), observed


def _cut_modules(layers: Sequence[Layer]) -> int:
    return len({writer.module for layer in layers for writer in layer.writers})


def _tried(trial: Trial, observed: Observed, order: Order) -> tuple[list[Layer], list[Left]]:
    """The layers that a trial cut leaves intact, those among them that take more than their own channels with them."""
    mending = _Mending(trial, observed, order)
    for _ in range(len(_BLOCKS)):
        layers, left = group(trial.copy, observed, order)
        failed = trial.failing(layers)
        mending.done.clear()
        if not any([mending.mend(layer) for layer, _ in failed]):  # noqa: C419 - each is tried
            break
    while failed or (failed := trial.apart(layers)):
        names = {layer.name for layer, _ in failed}
        left += [Left((layer.name,), why) for layer, why in failed]
        layers = [layer for layer in layers if layer.name not in names]
        failed = trial.failing(layers)
    return layers, left


@dataclass
class _Mending:
    """Lets more go with a layer's units where their cut is wrong without."""

    trial: Trial
    observed: Observed
    order: Order
    found: dict[int, Counter[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(Counter))
    """By number of coupled blocks, and names of numbers that may follow units: for how many layers they did not,
    negative; positive if they did."""
    mended: Counter[int] = field(default_factory=Counter)
    """By number of blocks: how many layers are right since so many are coupled."""
    done: set[str] = field(default_factory=set)
    """Modules whose layers were found right since the last trial of all."""

    def mend(self, layer: Layer) -> bool:
        """Whether the layer's cut is right with numbers that follow it, or blocks that lose the same channels."""
        return layer.name in self.done or self.count(layer) or self.couple(layer)

    def right(self, names: Collection[str]) -> bool:
        """Whether the layers that these modules or numbers belong to are cut right now."""
        layers, _ = group(self.trial.copy, self.observed, self.order)
        written = [{part.module for part in one.parts if part.writes} for one in layers]
        meant = [(one, own) for one, own in zip(layers, written, strict=True) if not own.isdisjoint(names)]
        if not meant or self.trial.cut([one for one, _ in meant]):
            return False
        self.done.update(*(own for _, own in meant))
        return True

    def count(self, layer: Layer, blocks: int = 1) -> bool:
        """Let numbers that modules keep of the layer's units or channels follow it, if that makes its cut right.

        So many blocks are coupled.
        """
        counts, found = counts_of(self.trial.copy, self.observed, layer), self.found[blocks]
        for names in choices(counts, found):
            held = [place for name in names for place in counts[name]]
            for path, channels in held:
                self.observed.join(self.observed.numbers((path, 0), len(channels)), channels)
            if self.right({path for path, _ in held}):
                found[names] = 1
                return True
            found[names] -= 1
            del self.observed.edges[-len(held) :]
        return False

    def couple(self, layer: Layer) -> bool:
        """Let blocks of the layer's widest writer lose the same channels, if that makes its cut right."""
        writers = [part.module for part in layer.parts if part.affine and part.writes]
        written = [
            next(side for end in ("out", "in") if (side := (name, end)) in self.observed.first)
            for name in writers
        ]
        side = max(written, key=lambda side: self.observed.width[side])
        numbers = self.observed.numbers(side, 0)
        for blocks in sorted(_BLOCKS, key=lambda blocks: -self.mended[blocks]):
            if len(numbers) % blocks or len(numbers) == blocks:
                continue
            rows = numbers.reshape(blocks, -1)
            self.observed.join(np.broadcast_to(rows[0], rows.shape).ravel(), rows.ravel())
            if self.right({side[0]}) or any(self.count(one, blocks) for one in self.coupled(side[0])):
                self.mended[blocks] += 1
                return True
            self.observed.edges.pop()
        return False

    def coupled(self, name: str) -> list[Layer]:
        """The layer that a module writes, if there still is one."""
        layers, _ = group(self.trial.copy, self.observed, self.order)
        return [layer for layer in layers if layer.written(name) is not None]


def _warn(left: Sequence[Left]) -> None:
    reasons: dict[str, list[str]] = {}
    for item in left:
        if item.why:
            reasons.setdefault(item.why, []).extend(item.names)
    for why, names in reasons.items():
        warnings.warn(f"left whole: {', '.join(map(repr, names))}: {why}", stacklevel=4)
