"""A model run with its modules' outputs replaced by noise, to see what lies between them.

Every module whose channels surgery knows answers with noise instead of computing, so that what a module reads depends
on the answers right in front of it alone, through whatever the model does in between: views, sums, gates, shuffles.
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from splinelib.hooks import Inputs, own_state, run, tensors_in, with_tensors
from splinelib.layers.kinds import kind_of
from splinelib.layers.steady import Steady


@dataclass(frozen=True)
class Call:
    """One call of a module of a known kind: its name, how often it ran before in this pass, and what it reads."""

    name: str
    place: int
    training: bool
    module: Any
    reads: list[Tensor]
    own: Callable[..., Any]
    """The module's own forward pass, ``real`` or, by default, on torch's meta device: shapes alone."""

    @property
    def key(self) -> tuple[str, int, bool]:
        """What tells the same call of another run."""
        return self.name, self.place, self.training


Answer = Callable[[Call], Any]


@contextmanager
def _answering(model: nn.Module, answer: Answer) -> Iterator[None]:
    """``answer`` stands in for the forward pass of every module of a known kind, until :func:`own_state` ends."""
    faked = [(name, module) for name, module in model.named_modules() if kind_of(module) is not None]
    counts = dict.fromkeys((name for name, _ in faked), 0)

    def fake(name: str, module: Any) -> Callable[..., Any]:
        patched = vars(module).get("forward")

        def forward(*args: Any, **kwargs: Any) -> Any:
            place, counts[name] = counts[name], counts[name] + 1

            def own(real: bool = False) -> Any:
                del module.forward
                if patched is not None:
                    module.forward = patched
                try:
                    return module(*args, **kwargs) if real else _shapes(module, args, kwargs)
                finally:
                    module.forward = forward

            if torch._C._current_graph_task_id() != -1:
                raise RuntimeError(
                    f"{name!r} runs again in the backward pass: turn gradient checkpointing off"
                )
            reads = tensors_in([*args, *kwargs.values()])
            torch.set_grad_enabled(True)  # also in a part that runs without gradients, until its end
            with torch._C.DisableTorchFunction():  # Steady is for the code in between
                return answer(Call(name, place, model.training, module, reads, own))

        return forward

    for name, module in faked:
        module.forward = fake(name, module)
    yield


def _shapes(module: nn.Module, args: Any, kwargs: Any) -> Any:
    from torch.utils._pytree import tree_map_only

    tensors = [*module.named_parameters(), *module.named_buffers()]
    with torch.no_grad():
        try:
            state = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
            there = tree_map_only(
                Tensor, lambda tensor: torch.empty_like(tensor, device="meta"), (args, kwargs)
            )
            return torch.func.functional_call(module, state, *there)
        except (RuntimeError, ValueError):
            device = next(tensor.device for tensor in tensors_in([*args, *kwargs.values()]))
            state = {name: torch.zeros_like(tensor, device=device) for name, tensor in tensors}
            return torch.func.functional_call(module, state, args, kwargs)


def noise(name: str, shape: Any, device: Any = "cpu") -> Tensor:
    """Numbers in (0.1, 0.9), the same for the same name and shape: few rectifiers and clips are flat there."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {tuple(shape)}".encode()))
    return (0.1 + 0.8 * torch.rand(shape, generator=generator, dtype=torch.float64)).to(device)


def disturbed(inputs: Inputs) -> Inputs:
    """The inputs with noise, since those of an example may all be alike."""
    return _with(lambda tensor: tensor + noise("inputs", tensor.shape, tensor.device), inputs)


def drawn(inputs: Inputs, draw: int) -> Inputs:
    """Inputs of another ``draw``, around zero, of their shapes and about as large."""

    def other(tensor: Tensor) -> Tensor:
        size = float(tensor.abs().max()) or 1.0
        return 2 * size * (noise(f"inputs {draw}", tensor.shape, tensor.device) - 0.5)

    return _with(other, inputs)


def opposite(inputs: Inputs) -> Inputs:
    """Inputs of their shapes and about as large, all of one sign: the other one than that of their mean."""

    def other(tensor: Tensor) -> Tensor:
        size = float(tensor.abs().max()) or 1.0
        return (-size if tensor.mean() > 0 else size) * noise("inputs", tensor.shape, tensor.device)

    return _with(other, inputs)


def _with(change: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """The inputs with what ``change`` makes of their tensors of numbers, in the same precision."""
    return with_tensors(inputs, lambda t: change(t).to(t.dtype) if t.is_floating_point() else t)


def answers(call: Call, shapes: Any, wide: int = 0) -> Any:
    """Noise in the place of every tensor of numbers in ``shapes``, the same whenever the same call is answered.

    If ``wide`` is 1, it is of either sign, and from 0.1 to 10 large, as many numbers of each size: comparisons have
    something to decide there, and rectifiers and clips to cut off. If it is -1, every sign is the other one, so that
    what is decided by a single number goes both ways.
    """
    from torch.utils._pytree import tree_map_only

    device = next((tensor.device for tensor in call.reads), "cpu")

    def numbers(like: Tensor) -> Tensor:
        if not like.is_floating_point():
            return like
        values = noise(str(call.key), like.shape, device)
        if not wide:
            return values
        place = (values - 0.1) / 0.4 - 1  # in (−1, 1)
        return wide * place.sign() * 10 ** (2 * place.abs() - 1)

    return tree_map_only(Tensor, numbers, shapes)


@contextmanager
def probing(
    model: nn.Module, answer: Answer, chosen: Callable[[Tensor, str], None], draw: float = 0.5
) -> Iterator[Steady]:
    """Within the block, ``answer`` stands in for modules of a known kind; the rest as in :class:`Steady`."""
    # Of attention's fused kernels none has the second derivative that is asked for.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),
        own_state(model),
        _answering(model, answer),
        Steady(chosen, draw) as steady,
    ):
        torch.default_generator.manual_seed(0)  # for draws inside functions that the mode does not look into
        yield steady


def probe(
    model: nn.Module,
    inputs: Inputs,
    answer: Answer,
    chosen: Callable[[Tensor, str], None] = lambda numbers, name: None,
    trains: bool = False,
) -> tuple[list[Any], set[str]]:
    """Outputs of a pass in eval mode and, if some modules do not run there, one in train mode; and who never ran.

    ``chosen`` is told what decides on places (see :class:`Steady`). A model that ``trains`` otherwise than it infers
    has all of it in train mode in the second pass, any other one what is around auxiliary heads, which run there alone.
    Where that pass fails (it may want targets), there is none.
    """
    names = {name for name, module in model.named_modules() if kind_of(module) is not None}
    ran: set[str] = set()

    def noted(call: Call) -> Any:
        ran.add(call.name)
        return answer(call)

    def idle() -> set[str]:
        inside = tuple(f"{name}." for name in ran)
        return {name for name in names - ran if not name.startswith(inside)}

    with probing(model, noted, chosen):
        outputs = [
            run(model.eval(), with_tensors(inputs, torch.clone))
        ]  # a pass may write into what it is given
        if trains or (quiet := idle()):
            for name, module in model.named_modules():  # else those around alone: others may drop at random
                module.training = trains or any(one.startswith(f"{name}." if name else "") for one in quiet)
            with nullcontext() if trains else suppress(Exception):  # whatever a model asks for in train mode
                outputs.append(run(model, with_tensors(inputs, torch.clone)))
            model.eval()
    return outputs, idle()
