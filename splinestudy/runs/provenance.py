"""Where, when, and with what a run was computed."""

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import splinestudy
from splinelib.errors import SettingError
from splinestudy.training import distributed

SOURCE = Path(splinestudy.__file__).parents[1]
"""The checkout: the folder beside whose packages ``records/`` lies."""

_CPUINFO = Path("/proc/cpuinfo")  # on Linux

# Which processor of a name it is: as Linux names the numbers on x86 and ARM, and as they are written.
_NUMBERS = {"cpu family": "family", "model": "model", "CPU implementer": "implementer", "CPU part": "part"}


def provenance(
    profile: str, device: torch.device, started: str, finished: str, seconds: float
) -> dict[str, Any]:
    """Where, when and with what a run was computed; ``seconds`` of wall time, dates in ISO format."""
    commit, clean = source_commit()
    return {
        "profile": profile,
        "started": started,
        "finished": finished,
        "seconds": round(seconds, 2),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            **{name: importlib.metadata.version(name) for name in ("torchvision", "torch-pruning")},
        },
        "hardware": _hardware(device),
        **_generation(device),
        "threads": torch.get_num_threads(),
        **({} if distributed.alone() else {"processes": distributed.part()[1]}),
        "commit": commit,
        "clean": clean,
    }


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _generation(device: torch.device) -> dict[str, str]:
    """Which of the processors of one name it is: others have other instructions, which round otherwise."""
    found = {} if device.type == "cuda" else _cpuinfo()
    numbers = [f"{field} {found[name]}" for name, field in _NUMBERS.items() if name in found]
    return {"generation": ", ".join(numbers)} if numbers else {}


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the last processor, by its own names; nothing elsewhere."""
    with contextlib.suppress(OSError):
        lines = _CPUINFO.read_text().splitlines()
        return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {}


def computed_on(made: Mapping[str, Any]) -> str:
    """One line for a provenance: what decides the last digits of what was computed.

    >>> made = {"hardware": "Some CPU, 2 cores", "generation": "family 25, model 17", "threads": 1}
    >>> computed_on(made | {"versions": {"torch": "2.14.1"}})
    'Some CPU, 2 cores, family 25, model 17, torch 2.14.1, threads: 1'
    """
    hardware = made.get("hardware", "hardware not recorded")
    parts = [hardware, made.get("generation", "generation not recorded" if "cores" in hardware else "")]
    parts += [f"torch {made['versions']['torch']}"] if "versions" in made else []
    parts += [f"{what}: {made[what]}" for what in ("threads", "processes") if what in made]
    return ", ".join(part for part in parts if part)


@cache
def source_commit() -> tuple[str | None, bool | None]:
    """Commit of both packages' source and whether their trees are clean; (None, None) outside a checkout."""
    if not (
        SOURCE / ".git"
    ).exists():  # else git would tell of whatever repository the package is installed in
        return None, None
    try:
        commit, status = (
            subprocess.run(["git", *arguments], cwd=SOURCE, capture_output=True, text=True, check=True).stdout
            for arguments in (
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--", "splinelib", "splinestudy"],
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit.strip(), not status.strip()


def is_folder(address: str, folder: Path) -> bool:
    """Whether a store's ``address`` means this folder, as a path does, or what fsspec has for one of this machine."""
    path = re.sub(r"^(file|local)://", "", address.rsplit("::", 1)[-1])
    return "://" not in path and Path(path).resolve() == folder.resolve()


def check_clean(address: str) -> None:
    """Raise :class:`SettingError` where records would join the committed ones from a source that is not committed.

    ``address`` is a store's: a folder, or with ``://`` one of fsspec, which may name a folder of this machine as well.
    """
    commit, clean = source_commit()
    if is_folder(address, SOURCE / "records") and not (commit and clean):
        raise SettingError(
            f"store is {address}, the committed records, and the source is not what a commit holds: commit first, or "
            "name another folder"
        )
