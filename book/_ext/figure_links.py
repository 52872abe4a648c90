"""Under every figure one fold: its files, the command that makes it again, its records, and how to cite it.

The page shows the very PNG that the fold offers. Warns about images without alternative text.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

ENDINGS = ("svg", "png", "pdf", "csv")
FOLDER = Path("_extra") / "figures"  # below the source folder; served as figures/

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Figure:
    """A figure that has files: its page and anchor there, its number, caption, and files."""

    page: str
    name: str
    number: str
    caption: str
    chapter: str
    files: tuple[Path, ...]

    @property
    def command(self) -> str:
        """What makes it again."""
        found = re.fullmatch(r"results/(\d+)_\w+", self.page)
        return f"make book NOTEBOOK={found[1]}" if found else "make book"

    @property
    def title(self) -> str:
        """The caption's first sentence, or what stands before its first colon."""
        return re.split(r"(?<=[.:;]) ", self.caption)[0].rstrip(".:;")

    @property
    def records(self) -> str:
        """Which committed records its chapter had read by then."""
        path = self.files[0].with_suffix(".json")
        read = json.loads(path.read_text()) if path.exists() else {"records": 0}
        if not read["records"]:
            return "no committed records; computed when the chapter runs"
        first, last = (date[:10] for date in (*read["first"], *read["last"]))
        days = f"on {first}" if first == last else f"between {first} and {last}"
        commits = [commit[:7] for commit in read["commits"]]
        at = f"commit {commits[0]}" if len(commits) == 1 else f"{len(commits)} commits"
        return (
            f"up to here the chapter reads {read['records']} committed records, finished {days}, made at {at}"
        )

    def bibtex(self, book: str) -> str:
        """An entry of its own."""
        citation = _citation()
        title = self.title.replace("\\", "").replace("$", "")
        fields = {
            "author": "{The splinelib authors}",
            "title": f"{title} (figure {self.number})",
            "howpublished": f"In: {book}, a reproducible companion, chapter ``{self.chapter}''",
            "year": str(citation["date-released"])[:4],
            "note": f"Version {citation['version']}, {self.page}.html\\#{self.name}",
        }
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@misc{{splinelib-{self.name},\n{lines}\n}}"


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


def find_figures(app: Sphinx, doctree: nodes.document, docname: str) -> list[tuple[nodes.figure, Figure]]:
    """The figures of a page that have files and a caption."""
    numbers = app.env.toc_fignumbers.get(docname, {}).get("figure", {})
    title, found = app.env.titles[docname].astext(), []
    for node in doctree.findall(nodes.figure):
        files, captions = _files(app, node), list(node.findall(nodes.caption))
        if files and captions:
            number = ".".join(map(str, numbers.get(next(iter(node["ids"]), ""), ())))
            caption = captions[0].astext()
            found.append((node, Figure(docname, files[0].stem, number, caption, title, tuple(files))))
    return found


def append_links(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Append the fold to the caption of every figure that has files, and show one of them in place of a copy."""
    if app.builder.name != "html":
        return
    root = "../" * docname.count("/")
    for node, figure in find_figures(app, doctree, docname):
        node.append(nodes.legend("", nodes.raw("", fold(figure, root, app.config.html_title), format="html")))
        for image in node.findall(nodes.image):
            if (png := figure.files[0].with_suffix(".png")) in figure.files:
                image["uri"] = f"{root}figures/{png.name}"


def fold(figure: Figure, root: str, book: str) -> str:
    """The fold's HTML; ``root`` leads from the page to the site's root."""
    links = " ".join(
        f'<a href="{root}figures/{path.name}" download aria-label="{figure.name} as {path.suffix[1:].upper()}">'
        f"{path.suffix[1:].upper()}</a>"
        for path in figure.files
    )
    return (
        '<details class="figure-links"><summary>Files, data, command, citation</summary>'
        f"<p>{links}</p>"
        f"<p>Made by <code>{figure.command}</code>; {escape(figure.records)}.</p>"
        f'<div class="highlight"><pre>{escape(figure.bibtex(book))}</pre></div></details>'
    )


def _files(app: Sphinx, figure: nodes.figure) -> list[Path]:
    folder = Path(app.srcdir) / FOLDER
    names = [*figure.get("names", []), *figure.get("ids", [])]
    found = (folder / f"{name}.{ending}" for name in dict.fromkeys(names) for ending in ENDINGS)
    return [path for path in dict.fromkeys(found) if path.exists()]


@cache
def _citation() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text())


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("doctree-read", require_alt)
    app.connect("doctree-read", note_files)
    app.connect("doctree-resolved", append_links)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
