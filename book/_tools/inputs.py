"""What a chapter is made from, and the key that changes when any of it does."""

import ast
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import nbformat

from .layout import ROOT

PACKAGES = ("splinelib", "splinestudy")


def chapter_key(path: Path, profile: str, root: Path = ROOT) -> str:
    """Hash of what a chapter is made from, but for records: notebook, modules, timings, versions, parameters.

    Of modules only what runs counts: neither docstrings nor comments do.
    """
    tree = _cells(path)
    modules = [root / "book/_tools/chapters.py", *sorted(imported_files(tree, root))]
    files = [path, root / "requirements.lock"]
    if f"{PACKAGES[1]}.notebook.committed_step_times" in imported_names(tree):
        files += sorted(root.glob("benchmarks/results/step_time*.json"))
    digests = {file: _digest(file.read_text()) for file in modules}
    digests |= {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    named = [(os.path.relpath(file, root), digest) for file, digest in digests.items()]
    return hashlib.sha256(json.dumps([profile, named]).encode()).hexdigest()


def records_key(names: Iterable[str], root: Path = ROOT) -> str:
    """Hash of the committed records that a run of a chapter asked for."""
    return hashlib.sha256(json.dumps([*read_files(names, root)]).encode()).hexdigest()


def imported_files(tree: ast.AST, root: Path = ROOT) -> set[Path]:
    """Files of the packages under ``root`` that code imports, directly or over a detour, in functions too.

    The file of a package's face counts where a name is taken from the face. That importing a module runs the faces
    above it as well does not matter: importing does no work.
    """
    found: set[Path] = set()
    due = _imports(tree, root)
    while due:
        file = due.pop()
        found.add(file)
        due |= _imports(_parsed(file.read_text()), root) - found
    return found


def script_files(script: Path, root: Path = ROOT) -> list[Path]:
    """The scripts of this folder, which share functions, and what one of them imports of the packages."""
    return [*script.parent.glob("*.py"), *sorted(imported_files(_parsed(script.read_text()), root))]


def _imports(tree: ast.AST, root: Path) -> set[Path]:
    names = [name for name in imported_names(tree) if name.split(".")[0] in PACKAGES]
    return {file for name in names if (file := module_file(name, root)) is not None}


def imported_names(tree: ast.AST) -> Iterator[str]:
    """The dotted name of all that is imported anywhere in code: modules, and names within modules.

    ``import a.b`` gives ``a`` as well, since that is the name that the code then has.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            yield from (alias.name.split(".")[0] for alias in node.names if alias.asname is None)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_file(name: str, root: Path = ROOT) -> Path | None:
    """The file under ``root`` of a dotted name that may end in names within a module; None if there is none."""
    parts = name.split(".")
    while parts:
        place = root.joinpath(*parts)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.exists():
                return file
        parts.pop()
    return None


def read_files(names: Iterable[str], root: Path = ROOT) -> Iterator[tuple[str, str | None]]:
    """Names and digests of what a run asked of the committed records (:data:`splinestudy.runs.store.READS`).

    None stands for what was asked for and is not there; a pattern for all that fits it.
    """
    folder = root / "records"
    for name in sorted(set(names)):
        for file in sorted(folder.glob(name)) if "*" in name else [folder / name]:
            there = file.exists()
            yield (
                f"{name} {file.name}",
                hashlib.sha256(file.read_bytes()).hexdigest() if there else None,
            )


def _cells(path: Path) -> ast.Module:
    """The notebook's code cells as one piece of code, without IPython's magics."""
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    lines = "\n".join(cells).splitlines()
    return ast.parse("\n".join(line for line in lines if not line.lstrip().startswith(("%", "!"))))


@cache
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


@cache
def _digest(source: str) -> str:
    """Hash of what a module does: of its tree without strings that stand alone, such as docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [step for step in body if not _is_docstring(step)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_docstring(step: ast.stmt) -> bool:
    return (
        isinstance(step, ast.Expr)
        and isinstance(step.value, ast.Constant)
        and isinstance(step.value.value, str)
    )
