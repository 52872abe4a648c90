"""Where, when, and with what a run was computed."""

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
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
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


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
