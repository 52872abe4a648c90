import dataclasses
import logging
import shutil

import pytest
import torch
from breaking import damaged, kill, started, wait_until
from tiny_runs import SETTINGS, share, sweep_tiny, tiny_dataset, tiny_plan, without_clock

from splinelib.errors import TrainingError, UnsupportedModuleError
from splinelib.files import load_tensors, save_tensors
from splinestudy.runs import dense as dense_kind
from splinestudy.runs import sweep as sweeps
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.records import run_key
from splinestudy.runs.store import RecordStore
from splinestudy.training import loop

DENSE_0, DENSE_1, SPLINE_0, L1_0, SPLINE_1, L1_1 = PLAN = tiny_plan()


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(dense_kind, "load_dataset", lambda name: tiny_dataset())
    monkeypatch.setattr(sweeps, "_WAIT", 0.01)


@pytest.fixture
def executed(monkeypatch):
    """Stands in for the computation; lists what was computed. ``failing`` names runs that raise."""

    class Executed(list):
        failing = ()

    done = Executed()

    def execute(run, store, device, progress):
        done.append(run)
        if run in done.failing:
            raise TrainingError("the loss is nan")
        if isinstance(run, DenseRun):
            store.weights_path(run).parent.mkdir(parents=True, exist_ok=True)
            store.weights_path(run).touch()
        return {"number": len(done)}

    stand_in(monkeypatch, execute)
    return done


def stand_in(monkeypatch, execute):
    """Let ``execute(run, store, device, progress)`` compute every run."""
    for kind in (DenseRun, PruneRun):
        monkeypatch.setattr(kind, "compute", execute)


def keys(records):
    return [record.key for record in records]


def test_a_sweep_leaves_a_record_of_every_run(complete):
    folder, report = complete
    assert keys(report.records) == [run_key(run) for run in PLAN]
    store = RecordStore(folder)
    assert [store.load(run) for run in PLAN] == report.records
    assert not any((folder / "checkpoints").iterdir())
    assert {record.provenance["profile"] for record in report.records} == {"tiny"}


def test_a_record_does_not_depend_on_its_neighbours(complete, tmp_path):
    alone = sweep_tiny(tmp_path, [SPLINE_1]).records[0].results
    assert without_clock(alone) == without_clock(RecordStore(complete[0]).load(SPLINE_1).results)


def test_only_what_is_missing_is_computed(tmp_path, executed):
    sweep_tiny(tmp_path, PLAN[:3])
    report = sweep_tiny(tmp_path, [*PLAN, *PLAN[:2]])
    assert executed == PLAN
    assert keys(report.records) == [run_key(run) for run in PLAN]
    assert [record.results["number"] for record in report.records] == [1, 2, 3, 4, 5, 6]


def test_the_dense_run_comes_first_wherever_it_is_missing(tmp_path, executed):
    report = sweep_tiny(tmp_path, [SPLINE_1, L1_1])
    assert executed == [DENSE_1, SPLINE_1, L1_1]
    assert keys(report.records) == [run_key(SPLINE_1), run_key(L1_1)]
    RecordStore(tmp_path).weights_path(DENSE_1).unlink()
    sweep_tiny(tmp_path, [DENSE_1, SPLINE_1])  # nothing asks for the weights
    assert len(executed) == 3
    RecordStore(tmp_path).path(SPLINE_1).unlink()
    sweep_tiny(tmp_path, [SPLINE_1])
    assert executed[3:] == [DENSE_1, SPLINE_1]


def test_an_early_draw_needs_the_dense_record_alone(complete, tmp_path):
    store = RecordStore(tmp_path)
    store.path(DENSE_0).parent.mkdir(parents=True)
    shutil.copy(RecordStore(complete[0]).path(DENSE_0), store.path(DENSE_0))
    early = dataclasses.replace(SPLINE_0, draw=1)
    assert sweep_tiny(tmp_path, [early]).failed == []
    assert not store.weights_path(DENSE_0).exists()
    sweep_tiny(tmp_path, [SPLINE_0])  # which starts from the end
    assert store.weights_path(DENSE_0).exists()


def test_a_failed_run_is_reported_and_the_others_go_on(tmp_path, executed, caplog):
    executed.failing = (SPLINE_0,)
    with caplog.at_level(logging.ERROR):
        report = sweep_tiny(tmp_path)
    assert executed == PLAN
    assert keys(report.records) == [run_key(run) for run in PLAN if run != SPLINE_0]
    ((run, error),) = report.failed
    assert (run, str(error)) == (SPLINE_0, "the loss is nan")
    assert "TrainingError: the loss is nan" in caplog.text
    executed.failing = ()
    assert sweep_tiny(tmp_path).failed == []
    assert executed[6:] == [SPLINE_0]


