"""Faults of machines: full disks, missing rights, kills, dead nodes. Nothing is lost, and each is said once."""

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from breaking import wait_until
from tiny_runs import sweep_tiny, tiny_dataset, tiny_plan

from splinelib.errors import DamagedError, FileError, RecordError
from splinelib.files import atomic_path, save_tensors
from splinestudy import caches
from splinestudy.__main__ import main
from splinestudy.runs import sweep as sweeps
from splinestudy.runs.committed import committed_store
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.executors import _there
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.records import run_key
from splinestudy.runs.store import RecordStore
from splinestudy.runs.sweep import shard

DENSE, OTHER, *PRUNED = PLAN = tiny_plan()


@pytest.fixture
def store(tmp_path):
    """With one record."""
    store = RecordStore(tmp_path / "store")
    store.save(DENSE, {"accuracy": 0.5}, {})
    return store


@pytest.fixture
def quick(monkeypatch):
    """Runs are computed at once; lists them."""
    done = []

    def compute(run, store, device, progress):
        done.append(run)
        if isinstance(run, DenseRun):
            save_tensors(store.weights_path(run), {})
        return {"number": len(done)}

    for kind in (DenseRun, PruneRun):
        monkeypatch.setattr(kind, "compute", compute)
    monkeypatch.setattr(sweeps, "_WAIT", 0.01)
    return done


def failing(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


# --- records --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.EMFILE, "ulimit -n"), (errno.EACCES, "the right"), (errno.EIO, "")]
)
def test_a_record_that_cannot_be_read_stays_where_it_is(number, remedy, store, monkeypatch):
    before = store.path(DENSE).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.read_bytes", failing(number))
        with pytest.raises(FileError, match=rf"{run_key(DENSE)}.json cannot be read \(.*{remedy}"):
            store.load(DENSE)
        with pytest.raises(FileError):
            store.load_all("dense")
    assert [path.name for path in store.path(DENSE).parent.iterdir()] == [store.path(DENSE).name]
    assert store.path(DENSE).read_bytes() == before


