"""The front page's verdicts at a glance, from the committed records."""

from pathlib import Path

from splinestudy.results.claim_marks import all_marks
from splinestudy.results.mark_pages import glance_html
from splinestudy.runs.committed import committed_store

from .inputs import script_files
from .layout import Layout, is_current


def write_glance(layout: Layout) -> None:
    """Write the table, unless it is newer than all records and what it is made by."""
    store, page = committed_store(), layout.results / "glance.html"
    if is_current([page], [*store.root.glob("*/*.json"), *script_files(Path(__file__))]):
        return
    layout.results.mkdir(parents=True, exist_ok=True)
    page.write_text(glance_html(all_marks(store)))
