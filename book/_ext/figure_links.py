"""Under every figure: links to its files and a line to cite it by. Warns about images without alternative text."""

from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

ENDINGS = ("svg", "png", "pdf", "csv")
FOLDER = Path("_extra") / "figures"  # below the source folder; served as figures/

log = logging.getLogger(__name__)


def require_alt(app: Sphinx, doctree: nodes.document) -> None:
    """Warn about each image of a page that says nothing to those who cannot see it."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt", "").strip():
            log.warning("image %r has no alternative text (alt)", image.get("uri"), location=image)


def note_files(app: Sphinx, doctree: nodes.document) -> None:
    """Have a page read again when a download of one of its figures appears or changes."""
    for figure in doctree.findall(nodes.figure):
        for path in _files(app, figure):
            app.env.note_dependency(str(path))


def append_links(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Append the downloads and the cite line to the caption of every figure that has files."""
    if app.builder.format != "html":
        return
    root = "../" * docname.count("/")
    title = app.env.titles[docname].astext()
    for figure in doctree.findall(nodes.figure):
        files = _files(app, figure)
        captions = list(figure.findall(nodes.caption))
        if files and captions:
            line = _line(files, root, title, app.config.html_title)
            figure.append(nodes.legend("", nodes.raw("", line, format="html")))


def _files(app: Sphinx, figure: nodes.figure) -> list[Path]:
    folder = Path(app.srcdir) / FOLDER
    names = [*figure.get("names", []), *figure.get("ids", [])]
    found = (folder / f"{name}.{ending}" for name in dict.fromkeys(names) for ending in ENDINGS)
    return [path for path in dict.fromkeys(found) if path.exists()]


def _line(files: list[Path], root: str, title: str, book: str) -> str:
    name = files[0].stem
    links = " ".join(
        f'<a href="{root}figures/{path.name}" download aria-label="{name} as {path.suffix[1:].upper()}">'
        f"{path.suffix[1:].upper()}</a>"
        for path in files
    )
    cite = f"Figure “{name}”, chapter “{title}”, in: {book}, a reproducible companion."
    return (
        f'<div class="figure-links">{links} <details><summary>Cite</summary>'
        f"<p>{escape(cite)}</p></details></div>"
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("doctree-read", require_alt)
    app.connect("doctree-read", note_files)
    app.connect("doctree-resolved", append_links)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
