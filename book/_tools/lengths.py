"""How much of a chapter one has to read: words of prose and figures, without what is folded away."""

from html.parser import HTMLParser

MOST_WORDS, MOST_FIGURES = 1200, 8
# What stands beside the text or is opened by those who want it.
_ASIDE = {"details", "figcaption", "table", "pre", "script", "style"}
_VOID = {"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words = self.figures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.figures += tag == "figure" and self._is_read()
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._is_read() and {"p", "li"} & set(self.open):
            self.words += len(data.split())

    def _is_read(self) -> bool:
        return "article" in self.open and not _ASIDE & set(self.open)


def measure(html: str) -> tuple[int, int]:
    """Words and figures of a page's main text.

    >>> measure("<article><p>two words</p><figure></figure><details><p>more</p></details></article>")
    (2, 1)
    """
    reader = _Reader()
    reader.feed(html)
    return reader.words, reader.figures


def find_long(name: str, html: str) -> list[str]:
    """What is too much on a page, one line each."""
    bars = zip(measure(html), (MOST_WORDS, MOST_FIGURES), ("words", "figures"), strict=True)
    return [
        f"{name}: {found} {what}, at most {most}: fold a section (the tag `fold` on its heading's cell), or cut"
        for found, most, what in bars
        if found > most
    ]
