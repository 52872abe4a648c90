"""Where a notebook's parameters say that records lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import splinelib
from splinelib.artifacts import cache_dir
from splinelib.records import RecordStore


def live_store(parameters: Mapping[str, Any]) -> RecordStore:
    """The parameter ``store``, else ``$SPLINELIB_STORE``, else a folder in the user's cache."""
    return RecordStore(parameters["store"] or cache_dir("SPLINELIB_STORE", "runs"))


def committed_store(parameters: Mapping[str, Any]) -> RecordStore:
    """The parameter ``records``, else the folder ``records/`` beside the package's source."""
    return RecordStore(parameters["records"] or Path(splinelib.__file__).parents[1] / "records")
