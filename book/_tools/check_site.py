"""Checks on the rendered site: links, anchors, ids, alternative texts, tables, lengths, no loads from outside."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .layout import BuildError
from .lengths import find_long

# Which attribute makes a browser load something. A plain <a href> loads nothing until it is followed.
LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
    "link": "href",
}
OUTSIDE = re.compile(r"^(https?:)?//", re.IGNORECASE)
CSS_LOAD = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
# The row below a Markdown table's head, as text: some parser took it for a paragraph. Sphinx turns --- into a dash.
RAW_TABLE = re.compile(r"\|\s*:?[-–—]+:?\s*\|")
# Where such a row is meant as it stands.
VERBATIM = {"pre", "code", "script", "style"}


@dataclass
class Page:
    """What one HTML file refers to, and the anchors that it offers."""

    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    without_alt: list[str] = field(default_factory=list)
    raw_tables: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._verbatim: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in VERBATIM:
            self._verbatim.append(tag)
        if "id" in values:
            self.page.ids.append(values["id"])
        if tag == "a" and "href" in values:
            self.page.links.append(values["href"])
        if address := values.get(LOADS.get(tag, ""), ""):
            (self.page.outside if OUTSIDE.match(address) else self.page.links).append(address)
        self.page.outside += CSS_LOAD.findall(values.get("style", ""))
        alt = values.get("alt")
        # Sphinx writes the file's own name where the author gave no text.
        if tag == "img" and (alt is None or (alt and alt == values.get("src"))):
            self.page.without_alt.append(values.get("src", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._verbatim:
            self._verbatim.remove(tag)

    def handle_data(self, data: str) -> None:
        if "style" in self._verbatim:
            self.page.outside += CSS_LOAD.findall(data)
        elif not self._verbatim and RAW_TABLE.search(data):
            self.page.raw_tables.append(data.strip().splitlines()[0])


def read_page(text: str) -> Page:
    """Read one HTML file's text."""
    reader = _Reader()
    reader.feed(text)
    return reader.page


def find_problems(site: Path) -> list[str]:
    """Every problem of the site under ``site``, one line each; empty when all is well."""
    # _static holds templates of the theme, which are no pages.
    files = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts]
    pages = {path.resolve(): read_page(path.read_text("utf-8")) for path in files}
    problems = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        problems += [f"{name}: id {i!r} occurs twice" for i in sorted(_repeated(page.ids))]
        problems += [f"{name}: loads {address} from outside" for address in page.outside]
        problems += [f"{name}: image {source} has no alternative text" for source in page.without_alt]
        problems += [f"{name}: raw text instead of a table: {head}" for head in page.raw_tables]
        problems += [f"{name}: broken link {link}" for link in page.links if not _resolves(link, path, pages)]
    for path in sorted((site / "results").glob("*.html")):
        problems += find_long(path.stem, path.read_text("utf-8"))
    for path in sorted(site.rglob("*.css")):
        found = CSS_LOAD.findall(path.read_text("utf-8"))
        problems += [f"{path.relative_to(site)}: loads {address} from outside" for address in found]
    return problems


def check_site(site: Path) -> None:
    """Raise BuildError with all problems of the rendered site, if there are any."""
    if problems := find_problems(site):
        raise BuildError(f"{len(problems)} problems in {site}:\n" + "\n".join(problems))
    print("site checked: links, anchors, ids, alternative texts, tables, lengths, no outside loads")


def _repeated(ids: list[str]) -> set[str]:
    return {i for i in ids if ids.count(i) > 1}


def _resolves(link: str, path: Path, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return False
    # Anchors of other kinds of file (SVG, PDF) are their own business; "#" alone is the page's top.
    if target not in pages or not parts.fragment:
        return True
    return unquote(parts.fragment) in pages[target].ids