def test_real_want_of_file_descriptors_renames_nothing(store):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        with pytest.raises(FileError, match="ulimit -n"):
            store.load(DENSE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert store.load(DENSE).results == {"accuracy": 0.5}


def test_a_record_of_a_newer_schema_is_an_error_that_says_so(store):
    content = json.loads(store.path(DENSE).read_text())
    store.path(DENSE).write_text(json.dumps({**content, "schema": 2}))
    for read in (lambda: store.load(DENSE), lambda: store.load_all("dense")):
        with pytest.raises(
            RecordError, match="has schema 2, this version reads 1: use the version that wrote it"
        ):
            read()
    assert store.path(DENSE).exists()


def test_a_cluster_computes_the_others_too_where_a_record_is_of_a_newer_schema(store):
    content = json.loads(store.path(DENSE).read_text())
    store.path(DENSE).write_text(json.dumps({**content, "schema": 2}))
    refused = {}
    assert [_there(run, store, refused) for run in (DENSE, DENSE, OTHER)] == [True, True, False]
    assert list(refused) == [DENSE]


def test_a_folder_that_is_only_read_is_never_changed(store):
    store.path(DENSE).write_text("{" * 100_000)  # too deep for the parser
    for reader in (RecordStore(store.root, readonly=True), committed_store(store.root)):
        with pytest.raises(DamagedError, match=run_key(DENSE)):
            reader.load(DENSE)
        assert reader.load(OTHER) is None
    assert store.path(DENSE).exists()
    assert store.load(DENSE) is None  # in one's own, it is set aside
    assert store.path(DENSE).with_suffix(".damaged").exists()


# --- writing --------------------------------------------------------------------------------------------------


def test_a_disk_without_room_is_named_with_its_remedy(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(FileError, match=r"a\.pt cannot be written \(File too large\): let larger files"):
            save_tensors(tmp_path / "a.pt", {"x": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_ends_at_once_where_nothing_can_be_written(tmp_path, quick, monkeypatch):
    monkeypatch.setattr("splinelib.files.os.fsync", failing(errno.ENOSPC))
    with pytest.raises(FileError, match=r"cannot be written \(No space left on device\): make room there"):
        sweep_tiny(tmp_path)
    assert len(quick) == 1


def test_a_store_that_is_a_file_ends_with_one_message(tmp_path, quick, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("splinestudy.__main__.load_dataset", lambda name: tiny_dataset())
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["sweep", "early_bird", "--profile", "smoke", "--store", str(path)]) == 2
        assert "a part of the path is a file: name a folder" in capsys.readouterr().err
    assert quick == []


def test_what_kills_left_behind_is_cleaned_when_the_run_is_taken_up(store):
    left = [
        store.root / folder / f".{run_key(OTHER)}.0123abcd.tmp{suffix}"
        for folder, suffix in (("dense", ".json"), ("weights", ".pt"), ("checkpoints", ".pt"))
    ]
    foreign = (
        store.root / "dense" / f".{run_key(DENSE)}.0123abcd.tmp.json"
    )  # of a run that another may compute
    for path in (*left, foreign):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    with store.claim(OTHER):
        assert not any(path.exists() for path in left)
    assert foreign.exists()


def test_the_names_of_temporaries_are_those_that_are_cleaned(store):
    with atomic_path(store.path(OTHER)) as path:
        path.write_text("half")
    store.path(OTHER).rename(path)  # as if the process had been killed
    assert len(list(store.path(OTHER).parent.glob(".*"))) == 1
    with store.claim(OTHER):
        assert list(store.path(OTHER).parent.glob(".*")) == []


def test_a_checkpoint_of_a_finished_run_goes_with_its_dead_lease(store):
    checkpoint, lease = store.checkpoint_path(DENSE), store.root / "locks" / f"{run_key(DENSE)}.lease"
    checkpoint.parent.mkdir()
    checkpoint.write_text("")
    with store.claim(DENSE):
        marker = lease.read_text()
        assert store.load(DENSE)
        assert checkpoint.exists()  # it is one's own
        with ThreadPoolExecutor(1) as other:
            assert other.submit(RecordStore(store.root).load, DENSE).result()
        assert checkpoint.exists()  # its process lives
    dead = re.sub(r"pid=\d+", "pid=999999999", marker)
    lease.write_text(dead)
    assert store.load(DENSE)
    assert checkpoint.exists()  # without weights: a process was killed that trained it again for them
    save_tensors(store.weights_path(DENSE), {})
    lease.write_text(dead)
    assert store.load(DENSE)
    assert not checkpoint.exists()


# --- leases ---------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(store, monkeypatch):
    """The file of a lease that a process on another machine holds: to touch it is a sign of life."""
    monkeypatch.setattr(caches, "LEASE", 1.0)
    path = store.root / "locks" / f"{run_key(OTHER)}.lease"
    with RecordStore(store.root).claim(OTHER):
        marker = path.read_text()
    lines = ["host=elsewhere" if line.startswith("host=") else line for line in marker.split("\n")]
    path.write_text("\n".join(lines))
    return path


def taken_within(store, seconds, before_each_look):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before_each_look()
        with store.claim(OTHER) as mine:
            if mine:
                return True
        time.sleep(0.05)
    return False


def test_a_lease_of_another_machine_holds_while_it_lives_and_no_longer(store, elsewhere):
    assert store.held(OTHER)
    assert not taken_within(store, 3, partial(os.utime, elsewhere))
    assert taken_within(store, 30, lambda: None)


def test_a_lease_whose_process_was_killed_is_free_at_once(store):
    code = (
        "import sys, time; from splinestudy.caches import lease; lock = lease(__import__('pathlib').Path(sys.argv[1]));"
        "lock.acquire(); print(flush=True); time.sleep(600)"
    )
    path = store.root / "locks" / f"{run_key(OTHER)}.lease"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    process.stdout.read(1)
    assert store.held(OTHER)
    process.kill()
    process.wait()
    process.stdout.close()
    assert not store.held(OTHER)


def test_a_worker_that_does_not_wait_leaves_when_all_is_held(tmp_path, quick):
    other = RecordStore(tmp_path)
    with other.claim(DENSE), other.claim(OTHER):
        report = sweep_tiny(tmp_path, [DENSE, OTHER], wait=False)
    assert (report.records, report.left, quick) == ([], [DENSE, OTHER], [])


def test_a_worker_that_does_not_wait_stays_while_others_compute_what_it_needs(tmp_path, quick, monkeypatch):
    other, naps = RecordStore(tmp_path), []
    claim = other.claim(DENSE)
    claim.__enter__()

    def nap(seconds):
        naps.append(seconds)
        DENSE.compute(other, None, None)
        other.save(DENSE, {}, {})
        claim.__exit__(None, None, None)

    monkeypatch.setattr(sweeps.time, "sleep", nap)
    report = sweep_tiny(tmp_path, [DENSE, PRUNED[0]], wait=False)
    assert (len(report.records), report.left, len(naps)) == (2, [], 1)


@pytest.mark.parametrize("of", [1, 2, 3])
def test_shards_are_the_whole_and_train_no_network_twice(of):
    parts = [shard(PLAN[::-1], number, of) for number in range(1, of + 1)]
    assert sorted(map(run_key, sum(parts, []))) == sorted(map(run_key, PLAN))
    for part in parts:
        kinds = [run.kind for run in part]
        assert kinds == sorted(kinds)  # dense, then prune
        assert {run.dense for run in part if run.kind == "prune"} <= set(part)


# --- children -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)], ids=["kill", "term"]
)
def test_children_end_with_their_parent(how, tmp_path):
    command = [
        sys.executable,
        "-m",
        "splinestudy",
        "sweep",
        "early_bird",
        "--profile",
        "smoke",
        "--jobs",
        "2",
    ]
    command += ["--epochs", "100000", "--store", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)

    def holders():
        found = set()
        for path in tmp_path.glob("locks/*.lease"):
            found |= {int(line[4:]) for line in path.read_text().splitlines() if line.startswith("pid=")}
        return found

    wait_until(lambda: len(holders()) == 2, process)
    children = holders()
    process.send_signal(how)
    process.wait()
    deadline = time.monotonic() + 30
    while any(alive(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.stderr.close()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
