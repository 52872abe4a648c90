"""Notebooks run through papermill; what they leave behind are the chapters of the book."""

import ast
import base64
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nbformat
from nbformat import NotebookNode

from splinelib.checks import count_cores
from splinestudy.runs.store import READS

from .inputs import chapter_key, records_key
from .layout import NOTEBOOKS, ROOT, BuildError, Layout, shown
from .parallel import Task, count_jobs, run_all
from .pictures import keep_figures, small_png

Parameters = dict[str, Any]

# They start first, so that at the end no core waits for them.
LONGEST = (
    "09_savings",
    "08_own_network",
    "01_partition",
    "03_early_bird",
    "10_verdicts",
    "06_reading",
    "04_layerwise_pruning",
)

# A kernel's own log warns about TCP, though all stays on this machine, and ends in a traceback when it is interrupted.
# Several kernels would write into one history.
KERNEL = ["--IPKernelApp.log_level=50", "--HistoryManager.enabled=False"]


def find_chapters(prefix: str = "") -> list[Path]:
    """The committed notebooks whose file name starts with ``prefix``, in the order of the book."""
    found = sorted(NOTEBOOKS.glob(f"{prefix}*.ipynb"))
    if prefix and not found:
        names = ", ".join(path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))) or "none"
        raise BuildError(f"NOTEBOOK={prefix}: no notebook starts with that; there are: {names}")
    return found


def due_chapters(notebooks: Iterable[Path], layout: Layout, profile: str) -> list[Path]:
    """Those of ``notebooks`` whose result is missing or was made from something else than what is here now."""
    return [path for path in notebooks if not _is_current(path, layout, profile)]


def run_chapters(
    notebooks: Iterable[Path],
    layout: Layout,
    profile: str,
    jobs: int | None = None,
    beside: Mapping[str, Task] = MappingProxyType({}),
) -> None:
    """Run the notebooks, ``jobs`` at a time or as many as the machine bears, and keep every one that finishes.

    Other tasks, by name, can be done ``beside`` them.
    Raises BuildError at the end, naming notebook, cell and error of each that failed.
    """
    notebooks = list(notebooks)
    jobs = count_jobs(len(notebooks), jobs)
    threads = max(1, count_cores() // jobs)
    # The bars of several notebooks would overwrite each other.
    live = jobs == 1 and sys.stderr.isatty()
    if notebooks:
        print(f"{len(notebooks)} chapters to run at profile {profile}, {jobs} at a time", flush=True)
    notebooks.sort(key=lambda path: LONGEST.index(path.stem) if path.stem in LONGEST else len(LONGEST))
    tasks = {path.stem: partial(_run, path, layout, profile, threads, live) for path in notebooks}
    failures = run_all({**beside, **tasks}, jobs)
    if failures:
        raise BuildError(f"{len(failures)} of the notebooks failed:\n" + "\n".join(failures.values()))


def stage_unrun(notebooks: Iterable[Path], layout: Layout) -> list[str]:
    """Show chapters that have no result at all as bare notebooks with a note; return their names."""
    names = []
    for path in notebooks:
        target = layout.results / path.name
        if target.exists() and "splinelib" in _read(target).metadata:
            continue
        notebook = _read(path)
        note = (
            f":::{{warning}}\nNot run here yet: `make book NOTEBOOK={path.stem[:2]}` fills this chapter.\n:::"
        )
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(note, id="not-run"))
        _write(notebook, target)
        names.append(path.stem)
    return names


