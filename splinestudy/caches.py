"""Where generated files are kept: data sets, and runs of one's own."""

import os
import sys
from pathlib import Path


def cache_dir(variable: str, name: str) -> Path:
    """Folder for generated files: ``$variable`` if set, else ``splinelib/name`` in the user's cache folder.

    The folder is not created here.
    """
    if chosen := os.environ.get(variable):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "splinelib" / name
