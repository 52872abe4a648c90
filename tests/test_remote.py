"""Stores at an address: two machines are two working copies; the address is local, in memory, or a server of S3."""

import dataclasses
import threading
import time
import uuid
from types import SimpleNamespace

import pytest
from test_sweeps import without_clock
from tiny_runs import CPU, tiny_dataset, tiny_plan

from splinelib.errors import FileError
from splinelib.files import load_tensors, save_tensors
from splinestudy import caches
from splinestudy.runs import dense as dense_kind
from splinestudy.runs import remote
from splinestudy.runs import sweep as sweeps
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.records import run_key
from splinestudy.runs.remote import ObjectLease, RemoteStore, open_store
from splinestudy.runs.store import RecordStore

DENSE, _, SPLINE, *_ = PLAN = tiny_plan()


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(dense_kind, "load_dataset", lambda name: tiny_dataset())
    monkeypatch.setattr(sweeps, "_WAIT", 0.01)
    monkeypatch.setattr(remote, "_POLL", 0.01)


@pytest.fixture(scope="session")
def server():
    """The address of a bucket on a server of S3, on this machine."""
    import moto.server as moto

    running = moto.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*running.get_host_and_port()))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "nobody")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        remote.fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
    running.stop()


@pytest.fixture(params=["file", "memory", pytest.param("s3", marks=pytest.mark.long)])
def address(request, tmp_path):
    base = {"file": lambda: f"file://{tmp_path}", "memory": lambda: "memory://stores"}
    where = request.getfixturevalue("server") if request.param == "s3" else base[request.param]()
    return f"{where}/{uuid.uuid4().hex}"


@pytest.fixture
def machine(address, tmp_path):
    """Makes the store as a machine of that name sees it."""
    return lambda name: RemoteStore(address, tmp_path / name)


@pytest.fixture
def computed(monkeypatch):
    """Lists what is computed, for real."""
    done = []
    for kind in (DenseRun, PruneRun):

        def compute(run, *given, own=kind.compute):
            done.append(run)
            return own(run, *given)

        monkeypatch.setattr(kind, "compute", compute)
    return done


def swept(store, runs=PLAN):
    return sweeps.sweep(runs, store, profile="tiny", device=CPU, progress=False)


def test_two_machines_compute_each_run_once_and_as_one_does(machine, computed, tmp_path):
    early = dataclasses.replace(SPLINE, draw=1)  # which starts from a moment of the dense run
    runs = [DENSE, SPLINE, early, dataclasses.replace(early, criterion="l1")]
    assert swept(machine("a"), [DENSE, early]).failed == []
    second = machine("b")
    report = swept(second, runs)
    assert (report.failed, report.left) == ([], [])
    assert sorted(map(str, computed)) == sorted(map(str, runs))
    assert second.moment_path(DENSE, 1).exists()  # fetched, not trained
    alone = RecordStore(tmp_path / "alone")
    swept(alone, runs)
    for run in runs:
        assert without_clock(machine("c").load(run).results) == without_clock(alone.load(run).results)
    assert sorted(record.key for record in machine("d").load_all("prune")) == sorted(map(run_key, runs[1:]))


def test_a_record_that_was_not_sent_counts_for_nothing(machine, computed):
    store = machine("a")
    swept(store, [DENSE])
    store._files.rm_file(store._name(store.path(DENSE)))
    assert store.path(DENSE).exists()
    assert store.load(DENSE) is None
    swept(store, [DENSE])
    assert computed == [DENSE, DENSE]


def test_what_is_damaged_here_is_fetched_and_what_is_damaged_there_computed_again(machine, computed):
    store = machine("a")
    swept(store, [DENSE])
    store.weights_path(DENSE).write_bytes(b"half")
    assert store.load_tensors(store.weights_path(DENSE)) is not None
    other = machine("b")
    store._files.pipe_file(store._name(store.weights_path(DENSE)), b"half")
    assert swept(other, [SPLINE]).failed == []
    assert computed == [DENSE, SPLINE, DENSE, SPLINE]  # the first try found the damage
    aside = store._name(store.weights_path(DENSE).with_suffix(".damaged"))
    assert store._files.cat_file(aside) == b"half"