def _run(path: Path, layout: Layout, profile: str, threads: int, live: bool) -> str | None:
    """Run one notebook, in a process of its own since it sets variables; return what went wrong, or None."""
    import papermill  # slow to import, and a build in which nothing is due does not need it

    folder = layout.running / path.stem
    shutil.rmtree(folder, ignore_errors=True)
    figures, draft = folder / "figures", folder / path.name
    figures.mkdir(parents=True)
    _prepare(layout, figures, threads)
    reads = os.environ[READS] = str(folder / "reads")
    parameters = _changed(path, {"profile": profile})
    # The key is taken before the run: a file edited meanwhile makes the result stale, as it should.
    key = chapter_key(path, profile)
    try:
        done = papermill.execute_notebook(
            path,
            draft,
            parameters,
            cwd=ROOT,
            progress_bar=live,
            stderr_file=sys.stderr if live else None,
            extra_arguments=KERNEL,
        )
    except papermill.PapermillExecutionError as error:
        return _describe(path, error, draft)
    _clean(done, path.stem)
    done.metadata["splinelib"] = {
        "key": key,
        "profile": profile,
        "figures": keep_figures(figures, layout.figures),
    }
    names = Path(reads).read_text() if Path(reads).exists() else ""
    done.metadata["splinelib"]["records"] = records_key(names.splitlines())
    _write(done, layout.results / path.name)
    _reads(path, layout).write_text(names)
    shutil.rmtree(folder)
    return None


def _prepare(layout: Layout, figures: Path, threads: int) -> None:
    """Set the variables for a kernel. Its figures go to a folder of their own, which tells whose they are."""
    os.environ.update(layout.environment() | {"SPLINELIB_FIGURES": str(figures)})
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    Path(os.environ["IPYTHONDIR"]).mkdir(parents=True, exist_ok=True)  # IPython warns where it is missing


def _describe(path: Path, error: Any, draft: Path) -> str:
    source = error.source.strip().splitlines() or [""]
    return (
        f"{path.name}, cell [{error.exec_count}] (`{source[0]}`): {error.ename}: {error.evalue}\n"
        f"  the notebook as far as it ran: {shown(draft)}"
    )


def _changed(path: Path, wanted: Parameters) -> Parameters:
    """Those of the wanted parameters that differ from the notebook's own values."""
    defaults = read_parameters(_read(path))
    return {name: value for name, value in wanted.items() if defaults.get(name) != value}


def read_parameters(notebook: NotebookNode) -> Parameters:
    """Names and literal values of the cell tagged ``parameters``; empty if there is none."""
    values = {}
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


def _clean(notebook: NotebookNode, stem: str) -> None:
    """Take out what differs between two runs, or names a folder of this machine."""
    notebook.metadata.pop("papermill", None)
    for number, cell in enumerate(notebook.cells, 1):
        cell["id"] = f"{stem}-{number:02d}"
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "fold" in cell.metadata.get("tags", []):
            cell.source = "{.fold}\n" + cell.source  # to be opened by who wants it: book/_ext/folds.py
        if cell.cell_type == "code":
            # Code is one click away; who reads for the findings is not kept waiting by it. A how-to shows it.
            tags = {*cell.metadata.get("tags", [])}
            cell.metadata["tags"] = sorted(
                tags if tags & {"remove-input", "show-input"} else tags | {"hide-input"}
            )
            # Progress bars and their timings go to standard error; the page shows results only.
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                _steady(output.get("data", {}), cell["id"])
                _shrink(output.get("data", {}))


def _steady(data: dict[str, Any], name: str) -> None:
    """Replace the random id that pandas gives to a styled table, and addresses in the text beside it."""
    html = data.get("text/html", "")
    if found := re.search(r'<table id="(T_\w+)"', html):
        data["text/html"] = html.replace(found[1], f"T_{name}")
    if "text/plain" in data:
        data["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", data["text/plain"])


def _shrink(data: dict[str, Any]) -> None:
    if picture := data.get("image/png"):
        data["image/png"] = base64.b64encode(small_png(base64.b64decode(picture))).decode()


def _is_current(path: Path, layout: Layout, profile: str) -> bool:
    target = layout.results / path.name
    if not target.exists():
        return False
    made = _read(target).metadata.get("splinelib", {})
    present = all((layout.figures / name).exists() for name in made.get("figures", []))
    if not (present and _reads(path, layout).exists() and made.get("key") == chapter_key(path, profile)):
        return False
    return made.get("records") == records_key(_reads(path, layout).read_text().splitlines())


def _reads(path: Path, layout: Layout) -> Path:
    """The names of the committed records that a chapter's last run asked for."""
    return layout.results / f"{path.stem}.reads"


def _read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def _write(notebook: NotebookNode, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    os.replace(temporary, path)
