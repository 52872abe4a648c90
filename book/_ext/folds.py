"""Sections of the class ``fold`` are one line, their heading, until they are opened; on paper they stand open."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def fold(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put the heading of each such section into a summary, and all below it into the details."""
    if app.builder.name != "html":
        return
    for section in doctree.findall(
        lambda node: isinstance(node, nodes.section) and "fold" in node["classes"]
    ):
        parts = ('<details class="fold"><summary>', "</summary>", "</details>")
        start, between, end = (nodes.raw("", part, format="html") for part in parts)
        section[:] = [start, section[0], between, *section[1:], end]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("doctree-resolved", fold)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
