import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import splinelib

ROOT = Path(splinelib.__file__).parent

# A module or package may import from those above it only. ``__init__`` is the package's face.
LAYERS = (
    "errors",
    "artifacts",
    "bars",
    "taps",
    "checks",
    "data",
    "models",
    "_selection_pruner",
    "groups",
    "network",
    "codes",
    "canvases",
    "criterion",
    "baselines",
    "importance",
    "cost",
    "surgery",
    "compensation",
    "regression",
    "reconstruction",
    "gradients",
    "saliency",
    "functional",
    "elimination",
    "folding",
    "pruning",
    "anatomy",
    "earlybird",
    "lightning",
    "__init__",
    "energy",
    "capture",
    "trainer",
    "training",
    "initialisers",
    "methods",
    "records",
    "runs",
    "detection",
    "settling",
    "execution",
    "profiles",
    "schedules",
    "untrained",
    "plans",
    "sweeps",
    "tables",
    "plots",
    "notebooks",
    "partition",
    "winning",
    "reading",
    "ledger",
    "imagenet",
    "__main__",
)


def imports_of(path):
    """Every module of splinelib that a file imports, at the top, in functions or for type checking."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            assert all(alias.name != "*" for alias in node.names), f"{path} imports a star"
    return {module for name in found if name.split(".")[0] == "splinelib" and (module := module_of(name))}


def module_of(name):
    """The file's path below the package for a dotted name that may end in an attribute: ``data/load``."""
    parts = name.split(".")[1:]
    while parts:
        for path in (ROOT.joinpath(*parts).with_suffix(".py"), ROOT.joinpath(*parts, "__init__.py")):
            if path.exists():
                return path.relative_to(ROOT).with_suffix("").as_posix()
        parts.pop()
    return "__init__"


FILES = {path.relative_to(ROOT).with_suffix("").as_posix(): imports_of(path) for path in ROOT.rglob("*.py")}


def test_every_module_has_its_layer():
    assert {name.split("/")[0] for name in FILES} == set(LAYERS)


@pytest.mark.parametrize("name", FILES)
def test_modules_import_from_layers_above_them(name):
    layer = name.split("/")[0]
    for imported in FILES[name]:
        other = imported.split("/")[0]
        if other != layer:
            assert LAYERS.index(other) < LAYERS.index(layer), f"{name} imports {imported}"


def test_no_two_files_import_each_other_over_any_detour():
    TopologicalSorter(FILES).prepare()  # raises CycleError


CHILD = """
import json, runpy, sys
import numpy, torch
before = set(sys.modules)
import splinelib
light = sorted(set(sys.modules) - before)

# What None stands for cannot be imported: the machine is one without these packages.
sys.modules |= dict.fromkeys(["tqdm", "sklearn", "scipy", "pandas", "matplotlib", "seaborn", "numba", "papermill"])
import torch_pruning
from splinelib.bars import progress_bar
with progress_bar(2, "run", title="bare") as bar:
    bar.update()
    bar.set_postfix(loss="1")
sys.argv = ["splinelib", "sweep", "--help"]
try:
    runpy.run_module("splinelib", run_name="__main__")
except SystemExit as end:
    print(json.dumps({"light": light, "status": end.code, "all": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def child():
    """What a fresh interpreter has loaded after ``import splinelib``, and whether the command line starts bare."""
    result = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    *usage, answer = result.stdout.splitlines()
    return {**json.loads(answer), "usage": "\n".join(usage)}


def test_importing_needs_torch_and_numpy_only(child):
    packages = {name.split(".")[0] for name in child["light"]} - set(sys.stdlib_module_names)
    assert {name for name in packages if not name.startswith("_cython")} <= {"splinelib", "numpy", "torch"}
    assert "splinelib.pruning" in child["light"]


def test_importing_takes_no_time_beyond_torch(child):
    slow = (
        "triton",
        "torch._dynamo",
        "torch._inductor",
        "torch.fx",
        "torch.utils.flop_counter",
        "torch.onnx",
    )
    assert not [name for name in child["light"] if name.startswith(slow)]
    mine = {name for name in child["light"] if name.startswith("splinelib")}
    assert not mine & {"splinelib.data", "splinelib.training", "splinelib.runs", "splinelib.partition"}


def test_sweeps_start_on_a_node_with_torch_torchvision_and_torch_pruning_only(child):
    assert child["status"] == 0
    assert "--budget" in child["usage"]


def test_the_face_holds_re_exports_and_nothing_else():
    body = ast.parse((ROOT / "__init__.py").read_text()).body
    docstring, *imports = body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(node, ast.ImportFrom) for node in imports)
    for node in imports:
        for alias in node.names:
            assert alias.asname == alias.name
            assert getattr(splinelib, alias.name) is not None
