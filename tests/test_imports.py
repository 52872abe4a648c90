import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import splinelib
import splinestudy
from book._tools.inputs import imported_names, module_file

ROOTS = {"splinelib": Path(splinelib.__file__).parent, "splinestudy": Path(splinestudy.__file__).parent}

# A module or package may import from those above it only, and the library from none of the study's. ``__init__`` is the
# library's face.
LAYERS = {
    "splinelib": (
        "errors",
        "checks",
        "files",
        "progress",
        "hooks",
        "regression",
        "layers",
        "criteria",
        "pruning",
        "early_bird",
        "partition",
        "__init__",
    ),
    "splinestudy": (
        "__init__",
        "caches",
        "data",
        "models",
        "training",
        "analysis",
        "runs",
        "results",
        "plots",
        "notebook",
        "__main__",
    ),
}


def imports_of(path):
    """Every module of either package that a file imports, at the top, in functions or for type checking."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert all(alias.name != "*" for alias in node.names), f"{path} imports a star"
    return {place_of(module_file(name)) for name in imported_names(tree) if name.split(".")[0] in ROOTS}


def place_of(path):
    return path.relative_to(ROOTS["splinelib"].parent).with_suffix("").as_posix()


FILES = {place_of(path): imports_of(path) for root in ROOTS.values() for path in root.rglob("*.py")}


@pytest.mark.parametrize("package", ROOTS)
def test_every_module_has_its_layer(package):
    assert {name.split("/")[1] for name in FILES if name.startswith(f"{package}/")} == set(LAYERS[package])


@pytest.mark.parametrize("name", FILES)
def test_modules_import_from_layers_above_them(name):
    package, layer = name.split("/")[:2]
    for imported in FILES[name]:
        other_package, other = imported.split("/")[:2]
        if other_package != package:
            assert package == "splinestudy", f"the library's {name} imports {imported}"
        elif other != layer:
            layers = LAYERS[package]
            assert layers.index(other) < layers.index(layer), f"{name} imports {imported}"


def test_no_two_files_import_each_other_over_any_detour():
    TopologicalSorter(FILES).prepare()  # raises CycleError


def test_the_library_is_small_at_its_root():
    names = {path.name for path in ROOTS["splinelib"].iterdir()} - {"__init__.py", "py.typed", "__pycache__"}
    assert len(names) <= 11
    faces = ast.parse((ROOTS["splinelib"] / "__init__.py").read_text()).body[1:]
    assert sum(len(node.names) for node in faces) <= 10


CHILD = """
import json, runpy, sys
import numpy, torch
before = set(sys.modules)
import splinelib
light = sorted(set(sys.modules) - before)

sys.modules["torch_pruning"] = None
import torch
from torch import nn
try:
    splinelib.prune(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(1, 2), 0.5)
except splinelib.errors.SettingError as error:
    refused = str(error)
del sys.modules["torch_pruning"]

# What None stands for cannot be imported: the machine is one without these packages.
sys.modules |= dict.fromkeys(["tqdm", "sklearn", "scipy", "pandas", "matplotlib", "seaborn", "numba", "papermill"])
try:
    import splinelib.partition
except splinelib.errors.SettingError as error:
    refused += str(error)
import torch_pruning
from splinelib.progress import progress_bar
with progress_bar(2, "run", title="bare") as bar:
    bar.update()
    bar.set_postfix(loss="1")
sys.path.insert(0, "TESTS")
from tiny_runs import CPU, RecordStore, dense, sweeps, tiny_dataset, tiny_plan
dense.load_dataset = lambda name: tiny_dataset()
report = sweeps.sweep(tiny_plan(seeds=(0,)), RecordStore("STORE"), profile="tiny", device=CPU, progress=False)
swept = [len(report.records), [str(error) for _, error in report.failed]]
sys.argv = ["splinestudy", "sweep", "--help"]
try:
    runpy.run_module("splinestudy", run_name="__main__")
except SystemExit as end:
    print(json.dumps({"light": light, "refused": refused, "swept": swept, "status": end.code}))
"""


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    """What a fresh interpreter has loaded after ``import splinelib``, and what it can do bare."""
    code = CHILD.replace("TESTS", str(Path(__file__).parent))
    code = code.replace("STORE", str(tmp_path_factory.mktemp("store")))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    *usage, answer = result.stdout.splitlines()
    return {**json.loads(answer), "usage": "\n".join(usage)}


def test_importing_needs_torch_and_numpy_only(child):
    packages = {name.split(".")[0] for name in child["light"]} - set(sys.stdlib_module_names)
    assert {name for name in packages if not name.startswith("_cython")} <= {"splinelib", "numpy", "torch"}
    assert "splinelib.pruning.pipeline" in child["light"]


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
    assert not [name for name in child["light"] if name.startswith(("splinestudy", "splinelib.partition"))]


def test_sweeps_run_on_a_node_with_torch_torchvision_and_torch_pruning_only(child):
    assert child["swept"] == [3, []]
    assert child["status"] == 0
    assert "--budget" in child["usage"]


def test_packages_that_are_missing_are_named(child):
    assert "not installed: pip install numba" in child["refused"]
    assert "not installed: pip install torch-pruning" in child["refused"]


def test_the_face_holds_re_exports_and_nothing_else():
    body = ast.parse((ROOTS["splinelib"] / "__init__.py").read_text()).body
    docstring, *imports = body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(node, ast.ImportFrom) for node in imports)
    for node in imports:
        for alias in node.names:
            assert alias.asname == alias.name
            assert getattr(splinelib, alias.name) is not None