def test_what_needs_a_failed_run_is_not_tried(tmp_path, executed):
    executed.failing = (DENSE_0,)
    report = sweep_tiny(tmp_path)
    assert executed == [DENSE_0, DENSE_1, SPLINE_1, L1_1]
    assert [run for run, _ in report.failed] == [DENSE_0, SPLINE_0, L1_0]
    assert len({id(error) for _, error in report.failed}) == 1


def test_an_error_in_real_work_is_reported(tmp_path):
    diverging = dataclasses.replace(DENSE_0, train=dataclasses.replace(SETTINGS, lr=1e18))
    no_norms = dataclasses.replace(DENSE_0, arch="mlp", width=1.0)
    no_scales = dataclasses.replace(SPLINE_0, dense=no_norms, criterion="bn_scale")
    report = sweep_tiny(tmp_path, [diverging, no_norms, no_scales])
    assert [type(error) for _, error in report.failed] == [TrainingError, UnsupportedModuleError]


def test_a_network_without_batch_norm_is_watched_by_its_codes_alone(tmp_path):
    no_norms = dataclasses.replace(DENSE_0, arch="mlp", width=1.0)
    (record,) = sweep_tiny(tmp_path, [no_norms]).records
    assert record.results["masks"] == []
    assert len(record.results["spline"]["distances"]) == SETTINGS.epochs


