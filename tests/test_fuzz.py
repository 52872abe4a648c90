"""The short form of ``fuzz.py``; the long one is ``make test-long``."""

import ast
import json

import fuzz
import pytest
from fuzz import TARGETS
from fuzz_study import NOTEBOOKS, commands
from fuzz_targets import FACES, public

from splinestudy import data, models

# Whose sound arguments stand for files that are not there, or for a network that lacks what is asked for.
READERS = ("criteria.BatchNormScale", "files.", "records.", "arrays.", "data.load_dataset", "partition.load")
READERS += ("pruning.load",)  # of files that are drawn anew
PARTS = tuple({name.split(".")[0] for name in TARGETS})


def test_wrong_arguments_are_refused_with_an_error_of_ours(capsys):
    counts, faulty = fuzz.run(250, PARTS)
    assert faulty == {}
    assert counts["refused"] > 100
    assert counts["accepted"] > 4


@pytest.mark.parametrize(
    "name", [name for name in TARGETS if name.startswith(PARTS) and not name.startswith(READERS)]
)
def test_sound_arguments_are_accepted(name):
    function, arguments = TARGETS[name]
    function(**arguments())


@pytest.mark.parametrize("face", [*FACES, data, models], ids=lambda face: face.__name__)
def test_all_that_a_face_offers_is_called(face):
    assert len(public(face)) > 1
    assert public(face).keys() <= TARGETS.keys()


def test_every_option_is_called():
    for name, options in commands().items():
        _, arguments = TARGETS[f"command.{name}"]
        assert arguments().keys() == {option.dest for option in options}
    assert "epochs" in TARGETS["command.sweep"][1]()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_is_called(path):
    cells = json.loads(path.read_text())["cells"]
    (cell,) = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", ()))
    names = {node.id for node in ast.walk(ast.parse("".join(cell["source"]))) if isinstance(node, ast.Name)}
    assert TARGETS[f"notebook.{path.stem}"][1]().keys() == names


def test_other_errors_silence_and_hanging_are_counted(monkeypatch, capsys):
    def target(value):
        if value is None:
            raise KeyError("value")
        if isinstance(value, str):
            while True:
                pass

    monkeypatch.setattr(fuzz, "TARGETS", {"x": (target, lambda: {"value": 0})})
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    monkeypatch.setattr(fuzz, "wrong_values", lambda: {"None": None, "NaN": float("nan"), "text": "x"})
    counts, faulty = fuzz.run(12)
    assert set(counts) == {"other errors", "silent", "hang"}
    assert {kind for _, kind in faulty} == {"KeyError", "silent", "hang"}
    assert fuzz.main(6, "x") == 1
    assert "6 calls of 1 targets: 0 accepted, 0 refused" in capsys.readouterr().out
