"""A chapter is due again when what it is made from has changed, and at no other time."""

import ast

import nbformat
import pytest
from tiny_runs import tiny_plan

from book._tools.inputs import chapter_key, imported_files, records_key
from book._tools.layout import ROOT
from splinestudy.runs.records import run_key
from splinestudy.runs.store import READS, RecordStore

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
CHAPTERS = {
    "plots": "from splinestudy import plots",
    "lines": "def draw():\n    from splinestudy.plots.lines import line",
    "records": "from splinestudy.notebook import committed_records",
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
        ("splinelib/scores.py", "def score():\n    return 2", "records times"),
        ("splinelib/unused.py", "x = 1", ""),
        ("splinestudy/plans.py", "def plan(): ...", "records times"),
        ("splinestudy/plots/lines.py", "def line(): return 1", "plots lines"),
        ("splinestudy/plots/__init__.py", "from splinestudy.plots.lines import line as curve", "plots"),
        ("benchmarks/results/step_time_cpu.json", "changed", "times"),
        ("requirements.lock", "numpy==2.1", " ".join(CHAPTERS)),
        ("book/_tools/chapters.py", "x = 1", " ".join(CHAPTERS)),
    ],
)
def test_chapters_are_stale_when_their_inputs_change(project, file, text, stale):
    before = keys(project)
    (project / file).write_text(text)
    after = keys(project)
    assert {name for name in CHAPTERS if before[name] != after[name]} == set(stale.split())


def test_notebook_and_profile_count(project):
    before = keys(project)
    path = project / "records.ipynb"
    assert chapter_key(path, "smoke", project) != before["records"]
    path.write_text(path.read_text().replace("only", "other"))
    after = keys(project)
    assert {name for name in CHAPTERS if before[name] != after[name]} == {"records"}


@pytest.mark.parametrize(
    ("file", "text", "stale"),
    [
        ("toy/2.json", "changed", True),  # was read
        ("toy/2.json", None, True),
        ("prune/1.json", "changed", False),  # was not
        ("prune/3.json", "new", True),  # was asked for when it was not there
        ("prune/4.json", "new", False),
        ("dense/5.json", "new", True),  # all of its kind were
    ],
)
def test_a_chapter_is_stale_when_a_record_that_it_asked_for_changes(project, file, text, stale):
    asked = ["toy/2.json", "prune/3.json", "dense/*.json"]
    before = records_key(asked, project)
    assert records_key([*asked[::-1], asked[0]], project) == before
    path = project / "records" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text) if text else path.unlink()
    assert (records_key(asked, project) != before) == stale


def test_a_store_of_others_notes_what_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv(READS, str(tmp_path / "reads"))
    monkeypatch.setattr("splinestudy.runs.store._NOTED", set())
    run, other = tiny_plan()[:2]
    RecordStore(tmp_path).load(run)
    assert not (tmp_path / "reads").exists()
    store = RecordStore(tmp_path, readonly=True)
    store.load(run)
    store.load(run)
    store.load_all("prune")
    assert (tmp_path / "reads").read_text().splitlines() == [f"dense/{run_key(run)}.json", "prune/*.json"]
    assert run_key(other) not in (tmp_path / "reads").read_text()


def test_imports_are_followed_in_this_repository():
    found = {path.relative_to(ROOT).as_posix() for path in imported_files(ast.parse(CHAPTERS["plots"]))}
    assert {"splinestudy/plots/__init__.py", "splinestudy/plots/pruning.py"} <= found
    assert "splinestudy/__main__.py" not in found
    assert "splinelib/partition/engine/kernel.py" in {
        path.relative_to(ROOT).as_posix()
        for path in imported_files(ast.parse("from splinelib.partition import raster"))
    }
