"""What users of the library read: names open with a sentence, functions and criteria show an example that runs."""

import inspect

import pytest

from splinelib import criteria, early_bird, hooks, layers, partition, pruning, regression

# Values that functions return; the examples of those show them.
RETURNED = {"Ranking", "PackedCode", "Layer", "Writer", "Cost", "Cut", "Report", "Change", "DecisionBoundary"}
RETURNED |= {"LevelSet", "Polyline", "SegmentPartition", "SolidPartition", "Topology", "Trace", "UnitLayer"}
FACES = (criteria, early_bird, layers, partition, pruning, hooks, regression)


def public(module):
    """Functions and classes that a package's face, or a module, has to offer."""
    return {
        f"{module.__name__}.{name}": value
        for name, value in vars(module).items()
        if not name.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value))
        if value.__module__.startswith(module.__name__)
    }


NAMES = {name: value for module in FACES for name, value in public(module).items()}


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_open_with_one_sentence_and_show_an_example(name):
    first, *rest = inspect.getdoc(NAMES[name]).split("\n\n")
    assert first.endswith((".", ":"))
    assert name.rsplit(".", 1)[-1] in RETURNED or any(part.startswith(">>> ") for part in rest)


def test_what_needs_no_example_is_there():
    assert {name.rsplit(".", 1)[-1] for name in NAMES} >= RETURNED
