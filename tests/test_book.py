"""The notebooks' and the book's house rules, and the pipeline that turns one into the other."""

import ast
import importlib.util
import multiprocessing
import operator
import os
import re
import signal
import sys
import threading
import time
import tokenize
import tomllib
from functools import partial
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from docutils import nodes
from IPython.core.inputtransformer2 import TransformerManager

from book._tools import parallel, teaser
from book._tools.chapters import LONGEST, due_chapters, read_parameters, run_chapters, stage_unrun
from book._tools.check_site import find_problems
from book._tools.layout import BOOK, ROOT, BuildError, Layout
from book._tools.lengths import find_long, measure
from book._tools.parallel import count_jobs, run_all
from splinestudy.runs.profiles import PROFILES

sys.path.append(str(BOOK.source / "_ext"))
import footer
from folds import fold
from repairs import escape_docstring, escape_line

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def python(cell):
    """The cell's source without IPython magics."""
    return "\n".join(line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!")))


# --- notebooks ----------------------------------------------------------------------------------------------------


@each_notebook
def test_notebook_is_committed_without_outputs(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    for cell in code_cells(path):
        assert cell.outputs == []
        assert cell.execution_count is None


@each_notebook
def test_notebook_has_one_parameters_cell_of_commented_literals(path):
    cells = code_cells(path)
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == cells[:1]
    source = tagged[0].source
    assigned = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    assert len(assigned) == len(ast.parse(source).body) > 0
    for node in assigned:
        ast.literal_eval(node.value)
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    commented = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    assert {node.end_lineno for node in assigned} <= commented
    assert "profile" in read_parameters(nbformat.read(path, as_version=4))


@each_notebook
def test_notebook_defines_no_class_and_no_long_function(path):
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(python(cell))):
            assert not isinstance(node, ast.ClassDef)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 10, node.name


@each_notebook
def test_notebook_figures_have_caption_name_and_alt(path):
    for cell in code_cells(path):
        if "save_figure(" in cell.source:
            settings = cell.metadata["mystnb"]
            assert settings["figure"]["caption"]
            assert settings["image"]["alt"]
            assert f'"{settings["figure"]["name"]}"' in cell.source


class _Shell:
    """Stands in for IPython: keeps what a magic was asked to do."""

    def __init__(self):
        self.asked = []

    def run_line_magic(self, name, line, **_):
        self.asked.append((name, line))


def test_notebook_opened_alone_installs_its_clone_or_says_what_to_do(tmp_path, monkeypatch):
    (source,) = {code_cells(path)[1].source for path in NOTEBOOKS}
    code, shell = TransformerManager().transform_cell(source), _Shell()
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(code, {"get_ipython": lambda: shell})
    assert shell.asked == []  # it is here

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="clone the repository"):
        exec(code, {"get_ipython": lambda: shell})

    (tmp_path / "notebooks").mkdir()
    (tmp_path / "splinestudy").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    exec(code, {"get_ipython": lambda: shell, "_clone": str(tmp_path)})
    ((name, line),) = shell.asked
    assert name == "pip"
    assert line.startswith("install --quiet --editable")
    assert sys.path[-1] == str(tmp_path)


# What may hold a digit without being a result: names, claims, formulas, code, where links lead.
NAMES = re.compile(
    r"```.*?```|`[^`]*`|\$[^$]*\$|\]\([^)]*\)|\b(?:VGG|PreResNet|ResNet|CIFAR|LeNet)-\d+\b|×\d+(?:/\d+)?|\b[CL]\d\b",
    re.DOTALL,
)


