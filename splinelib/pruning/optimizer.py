"""The state of an optimiser, carried over to a smaller network."""

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.checks import checked
from splinelib.errors import SettingError
from splinelib.hooks import duplicate
from splinelib.layers import cutting
from splinelib.layers.cutting import Lost
from splinelib.layers.kinds import axis_of, complement, narrower, weight_norm
from splinelib.layers.network import unwrapped
from splinelib.pruning.cut import cut_of, is_cut

Optimizer = torch.optim.Optimizer
LRScheduler = torch.optim.lr_scheduler.LRScheduler
_LENGTHS = "parametrizations.weight.original0"  # of weight norm


@checked
def carry_optimizer(optimizer: Optimizer, dense: nn.Module, pruned: nn.Module) -> Optimizer:
    """An optimiser of ``pruned`` with the settings of one of ``dense``, and its state for what is left.

    Momenta, second moments and whatever else has the shape of a parameter lose what the parameter loses. A schedule of
    learning rates goes on after :func:`carry_schedule`. Hooks stay with the old optimiser.

    Args:
        optimizer: of parameters of ``dense``; left as it is.
        dense: the network before.
        pruned: what :func:`splinelib.prune`, or another removal of units, has made of it.

    Raises :class:`SettingError` where nothing was cut, the optimiser has parameters of another network, or its state is
    not one number for each of a parameter's, or each row's (LBFGS).

    >>> model, images = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), torch.ones(1, 2)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> model(images).sum().backward()
    >>> optimizer.step()
    >>> smaller = splinelib.prune(model, images, ratio=0.5)
    >>> moved = carry_optimizer(optimizer, model, smaller)
    >>> moved.state[smaller[0].weight]["momentum_buffer"].shape
    torch.Size([2, 2])
    """
    dense, pruned = unwrapped(dense), unwrapped(pruned)
    cut_of(pruned)
    names = {id(parameter): name for name, parameter in dense.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise SettingError(
                    f"the optimiser has a parameter of shape {tuple(parameter.shape)} that is none of this "
                    f"{type(dense).__name__}: give the network that it was made for"
                )
    new = dict(pruned.named_parameters())
    if missing := sorted(set(names.values()) - new.keys()):
        kinds = type(pruned).__name__, type(dense).__name__
        raise SettingError(
            f"pruned is a {kinds[0]} without {missing[0]!r}: give what was made of this {kinds[1]}"
        )
    held = {names[id(parameter)]: state for parameter, state in optimizer.state.items()}
    moved = copy.copy(optimizer)
    # which leaves out attributes of a kind of one's own; a schedule's ``step`` is of the optimiser that it was made for
    for key, value in vars(optimizer).items():
        if key not in vars(moved) and key != "step":
            setattr(moved, key, copy.copy(value))
    moved.param_groups = [
        {key: value.clone() if isinstance(value, Tensor) else value for key, value in group.items()}
        | {"params": [new[names[id(parameter)]] for parameter in group["params"]]}
        for group in optimizer.param_groups
    ]
    moved.state = type(optimizer.state)(dict)
    for name, state in held.items():
        _check(type(optimizer).__name__, name, state, dense.get_parameter(name))
        moved.state[new[name]] = {key: copy.deepcopy(value) for key, value in state.items()}
    for key in {key for state in held.values() for key in state}:
        values = {
            name: state[key]
            for name, state in held.items()
            if isinstance(state.get(key), Tensor) and _alike(state[key], dense.get_parameter(name))
        }
        for name, left in _left(values, dense, pruned).items():
            moved.state[new[name]][key] = left
    return moved


@checked
def carry_schedule(schedule: LRScheduler, optimizer: Optimizer) -> None:
    """Let a schedule of learning rates go on with another optimiser, in place: what :func:`carry_optimizer` has made.

    A schedule that is made of others (``SequentialLR``, ``ChainedScheduler``) takes all of them along.

    >>> model, images = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), torch.ones(1, 2)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    >>> moved = carry_optimizer(optimizer, model, splinelib.prune(model, images, ratio=0.5))
    >>> carry_schedule(schedule, moved)
    >>> moved.step()
    >>> schedule.step()
    >>> moved.param_groups[0]["lr"]
    0.05
    """
    if not hasattr(optimizer.step, "_wrapped_by_lr_sched"):
        optimizer.step = _counted(optimizer)  # type: ignore[method-assign]
    schedule.optimizer = optimizer
    for inner in getattr(schedule, "_schedulers", ()):
        carry_schedule(inner, optimizer)


def _counted(optimizer: Optimizer) -> Any:
    """Its step, noting that it was called, as a schedule has it of the optimiser that it is made for."""
    step = optimizer.step

    @functools.wraps(step)
    def counted(*args: Any, **kwargs: Any) -> Any:
        optimizer._opt_called = True  # type: ignore[attr-defined]
        return step(*args, **kwargs)

    counted._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    return counted


def _check(kind: str, name: str, state: dict[str, Any], parameter: Tensor) -> None:
    for key, value in state.items():
        plain = not isinstance(value, Tensor) or value.numel() == 1 or _alike(value, parameter)
        if not plain or isinstance(value, list | tuple | dict):
            raise SettingError(
                f"{kind} keeps of {name!r} a {key!r} that has not one number for each of the parameter's, so it cannot "
                "be cut: make a new optimiser"
            )


def _alike(value: Tensor, parameter: Tensor) -> bool:
    """Whether a state has a parameter's shape, but for axes along which it is one number (factored moments)."""
    return value.ndim == parameter.ndim and all(
        one in (1, other) for one, other in zip(value.shape, parameter.shape, strict=True)
    )


def _left(values: dict[str, Tensor], dense: nn.Module, pruned: nn.Module) -> dict[str, Tensor]:
    """Of the values that have the shape of their parameter what is left, by the parameter's name."""
    cut, filled = cut_of(pruned), duplicate(dense)
    for name, value in values.items():
        parameter = filled.get_parameter(name)
        parameter.data = value.detach().expand(parameter.shape).clone()
    lost = cut.lost_since(cut_of(dense)) if is_cut(dense) else cut.lost()
    left = dict(cutting.cut(filled, lost).named_parameters())
    found = {}
    for name, value in values.items():
        one = tuple(slice(1) if size == 1 else slice(None) for size in value.shape)
        found[name] = left[name].detach()[one].clone()
    return found | _lengths(values, dense, lost)


def _lengths(values: dict[str, Tensor], dense: nn.Module, lost: Lost) -> dict[str, Tensor]:
    """What is left of values of weight norms' lengths, which change with a weight's inputs; their state does not."""
    modules = dict(dense.named_modules())
    places = {name: f"{name}.{_LENGTHS}".lstrip(".") for name in modules}
    left = {
        place: values[place].detach()
        for name, place in places.items()
        if place in values and weight_norm(modules[name])
    }
    for (name, writes, _), gone in lost.items():
        if (place := places.get(name, "")) in left:
            axis: Any = axis_of(modules[name], "weight", writes)
            if axis == weight_norm(modules[name])[0].dim and _as_long(modules[name], left[place], axis):
                left[place] = narrower(left[place], axis, complement(gone, left[place].shape[axis]))
    return left


def _as_long(module: nn.Module, values: Tensor, axis: int) -> bool:
    """Whether there is a value for each length of a weight norm; what is kept by row has one along the other axis."""
    return values.shape[axis] == module.get_parameter(_LENGTHS).shape[axis]
