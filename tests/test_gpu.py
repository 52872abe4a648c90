"""The command for a GPU, at smoke size on the CPU."""

import json
import tarfile

import pytest

from splinestudy.__main__ import main
from splinestudy.runs import gpu
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.gpu import gpu_runs, write_archive
from splinestudy.runs.profiles import get_profile
from splinestudy.runs.protocol import CORE
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.records import run_key
from splinestudy.runs.store import RecordStore
from splinestudy.runs.sweep import sweep


def test_every_minute_leaves_whole_comparisons():
    profile = get_profile("paper")
    runs = gpu_runs(profile)
    assert len(set(map(run_key, runs))) == len(runs)
    first = [run for run in runs if getattr(run, "dense", run).arch == "vgg16_bn"]
    assert runs[: len(first)] == first
    seeds = len(profile.seeds)
    assert all(isinstance(run, DenseRun) and not run.train.norm_l1 for run in first[:seeds])
    birds = first[2 * seeds : 4 * seeds]
    assert [run.draw for run in birds] == ["spline"] * seeds + ["mask"] * seeds
    assert all(run.onward and run.finetune.epochs == profile.epochs for run in birds)
    ends = first[4 * seeds :]
    assert all(isinstance(run, PruneRun) and run.draw == "end" and run.ratio == gpu.RATIO for run in ends)
    whole, rest = ends[: 5 * seeds], ends[5 * seeds :]
    assert [run.dense.seed for run in whole] == [seed for seed in profile.seeds for _ in range(5)]
    assert [run.dense.seed for run in rest] == [seed for seed in profile.seeds for _ in range(3)]
    assert {run.criterion for run in ends if not run.dense.train.norm_l1} == set(CORE)
    for run in first[2 * seeds :]:
        assert run.dense in first[: first.index(run)]


def test_the_command_leaves_one_archive_of_records(tmp_path):
    store, first = RecordStore(tmp_path / "store"), gpu_runs(get_profile("smoke"))[0]
    assert sweep([first], store, profile="smoke", progress=False).records
    arguments = ["gpu", "--minutes", "0.02", "--out", str(tmp_path), "--jobs", "1", "--profile", "smoke"]
    assert main(arguments) == 0  # what ran was ended
    with tarfile.open(tmp_path / gpu.ARCHIVE) as archive:
        assert archive.getnames() == [f"dense/{run_key(first)}.json"]
        assert json.load(archive.extractfile(archive.getnames()[0]))["key"] == run_key(first)


def test_an_archive_of_nothing_is_empty(tmp_path):
    with tarfile.open(write_archive(RecordStore(tmp_path / "none"), tmp_path)) as archive:
        assert archive.getnames() == []


@pytest.mark.parametrize(
    "wrong", [["--minutes", "0"], ["--minutes", "nan"], ["--minutes", "1", "--jobs", "0"]]
)
def test_settings_that_make_no_sense_are_named(wrong, tmp_path, capsys):
    assert main(["gpu", "--out", str(tmp_path), *wrong]) == 2
    assert f"error: {wrong[-2]} is" in capsys.readouterr().err
