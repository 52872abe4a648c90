"""The pilot's report: its numbers are those of records."""

import dataclasses

import pytest

from splinestudy.results.pilot import pilot_report
from splinestudy.runs.committed import Study
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.pilot import TRIED
from splinestudy.runs.store import RecordStore


@pytest.fixture
def runs():
    return Study("pilot", "pilot").runs()


def test_without_records_it_says_so(tmp_path):
    assert "No record" in pilot_report(RecordStore(tmp_path))


def test_every_record_is_a_row(tmp_path, runs):
    store = RecordStore(tmp_path)
    for place, run in enumerate(runs):
        accuracy = 0.8 + place / 1000
        results = {
            "accuracy": accuracy,
            "epochs": [{"accuracy": accuracy}],
            "spline": {"epoch": place or None},
        }
        store.save(run, results, {"profile": "pilot"})
    report = pilot_report(store)
    rows = [line for line in report.splitlines() if line.startswith("| ")]
    read = [run for run in runs if getattr(run, "criterion", "") in TRIED[1:]]
    assert len(rows) == len(runs) - len(read) + len(TRIED) + 3  # three heads
    for place, run in enumerate(runs):
        assert any(f"| {80 + place / 10:.1f} |" in row for row in rows), dataclasses.asdict(run)
    assert "never" in report
    assert sum(isinstance(run, DenseRun) for run in runs) == report.count("| 20 |") + report.count("| 40 |")


def test_readings_are_compared_by_their_means_on_networks_that_have_several(tmp_path, runs):
    store = RecordStore(tmp_path)
    gains = dict(zip(TRIED, (0.0, 0.02, 0.01, -0.01), strict=True))
    for run in runs:
        if isinstance(run, DenseRun):
            store.save(run, {"epochs": [{"accuracy": 0.9}], "spline": {"epoch": 3}}, {"profile": "pilot"})
        elif (
            run.dense.seed == 100 or run.criterion == "spline"
        ):  # the second network lacks the other readings
            accuracy = 0.8 + gains.get(run.criterion, 0) + 0.1 * (run.dense.seed == 101)
            store.save(run, {"accuracy": accuracy}, {"profile": "pilot"})
    table = pilot_report(store).split("fine-tuned alike:")[1].split("Standard")[0]
    means = [line.split(" | ")[-1].strip(" |") for line in table.strip().splitlines()[2:]]
    assert means == ["82.00", "81.00", "80.00", "79.00"]


def test_variance_is_split_into_networks_and_orders(tmp_path, runs):
    store = RecordStore(tmp_path)
    for run in runs:
        if isinstance(run, DenseRun):
            store.save(run, {"epochs": [{"accuracy": 0.9}], "spline": {"epoch": 3}}, {"profile": "pilot"})
        else:  # networks differ by two points, orders by none
            store.save(run, {"accuracy": 0.8 + 0.02 * (run.dense.seed == 101)}, {"profile": "pilot"})
    report = pilot_report(store)
    assert "spline: 1.41 points between dense networks, 0.00 between orders" in report
