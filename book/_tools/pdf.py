"""The whole book as one PDF, printed by a browser from one long page."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .layout import BUILD, ROOT, BuildError, Layout
from .shots import OPTIONS, find_browser

FOOTER = '<div style="font-size: 8px; width: 100%; text-align: center"><span class="pageNumber"></span></div>'
MARGINS = {"top": "20mm", "bottom": "18mm", "left": "20mm", "right": "20mm"}


def make_pdf(layout: Layout) -> Path:
    """Render the book as one page, print it, and return the PDF, which has an outline and is tagged."""
    from playwright.sync_api import sync_playwright

    page_file, pdf = one_page(layout), BUILD / "book.pdf"
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=find_browser(), args=OPTIONS)
        page = browser.new_page()
        page.goto(page_file.as_uri())
        page.evaluate("MathJax.startup.promise.then(() => 0)")
        page.emulate_media(media="print")
        page.pdf(
            path=pdf,
            format="A4",
            margin=MARGINS,
            print_background=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOTER,
            outline=True,
            tagged=True,
        )
        browser.close()
    return pdf


def one_page(layout: Layout) -> Path:
    """All chapters on one HTML page."""
    work = BUILD / "pdf"
    shutil.rmtree(work, ignore_errors=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(layout.source), "-q"]
    command += ["--config", str(ROOT / "_config.yml"), "--path-output", str(work)]
    command += ["--builder", "custom", "--custom-builder", "singlehtml"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | layout.environment())
    page = work / "_build" / "singlehtml" / "index.html"
    if done.returncode or not page.exists():
        raise BuildError(f"{done.stdout.strip()}\nthe book does not render as one page (see above)")
    return page
