"""Sweeps in order and on a real Ray cluster: two nodes on this machine, of which parts are killed."""

import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import ray_runs
from ray_runs import NotedRun, noted, plan

from splinelib.errors import SettingError
from splinestudy.__main__ import main
from splinestudy.runs.executors import execute
from splinestudy.runs.records import run_key
from splinestudy.runs.store import RecordStore

on_ray = [
    pytest.mark.long,
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture
def store(tmp_path):
    return RecordStore(tmp_path / "store")


def numbers(records):
    return [record.results["number"] for record in records]


def swept(store, runs, executor="ray", **settings):
    return execute(executor, runs, store, profile="x", progress=False, **settings)


def test_without_ray_runs_are_computed_in_order(store, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    runs = plan(tmp_path)
    report = swept(store, runs[::-1])
    assert sorted(numbers(report.records)) == [0, 1, 2, 3, 4, 11, 12, 13, 14]
    assert {start.process for start in noted(tmp_path)} == {os.getpid()}
    assert "Ray is not installed" in caplog.text


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"executor": "dask"}, "executor is 'dask'"),
        ({"gpus": -1.0}, "gpus is -1.0"),
        ({"gpus": float("nan")}, "gpus"),
    ],
)
def test_settings_outside_are_named(settings, named, store):
    with pytest.raises(SettingError, match=named):
        swept(store, [], **{"executor": "ray", **settings})


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core each and half a pretended GPU, whose workers find these tests."""
    from ray import cluster_utils

    with pytest.MonkeyPatch.context() as patch:
        here = os.path.dirname(ray_runs.__file__)
        patch.setenv("PYTHONPATH", os.pathsep.join([here, os.path.dirname(here)]))
        patch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "3")
        started = two_nodes(cluster_utils)
        patch.setenv("RAY_ADDRESS", started.address)
        yield started
        started.shutdown()


def two_nodes(cluster_utils):
    started = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1})
    started.add_node(num_cpus=1)
    return started


@pytest.fixture
def connected(cluster):
    import ray

    ray.init(address=cluster.address, log_to_driver=False)
    yield ray
    ray.shutdown()


def begun(folder):
    """Number of a run -> the times that it began."""
    starts = noted(folder)
    return {each.number: [start for start in starts if start.number == each.number] for each in starts}


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.usefixtures("connected")
class TestOnACluster:
    pytestmark = on_ray

    def test_a_killed_worker_loses_the_run_under_way_alone(self, store, tmp_path):
        """While two runs keep both nodes, the worker of one is killed."""

        def kill():
            wait_for(lambda: {2, 3} <= begun(tmp_path).keys())
            os.kill(begun(tmp_path)[2][0].process, signal.SIGKILL)
            (tmp_path / "go-2").touch()
            (tmp_path / "go-3").touch()

        killer, runs = threading.Thread(target=kill), plan(tmp_path, held=(2, 3))
        killer.start()
        report = swept(store, runs, gpus=0.0)
        killer.join()
        assert (report.failed, report.left) == ([], [])
        assert [record.key for record in report.records] == [run_key(run) for run in runs]
        found = begun(tmp_path)
        assert {number: len(times) for number, times in found.items()} == {run.number: 1 for run in runs} | {
            2: 2
        }
        assert found[2][0].node != found[3][0].node
        order = [start.number for start in noted(tmp_path)]
        assert order[0] == 0
        assert all(order.index(number) < order.index(10 + number) for number in range(1, 5))
        assert swept(store, runs).records == report.records
        assert len(noted(tmp_path)) == len(runs) + 1

    def test_a_fraction_of_a_gpu_is_asked_for(self, store, tmp_path):
        """Which only the head has."""
        swept(store, plan(tmp_path), gpus=1 / 3)
        assert len({start.node for start in noted(tmp_path)}) == 1

    def test_what_needs_a_failed_run_is_not_tried(self, store, tmp_path):
        bad = NotedRun(-1, str(tmp_path))
        report = swept(store, [bad, NotedRun(1, str(tmp_path), bad), NotedRun(2, str(tmp_path))])
        assert numbers(report.records) == [2]
        assert [str(error) for _, error in report.failed] == ["ValueError: a number below 0"] * 2
        assert sorted(start.number for start in noted(tmp_path)) == [-1, 2]

    def test_a_budget_leaves_what_did_not_start(self, store, tmp_path):
        report = swept(store, plan(tmp_path), budget=0.0)
        assert (report.records, report.failed, len(report.left)) == ([], [], 9)

    def test_the_command_line_sweeps_on_it(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        arguments = "sweep layerwise --profile smoke --seeds 0 --criteria spline --epochs 1 --images 64 --executor ray"
        assert main([*arguments.split(), "--store", str(tmp_path)]) == 0
        assert "2 records, 0 failed, 0 left" in caplog.text


@pytest.mark.long
def test_after_the_head_is_lost_the_same_command_goes_on(cluster, store, tmp_path, monkeypatch):
    from ray import cluster_utils

    def driver(*held):
        return subprocess.Popen([sys.executable, ray_runs.__file__, str(tmp_path), *map(str, held)])

    first = driver(2, 3)
    wait_for(lambda: {2, 3} <= begun(tmp_path).keys())
    done = {record.results["number"] for record in store.load_all("noted")}
    cluster.shutdown()  # head, nodes and workers, in the middle of two runs
    assert first.wait(120) != 0
    again = two_nodes(cluster_utils)
    try:
        monkeypatch.setenv("RAY_ADDRESS", again.address)
        for number in (2, 3):
            (tmp_path / f"go-{number}").touch()
        assert driver(2, 3).wait(120) == 0
    finally:
        again.shutdown()
    assert len(store.load_all("noted")) == 9
    assert {number: len(times) for number, times in begun(tmp_path).items() if len(times) > 1} == {2: 2, 3: 2}
    assert not done & {2, 3}
