"""One thread everywhere: small networks are fastest so, and sums come out the same on every machine."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, by child processes too

import hypothesis
import pytest
import torch
from torch import nn

import splinelib

torch.set_num_threads(1)
# No deadline: the machine may be busy. The same examples on every run: a red test stays red.
hypothesis.settings.register_profile(
    "splinelib", deadline=None, derandomize=True, database=None, max_examples=40
)
hypothesis.settings.load_profile("splinelib")


@pytest.fixture(autouse=True)
def _same_modules_every_time():
    """Modules that a test builds by hand draw their weights from the global generator."""
    torch.manual_seed(0)


@pytest.fixture
def generator():
    """A seeded source of random numbers."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def _names_in_examples(doctest_namespace):
    """What the examples in docstrings take as imported."""
    doctest_namespace.update(torch=torch, nn=nn, splinelib=splinelib)
