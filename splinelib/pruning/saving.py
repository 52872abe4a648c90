"""Networks in files: weights in safetensors, what was cut and its report beside them as JSON. Nothing is unpickled.

Needs safetensors, of the extra ``[prune]``.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.checks import checked
from splinelib.errors import DamagedError, FileError, RecordError, SettingError
from splinelib.files import atomic_path, file_errors, sha256_of
from splinelib.hooks import duplicate
from splinelib.layers.network import check_real, eager
from splinelib.pruning.cut import Channels, Cut, cut_of, is_cut
from splinelib.pruning.report import Report, attach, has_report, report_of

SCHEMA = 1
_KEY = "splinelib"


@checked
def save(model: nn.Module, path: str | Path) -> None:
    """Write a network's parameters and persistent buffers, what was cut from it, and its report to a safetensors file.

    Args:
        model: any network; what was cut comes with those that :func:`splinelib.prune` or ``remove_units`` has given,
            and with those that hold such a one.
        path: of the file; an older one there is replaced once the new one is whole.

    Raises :class:`FileError` where the file cannot be written, :class:`SettingError` for a state that is no plain
    tensor, and for a pruned network that ``compact_streams`` or ``fuse_norms`` has changed since.

    >>> import tempfile
    >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> smaller = splinelib.prune(model, torch.zeros(1, 2), ratio=0.5)
    >>> path = tempfile.mkdtemp() + "/smaller.safetensors"
    >>> save(smaller, path)
    >>> fresh = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> torch.equal(load(path, into=fresh)(torch.ones(1, 2)), smaller(torch.ones(1, 2)))
    True
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    model, path = eager(model), _file(path)
    check_real(model)
    state = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    shared = {
        name: first[id(value)] for name, value in state.items() if first.setdefault(id(value), name) != name
    }
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise SettingError(
                f"{name!r} in the state of {type(model).__name__} is no tensor: keep it elsewhere"
            )
    tensors = {
        name: value.detach().cpu().contiguous().clone() for name, value in state.items() if name not in shared
    }
    cut = dataclasses.asdict(cut_of(model)) if is_cut(model) else None
    told = dataclasses.asdict(report_of(model)) if has_report(model) else None
    text = json.dumps({"schema": SCHEMA, "cut": cut, "shared": shared, "report": told})
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, {_KEY: text, "digest": _digest(text, tensors)})
        except SafetensorError as error:
            raise FileError(
                f"{path} cannot be written ({error}): name a folder that can be written, with room for it"
            ) from error
        except KeyError as error:
            raise SettingError(f"safetensors holds no {error}: give the network another dtype") from error


@checked
def load(path: str | Path, into: nn.Module) -> nn.Module:
    """The network that :func:`save` wrote: a copy of ``into``, cut alike, with the weights and the report in the file.

    Args:
        path: of the file.
        into: a dense network of the architecture that was pruned, with any weights; device and dtype are its own.

    Raises:
        SettingError: where ``into`` is another network, or pruned already, or cannot hold the numbers: complex ones
            where it has real ones, larger ones than its dtype takes, two tensors where it has one under two names.
        DamagedError: where the file does not hold what was written.
        RecordError: for a file that a newer splinelib, or something else, has written.
        FileNotFoundError, FileError: where the file is not there, or cannot be read.

    >>> import tempfile
    >>> path, fresh = tempfile.mkdtemp() + "/network.safetensors", nn.Linear(2, 4)
    >>> save(nn.Linear(2, 4), path)
    >>> load(path, into=fresh)
    Linear(in_features=2, out_features=4, bias=True)
    """
    path = _file(path)
    into = eager(into)
    check_real(into)
    with file_errors(path, "read"):
        cut, told, tensors = _read(path)
    smaller = duplicate(into) if cut is None else cut.apply_to(into)
    _check_kinds(path, smaller, tensors)
    try:
        smaller.load_state_dict(tensors)
    except RuntimeError as error:
        raise SettingError(
            f"{path} is of another network than this {type(into).__name__} ({' '.join(str(error).split())}): give a "
            "dense network of the same architecture"
        ) from error
    _check_shared(path, smaller, tensors)
    return smaller if told is None else attach(smaller, told)


