"""What several files of tests start from."""

import matplotlib.pyplot as plt
import pytest
from tiny_runs import sweep_tiny, tiny_dataset

from splinestudy.runs import dense


@pytest.fixture
def axes():
    """Axes of a figure that is closed afterwards."""
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A store with every record of the tiny plan, computed for real, and the report of its sweep."""
    folder = tmp_path_factory.mktemp("complete")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "load_dataset", lambda name: tiny_dataset())
        report = sweep_tiny(folder)
    assert (report.failed, report.left) == ([], [])
    return folder, report
