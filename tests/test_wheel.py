"""What a wheel holds, away from any checkout: each command does what it says, or says that it needs a checkout."""

import json
import shutil
import subprocess
import sys
import zipfile

import pytest

from splinestudy.runs.committed import owners
from splinestudy.runs.provenance import SOURCE

# Runs each of the commands, and the first cells of the last notebook, in a process that knows the wheel only.
CHILD = """
import contextlib, io, json, sys
from pathlib import Path
import splinelib, splinestudy
from splinelib.errors import SplineError
from splinestudy.__main__ import main
from splinestudy.runs.provenance import source_commit

def said(command):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            return main(command.split()), out.getvalue()
        except SystemExit as end:
            return end.code, out.getvalue()

def run(notebook):
    names = {}
    cells = [cell for cell in json.loads(Path(notebook).read_text())["cells"] if cell["cell_type"] == "code"]
    try:
        for cell in (cells[0], cells[2]):  # the one between only installs
            exec("".join(cell["source"]), names)
    except SplineError as error:
        return str(error)

print(json.dumps({
    "files": [splinelib.__file__, splinestudy.__file__],
    "commit": source_commit(),
    "said": {command: said(command) for command in sys.argv[2:]},
    "notebook": run(sys.argv[1]),
}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that holds what the wheel installs, in a repository of somebody else's."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("splinelib", "splinestudy"):
        shutil.copytree(SOURCE / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(SOURCE / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "-w", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder / "site"


def test_a_wheel_holds_all_of_both_packages(site):
    there = {
        str(path.relative_to(site))
        for path in site.rglob("*")
        if path.is_file() and "dist-info" not in str(path)
    }
    kept = subprocess.run(
        ["git", "ls-files", "splinelib", "splinestudy"],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert there == set(kept)


def test_every_command_works_or_asks_for_a_checkout(site, tmp_path):
    key = next(iter(owners()))
    work = [
        "data digits",
        f"sweep toy --profile smoke --store {tmp_path} --budget 0s",
        "slurm toy --profile smoke --store x",
        "sweep --help",
    ]
    beyond = ["studies", f"check {key} --store {tmp_path}"]
    last = sorted((SOURCE / "notebooks").glob("*.ipynb"))[-1]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(last), *work, *beyond],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "MPLBACKEND": "agg", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout.splitlines()[-1])
    assert all(file.startswith(str(site)) for file in found["files"])
    assert found["commit"] == [None, None]
    for command in work:
        assert found["said"][command][0] == 0, found["said"][command]
    for command in beyond:
        status, text = found["said"][command]
        assert status == 2
        assert text.count("\n") == 1
        assert "run this in a checkout" in text
    assert "run this in a checkout" in found["notebook"]