def _check_kinds(path: Path, network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Raise :class:`SettingError` where a cast would lose more than digits."""
    for name, value in network.state_dict().items():
        held = tensors.get(name, value)
        if isinstance(value, Tensor) and held.shape == value.shape and not _keeps(held, value):
            raise SettingError(
                f"{path} holds {name!r} in {held.dtype}, this {type(network).__name__} in {value.dtype}: give a "
                "network that holds such numbers"
            )


def _keeps(held: Tensor, value: Tensor) -> bool:
    """Whether a cast to the dtype of ``value`` leaves the kind of number, integers as they are, and finite ones finite.

    A mask's lowest number becomes infinite in half precision, as it has where the network was made so.
    """
    if held.dtype == value.dtype or not torch.can_cast(held.dtype, value.dtype):
        return held.dtype == value.dtype
    cast = held.to(value.dtype)
    if not (value.is_floating_point() or value.is_complex()):
        return torch.equal(cast.to(held.dtype), held)
    wide, before, mine = (t if t.is_complex() else t.double() for t in (cast, held, value.detach().cpu()))
    return bool((wide.isfinite() | ~before.isfinite() | (wide == mine)).all())


def _check_shared(path: Path, network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Raise :class:`SettingError` where what was read under one name was overwritten by what was under another."""
    places: dict[int, list[str]] = {}
    state = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    for name, value in state.items():
        places.setdefault(value.untyped_storage().data_ptr(), []).append(name)
    for names in places.values():
        for name in names if len(names) > 1 else ():
            if not torch.equal(_bytes(state[name].cpu()), _bytes(tensors[name].to(state[name].dtype))):
                raise SettingError(
                    f"{path} holds different numbers as {' and '.join(map(repr, names))}, which share them in this "
                    f"{type(network).__name__}: give one that does not"
                )


def _file(path: str | Path) -> Path:
    if not Path(path).name or "\0" in str(path):
        raise SettingError(f"path is {str(path)!r}: name a file")
    return Path(path)


def _read(path: Path) -> tuple[Cut | None, Report | None, dict[str, Tensor]]:
    """What was cut from the network, its report, and its tensors, the shared ones under each of their names."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except SafetensorError as error:
        raise DamagedError(f"{path} is damaged, or no safetensors file ({error})") from error
    if _KEY not in said:
        raise RecordError(f"{path} was not written by splinelib.save: load its tensors with safetensors")
    if said.get("digest") != _digest(said[_KEY], tensors):
        raise DamagedError(f"{path} was altered: its digest does not fit its content")
    try:
        held = json.loads(said[_KEY])
        schema, shared = held["schema"], dict(held["shared"])
        if type(schema) is not int:
            raise TypeError(f"schema {schema!r}")
        if schema > SCHEMA:
            raise RecordError(
                f"{path} is of schema {schema}, this splinelib knows {SCHEMA}: update splinelib"
            )
        tensors |= {name: tensors[source] for name, source in shared.items()}
        return _cut(held["cut"]), _report(held.get("report")), tensors
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, SettingError) as error:
        raise DamagedError(
            f"{path} says nothing sound of what was cut ({type(error).__name__}: {error})"
        ) from error


def _cut(cut: Any) -> Cut | None:
    if cut is None:
        return None
    return Cut(cut["selection"], cut["units"], [Channels(**part) for part in cut["channels"]])


def _report(told: Any) -> Report | None:
    if told is None:
        return None
    units = {name: tuple(pair) for name, pair in told["units"].items()}
    latency = told["latency"] and tuple(told["latency"])
    return Report(units, tuple(told["parameters"]), tuple(told["flops"]), latency)


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    parts = [text.encode()]
    for name in sorted(tensors):
        parts += [f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode()]
        parts += [_bytes(tensors[name]).numpy().data]  # type: ignore[list-item]
    return sha256_of(*parts)


def _bytes(values: Tensor) -> Tensor:
    return values.contiguous().flatten().view(torch.uint8)
