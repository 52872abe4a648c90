"""Where the results of benchmarks are kept: read, and written whole or not at all."""

import json
from pathlib import Path

from splinelib.files import atomic_path

RESULTS = Path(__file__).parent / "results"


def load(name):
    """A benchmark's result, or None where it was not run."""
    path = RESULTS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_result(result, path):
    """The result as JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