def discussion(path):
    """The text under the heading of that name, up to the next one; empty without it."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return next(
        (part for part in re.split(r"^## ", text, flags=re.MULTILINE) if part.startswith("Discussion")), ""
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "path",
    [path for path in NOTEBOOKS if "records" in read_parameters(nbformat.read(path, as_version=4))],
    ids=lambda path: path.stem,
)
def test_chapters_run_on_a_folder_without_records(path, tmp_path):
    """As they do for who keeps a store of their own that is still empty, or holds one study only."""
    import papermill  # slow to import

    parameters = {"profile": "smoke", "records": str(tmp_path / "records")}
    (tmp_path / "records").mkdir()
    papermill.execute_notebook(path, tmp_path / path.name, parameters, cwd=ROOT, progress_bar=False)


@each_notebook
def test_discussions_hold_no_number_that_no_cell_computed(path):
    typed = re.findall(r"\d[\d.,]*", NAMES.sub("", discussion(path)))
    assert typed == [], f"{path.name}: compute these in a cell, or leave them to figures and tables"


# Levels of confidence and quantiles, and the margin of a rule: they define, and no record gives them.
DEFINED = re.compile(r"\b9[05] %|margin [\d.]+ points|(?:above|below) [+−-]?[\d.]+ points")
MEASURED = re.compile(r"\d[\d.,]* ?%|\d+\.\d+ points|\b(?:three|four|five|six|ten) points\b")


@each_notebook
def test_text_holds_no_share_or_difference_that_no_cell_computed(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    typed = [
        found for cell in cells for found in MEASURED.findall(DEFINED.sub("", NAMES.sub("", cell.source)))
    ]
    assert typed == [], f"{path.name}: compute these in a cell"


def test_typed_numbers_would_be_found():
    text = "VGG-16 ×1/8 on CIFAR-10 loses 3.5 points at `0.5` ([C5](04_x.ipynb)), $d < 2$, by 40 %"
    assert re.findall(r"\d[\d.,]*", NAMES.sub("", text)) == ["3.5", "40"]


# --- the book's source --------------------------------------------------------------------------------------------


def toc_files():
    toc = yaml.safe_load((BOOK.source / "_toc.yml").read_text())
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    chapters += [section for chapter in chapters for section in chapter.get("sections", ())]
    return [toc["root"], *(chapter["file"] for chapter in chapters)]


def test_toc_and_files_agree():
    pages = {path.relative_to(BOOK.source).with_suffix("").as_posix() for path in BOOK.source.rglob("*.md")}
    results = {f"results/{path.stem}" for path in NOTEBOOKS}
    assert sorted(toc_files()) == sorted(pages | results)


def test_texts_name_notebooks_that_exist():
    for path in [ROOT / "README.md", *BOOK.source.rglob("*.md")]:
        for name in re.findall(r"notebooks/\w+\.ipynb", path.read_text()):
            assert (ROOT / name).exists(), f"{path.name} names {name}"


def test_every_path_in_the_guide_for_contributors_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`([\w./]*/[\w./]*|[\w.]+\.\w+)`", text)
    assert len(named) > 40
    assert [name for name in named if not (ROOT / name).exists()] == []
    for package in ("splinelib", "splinestudy"):  # the map has every folder of either
        folders = {path.parent for path in (ROOT / package).glob("*/__init__.py")}
        assert {f"{path.relative_to(ROOT).as_posix()}/" for path in folders} <= set(named)


def test_the_foot_of_a_page_names_version_and_commit(monkeypatch):
    for commit, clean, words in (
        ("1234567890", True, "commit <code>1234567</code>.</p>"),
        ("1234567890", False, "changes that are not committed"),
        (None, None, f"Version {version('splinelib')}.</p>"),
    ):
        monkeypatch.setattr(footer, "source_commit", lambda found=(commit, clean): found)
        config = SimpleNamespace(html_theme_options={"kept": 1})
        footer._add_version(None, config)
        assert words in config.html_theme_options["extra_footer"]
        assert config.html_theme_options["kept"] == 1


def test_texts_name_extras_that_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = [ROOT / "README.md", *BOOK.source.rglob("*.md"), *(ROOT / "splinelib").rglob("*.py")]
    named = {name for path in texts for name in re.findall(r'"\.\[(\w+)\]"', path.read_text())}
    assert {"prune", "study"} <= named <= set(extras)


def test_the_page_lists_the_profiles():
    page = (BOOK.source / "reproducing.md").read_text()
    assert sorted(re.findall(r"^\* - \*(\w+)\*$", page, re.MULTILINE)) == sorted(PROFILES)


@pytest.mark.parametrize(
    ("written", "escaped"),
    [
        ("Δ = |b − b'|, ``|kept|``", r"Δ = \|b − b'\|, ``|kept|``"),
        ("[side², *image shape]", r"[side², \*image shape]"),
        ("*better* if wholly above", "*better* if wholly above"),
        ("* ``cifar10``: |x|", r"* ``cifar10``: \|x\|"),
        ("see :func:`a_b_` and w_", r"see :func:`a_b_` and w\_"),
    ],
)
def test_docstring_lines_are_escaped(written, escaped):
    assert escape_line(written) == escaped


def test_examples_in_docstrings_are_kept_as_they_are():
    lines = ["The norm |x|.", "", ">>> f(*parts) | 2", "x_", "", "|x|"]
    escape_docstring(None, "function", "f", None, None, lines)
    assert lines == [r"The norm \|x\|.", "", ">>> f(*parts) | 2", "x_", "", r"\|x\|"]


# --- the pipeline -------------------------------------------------------------------------------------------------


def write_notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell('profile = "quick"  # size', metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "book", tmp_path / "build" / "site", tmp_path / "store")


def test_chapters_run_once_and_failures_are_named(tmp_path, layout, capsys):
    figure = 'import os; open(os.environ["SPLINELIB_FIGURES"] + "/fig-x.svg", "w").close()'
    noise = 'import sys; print("bar", file=sys.stderr); print(profile)'
    table = "import pandas as pd; pd.DataFrame([1]).style"  # has a random id
    good = write_notebook(tmp_path / "01_good.ipynb", noise, figure, table)
    bad = write_notebook(tmp_path / "02_bad.ipynb", "print(1)", "total = 1 / 0")
    with pytest.raises(BuildError, match=r"02_bad.ipynb, cell \[.\] \(`total = 1 / 0`\): ZeroDivisionError"):
        run_chapters([bad, good], layout, "smoke")

    # The one that failed did not keep the other from running, and is the only one still due.
    assert due_chapters([good, bad], layout, "smoke") == [bad]
    assert due_chapters([good], layout, "quick") == [good]
    result = nbformat.read(layout.results / "01_good.ipynb", as_version=4)
    outputs = [output for cell in result.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.text for output in outputs if output.output_type == "stream"] == ["smoke\n"]
    assert str(tmp_path) not in nbformat.writes(result)
    assert "papermill" not in nbformat.writes(result)

    first = (layout.results / "01_good.ipynb").read_bytes()
    run_chapters([good], layout, "smoke")
    assert (layout.results / "01_good.ipynb").read_bytes() == first

    (layout.figures / "fig-x.svg").unlink()
    assert due_chapters([good], layout, "smoke") == [good]
    capsys.readouterr()


def test_chapters_run_side_by_side(tmp_path, layout, monkeypatch, capsys):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(7), raising=False)
    figure = (
        'import os; figures = os.environ["SPLINELIB_FIGURES"]; open(f"{figures}/fig-%s.svg", "w").close()'
    )
    threads = 'print(os.environ["OMP_NUM_THREADS"], os.environ["NUMBA_NUM_THREADS"])'
    # Neither ends well unless the other has begun.
    meet = """