def test_a_checkpoint_follows_its_run_to_another_machine(machine, monkeypatch):
    monkeypatch.setattr(caches, "LEASE", 0.3)
    first, second = machine("a"), machine("b")
    with first.claim(DENSE) as mine:
        assert mine
        save_tensors(first.checkpoint_path(DENSE), {"epoch": 3})
        deadline = time.monotonic() + 30
        while not second.holds(second.checkpoint_path(DENSE)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with second.claim(DENSE):
        assert load_tensors(second.checkpoint_path(DENSE)) == {"epoch": 3}  # as a trainer reads it
    second.save(DENSE, {}, {})
    assert not second.holds(second.checkpoint_path(DENSE))


def test_a_lease_holds_while_it_lives_and_is_taken_over_by_one(machine, monkeypatch):
    clock = [0.0]  # ours: a busy machine holds signs of life up for seconds
    monkeypatch.setattr(remote, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(ObjectLease, "_live", lambda lease, ended: None)
    store = machine("a")

    def lease():
        return ObjectLease(store._files, f"{store._base}/locks/x.lease")

    alive, others, taken = lease(), [lease() for _ in range(8)], []
    alive.acquire(timeout=0)

    def take(one):
        with remote.contextlib.suppress(remote.Timeout):
            one.acquire(timeout=0)
            taken.append(one)

    def all_take():
        threads = [threading.Thread(target=take, args=(one,)) for one in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    for _ in range(4):
        alive.give_sign()
        all_take()
        clock[0] += 0.99 * caches.LEASE
        all_take()
        assert taken == []
    clock[0] += 0.02 * caches.LEASE  # the machine is gone: no sign of life any more
    all_take()
    assert len(taken) == 1
    all_take()
    clock[0] += 0.99 * caches.LEASE
    taken[0].give_sign()
    all_take()
    assert len(taken) == 1
    taken[0].release()
    assert store._files.glob(f"{store._base}/locks/x.*") == []
    alive.acquire(timeout=0)
    with pytest.raises(remote.Timeout):
        lease().acquire(timeout=0)
    alive.release()


def test_of_two_that_see_a_lease_free_at_one_moment_one_gets_it(machine, monkeypatch):
    monkeypatch.setattr(ObjectLease, "_read", lambda lease, number: None)
    first, second = (ObjectLease(store._files, f"{store._base}/x") for store in (machine("a"), machine("b")))
    first.acquire(timeout=0)
    with pytest.raises(remote.Timeout):
        second.acquire(timeout=0)
    first.release()


def test_a_run_that_another_machine_holds_is_left(machine):
    first, second = machine("a"), machine("b")
    with first.claim(DENSE) as mine, second.claim(DENSE) as theirs:
        assert (mine, theirs) == (True, False)
        assert second.held(DENSE)
    assert not second.held(DENSE)


def test_a_backend_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileError, match="nosuch://place/store cannot be reached"):
        RemoteStore("nosuch://place/store", tmp_path)


@pytest.mark.long
def test_a_server_that_does_not_answer_ends_a_sweep_with_one_message(server, tmp_path):
    store = RemoteStore(f"{server}/{uuid.uuid4().hex}", tmp_path)
    gone = remote.fsspec.filesystem(
        "s3", endpoint_url="http://127.0.0.1:9", config_kwargs={"retries": {"max_attempts": 1}}
    )
    gone.retries = 1
    store._files = gone
    with pytest.raises(FileError, match="cannot be reached"):
        swept(store)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/runs", "ftp://127.0.0.1:9/runs"])
def test_a_server_that_is_not_there_is_no_empty_store(address, tmp_path):
    with pytest.raises(FileError, match="cannot be reached"):
        RemoteStore(address, tmp_path)


def test_folders_and_addresses_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("SPLINELIB_MIRROR", str(tmp_path))
    assert type(open_store(tmp_path)) is type(open_store("runs/a:b")) is RecordStore
    store = open_store("memory://here")
    assert (type(store), store.address, store.root.parent) == (RemoteStore, "memory://here", tmp_path)
