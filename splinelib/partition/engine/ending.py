"""Last steps that rise with their input and are left out: whether they keep the order of scores, and what they do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from splinelib.errors import UnsupportedModuleError
from splinelib.partition.engine.handlers.call import Call, NotHandled, values_in, without_batch
from splinelib.partition.engine.handlers.shapes import moved
from splinelib.partition.engine.layout import Value
from splinelib.partition.engine.tracing import filled, operation

# What a step makes of a point's numbers: of each by itself, of all of them together, or the place of the largest.
_EACH, _ALL, _PLACE = range(3)


@dataclass(eq=False)
class Ending:
    """The steps from the first one that rises up to the output.

    None of them bends the map, so the regions are those of the network without them. Its classes are so only as long
    as ``problem`` is None: where the steps keep the order of all outputs.

    Args:
        scores: what the first step gets.
        last: what the steps so far return: lane k stands for score k.
        nodes: the steps in order; ``names`` those that rise, ``kinds`` what these do.
        heads, others: steps before, whose activations those that rise get, and the others of these steps.
        constants: what all other steps before return.
        call: which one of the functions of that kind that the model calls gets the scores, found when both are
            compared.
    """

    model: nn.Module
    constants: Mapping[fx.Node, Any]
    scores: Value
    last: Value
    nodes: list[fx.Node] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    kinds: set[int] = field(default_factory=set)
    heads: dict[fx.Node, Value] = field(default_factory=dict)
    others: dict[fx.Node, Value] = field(default_factory=dict)
    problem: str | None = None
    call: int = 0

    @classmethod
    def behind(cls, model: nn.Module, scores: Value, constants: Mapping[fx.Node, Any]) -> "Ending":
        """No steps yet."""
        return cls(model, constants, scores, _stand_in(scores.shape))

    def holds(self, node: fx.Node) -> bool:
        """Whether a step gets what one of these returns."""
        return any(before in self.nodes for before in node.all_input_nodes)

    def add_rising(self, node: fx.Node, name: str, args: Any, kwargs: Any) -> Value:
        """Take up a step that rises; returns what stands for its result."""
        before = node.args[0]
        assert isinstance(before, fx.Node)
        if before not in self.nodes:
            self.heads[before] = args[0]
        if self.nodes and before is not self.nodes[-1]:
            self._lose(f"{name} stands beside another, and outputs of both are compared")
        step, shape = operation(self.model, node, direct=True), self.last.shape
        kind = None
        if self.problem is None:
            kind = _kind(
                lambda numbers: step(numbers.reshape(1, *shape), *args[1:], **kwargs), self.last.lanes.size
            )
        if kind is None or _PLACE in self.kinds:
            self._lose(f"{name} does not act on all outputs of a point alike, and on these alone")
        else:
            self.kinds.add(kind)
        if kind == _PLACE:
            self.last = _stand_in(without_batch(node.meta["example"]))
        self.nodes.append(node)
        self.names.append(name)
        return self.last

    def add_moving(self, node: fx.Node, name: str, call: Call, args: Any, kwargs: Any) -> Value:
        """Take up a step that moves what the others return; returns what stands for its result."""
        outside = [n for n in node.all_input_nodes if isinstance(self.constants[n], Value)]
        self.others |= {n: self.constants[n] for n in outside if n not in self.nodes}
        if self.problem is None:
            self._move(name, call, args, kwargs)
        self.nodes.append(node)
        return self.last

    def _move(self, name: str, call: Call, args: Any, kwargs: Any) -> None:
        if any(value is not self.last for value in values_in(args, kwargs)):
            self._lose(f"{name} puts other activations beside what it gets")
            return
        try:
            result = moved(call, *args, **kwargs)
        except NotHandled as error:
            self._lose(f"{name}: {error}")
            return
        if not isinstance(result, Value) or not result.scale.all():
            self._lose(f"{name} puts constants in, or beside what it gets")
        elif _PLACE in self.kinds and result.lanes.size > 1:
            self._lose(f"{name} repeats the number of the class")
        else:
            self.last = result

    def _lose(self, problem: str) -> None:
        self.problem = self.problem or problem

    def output(self) -> Value:
        """The scores that stand for the model's outputs; where there is a problem, those of the first step."""
        if _ALL in self.kinds and _PLACE not in self.kinds and self.last.lanes.size < 2:
            self._lose(f"only one output of {self.names[0]} is returned, which hangs on the others too")
        if self.problem is not None or _PLACE in self.kinds:
            return self.scores
        flat = (getattr(self.scores, name).reshape(-1) for name in ("lanes", "scale", "shift"))
        return Value(*(part[self.last.lanes] for part in flat))

    def picked(self, scores: Tensor) -> Tensor:
        """Of the scores ``[1, *shape]`` of one point those that stand for outputs, in the outputs' order."""
        if _PLACE in self.kinds:
            return scores
        return scores.flatten()[torch.from_numpy(self.last.lanes)][None]

    def applied(self, numbers: Mapping[fx.Node, Tensor]) -> Any:
        """What the steps make of what the heads and others ``[1, *shape]`` return at one point."""
        known: dict[fx.Node, Any] = dict(self.constants) | {n: t.clone() for n, t in numbers.items()}
        for node in self.nodes:
            args, kwargs = filled(node, known.__getitem__)
            known[node] = operation(self.model, node, direct=True)(*args, **kwargs)
        return known[self.nodes[-1]]


def check_order(ending: Ending | None) -> None:
    """Raise UnsupportedModuleError where last steps make the outputs' order another than that of the scores."""
    if ending is not None and ending.problem is not None:
        raise UnsupportedModuleError(
            f"{', '.join(ending.names)}: this last step would be left out, but the largest output is not that of the "
            f"largest score before it, for {ending.problem}; give the network without it, or ask for regions alone, "
            "without outputs and boundary"
        )


def _stand_in(shape: tuple[int, ...]) -> Value:
    places = np.arange(int(np.prod(shape))).reshape(shape)
    return Value(places, np.ones(shape), np.zeros(shape))


def _kind(step: Callable[[Tensor], Tensor], size: int) -> int | None:
    """What a step makes of ``size`` numbers, read off from what changes as the last one rises; None if something else.

    The largest of all is at its place, each by itself changes alone, and of numbers that sum up to one all change.
    """
    before, after = torch.zeros(2, size, dtype=torch.float64)
    after[-1] = 1.0
    with torch.no_grad():
        low, high = step(before.clone()), step(after.clone())
    if not high.is_floating_point():
        return _PLACE if size > 1 and high.numel() == 1 and int(high) == size - 1 else None
    changed = (low != high).flatten()
    if changed.numel() != size or not changed[-1]:
        return None
    if not changed[:-1].any():
        return _EACH
    return _ALL if changed.all() else None
