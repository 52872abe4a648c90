"""The pipeline's command line; the Makefile is its only intended caller."""

import argparse
import http.server
import os
import shutil
import signal
import subprocess
import sys
import webbrowser
from functools import partial

from .chapters import due_chapters, find_chapters, run_chapters, stage_unrun
from .check_site import check_site
from .layout import BOOK, BUILD, ROOT, TEST, BuildError, Layout, shown
from .npm import install_mathjax
from .pages import write_pages
from .pdf import make_pdf
from .release import make_release
from .render import render, report, stage
from .shots import take_shots

# Fetched before any notebook starts, so that a missing network shows at once and not inside a cell.
DATA = ("cifar10",)


def build_book(profile: str, prefix: str, jobs: int | None) -> None:
    """Run what is due, then render. Chapters outside ``prefix`` are shown as they last were."""
    install_mathjax(BOOK)
    write_pages(BOOK)
    due = due_chapters(find_chapters(prefix), BOOK, profile)
    if due and profile != "smoke":
        fetch_data()
    run_chapters(due, BOOK, profile, jobs)
    unrun = stage_unrun(find_chapters(), BOOK)
    if unrun:
        print(f"not run yet: {', '.join(unrun)}; references to their figures cannot be checked")
    report(render(BOOK, strict=not unrun))


def test_book() -> None:
    """Run every notebook at profile smoke and render the book from scratch, both apart from the real ones."""
    shutil.rmtree(BUILD / "test", ignore_errors=True)
    install_mathjax(BOOK)
    stage(TEST, BOOK)
    run_chapters(find_chapters(), TEST, "smoke", beside={"pages": partial(write_pages, TEST)})
    check_site(render(TEST).parent)


def fetch_data() -> None:
    """Get the data sets that the chapters load."""
    for name in DATA:
        if subprocess.run([sys.executable, "-m", "splinestudy", "data", name], cwd=ROOT).returncode:
            raise BuildError(f"data set {name} cannot be had (see above)")


def serve(layout: Layout, port: int) -> None:
    """Serve the rendered site on this machine only, until interrupted."""
    if not (layout.site / "index.html").exists():
        raise BuildError("no book yet: run `make book` first")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=layout.site)
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise BuildError(
            f"port {port} cannot be used ({error.strerror}): try `make serve PORT=8001`"
        ) from error
    with server:
        address = f"http://localhost:{server.server_port}/"
        print(f"The book: {address} (Ctrl-C stops)", flush=True)
        if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
            webbrowser.open(address)
        server.serve_forever()


def main() -> int:
    """Parse the command line and run; errors of the build end in one message and status 1."""
    parser = argparse.ArgumentParser(prog="python -m book._tools", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    book = verbs.add_parser("book", help="run due notebooks and render")
    book.add_argument("--profile", default="quick")
    book.add_argument("--notebook", default="", help="only the notebooks whose name starts with this")
    book.add_argument(
        "--jobs", type=int, help="notebooks at a time (default: by cores and free memory, at most 4)"
    )
    verbs.add_parser("test", help="all notebooks at profile smoke, rendered and checked apart")
    verbs.add_parser("shots", help="a picture of every page of the rendered book")
    verbs.add_parser("pdf", help="the whole book as one PDF")
    verbs.add_parser("release", help="one archive of book, records, figures and source")
    verbs.add_parser("serve", help="open the rendered book").add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    # Whoever ends the build ends its notebooks too, just as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.verb == "book":
            build_book(options.profile, options.notebook, options.jobs)
        elif options.verb == "test":
            test_book()
        elif options.verb == "shots":
            take_shots(BOOK.site, BUILD / "shots")
        elif options.verb == "pdf":
            print(shown(make_pdf(BOOK)))
        elif options.verb == "release":
            print(shown(make_release(BOOK)))
        else:
            serve(BOOK, options.port)
    except BuildError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; finished notebooks are kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