import time
from pathlib import Path
Path("{0}").touch()
latest = time.monotonic() + 60
while not Path("{1}").exists():
    assert time.monotonic() < latest
    time.sleep(0.05)
"""
    mine, others = tmp_path / "first", tmp_path / "second"
    first = write_notebook(
        tmp_path / "01_first.ipynb", figure % "a", meet.format(mine, others), figure % "b", threads
    )
    second = write_notebook(tmp_path / "02_second.ipynb", meet.format(others, mine), figure % "c")
    run_chapters([first, second], layout, "smoke", jobs=2)

    results = [nbformat.read(layout.results / path.name, as_version=4) for path in (first, second)]
    assert [result.metadata["splinelib"]["figures"] for result in results] == [
        ["fig-a.svg", "fig-b.svg"],
        ["fig-c.svg"],
    ]
    assert results[0].cells[-1].outputs[0].text == "3 3\n"
    assert sorted(path.name for path in layout.figures.glob("*.svg")) == [
        "fig-a.svg",
        "fig-b.svg",
        "fig-c.svg",
    ]
    assert list(layout.running.iterdir()) == []
    assert capsys.readouterr().out.startswith(
        "2 chapters to run at profile smoke, 2 at a time\n01_first: started"
    )


def test_longest_chapters_are_chapters():
    assert set(LONGEST) < {path.stem for path in NOTEBOOKS}


def interrupt_when(condition):
    """Press Ctrl-C once the condition holds; what another test left for that signal does not matter."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def watch():
        while not condition():
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def _is_there(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_interruption_stops_chapters_and_kernels(tmp_path, layout, capsys):
    # Written first, renamed then: a file that is there holds the number.
    note = "import os\nopen('{0}.new', 'w').write(str(os.getpid()))\nos.rename('{0}.new', '{0}')"
    files = [tmp_path / "first", tmp_path / "second"]
    paths = [
        write_notebook(tmp_path / f"0{number}.ipynb", note.format(file), "import time; time.sleep(120)")
        for number, file in enumerate(files)
    ]
    interrupt_when(lambda: all(file.exists() for file in files))
    with pytest.raises(KeyboardInterrupt):
        run_chapters([*paths, tmp_path / "never.ipynb"], layout, "smoke", jobs=2)
    assert multiprocessing.active_children() == []
    # A kernel that has ended is still known until the system has cleared it away.
    deadline = time.monotonic() + 10
    while any(_is_there(int(file.read_text())) for file in files) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_is_there(int(file.read_text())) for file in files)
    assert "never" not in capsys.readouterr().out


