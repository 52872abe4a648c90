"""The front page's verdicts at a glance, from the committed records."""

from splinestudy.results.claim_marks import all_marks
from splinestudy.results.mark_pages import glance_html
from splinestudy.runs.committed import committed_store

from .layout import ROOT, Layout, is_current


def write_glance(layout: Layout) -> None:
    """Write the table, unless it is newer than all records and the study's code."""
    store, page = committed_store(), layout.results / "glance.html"
    if is_current([page], [*store.root.glob("*/*.json"), *(ROOT / "splinestudy").rglob("*.py")]):
        return
    layout.results.mkdir(parents=True, exist_ok=True)
    page.write_text(glance_html(all_marks(store)))
