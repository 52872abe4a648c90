"""Committed records computed again."""

import dataclasses

import pytest
import torch

from splinelib.errors import RecordError, SettingError
from splinestudy.__main__ import main
from splinestudy.runs import check, provenance
from splinestudy.runs.check import check_record, compare
from splinestudy.runs.committed import Study
from splinestudy.runs.initialisation import KMeansRun
from splinestudy.runs.provenance import computed_on
from splinestudy.runs.records import Record, run_key
from splinestudy.runs.store import RecordStore
from splinestudy.runs.sweep import sweep

RUN = KMeansRun(factors=(1, 2), seeds=2, centres=4, points_each=6, apart=0.2)
OTHER = dataclasses.replace(RUN, seeds=1)
STUDY = Study("initialisation", "smoke")


@pytest.fixture
def records(tmp_path, monkeypatch):
    """A store with one record whose run belongs to a study."""
    monkeypatch.setattr(check, "owners", lambda: {run_key(run): (STUDY, run) for run in (RUN, OTHER)})
    store = RecordStore(tmp_path / "kept")
    assert not sweep([RUN], store, profile="smoke", progress=False).failed
    return store


def test_a_run_computed_again_gives_the_same_numbers(records, tmp_path):
    found = check_record(run_key(RUN), records, RecordStore(tmp_path / "again"), progress=False)
    assert found.holds(0)
    assert found.equal == found.numbers > 10
    assert (found.largest, found.where, found.other) == (0, "", ())


def test_an_altered_number_is_found(records, tmp_path):
    kept = records.load(RUN)
    changed = {name: list(values) for name, values in kept.results["rows"].items()}
    column = next(name for name, values in changed.items() if isinstance(values[3], float))
    changed[column][3] = 0.25 + max(1.0, abs(changed[column][3])) * 0.5
    records.save(RUN, {"rows": changed}, kept.provenance)
    found = check_record(run_key(RUN), records, RecordStore(tmp_path / "again"), progress=False)
    assert found.where == f"rows.{column}[3]"
    assert found.equal == found.numbers - 1
    assert not found.holds()
    assert found.holds(found.largest)


def test_a_run_is_computed_with_the_threads_of_its_record(records, tmp_path):
    kept = records.load(RUN)
    before, threads = torch.get_num_threads(), kept.provenance["threads"] + 1
    records.save(RUN, kept.results, {**kept.provenance, "threads": threads})
    again = RecordStore(tmp_path / "again")
    check_record(run_key(RUN), records, again, progress=False)
    assert again.load(RUN).provenance["threads"] == threads
    assert torch.get_num_threads() == before


def test_where_digits_differ_the_machines_are_named(records, tmp_path):
    kept = records.load(RUN)
    changed = {name: list(values) for name, values in kept.results["rows"].items()}
    column = next(name for name, values in changed.items() if isinstance(values[3], float))
    changed[column][3] += 1e-9
    elsewhere = {**kept.provenance, "hardware": "Abacus, 3 cores", "generation": "family 5, model 7"}
    records.save(RUN, {"rows": changed}, elsewhere)
    found = check_record(run_key(RUN), records, RecordStore(tmp_path / "again"), progress=False)
    assert found.holds()
    assert found.machines[0].startswith("Abacus, 3 cores, family 5, model 7, torch ")
    assert found.machines[1] == computed_on(kept.provenance)


def record(results):
    return Record("kmeans", "k", {}, results, {"hardware": "h", "versions": {"torch": "2"}, "threads": 1})


def test_clocks_do_not_count_and_shapes_do():
    def compared(first, second):
        return compare(STUDY, record(first), record(second))

    spent, other = {"seconds": 1.0, "scoring_flops": 5}, {"seconds": 9.0, "scoring_flops": 7}
    found = compared({**spent, "a": [1, 2], "b": "x"}, {**other, "a": [1], "b": "y"})
    assert found.other == ("a", "b")
    assert found.numbers == 0
    assert not found.holds(1e9)
    assert compared({"a": 200.0}, {"a": 202.0}).largest == pytest.approx(0.01)
    assert compared({"a": None}, {"a": 0}).other == ("a",)


def test_what_cannot_be_checked_is_named(records, tmp_path):
    store = RecordStore(tmp_path / "again")
    with pytest.raises(SettingError, match="key is 'feed'"):
        check_record("feed", records, store)
    with pytest.raises(SettingError, match="where the records lie"):
        check_record(run_key(RUN), records, records)
    with pytest.raises(RecordError, match="was not computed; `python -m splinestudy sweep initialisation"):
        check_record(run_key(OTHER), records, store)
    assert main(["check", "feed", "--store", str(tmp_path)]) == 2


def test_a_sweep_does_not_join_the_committed_records_from_a_source_that_is_not_committed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(provenance, "SOURCE", tmp_path)
    committed = RecordStore(tmp_path / "records")
    for state in (("c0ffee", False), (None, None)):
        monkeypatch.setattr(provenance, "source_commit", lambda state=state: state)
        with pytest.raises(SettingError, match="commit first"):
            sweep([RUN], committed, profile="smoke", progress=False)
        assert not committed.root.exists()
        assert sweep([OTHER], RecordStore(tmp_path / "own"), profile="smoke", progress=False).records
    monkeypatch.setattr(provenance, "source_commit", lambda: ("c0ffee", True))
    assert sweep([RUN], committed, profile="smoke", progress=False).records
