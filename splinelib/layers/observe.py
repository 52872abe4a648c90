"""Which channels feed which, seen from gradients between modules that answer with noise.

A module's input is weighted by random numbers ρ and, once more, by ρ·(c + 1) for channel c. The quotient of the two
gradients at an element of an answer is c + 1 if the element feeds channel c alone, and a broken number if it feeds
several: then each channel's gradient is taken on its own. No map of indices is derived from operations, so whatever
runs is read: views, permutations, shuffles, gates, padding, what lies in code of others.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from splinelib.errors import SplineError, UnsupportedModuleError
from splinelib.hooks import Inputs, tensors_in
from splinelib.layers.kinds import Kind, channel_axis, check_width, kind_of, over_channels
from splinelib.layers.labels import distinct_pairs, fed_by, fed_channel, in_order, reached, same
from splinelib.layers.observed import Observed, Side, by_channel, met_by, sides, tie, weights_of
from splinelib.layers.probe import Call, answers, noise, probe
from splinelib.layers.steady import PLACES
from splinelib.layers.tangles import along, tangles
from splinelib.layers.train_mode import trains_otherwise

_GIVEN = "its weights are set while the network runs"


@dataclass
class _Source:
    """A tensor that others are computed from.

    ``side`` is None for the network's inputs and for tensors that stand alone, whose axis is not known. ``stays`` says
    why what it feeds cannot go, if it is the weight of a module used past its forward pass.
    """

    tensor: Tensor
    side: Side | None
    axis: int = 0
    name: str = ""
    stays: str | None = None


class _Observer:
    def __init__(self, model: nn.Module, inputs: Inputs):
        self.found = Observed()
        self.weights = {
            name: weights_of(module) for name, module in model.named_modules() if kind_of(module) is not None
        }
        self.passed: list[tuple[str, Tensor]] = []  # what modules of no known kind gave, the simple ones
        self.sources: list[_Source] = [
            _Source(t.requires_grad_(), None, name="input") for t in tensors_in(inputs) if _plain(t)
        ]
        known = {
            id(tensor): name
            for name, module in model.named_modules()
            if kind_of(module) is not None
            for tensor in [*module.parameters(), *module.buffers()]
        }
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if _plain(tensor) and tensor.numel() > 1 and tensor.is_leaf:
                owner = known.get(id(tensor))
                stays = None if owner is None else f"the weights of {owner!r} are used past its forward pass"
                self.sources.append(_Source(tensor.requires_grad_(), None, name=name, stays=stays))

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Within the block, keep what simple modules of no known kind give, to name those that mix channels."""
        with ExitStack() as hooks:
            for name, module in model.named_modules():
                if kind_of(module) is None and not any(module.children()):
                    label = f"{name!r} ({type(module).__name__})"
                    handle = module.register_forward_hook(
                        lambda _, inputs, values, label=label: (
                            self.passed.append((label, values)) if _traced(values) else None
                        )
                    )
                    hooks.callback(handle.remove)
            yield

    def answer(self, call: Call) -> Any:
        """Note what a call reads; answer with noise."""
        kind: Any = kind_of(call.module)
        reading, writing = sides(call.name, kind)
        values = [tensor for tensor in call.reads if tensor.is_floating_point()]
        given = self.weights.get(call.name) != weights_of(call.module)
        why = kind.stays or (_GIVEN if given else "")
        if kind.reads is None or given:
            for tensor in values:
                self.touch(tensor, f"{call.name!r} ({type(call.module).__name__}) reads them: {why}")
        if kind.reads is not None and values:
            self.read(call, kind, reading, values[0])
        shapes = call.own()
        self.found.met[call.key] = met_by(call, shapes)
        if kind.writes is not None:
            numbers = self.found.numbers(writing, kind.writes)
            if why:
                self.stay(numbers, call.name, call.module, why)
        return self.give(call, kind, writing, answers(call, shapes))

    def give(self, call: Call, kind: Kind, side: Side, values: Any) -> Any:
        if kind.writes is None or not isinstance(values, Tensor):
            return values
        self.sources.append(
            _Source(values.requires_grad_(), side, channel_axis(call.module, values), call.name)
        )
        return values.clone()

    def stay(self, numbers: np.ndarray, name: str, module: nn.Module, why: str) -> None:
        self.found.stays.append((numbers, f"{name!r} ({type(module).__name__}): {why}"))

    def read(self, call: Call, kind: Kind, side: Side, values: Tensor) -> None:
        """Find which channels of earlier answers feed each of the channels that a call reads."""
        axis = channel_axis(call.module, values)
        check_width(call.name, call.module, values.shape[axis])
        numbers = self.found.numbers(side, kind.reads)  # type: ignore[arg-type]
        if kind.stays:
            self.stay(numbers, call.name, call.module, kind.stays)
        feeding: list[_Source] = []
        if values.requires_grad and values.shape[axis] == len(numbers):
            weight = noise("weights", values.shape, values.device)
            code = torch.arange(1.0, len(numbers) + 1, device=values.device, dtype=values.dtype)
            code = code.view(-1, *[1] * (values.ndim - 1 - axis))
            plain, coded = (self.gradients(values, w) for w in (weight, weight * code))
            tangled = []
            for source, one, other in zip(self.sources, plain, coded, strict=True):
                if one is not None and bool(one.any() | other.any()):
                    feeding.append(source)
                    labels = fed_channel(one, other, len(numbers))
                    fed = (by_channel(labels, source.axis) >= 0).any(1).sum() if source.side else 0
                    if over_channels(call.module) and fed > len(numbers):
                        self.found.shared.add(call.name)
                    if self.link(source, labels, numbers) and not self.link_back(
                        source, values, weight, axis, numbers
                    ):
                        tangled.append(source)
            if any(source.side for source in tangled):
                self.untangle(values, weight, axis, tangled, numbers)
        untouched = len(feeding) == 1 and feeding[0].side is not None and same(feeding[0].tensor, values)
        if call.place == 0 or feeding:
            names = [source.name for source in in_order(values, feeding)]
            self.found.sources.setdefault(call.name, []).append((names, untouched))

    def gradients(self, values: Tensor, weight: Tensor) -> list[Any]:
        tensors = [source.tensor for source in self.sources]
        return list(torch.autograd.grad(values, tensors, weight, retain_graph=True, allow_unused=True))

    def link(self, source: _Source, labels: Tensor, numbers: np.ndarray) -> bool:
        """Join the channels of a source with those that they feed; whether some feed several at once."""
        found = self.found
        mixed = labels == -2
        if source.stays is not None:
            found.stays.append((numbers, source.stays))
        elif source.side is not None:
            rows = by_channel(labels, source.axis)
            several = by_channel(mixed, source.axis).any(1)
            own = found.numbers(source.side, len(rows))
            above, below = distinct_pairs(rows, (rows >= 0) & ~several[:, None], len(numbers))
            found.join(own[above], numbers[below])
            return bool(several.any()) and len(rows) > 1
        elif source.name == "input":
            found.stays.append((numbers[labels[labels >= 0].unique().cpu().numpy()], ""))
        elif not bool(mixed.any()):
            for axis in reversed(range(labels.ndim)):
                rows = by_channel(labels, axis)
                top = rows.max(1).values
                if (
                    len(rows) > 1
                    and bool(((rows == top[:, None]) | (rows < 0)).all())
                    and len(top.unique()) > 1
                ):
                    fed = (top >= 0).cpu().numpy()
                    own = found.numbers((source.name, axis), len(rows))
                    found.join(own[fed], numbers[top.cpu().numpy()[fed]])
                    break
        else:
            return True
        return False

    def link_back(
        self, source: _Source, values: Tensor, weight: Tensor, axis: int, numbers: np.ndarray
    ) -> bool:
        """Join channels as :meth:`link` does, if each element that is read depends on one channel of the source."""
        labels = None if source.side is None else fed_by(source.tensor, source.axis, values, weight)
        if labels is None or bool((labels == -2).any()):
            return False
        count, rows = source.tensor.shape[source.axis], by_channel(labels, axis)
        below, above = distinct_pairs(rows, rows >= 0, count)
        self.found.join(self.found.numbers(source.side, count)[above], numbers[below])  # type: ignore[arg-type]
        return True

    def untangle(
        self, values: Tensor, weight: Tensor, axis: int, sources: list[_Source], numbers: np.ndarray
    ) -> None:
        """Join channels that feed several, and what feeds on the same ones."""
        known = [source for source in sources if source.side is not None]
        own = [self.found.numbers(s.side, s.tensor.shape[s.axis]) for s in known]  # type: ignore[arg-type]
        found = tangles(values, axis, weight, [s.tensor for s in known], [s.axis for s in known])
        if found is None or (found[0][0].all() and all(mask.all() for mask in found[0][1])):
            for source, ids in zip(known, own, strict=True):
                self.found.stays.append((ids, f"each channel depends on all others {self.mixer(source)}"))
            return
        for read, feeding in found:
            for ids in (numbers[read], *(ids[mask] for ids, mask in zip(own, feeding, strict=True))):
                self.found.join(ids, np.full(len(ids), numbers[read.argmax()]))
        for source in sources:
            if source.side is None and len(found) > 1:
                self.share(
                    source, values, [(numbers[read], weight * along(read, axis, values)) for read, _ in found]
                )

    def share(self, source: _Source, values: Tensor, units: list[tuple[np.ndarray, Tensor]]) -> None:
        """Join the places along an axis of a lone tensor with units [numbers, weights], if each serves one at most."""
        slopes = [
            torch.autograd.grad(values, source.tensor, weight, retain_graph=True)[0] for _, weight in units
        ]
        for axis in reversed(range(slopes[0].ndim)):
            masks = [reached(slope, axis) for slope in slopes]
            if np.sum(masks, axis=0).max() == 1:
                own = self.found.numbers((source.name, axis), len(masks[0]))
                for (numbers, _), mask in zip(units, masks, strict=True):
                    self.found.join(own[mask], np.full(mask.sum(), numbers[0]))
                return

    def mixer(self, source: _Source) -> str:
        """At which module the channels of a source depend on one another first; code in front of it may be why."""
        for name, values in self.passed:
            one = torch.zeros(values.shape, dtype=values.dtype, device=values.device)
            one.view(-1)[-1] = 1
            (slope,) = torch.autograd.grad(values, source.tensor, one, retain_graph=True, allow_unused=True)
            if slope is not None and reached(slope, source.axis).sum() > 1:
                return f"at {name}"
        return f"behind {source.name!r}"

    def chosen(self, values: Tensor, name: str) -> None:
        """Let what decides on a place stay, or several channels together on a step.

        No gradient tells what the choice is used for; of steps that each channel takes by itself a trial does.
        """
        self.found.steps = True
        if name in PLACES or self.mixes(values):
            self.touch(values, f"{name.strip('_')} chooses by them")

    def mixes(self, values: Tensor) -> bool:
        """Whether an element of ``values`` depends on several channels of an answer, as far as can be told."""
        weight = noise("weights", values.shape, values.device)
        for source, slope in zip(self.sources, self.gradients(values, weight), strict=True):
            if source.side is not None and slope is not None and bool(slope.any()):
                labels = fed_by(source.tensor, source.axis, values, weight)
                if labels is None or bool((labels == -2).any()):
                    return True
        return False

    def touch(self, values: Tensor, why: str) -> None:
        """Note that all channels that feed ``values`` stay."""
        if not values.requires_grad:
            return
        weight = torch.randn(values.shape, generator=torch.Generator().manual_seed(0), dtype=values.dtype)
        for source, slope in zip(self.sources, self.gradients(values, weight.to(values.device)), strict=True):
            if slope is not None and source.side is not None:
                own = self.found.numbers(source.side, slope.shape[source.axis])
                self.found.stays.append((own[reached(slope, source.axis)], why))


