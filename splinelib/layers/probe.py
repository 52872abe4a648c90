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
from torch.overrides import TorchFunctionMode

from splinelib.hooks import Inputs, own_state, run, tensors_in, with_tensors
from splinelib.layers.kinds import kind_of
from splinelib.layers.picks import cut_off, with_rivals


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
_CASTS = {Tensor.float, Tensor.half, Tensor.bfloat16}
PLACES = {"argmax", "argmin", "argsort", "searchsorted", "bucketize"}
_STEPS = {
    *("gt", "ge", "lt", "le", "eq", "ne", "greater", "greater_equal", "less", "less_equal", "not_equal"),
    *("sign", "sgn", "signbit", "heaviside", "floor", "ceil", "round", "trunc", "fix"),
    *("floor_divide", "floordiv"),
    *("bool", "long", "int", "short", "char", "byte", "item", "tolist", "numpy", "nonzero", "count_nonzero"),
    *("allclose", "isclose", "equal", "logical_not", "logical_and", "logical_or", "logical_xor", "argwhere"),
}
# Functions that draw inside themselves, by an argument: its place, its name, and with what they do not.
_DROPS: dict[str, tuple[int, str, Any]] = {
    "scaled_dot_product_attention": (4, "dropout_p", 0.0),
    "rrelu": (3, "training", False),
}
_DRAWS = {"rand", "randn", "rand_like", "randn_like", "normal", "uniform", "bernoulli", "exponential"}


class _Steady(TorchFunctionMode):
    """Code between modules computes in float64, whatever it casts to, and what it draws at random is one number.

    What picks one of several numbers (a maximum, a sort, a rectifier) has a gradient for the others too: they might be
    picked.
    ``draw`` is that number, and ``drew`` says whether one was asked for.
    ``chosen`` is told of numbers that decide on a place (an argmax) or a step (a comparison, a sign), which have no
    gradient, and of the function's name.
    """

    def __init__(self, chosen: Callable[[Tensor, str], None], draw: float) -> None:
        super().__init__()
        self.chosen, self.draw, self.drew = chosen, draw, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if "dropout" in name and "native" not in name and args:
            return args[0]
        if name in _DROPS:
            place, key, value = _DROPS[name]
            if len(args) > place:
                args = (*args[:place], value, *args[place + 1 :])
            else:
                kwargs = {**kwargs, key: value}
        inplace = name in ("__set__", "__setitem__") or (name.endswith("_") and not name.endswith("__"))
        given = [arg if inplace and not place else _double(arg) for place, arg in enumerate(args)]
        named = {key: _double(value) for key, value in kwargs.items()}
        if name == "detach" or getattr(func, "__self__", None) is Tensor.data:
            return _followed(func, given)
        if name in ("numpy", "__array__"):  # which take none that has a gradient
            return func(given[0].detach(), *given[1:], **named)
        if (flat := cut_off(name, given, named)) is not None:
            return _cut_off(func, given, named, flat)
        values = (Tensor.double if func in _CASTS else func)(*given, **named)
        if name.rstrip("_") in _DRAWS and isinstance(values, Tensor) and values.is_floating_point():
            values.detach().fill_(_share(name, given, named, self.draw))
            self.drew = True
        if _decides(name, values):
            for numbers in tensors_in([*given, *named.values()]):
                if numbers.requires_grad:
                    self.chosen(numbers, name)
        return values if inplace else with_rivals(name, given, named, _double(values))


def _followed(func: Any, given: list[Any]) -> Any:
    """What is cut from the graph for the sake of gradients is still computed from what is there: the graph stays."""
    numbers = given[0]
    return numbers.view_as(numbers) if numbers.grad_fn is not None else func(*given)


def in_float64() -> TorchFunctionMode:
    """Within it a network in float64 stays in it, whatever its code casts to.

    >>> with in_float64():
    ...     torch.ones(1, dtype=torch.float64).float().dtype
    torch.float64
    """
    return _Steady(lambda numbers, name: None, 0.5)


def _share(name: str, given: list[Any], named: dict[str, Any], draw: float) -> float:
    """What a draw becomes: the share of ones, by which what is dropped is made up for, or else ``draw``."""
    share = named.get("p", given[1] if name == "bernoulli_" and len(given) > 1 else draw)
    return float(share) if isinstance(share, int | float) else draw


def _decides(name: str, values: Any) -> bool:
    """Whether a function gives places or steps, or casts to whole numbers."""
    if name in ("to", "type", "type_as"):
        return isinstance(values, Tensor) and not (values.is_floating_point() or values.is_complex())
    return name in PLACES or name == "__float__" or name.strip("_") in _STEPS


def _cut_off(func: Any, given: list[Any], named: dict[str, Any], flat: Tensor) -> Tensor:
    """What a rectifier or clip gives, plus ``flat``; in place where it works in place.

    It works on a copy, since it may keep what it gave for its own gradient.
    """
    numbers = given[0] if given else named["input"]
    copied = numbers.clone()
    values = func(*[copied, *given[1:]], **named) if given else func(**{**named, "input": copied})
    if values is copied:
        return numbers.copy_(values + flat)
    return _double(values) + flat


def _double(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return torch.float64 if value.is_floating_point else value
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()):
        return value
    return value.to(torch.complex128 if value.is_complex() else torch.float64)


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
            with torch._C.DisableTorchFunction():  # _Steady is for the code in between
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


def _with(change: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """The inputs with what ``change`` makes of their tensors of numbers, in the same precision."""
    return with_tensors(inputs, lambda t: change(t).to(t.dtype) if t.is_floating_point() else t)


def answers(call: Call, shapes: Any, wide: bool = False) -> Any:
    """Noise in the place of every tensor of numbers in ``shapes``, the same whenever the same call is answered.

    If it is ``wide``, it is of either sign, and from 0.1 to 10 large, as many numbers of each size: comparisons have
    something to decide there, and rectifiers and clips to cut off.
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
        return place.sign() * 10 ** (2 * place.abs() - 1)

    return tree_map_only(Tensor, numbers, shapes)


@contextmanager
def probing(
    model: nn.Module, answer: Answer, chosen: Callable[[Tensor, str], None], draw: float = 0.5
) -> Iterator[_Steady]:
    """Within the block, ``answer`` stands in for modules of a known kind; the rest as in :class:`_Steady`."""
    # Of attention's fused kernels none has the second derivative that is asked for.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),
        own_state(model),
        _answering(model, answer),
        _Steady(chosen, draw) as steady,
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

    ``chosen`` is told what decides on places (see :class:`_Steady`). A model that ``trains`` otherwise than it infers
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
