"""Where the pipeline reads and writes, and how long-running steps report."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
NOTEBOOKS = ROOT / "notebooks"
# Dates inside generated files (SVG, PDF) would make every run differ. July 2022 is when the paper appeared.
SOURCE_DATE_EPOCH = "1656633600"


class BuildError(Exception):
    """The book cannot be built; the message is all that the user needs to see."""


@dataclass(frozen=True)
class Layout:
    """One Sphinx source folder with the folders that belong to it."""

    source: Path
    site: Path
    store: Path
    data: Path | None = None
    formats: str = "svg png pdf"

    @property
    def results(self) -> Path:
        """Executed notebooks, which are the chapters."""
        return self.source / "results"

    @property
    def figures(self) -> Path:
        """Downloadable figures; the site serves them under ``figures/``."""
        return self.source / "_extra" / "figures"

    @property
    def running(self) -> Path:
        """One folder for each notebook that runs, or that failed."""
        return self.site.with_name("running")

    @property
    def mathjax(self) -> Path:
        """The folder with the local MathJax."""
        return self.source / "_extra" / "mathjax"

    def environment(self) -> dict[str, str]:
        """Variables for everything that runs on behalf of this book."""
        data = {"SPLINELIB_DATA": str(self.data)} if self.data else {}
        return data | {
            "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH") or SOURCE_DATE_EPOCH,
            "SPLINELIB_FIGURES": str(self.figures),
            "SPLINELIB_FORMATS": self.formats,
            "SPLINELIB_STORE": str(self.store),
            # The kernel is the one of this environment, started without the user's own IPython settings.
            "JUPYTER_PREFER_ENV_PATH": "1",
            "IPYTHONDIR": str(BUILD / "ipython"),
        }


BOOK = Layout(
    source=ROOT / "book",
    site=BUILD / "site",
    store=Path(os.environ.get("SPLINELIB_STORE") or ROOT / "runs").absolute(),
)
# The tests compute everything anew and see no data set that was downloaded before.
TEST = Layout(
    source=BUILD / "test" / "book",
    site=BUILD / "test" / "site",
    store=BUILD / "test" / "runs",
    data=BUILD / "test" / "data",
    formats="png",
)


def is_current(made: Sequence[Path], sources: Sequence[Path]) -> bool:
    """Whether all files of ``made`` are there and newer than all ``sources``."""
    if not all(path.exists() for path in made):
        return False
    return min(path.stat().st_mtime for path in made) > max(path.stat().st_mtime for path in sources)


def shown(path: Path) -> str:
    """``path`` relative to the repository's root, as messages show it."""
    return os.path.relpath(path, ROOT)