def _plain(values: Tensor) -> bool:
    return values.is_floating_point() and values.layout == torch.strided


def _traced(values: Any) -> bool:
    return isinstance(values, Tensor) and values.requires_grad and values.numel() > 0


def observe(model: nn.Module, inputs: Inputs) -> Observed:
    """Observe ``model``, a copy in float64 that may be changed, on ``inputs`` of its own."""
    trains = trains_otherwise(model, inputs)
    observer = _Observer(model, inputs)
    found = observer.found
    found.trains = trains
    with observer.watching(model):
        # Copies, since hooks of others (counters of operations) do not bear gradients of leaves.
        copies = tree_map_only(Tensor, torch.clone, inputs)
        try:
            found.outputs, found.idle = probe(model, copies, observer.answer, observer.chosen, found.trains)
        except SplineError:
            raise
        except Exception as error:
            last = next(reversed(found.met), ["its inputs"])[0]
            raise UnsupportedModuleError(
                f"{type(model).__name__} cannot be observed behind {last!r} ({type(error).__name__}: {error}): its "
                "forward pass must bear float64, and gradients, in a copy"
            ) from error
    for tensor in tensors_in(found.outputs):
        if tensor.is_floating_point():
            observer.touch(tensor, "")
    tie(model, found)
    return found
