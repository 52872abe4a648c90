"""The short form of ``fuzz.py``; the long one is ``make test-long``."""

import fuzz
import pytest
from fuzz_targets import TARGETS

READERS = ("criteria.BatchNormScale", "files.", "records.", "arrays.", "data.load_dataset", "partition.load")
READERS += ("pruning.load",)  # of files that are drawn anew
PARTS = (
    "criteria",
    "early_bird",
    "distances",
    "detectors",
    "regression",
    "files",
    "records",
    "arrays",
    "profiles",
    "plans",
)
PARTS += ("layers", "pruning", "notebook", "command", "data", "models", "runs", "training", "starts")


def test_wrong_arguments_are_refused_with_an_error_of_ours():
    counts, faulty = fuzz.run(200, PARTS)
    assert faulty == {}
    assert counts["refused"] > 100
    assert counts["accepted"] > 4


@pytest.mark.parametrize(
    "name", [name for name in TARGETS if name.startswith(PARTS) and not name.startswith(READERS)]
)
def test_sound_arguments_are_accepted(name):
    function, arguments = TARGETS[name]
    function(**arguments())


def test_other_errors_silence_and_hanging_are_counted(monkeypatch):
    def target(value):
        if value is None:
            raise KeyError("value")
        if isinstance(value, str):
            while True:
                pass

    monkeypatch.setattr(fuzz, "TARGETS", {"x": (target, lambda: {"value": 0})})
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    monkeypatch.setattr(fuzz, "wrong_values", lambda: {"None": None, "NaN": float("nan"), "text": "x"})
    counts, faulty = fuzz.run(12)
    assert set(counts) == {"other errors", "silent", "hang"}
    assert {kind for _, kind in faulty} == {"KeyError", "silent", "hang"}