def test_tasks_that_fail_or_die_keep_no_other_from_running(capsys):
    tasks = {
        "dies": partial(os._exit, 9),
        "breaks": partial(operator.truediv, 1, 0),
        "says": partial(str.upper, "no"),
        "works": partial(time.sleep, 0),
    }
    assert run_all(tasks, jobs=1) == {
        "dies": "dies: its process died",
        "breaks": "breaks: ZeroDivisionError: division by zero",
        "says": "NO",
    }
    said = re.sub(r"\d+ s", "0 s", capsys.readouterr().out).splitlines()
    assert said == [
        "dies: started",
        "dies: failed after 0 s; left: breaks, says, works",
        "breaks: started",
        "breaks: failed after 0 s; left: says, works",
        "says: started",
        "says: failed after 0 s; left: works",
        "works: started",
        "works: done after 0 s",
    ]


@pytest.mark.parametrize(
    ("cores", "gigabytes", "tasks", "wanted", "jobs"),
    [
        (2, 16, 8, None, 2),
        (16, 64, 8, None, 4),
        (16, 64, 3, None, 3),
        (16, 6, 8, None, 2),
        (2, 1, 8, None, 1),
        (2, 1, 8, 6, 6),
        (2, 16, 8, 1, 1),
    ],
)
def test_jobs_fit_the_machine(monkeypatch, cores, gigabytes, tasks, wanted, jobs):
    monkeypatch.setattr(parallel, "count_cores", lambda: cores)
    memory = type("Memory", (), {"available": gigabytes * 1e9})
    monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: memory)
    assert count_jobs(tasks, wanted) == jobs


