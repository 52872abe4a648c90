"""Pictures of every page as a browser shows it, for people to look at."""

import shutil
from pathlib import Path

from .layout import BuildError

WIDTHS = (390, 1280)
THEMES = ("light", "dark")
# What else a browser does at the start would reach for the network.
OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
]


def find_pages(site: Path) -> list[str]:
    """The pages of a rendered site, by their paths below it; the theme's templates are none."""
    found = (path.relative_to(site) for path in sorted(site.rglob("*.html")))
    return [path.as_posix() for path in found if "_static" not in path.parts]


def find_browser() -> str:
    """Where Chromium or Chrome is. Raises BuildError without either."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise BuildError("no Chromium on PATH: install it (on Debian `apt-get install chromium`)")


def remember_theme(theme: str) -> str:
    """Script that has the site's pages open in a theme."""
    return f"for (const name of ['mode', 'theme']) localStorage.setItem(name, '{theme}');"


def take_shots(site: Path, folder: Path) -> None:
    """Write ``folder/width-theme/page.png`` for every page of ``site``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=find_browser(), args=OPTIONS)
        for width in WIDTHS:
            for theme in THEMES:
                context = browser.new_context(viewport={"width": width, "height": 900})
                context.add_init_script(remember_theme(theme))
                page = context.new_page()
                for name in find_pages(site):
                    page.goto((site / name).as_uri())
                    target = folder / f"{width}-{theme}" / Path(name).with_suffix(".png")
                    page.screenshot(path=target, full_page=True)
                context.close()
        browser.close()
    print(f"{len(find_pages(site))} pages at {len(WIDTHS)} widths in {len(THEMES)} themes: {folder}")
