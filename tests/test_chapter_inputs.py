"""A chapter is due again when what it is made from has changed, and at no other time."""

import ast

import nbformat
import pytest

from book._tools.inputs import chapter_key, imported_files, record_kinds
from book._tools.layout import ROOT

MODULES = {
    "splinelib/__init__.py": "from splinelib.scores import score as score",
    "splinelib/scores.py": '"""Scores."""\n\n\ndef score():\n    """Score."""\n    return 1',
    "splinelib/unused.py": "",
    "splinestudy/__init__.py": "",
    "splinestudy/notebook.py": "from splinestudy.plans import plan\n\n\ndef committed_records(kind): ...",
    "splinestudy/plans.py": "def plan():\n    from splinelib import score\n\n    return score()",
    "splinestudy/plots/__init__.py": "from splinestudy.plots.lines import line as line",
    "splinestudy/plots/lines.py": "def line(): ...",
    "book/_tools/chapters.py": "",
    "requirements.lock": "numpy==2.0",
    "records/prune/1.json": "1",
    "records/toy/2.json": "2",
    "benchmarks/results/step_time_cpu.json": "3",
}
READ = "from splinestudy.notebook import committed_records\ncommitted_records({0!r})"
CHAPTERS = {
    "plots": "from splinestudy import plots",
    "lines": "def draw():\n    from splinestudy.plots.lines import line",
    "toy": READ.format("toy"),
    "prune": READ.format("prune"),
    "any": "from splinestudy.runs.committed import committed_store",
    "times": "from splinestudy.notebook import committed_step_times",
}


@pytest.fixture
def project(tmp_path):
    """A tiny copy of this repository's layout."""
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, source in CHAPTERS.items():
        cells = [nbformat.v4.new_code_cell(source, id="only")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
    return tmp_path


def keys(project):
    return {name: chapter_key(project / f"{name}.ipynb", "quick", project) for name in CHAPTERS}


@pytest.mark.parametrize(
    ("file", "text", "stale"),
    [
        ("splinelib/scores.py", '"""Other."""\ndef score():\n    """Other."""  # note\n    return 1', ""),
        ("splinelib/scores.py", "def score():\n    return 2", "toy prune times"),
        ("splinelib/unused.py", "x = 1", ""),
        ("splinestudy/plans.py", "def plan(): ...", "toy prune times"),
        ("splinestudy/plots/lines.py", "def line(): return 1", "plots lines"),
        ("splinestudy/plots/__init__.py", "from splinestudy.plots.lines import line as curve", "plots"),
        ("records/toy/2.json", "changed", "toy any"),
        ("records/toy/new.json", "new", "toy any"),
        ("records/prune/1.json", "changed", "prune any"),
        ("benchmarks/results/step_time_cpu.json", "changed", "times any"),
        ("requirements.lock", "numpy==2.1", " ".join(CHAPTERS)),
        ("book/_tools/chapters.py", "x = 1", " ".join(CHAPTERS)),
    ],
)
def test_chapters_are_stale_when_their_inputs_change(project, file, text, stale):
    before = keys(project)
    (project / file).write_text(text)
    after = keys(project)
    assert {name for name in CHAPTERS if before[name] != after[name]} == set(stale.split())


def test_notebook_profile_and_lost_files_count(project):
    before = keys(project)
    path = project / "toy.ipynb"
    assert chapter_key(path, "smoke", project) != before["toy"]
    (project / "records/toy/2.json").unlink()
    assert keys(project)["toy"] != before["toy"]
    path.write_text(path.read_text().replace("only", "other"))
    after = keys(project)
    assert {name for name in CHAPTERS if before[name] != after[name]} == {"toy", "any"}


@pytest.mark.parametrize(
    ("source", "kinds"),
    [
        (READ.format("toy"), {"toy"}),
        (READ.format("toy") + "\n[committed_records('prune', 'methods') for _ in ()]", {"toy", "prune"}),
        ("from splinestudy.notebook import read_parameters", set()),
        ("import numpy", set()),
        (READ.format("toy") + "\nkind = 'prune'\ncommitted_records(kind)", None),
        (READ.format("toy") + "\nread = committed_records", None),
        ("from splinestudy.notebook import committed_records as read\nread('toy')", None),
        ("from splinestudy import notebook\nnotebook.committed_records('toy')", None),
        ("import splinestudy.notebook\nsplinestudy.notebook.committed_records('toy')", None),
        ("import splinestudy.runs.profiles", None),
        ("from splinestudy.runs import committed", None),
        ("from splinestudy.runs.committed import Study", None),
        ("from splinestudy.runs.records import RecordStore", None),
    ],
)
def test_kinds_are_told_by_literal_calls_alone(source, kinds):
    assert record_kinds(ast.parse(source)) == kinds


def test_no_other_module_opens_the_committed_records():
    """What the rule for kinds rests on."""
    names = {
        path.relative_to(ROOT).as_posix()
        for package in ("splinelib", "splinestudy")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("committed_store", "RecordStore")
    }
    assert names == {
        "splinestudy/__main__.py",
        "splinestudy/notebook.py",
        "splinestudy/runs/committed.py",
        "splinestudy/runs/remote.py",
    }


def test_imports_are_followed_in_this_repository():
    found = {path.relative_to(ROOT).as_posix() for path in imported_files(ast.parse(CHAPTERS["plots"]))}
    assert {"splinestudy/plots/__init__.py", "splinestudy/plots/pruning.py"} <= found
    assert "splinestudy/__main__.py" not in found
    assert "splinelib/partition/engine/kernel.py" in {
        path.relative_to(ROOT).as_posix()
        for path in imported_files(ast.parse("from splinelib.partition import raster"))
    }
