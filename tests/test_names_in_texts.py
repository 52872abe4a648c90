"""Dotted names of the project in the book's texts: what they name is there."""

import importlib
import json
import re

import pytest

from book._tools.layout import BOOK, ROOT

TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(BOOK.source.rglob("*.md"))]
MODULES = [
    path
    for name in ("splinelib", "splinestudy", "benchmarks")
    for path in sorted((ROOT / name).rglob("*.py"))
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAME = re.compile(r"(?<![\w/.])(spline(?:lib|study)(?:\.\w+)+)")


def names_in(text):
    return {name.rstrip(".") for name in NAME.findall(text) if not name.endswith((".md", ".py", ".ipynb"))}


def exists(name):
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        try:
            for part in parts[count:]:
                found = getattr(found, part)
        except AttributeError:
            return False
        return True
    return False


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_texts_name_what_there_is(path):
    if BOOK.results in path.parents:
        return  # generated
    assert [name for name in sorted(names_in(path.read_text())) if not exists(name)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_prose_of_notebooks_names_what_there_is(path):
    cells = json.loads(path.read_text())["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert [name for name in sorted(names_in(prose)) if not exists(name)] == []


def test_modules_name_what_there_is():
    wrong = {path.name: [name for name in names_in(path.read_text()) if not exists(name)] for path in MODULES}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_a_name_that_there_is_not_is_found():
    assert names_in("see `splinelib.pruning.prune`, splinestudy/runs/run.py") == {"splinelib.pruning.prune"}
    assert exists("splinelib.pruning.prune")
    assert not exists("splinelib.winning")
    assert not exists("splinelib.pruning.pack")
