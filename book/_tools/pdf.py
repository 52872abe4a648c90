"""The whole book as one PDF, printed by a browser from one long page."""

from pathlib import Path

from .layout import BUILD, Layout
from .render import jupyter_book
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
    made = jupyter_book(
        layout, "pdf", "singlehtml", ["--builder", "custom", "--custom-builder", "singlehtml"]
    )
    return made / "index.html"