def test_chapters_without_result_are_shown_bare_and_stay_due(tmp_path, layout):
    path = write_notebook(tmp_path / "01_new.ipynb", "1 + 1")
    assert stage_unrun([path], layout) == ["01_new"]
    assert "Not run here" in (layout.results / path.name).read_text()
    assert due_chapters([path], layout, "quick") == [path]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="other.html">x</a><a href="other.html#there">x</a><img src="i.png" alt="">', None),
        ('<a href="https://elsewhere.org/">x</a>', None),
        ('<a href="missing.html">x</a>', "broken link missing.html"),
        ('<a href="other.html#nowhere">x</a>', "broken link other.html#nowhere"),
        ('<p id="a"></p><p id="a"></p>', "id 'a' occurs twice"),
        ('<script src="https://elsewhere.org/x.js"></script>', "from outside"),
        ('<link rel="stylesheet" href="//elsewhere.org/x.css">', "from outside"),
        ("<style>@font-face { src: url('https://elsewhere.org/f.woff') }</style>", "from outside"),
        ('<img src="i.png">', "no alternative text"),
        ("<p>| claim | paper |\n| --- | :---: |\n| 1 | 2 |</p>", "table: | claim | paper |"),
        ("<p>a <em>b</em>|c\n|—|—|\n</p>", "raw text instead of a table"),
        ("<pre>| a |\n| --- |</pre><p><code>|---|</code> a | b, c -- d | e</p>", None),
    ],
)
def test_site_check_finds(tmp_path, body, problem):
    (tmp_path / "index.html").write_text(f"<html><body>{body}</body></html>")
    (tmp_path / "other.html").write_text('<p id="there"></p>')
    (tmp_path / "i.png").touch()
    found = find_problems(tmp_path)
    assert len(found) == (problem is not None)
    assert all(problem in line for line in found)


def test_only_what_is_read_counts():
    html = """<nav><p>one</p></nav><article><p>two <b>words</b></p><ul><li>and two</li></ul><br>
    <figure><img src="x"><figcaption><p>not these</p></figcaption></figure>
    <table><tr><td><p>or this</p></td></tr></table>
    <section><details><summary><p>nor that</p></summary><p>or more</p><figure></figure></details></section></article>"""
    assert measure(html) == (4, 1)


def test_long_chapters_are_named():
    page = "<article><p>{}</p>{}</article>"
    assert find_long("01", page.format("word " * 1200, "<figure></figure>" * 8)) == []
    words, figures = find_long("01", page.format("word " * 1201, "<figure></figure>" * 9))
    assert words.startswith("01: 1201 words, at most 1200")
    assert figures.startswith("01: 9 figures, at most 8")


@pytest.mark.parametrize(("builder", "opens"), [("html", True), ("singlehtml", False)])
def test_folded_section_is_a_heading_that_opens(builder, opens):
    page = nodes.document(None, None)
    for names in (["fold"], []):
        page += nodes.section("", nodes.title("", "More"), nodes.paragraph("", "text"), classes=names)
    fold(SimpleNamespace(builder=SimpleNamespace(name=builder)), page, "results/01")
    folded, plain = page.findall(nodes.section)
    inside = '<details class="fold"><summary> More </summary> text </details>' if opens else "More text"
    assert " ".join(part.astext() for part in folded) == inside
    assert [part.astext() for part in plain] == ["More", "text"]


def test_teaser_shows_trained_networks_with_units_or_weights_gone():
    (_, dense, right), (_, fewer, _), (_, sparse, _) = teaser.partitions()
    (layer,), (left,), (kept,) = dense.layers, fewer.layers, sparse.layers
    assert layer.units == left.units == kept.units == teaser.SETTINGS.hidden
    assert len(fewer) < len(sparse) < len(dense)
    assert all(len(partition.boundary.segments) > 0 for partition in (dense, fewer, sparse))
    assert right > 0.95


def test_committed_picture_is_small():
    assert Path(BOOK.source / "_static" / "partition.png").stat().st_size < 200_000
