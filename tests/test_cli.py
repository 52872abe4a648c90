import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import tiny_dataset

from splinelib.errors import TrainingError
from splinestudy import __main__ as cli
from splinestudy.__main__ import main
from splinestudy.runs import asked, dense, workers
from splinestudy.runs import sweep as sweeps
from splinestudy.runs.committed import STUDIES
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.profiles import get_profile
from splinestudy.runs.provenance import SOURCE
from splinestudy.runs.store import RecordStore

SWEEP = ["sweep", "layerwise", "--profile", "smoke", "--seeds", "0", "--criteria", "spline"]


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO)


@pytest.fixture
def tiny(monkeypatch):
    """Sweeps of the tiny data set and network instead of the profile's."""
    monkeypatch.setattr(cli, "load_dataset", lambda name: tiny_dataset())
    monkeypatch.setattr(dense, "load_dataset", lambda name: tiny_dataset())
    return ["--arch", "alexnet", "--width", "0.04"]


def test_a_smoke_sweep_on_real_digits(tmp_path, caplog):
    assert main([*SWEEP, "--store", str(tmp_path), "--budget", "540s"]) == 0
    assert "2 records, 0 failed, 0 left" in caplog.text
    (dense,), (pruned,) = RecordStore(tmp_path).load_all("dense"), RecordStore(tmp_path).load_all("prune")
    assert dense.provenance["profile"] == "smoke"
    assert len(dense.results["epochs"]) == 4
    assert pruned.settings["dense"] == dense.settings
    assert pruned.results["cost"]["flops"] < 0.5 * pruned.results["dense_cost"]["flops"]
    caplog.clear()
    assert main([*SWEEP, "--store", str(tmp_path), "--budget", "0"]) == 0
    assert "2 records, 0 failed, 0 left" in caplog.text


def test_studies_are_listed_as_commands_that_plan_them(tmp_path, monkeypatch, capsys):
    store = RecordStore(tmp_path)
    store.save(STUDIES[0].runs()[0], {}, {})
    monkeypatch.setattr(cli, "committed_store", lambda needed: store)
    assert main(["studies"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("# 1 of 3 records")
    for line, study in zip(lines, STUDIES, strict=True):
        python, *arguments = shlex.split(line, comments=True)
        assert [python, *arguments[:2]] == ["python", "-m", "splinestudy"]
        options = vars(cli._parser().parse_args(arguments[2:]))
        overrides = {name: value for name, value in options.items() if hasattr(study.settings(), name)}
        assert options["name"] == study.sweep
        assert get_profile(options["profile"], **overrides) == study.settings()


def test_a_budget_of_nothing_does_nothing(tmp_path, caplog):
    assert main([*SWEEP, "--store", str(tmp_path), "--budget", "0s"]) == 0
    assert "0 records, 0 failed, 2 left" in caplog.text
    assert not list(tmp_path.rglob("*.json"))


def test_failed_runs_are_named_and_counted(tmp_path, caplog, tiny, monkeypatch):
    def fail(run, *arguments):
        raise TrainingError("the loss is nan in epoch 7")

    monkeypatch.setattr(DenseRun, "compute", fail)
    assert main([*SWEEP, *tiny, "--store", str(tmp_path)]) == 1
    assert "0 records, 2 failed, 0 left" in caplog.text
    assert caplog.text.count("failed: dense ") == 2  # when it happens, and at the end
    assert "TrainingError: the loss is nan in epoch 7" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--ratios", "1.5"], "error: ratios are (1.5,): each must lie strictly between 0 and 1"),
        (["--width", "-1"], "error: width is -1.0"),
        (["--jobs", "100000"], "error: --jobs is 100000: give a whole number in [1, 256]"),
        (["--jobs", "0"], "error: --jobs is 0: give a whole number in [1, 256]"),
    ],
)
def test_settings_outside_end_with_status_2(arguments, named, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "load_dataset", lambda name: pytest.fail("this is work"))
    assert main([*SWEEP, "--store", str(tmp_path), *arguments]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sweep", "layers", "--store", "x"], "invalid choice: 'layers'"),
        (["sweep", "global", "--store", "x", "--profile", "huge"], "invalid choice: 'huge'"),
        (["sweep", "global", "--store", "x", "--criteria", "magic"], "invalid choice: 'magic'"),
        (
            ["sweep", "global", "--store", "x", "--budget", "540 seconds"],
            "'540 seconds' is no duration: write 540s",
        ),
        (["sweep", "global", "--store", "x", "--budget", "-5s"], "expected one argument"),
        (["sweep", "global", "--store", "x", "--budget", "1d"], "'1d' is no duration"),
        (["sweep", "global"], "required: --store"),
        (["data", "cifar"], "invalid choice: 'cifar'"),
        ([], "required"),
    ],
)
def test_arguments_that_make_no_sense_end_with_usage(arguments, named, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("540s", 540), ("20m", 1200), ("2h", 7200), ("90", 90), ("1.5h", 5400), ("0", 0)]
)
def test_durations(text, seconds):
    assert asked.duration(text) == seconds


