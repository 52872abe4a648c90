"""What the pages of text include: pictures, the playground, the explorers, and lists made from the records."""

import json
import subprocess
import sys

from splinestudy.results.grid_page import grid_report
from splinestudy.results.pilot import pilot_report
from splinestudy.results.progress import progress_report
from splinestudy.runs.committed import committed_store

from .explorers import write_explorers
from .glance import write_glance
from .layout import ROOT, BuildError, Layout
from .playground import write_playground
from .teaser import draw_teaser

BENCHMARKS = ROOT / "benchmarks" / "results"


def write_pages(layout: Layout) -> None:
    """Write all that pages include and that is missing or older than what it is made from."""
    draw_teaser(layout)
    write_playground(layout)
    write_explorers(layout)
    write_glance(layout)
    list_studies(layout)


def list_studies(layout: Layout) -> None:
    """Write what pages include of the committed records: their commands, the pilot, how far the study is, the grid."""
    command = [sys.executable, "-m", "splinestudy", "studies"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise BuildError("the committed studies cannot be listed (see above)")
    layout.results.mkdir(parents=True, exist_ok=True)
    (layout.results / "studies.txt").write_text(done.stdout)
    (layout.results / "pilot.txt").write_text(pilot_report(committed_store()))
    (layout.results / "progress.txt").write_text(progress_report(committed_store()))
    steps, files = (
        json.loads((BENCHMARKS / f"{name}.json").read_text()) for name in ("step_time", "streaming")
    )
    large = {row["arch"]: row["core_seconds"] for row in files["rows"]}
    grid = grid_report(committed_store(), steps["rows"], steps["settings"]["batch"], large)
    (layout.results / "grid.txt").write_text(grid)
