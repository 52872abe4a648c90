"""The directive ``figure-index``: every figure of the book that has files, with thumbnail and number."""

from html import escape
from typing import Any

from docutils import nodes
from figure_links import Figure, find_figures
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class IndexNode(nodes.General, nodes.Element):
    """Stands where the index goes until all pages are read and numbered."""


class FigureIndex(SphinxDirective):
    """``figure-index`` without arguments or content."""

    def run(self) -> list[nodes.Node]:
        """Leave a mark; the page is written anew whenever any page changes, since it is read every time."""
        self.env.note_reread()
        return [IndexNode()]


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put the figures of all pages, in the book's order, where the mark stands."""
    for mark in list(doctree.findall(IndexNode)):
        parts = []
        for page in app.env.toc_fignumbers:
            figures = [figure for _, figure in find_figures(app, app.env.get_doctree(page), page)]
            if figures:
                cards = "".join(map(card, figures))
                parts.append(f'<h2>{escape(figures[0].chapter)}</h2><ul class="figure-index">{cards}</ul>')
        mark.replace_self(nodes.raw("", "".join(parts), format="html") if app.builder.name == "html" else [])


def card(figure: Figure) -> str:
    """One figure's entry."""
    return (
        f'<li><a href="{figure.page}.html#{figure.name}">'
        f'<img src="figures/thumbnails/{figure.name}.png" alt="" loading="lazy">'
        f"<span>Fig. {figure.number}</span> {escape(figure.title)}</a></li>"
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.add_node(IndexNode)
    app.add_directive("figure-index", FigureIndex)
    app.connect("doctree-resolved", fill)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