def test_overrides_reach_the_plan(tmp_path, monkeypatch, tiny):
    planned = []

    def stop(executor, runs, store, *, profile, gpus, budget, wait):
        planned.append((runs, store.root, profile, budget))
        return sweeps.SweepReport()

    monkeypatch.setattr(cli, "execute", stop)
    arguments = ["sweep", "global", "--profile", "quick", "--dataset", "mnist", *tiny, "--seeds", "3", "4"]
    arguments += [
        "--ratios",
        "0.25",
        "--criteria",
        "l1",
        "random",
        "--store",
        str(tmp_path),
        "--budget",
        "9m",
    ]
    assert main(arguments) == 0
    (planned_runs, root, profile, budget) = planned[0]
    assert (root, profile, budget) == (tmp_path, "quick", 540.0)
    dense = planned_runs[:2]
    assert [(run.dataset, run.arch, run.width, run.seed) for run in dense] == [
        ("mnist", "alexnet", 0.04, 3),
        ("mnist", "alexnet", 0.04, 4),
    ]
    assert [(run.dense.seed, run.criterion, run.ratio, run.scope) for run in planned_runs[2:]] == [
        (seed, criterion, 0.25, "global") for seed in (3, 4) for criterion in ("l1", "random")
    ]


@pytest.mark.parametrize(("codes", "status"), [([0, 0], 0), ([0, 1], 1), ([0, -9], 9)])
def test_jobs_are_the_same_command_in_several_processes(codes, status, tmp_path, monkeypatch, tiny):
    started = []

    class Process:
        def __init__(self, command, env):
            started.append((command, env["OMP_NUM_THREADS"]))
            self.code = codes[len(started) - 1]

        def wait(self, timeout=None):
            return self.code

    monkeypatch.setattr(workers.subprocess, "Popen", Process)
    monkeypatch.setattr(workers, "count_cores", lambda: 8)
    arguments = [*SWEEP, *tiny, "--store", str(tmp_path), "--jobs", "2"]
    assert main(arguments) == status
    assert started == [([sys.executable, "-m", "splinestudy", *arguments, "--jobs", "1"], "4")] * 2


def test_data_says_what_is_there(caplog, tiny):
    assert main(["data", "digits"]) == 0
    assert "digits: 48 training and 24 test images" in caplog.text


@pytest.mark.long
def test_two_workers_of_a_slurm_array_compute_a_run_once(tmp_path, capsys):
    """The script as SLURM runs it, by two shells that know their task from nothing."""
    options = ["--profile", "smoke", "--store", str(tmp_path / "store of all"), "--workers", "2"]
    assert main(["slurm", "toy", *options]) == 0
    script = capsys.readouterr().out
    assert "#SBATCH --array=1-2" in script
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(SOURCE)}
    workers = [
        subprocess.Popen(["bash", "-c", script], env=env, stderr=subprocess.PIPE, text=True) for _ in "12"
    ]
    said = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    (record,) = RecordStore(tmp_path / "store of all").load_all("toy")
    assert record.provenance["profile"] == "smoke"
