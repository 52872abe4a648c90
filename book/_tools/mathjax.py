"""MathJax beside the book, so that formulas need no request to anywhere."""

import hashlib
import os
import tarfile
import tempfile
from pathlib import Path

from .layout import BuildError, Layout, shown

NAME, VERSION = "mathjax", "3.2.2"
MEMBER = "package/es5/tex-svg-full.js"
SHA256 = "a4354ff94fd868aea0cc6eaaa79a57fda0588646fc46ee3700a349ee0a11cbe6"


def install_mathjax(layout: Layout) -> None:
    """Put the checked ``tex-svg-full.js`` into the book; does nothing where it already is."""
    target = layout.mathjax / "tex-svg-full.js"
    if target.exists() and _digest(target.read_bytes()) == SHA256:
        return
    print(f"getting {NAME} {VERSION} through npm", flush=True)
    try:
        content = _download()
    except Exception as error:
        remedy = f"or take {MEMBER} of {NAME} {VERSION} from elsewhere and put it at {shown(target)}"
        raise BuildError(f"no MathJax: {error}\n{remedy}") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, target)


def _download() -> bytes:
    # Imported here since it brings torch along, which a build that has MathJax already does not need.
    from splinestudy.data.sources import npm_package

    with tempfile.TemporaryDirectory() as folder:
        archive = npm_package(NAME, VERSION).fetch(Path(folder))
        with tarfile.open(archive) as tar:
            content = tar.extractfile(MEMBER).read()
    if _digest(content) != SHA256:
        raise BuildError(f"{MEMBER} has SHA-256 {_digest(content)}, expected {SHA256}")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
