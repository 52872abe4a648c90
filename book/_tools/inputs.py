"""What a chapter is made from, and the key that changes when any of it does."""

import ast
import hashlib
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nbformat

from .layout import ROOT

PACKAGES = ("splinelib", "splinestudy")

_NOTEBOOK = "splinestudy.notebook"
# A notebook that has one of these by name, or a name from one of the first four, may read any record.
_STORES = (
    "splinestudy.runs.committed",
    "splinestudy.runs.provenance",
    "splinestudy.runs.records",
    "splinestudy.runs.remote",
    "splinestudy.runs",
    "splinestudy",
    _NOTEBOOK,
)


def chapter_key(path: Path, profile: str, root: Path = ROOT) -> str:
    """Hash of all that a chapter is made from: notebook, modules, records, versions, parameters.

    Of modules only what runs counts: neither docstrings nor comments do.
    """
    tree = _cells(path)
    modules = [root / "book/_tools/chapters.py", *sorted(imported_files(tree, root))]
    files = [path, root / "requirements.lock", *sorted(data_files(tree, root))]
    digests = {file: _digest(file.read_text()) for file in modules}
    digests |= {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    named = [(os.path.relpath(file, root), digest) for file, digest in digests.items()]
    return hashlib.sha256(json.dumps([profile, named]).encode()).hexdigest()


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


def data_files(tree: ast.AST, root: Path = ROOT) -> set[Path]:
    """Committed files that a notebook's code can read: records of the kinds that it names, or all; timings."""
    kinds = record_kinds(tree)
    folders = ["*"] if kinds is None else sorted(kinds)
    found = {file for kind in folders for file in root.glob(f"records/{kind}/*.json")}
    if kinds is None or f"{_NOTEBOOK}.committed_step_times" in imported_names(tree):
        found |= set(root.glob("benchmarks/results/step_time*.json"))
    return found


def record_kinds(tree: ast.AST) -> set[str] | None:
    """Kinds of the committed records that a notebook's code reads; None where its source does not tell.

    It tells if records come from nothing but calls of ``committed_records`` whose first argument is a literal.
    """
    names = set(imported_names(tree))
    if any(name in _STORES or name.rpartition(".")[0] in _STORES[:4] for name in names):
        return None
    if f"{_NOTEBOOK}.committed_records" not in names:
        return set()
    mentions = [node for node in ast.walk(tree) if _is_reader(node)]
    kinds = [
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _is_reader(node.func) and node.args
        if isinstance(node.args[0], ast.Constant)
    ]
    return set(kinds) if 0 < len(kinds) == len(mentions) else None  # 0 under another name


def _is_reader(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "committed_records"


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
