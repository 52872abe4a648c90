"""One archive of book, records, figures and source, with checksums, to be kept where it gets a DOI."""

import gzip
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from .layout import BUILD, ROOT, BuildError, Layout


def make_release(layout: Layout) -> Path:
    """Write ``build/splinelib-VERSION.tar.gz`` and return it; the tree must be committed and the book rendered."""
    version = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    status = _git("status", "--porcelain")
    if status:
        raise BuildError(f"a release is made from a commit, and there are changes:\n{status}")
    if not (layout.site / "index.html").exists():
        raise BuildError("no book yet: run `make book` first")
    name = f"splinelib-{version}"
    archive = BUILD / f"{name}.tar.gz"
    with (
        gzip.GzipFile(archive, "wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        sums = []
        for place, path in contents(layout):
            content = path.read_bytes()
            sums.append(f"{hashlib.sha256(content).hexdigest()}  {place}")
            _add(tar, f"{name}/{place}", content)
        _add(tar, f"{name}/SHA256SUMS", "\n".join(sums + [""]).encode())
        _add(tar, f"{name}/COMMIT", f"{_git('rev-parse', 'HEAD')}\n".encode())
    return archive


def contents(layout: Layout) -> Iterator[tuple[str, Path]]:
    """Place in the archive and file: the source with its records, the site with its figures, the PDF if it is there."""
    for name in _git("ls-files").splitlines():
        yield f"source/{name}", ROOT / name
    for path in sorted(layout.site.rglob("*")):
        if path.is_file():
            yield f"book/{path.relative_to(layout.site).as_posix()}", path
    if (pdf := BUILD / "book.pdf").exists():
        yield "book.pdf", pdf


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    # The same date for every file: equal content gives an equal archive.
    entry.size, entry.mtime, entry.mode = len(content), 0, 0o644
    tar.addfile(entry, io.BytesIO(content))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()