def test_interrupting_stops_the_sweep(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    stand_in(monkeypatch, interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep_tiny(tmp_path)
    with RecordStore(tmp_path).claim(DENSE_0) as free:
        assert free


@pytest.mark.parametrize("how", ["altered", "truncated", "empty"])
def test_a_damaged_record_is_computed_anew(how, tmp_path, executed):
    sweep_tiny(tmp_path, PLAN[:3])
    path = RecordStore(tmp_path).path(SPLINE_0)
    path.write_bytes(damaged(path.read_bytes())[how])
    report = sweep_tiny(tmp_path, PLAN[:3])
    assert executed == [*PLAN[:3], SPLINE_0]
    assert [record.results["number"] for record in report.records] == [1, 2, 4]


@pytest.mark.parametrize("content", [{}, {"x": torch.zeros(1).expand(10**13)}], ids=["no key", "a bomb"])
def test_weights_that_do_not_fit_are_computed_again(content, complete, tmp_path):
    shutil.copytree(complete[0], tmp_path / "store")
    store = RecordStore(tmp_path / "store")
    path, expected = store.weights_path(DENSE_0), without_clock(store.load(SPLINE_0).results)
    torch.save({"name": path.stem, "digest": "", "content": content} if content else {}, path)
    store.path(SPLINE_0).unlink()
    report = sweep_tiny(store.root, [SPLINE_0])
    assert report.failed == []
    assert path.with_suffix(".damaged").exists()
    assert without_clock(report.records[0].results) == expected


@pytest.mark.parametrize("how", ["altered", "truncated", "empty", "other", "another seed's", "not finite"])
def test_damaged_weights_are_set_aside_and_computed_again(how, complete, tmp_path):
    shutil.copytree(complete[0], tmp_path / "store")
    store = RecordStore(tmp_path / "store")
    path, expected = store.weights_path(DENSE_0), without_clock(store.load(SPLINE_0).results)
    other = store.weights_path(DENSE_1).read_bytes()
    if how == "not finite":
        state = load_tensors(path)
        next(iter(state.values())).fill_(torch.nan)
        save_tensors(path, state)
    else:
        path.write_bytes(other if how.startswith("another") else damaged(path.read_bytes())[how])
    broken = path.read_bytes()
    store.path(SPLINE_0).unlink()
    report = sweep_tiny(store.root, [SPLINE_0])
    assert report.failed == []
    assert path.with_suffix(".damaged").read_bytes() == broken
    assert without_clock(report.records[0].results) == expected


class Clock:
    """Time that passes only while something is computed."""

    def __init__(self, monkeypatch, seconds):
        self.now, self.seconds = 0.0, seconds
        kinds = {kind.kind: kind.compute for kind in (DenseRun, PruneRun)}
        monkeypatch.setattr(sweeps.time, "monotonic", lambda: self.now)

        def slow(run, *arguments):
            self.now += self.seconds[run.kind]
            return kinds[run.kind](run, *arguments)

        stand_in(monkeypatch, slow)


@pytest.mark.parametrize(
    ("budget", "done"),
    [(0, 0), (1, 1), (99, 1), (199, 1), (200.5, 3), (205, 3), (220.5, 4), (231, 5), (1000, 6), (None, 6)],
)
def test_the_budget_stops_between_runs(budget, done, tmp_path, executed, monkeypatch):
    Clock(monkeypatch, {"dense": 100.0, "prune": 10.0})
    report = sweep_tiny(tmp_path, budget=budget)
    assert executed == PLAN[:done]
    assert report.left == PLAN[done:]
    assert keys(report.records) == [run_key(run) for run in executed]


def test_a_spent_budget_still_finds_what_is_there(tmp_path, executed):
    sweep_tiny(tmp_path, [DENSE_0, DENSE_1, L1_0])
    report = sweep_tiny(tmp_path, budget=0)
    assert keys(report.records) == [run_key(run) for run in (DENSE_0, DENSE_1, L1_0)]
    assert report.left == [SPLINE_0, SPLINE_1, L1_1]


def test_a_sweep_waits_for_a_run_that_another_process_holds(tmp_path, executed, monkeypatch):
    store, naps = RecordStore(tmp_path), []
    claim = store.claim(SPLINE_0)
    assert claim.__enter__()

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            store.save(SPLINE_0, {"by": "another"}, {})
            claim.__exit__(None, None, None)

    monkeypatch.setattr(sweeps.time, "sleep", nap)
    report = sweep_tiny(tmp_path)
    assert executed == [run for run in PLAN if run != SPLINE_0]
    assert keys(report.records) == [run_key(run) for run in PLAN]
    assert report.records[2].results == {"by": "another"}
    assert len(naps) == 3


def test_a_run_that_another_process_has_just_finished_is_not_computed(tmp_path, executed, monkeypatch):
    claim = RecordStore.claim

    def claimed_too_late(store, run):
        store.save(run, {"by": "another"}, {})
        store.weights_path(run).parent.mkdir(exist_ok=True)
        store.weights_path(run).touch()
        return claim(store, run)

    monkeypatch.setattr(RecordStore, "claim", claimed_too_late)
    report = sweep_tiny(tmp_path)
    assert executed == []
    assert [record.results for record in report.records] == [{"by": "another"}] * len(PLAN)


def test_two_processes_share_a_store(tmp_path, monkeypatch):
    for kind in (DenseRun, PruneRun):  # share() replaces these
        monkeypatch.setattr(kind, "compute", kind.compute)
    monkeypatch.setattr(sweeps, "_WAIT", sweeps._WAIT)
    process = started("share", tmp_path)
    wait_until((tmp_path / "child.ready").exists, process)
    report = share(tmp_path, "parent")
    assert process.wait(60) == 0, process.stderr.read().decode()
    process.stderr.close()
    everything = [run_key(run) for run in tiny_plan(seeds=range(4))]
    assert keys(report.records) == everything
    log = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(key for _, key in log) == sorted(everything)  # each of them once
    assert {name for name, _ in log} == {"parent", "child"}
    assert all(
        record.results["by"] == {key: name for name, key in log}[record.key] for record in report.records
    )


def test_a_killed_sweep_loses_at_most_the_run_under_way(complete, tmp_path, monkeypatch):
    store = RecordStore(tmp_path)
    process = started("sweep", tmp_path)
    # In the middle of the second run, from which the first checkpoint is there already.
    wait_until(lambda: store.path(DENSE_0).exists() and store.checkpoint_path(DENSE_1).exists(), process)
    kill(process)
    finished = store.path(DENSE_0).read_bytes()
    assert store.load(DENSE_1) is None
    computed, steps = [], []
    kinds, trainer = {kind.kind: kind.compute for kind in (DenseRun, PruneRun)}, loop.Trainer
    step = trainer._step
    stand_in(monkeypatch, lambda run, *rest: computed.append(run) or kinds[run.kind](run, *rest))
    monkeypatch.setattr(trainer, "_step", lambda *batch: steps.append(len(computed)) or step(*batch))
    report = sweep_tiny(tmp_path)
    assert (report.failed, report.left) == ([], [])
    assert computed == PLAN[1:]
    assert store.path(DENSE_0).read_bytes() == finished
    assert steps.count(1) < 18  # of 3 epochs of 6 steps; at least one was taken before
    for run in PLAN:
        assert without_clock(store.load(run).results) == without_clock(
            RecordStore(complete[0]).load(run).results
        )
