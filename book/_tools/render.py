"""The site, rendered by Jupyter Book from a Sphinx source folder."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .layout import BOOK, BUILD, NOTEBOOKS, ROOT, BuildError, Layout, shown


def stage(layout: Layout, original: Layout) -> None:
    """Copy the book's own files, without results and figures, to the source folder of ``layout``."""
    generated = {original.results.name, original.figures.name, "__pycache__"}
    shutil.copytree(original.source, layout.source, ignore=lambda _, names: generated & set(names))


def render(layout: Layout, strict: bool = True) -> Path:
    """Render the site and return its front page; with ``strict`` any warning is an error.

    Every build starts from an empty folder: Sphinx repeats no warning for a page that it does not read again, so a
    build on top of a failed one would pass. The site of the last good build stays until the new one is whole, and where
    that was made from the very same files there is nothing to do.
    """
    page, made_from = layout.site / "index.html", layout.site.with_name(f"{layout.site.name}.key")
    key = _key(layout)
    if strict and page.exists() and made_from.exists() and made_from.read_text() == key:
        return page
    made = jupyter_book(layout, "render", "html", ["-W", "-n", "--keep-going"] if strict else [])
    lighten(made)
    made_from.unlink(missing_ok=True)
    shutil.rmtree(layout.site, ignore_errors=True)
    layout.site.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made, layout.site)
    if strict:
        made_from.write_text(key)
    return page


def jupyter_book(layout: Layout, name: str, builder: str, options: Sequence[str]) -> Path:
    """What Jupyter Book makes of the book in the new folder ``build/name``. Raises BuildError with its warnings."""
    work = BUILD / name
    shutil.rmtree(work, ignore_errors=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(layout.source)]
    command += ["--config", str(ROOT / "_config.yml"), "--path-output", str(work), "-q", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | layout.environment())
    made = work / "_build" / builder
    if done.returncode or not made.exists():
        raise BuildError(f"{done.stdout.strip()}\nthe book does not render (see the warnings above)")
    return made


def lighten(site: Path) -> None:
    """Take out what no reader needs: maps of scripts, fonts that all browsers have in a smaller form, other languages.

    The source of a chapter becomes the notebook as committed. And what the theme leaves without a name, or with a role
    that does not fit, is mended for those who listen to a page.
    """
    toggle, citations = '<span class="toctree-toggle"', 'class="citation-list"'
    for path in site.rglob("*.html"):
        text = path.read_text("utf-8")
        mended = text.replace(f"<summary>{toggle}", f'<summary aria-label="parts">{toggle}')
        mended = mended.replace(f'<div role="list" {citations}>', f"<div {citations}>")
        if mended != text:
            path.write_text(mended, "utf-8")
    for pattern in ("*.map", "*.ttf", "locales/**/*.*"):
        for path in (site / "_static").rglob(pattern):
            path.unlink()
    for path in (site / "_sources").rglob("*.ipynb"):
        shutil.copyfile(NOTEBOOKS / path.name, path)


def _key(layout: Layout) -> str:
    """Hash of every file that the site is made from, environment included."""
    folders = [layout.source, BOOK.source / "_ext", ROOT / "splinelib", ROOT / "splinestudy"]
    files = [ROOT / "_config.yml", ROOT / "requirements.lock"]
    files += [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    digest = hashlib.sha256()
    for path in files:
        if "__pycache__" not in path.parts:
            digest.update(f"{shown(path)}:".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def report(page: Path) -> None:
    """Say where the rendered book is."""
    print(f"\nThe book: {page.as_uri()}\n          ({shown(page)}; `make serve` opens it over HTTP)")
