"""What is asked of a sweep is done or refused: settings that it has of its own, and how it ends."""

import os
import re
import signal
import subprocess
import sys

import pytest
from breaking import wait_until

from splinelib.errors import SettingError
from splinestudy.__main__ import INTERRUPTED, main
from splinestudy.notebook import check_compared
from splinestudy.runs import workers
from splinestudy.runs.asked import check_some_used, plan_as_asked
from splinestudy.runs.check import check_record
from splinestudy.runs.committed import STUDIES, committed_store, owners
from splinestudy.runs.plans import plan
from splinestudy.runs.profiles import get_profile
from splinestudy.runs.provenance import SOURCE, check_clean
from splinestudy.runs.remote import open_store
from splinestudy.runs.run import brief, check_data
from splinestudy.runs.sweep import shard


@pytest.mark.parametrize(
    "study", STUDIES, ids=lambda study: study.command().split("sweep ")[1].split(" --store")[0]
)
def test_a_study_asks_for_nothing_that_its_sweep_does_not_use(study):
    assert plan_as_asked(study.sweep, study.profile, **study.overrides) == study.runs()


@pytest.mark.parametrize(
    ("sweep", "given", "said"),
    [
        ("core", {"ratios": (0.4,)}, "ratios has 0.4, on which sweep 'core' does not depend"),
        ("core", {"ratios": (0.3, 0.4, 0.9)}, "ratios has 0.4, 0.9, on"),
        ("core", {"criteria": ("l2",)}, "criteria has 'l2', on"),
        ("compensation", {"criteria": ("l2", "spline")}, "criteria has 'l2', on"),
        ("early", {"ratios": (0.5,)}, "ratios has 0.5, on"),
        ("toy", {"seeds": (3, 4)}, "seeds has 3, 4, on"),
        ("toy", {"arch": "alexnet"}, "arch has 'alexnet', on"),
        ("early_bird", {"finetune_epochs": 7}, "finetune_epochs has 7, on"),
        ("layerwise", {"curve": (0.2,)}, "curve has 0.2, on"),
    ],
)
def test_what_a_sweep_does_not_use_is_refused(sweep, given, said):
    with pytest.raises(SettingError, match=said):
        plan_as_asked(sweep, "smoke", **given)


def test_what_a_sweep_uses_is_planned():
    given = {"ratios": (0.5, 0.3), "seeds": (4,), "epochs": 9, "width": None, "criteria": ("l2",)}
    runs = plan_as_asked("layerwise", "smoke", **given)
    assert runs == plan("layerwise", get_profile("smoke", **given))
    assert {run.ratio for run in runs if run.kind == "prune"} == {0.3, 0.5}
    assert plan_as_asked("toy", "smoke") == plan("toy", get_profile("smoke"))
    assert plan_as_asked("core", "smoke", epochs=get_profile("smoke").epochs)  # as the profile has it


def test_a_chapter_that_would_use_nothing_of_what_was_asked_says_so_first():
    asked = get_profile("smoke", criteria=("l2",), ratios=(0.4,))
    with pytest.raises(SettingError, match=r"criteria is \['l2'\], of which sweep 'compensation' uses none"):
        check_some_used("compensation", asked, "smoke", ("criteria", "ratios"))
    with pytest.raises(SettingError, match=r"ratios is \[0.4\], of which sweep 'core'"):
        check_some_used("core", asked, "smoke", ("criteria", "ratios"))
    check_some_used("early_bird", asked, "smoke", ("criteria", "ratios"))  # which prunes nothing
    check_some_used("layerwise", asked, "smoke", ("criteria", "ratios"))


def test_runs_are_named_by_what_tells_them_apart():
    runs = plan("layerwise", get_profile("smoke"))
    assert len({brief(run) for run in runs}) == len(runs)
    assert max(len(brief(run)) for run in runs) < 200


def test_more_images_than_there_are_are_refused_before_any_run(tmp_path, capsys):
    arguments = ["sweep", "layerwise", "--profile", "smoke", "--store", str(tmp_path), "--images"]
    assert main([*arguments, "1438"]) == 2
    assert (
        "images is 1438: the training images of 'digits' are 1437, 0 takes them all"
        in capsys.readouterr().err
    )
    assert main([*arguments, "1437", "--budget", "0"]) == 0
    check_data(plan("toy", get_profile("quick")))  # no network, no images


def test_a_list_leaves_the_store_as_it_is(tmp_path, capsys):
    arguments = ["sweep", "toy", "--profile", "smoke", "--store", str(tmp_path)]
    assert main(arguments) == 0
    record = next(tmp_path.glob("toy/*.json"))
    record.write_text(record.read_text()[:-20])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    assert main([*arguments, "--list"]) == 0
    assert f"damaged toy {record.stem}" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert main([*arguments, "--budget", "0"]) == 0
    assert record.with_suffix(".damaged").exists()


def test_a_study_without_networks_needs_no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("SPLINELIB_DATA", "/dev/null/x")
    arguments = ["sweep", "toy", "--profile", "quick", "--store", str(tmp_path), "--budget", "0"]
    assert main(arguments) == 0


@pytest.mark.parametrize("form", ["{}", "file://{}", "local://{}", "simplecache::file://{}"])
def test_committed_records_are_kept_from_a_source_that_is_not_committed_by_any_address(form, monkeypatch):
    monkeypatch.setattr("splinestudy.runs.provenance.source_commit", lambda: ("abc", False))
    with pytest.raises(SettingError, match="the committed records, and the source is not"):
        check_clean(form.format(SOURCE / "records"))
    check_clean(form.format(SOURCE / "elsewhere"))
    check_clean("s3://bucket/records")


def test_a_store_that_ends_with_the_process_is_refused(capsys):
    assert main(["sweep", "early_bird", "--profile", "smoke", "--store", "memory://x"]) == 2
    assert "ends with this process: name a folder" in capsys.readouterr().err


def test_an_interrupted_sweep_says_one_line(tmp_path):
    command = [sys.executable, "-m", "splinestudy", "sweep", "early_bird", "--profile", "smoke"]
    process = subprocess.Popen(
        [*command, "--epochs", "100000", "--store", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell's background has it ignored
    )
    wait_until(lambda: list(tmp_path.glob("locks/*.lease")), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == INTERRUPTED
    assert "interrupted: the same command goes on" in said
    assert "Traceback" not in said


def test_a_reader_that_has_enough_ends_a_list_quietly():
    command = f"{sys.executable} -m splinestudy studies | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_seeds_that_are_none_are_named_in_plain_words(capsys):
    assert main(["sweep", "early_bird", "--profile", "smoke", "--store", "x", "--seeds", "-1"]) == 2
    assert "give a list of which each is a whole number in [0, 4294967296)" in capsys.readouterr().err


def test_long_gpu_times_are_understood(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(
        "splinestudy.__main__.run_workers", lambda jobs, arguments, seconds: given.append(arguments) or 0
    )
    for minutes in ("20000", "0.000001"):
        assert main(["gpu", "--minutes", minutes, "--out", str(tmp_path), "--profile", "smoke"]) == 0
    assert [arguments[-1] for arguments in given] == ["1200000.000s", "0.000s"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seeds", "0", "0"], "seeds are .0, 0.: name each once"),
        (["--ratios", "0.3", "0.3"], "name each once"),
        (["--arch", "mlp"], "'mlp', which has no batch norm for 'bn_scale'"),
        (["--gpus", "0.5"], "only --executor ray uses"),
        (["--executor", "ray", "--gpus", "-1"], "--gpus is -1.0"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_run(more, said, tmp_path, capsys):
    assert main(["sweep", "layerwise", "--profile", "smoke", "--store", str(tmp_path), *more]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("store", ["", "memory://x"])
def test_scripts_are_written_for_stores_that_last_alone(store, capsys):
    assert main(["slurm", "toy", "--profile", "smoke", "--store", store]) == 2
    assert "name a folder" in capsys.readouterr().err


def test_a_file_is_no_store_wherever_it_is_named(tmp_path, capsys):
    (file := tmp_path / "file").touch()
    assert main(["gpu", "--profile", "smoke", "--minutes", "1", "--out", str(file)]) == 2
    assert f"store {file} is a file: name a folder" in capsys.readouterr().err
    for store in (str(file), "/dev/null"):
        assert main(["sweep", "toy", "--profile", "smoke", "--store", store, "--list"]) == 2
        assert "is a file: name a folder" in capsys.readouterr().err


def test_a_store_may_be_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("~/runs").root == tmp_path / "runs"


def test_all_keys_are_looked_at_before_any_is_computed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("splinestudy.__main__.check_record", lambda *given: pytest.fail("computed"))
    key = next(iter(owners()))
    assert main(["check", key, f"{key}.json", "--store", str(tmp_path)]) == 2
    assert "a file in records/, without .json" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["{}", "file://{}", "local://{}"])
def test_records_are_not_checked_against_themselves_by_any_address(form):
    with pytest.raises(SettingError, match="where the records lie"):
        check_record(next(iter(owners())), committed_store(), open_store(form.format(SOURCE / "records")))


def test_shards_get_about_as_many_runs_each():
    for sweep, profile in (
        ("core", "half"),
        ("early", "full"),
        ("paper_era", "grey"),
        ("layerwise", "smoke"),
    ):
        runs = plan(sweep, get_profile(profile))
        for of in (2, 4):
            counts = [len(shard(runs, number, of)) for number in range(1, of + 1)]
            assert sum(counts) == len(runs)
            owners_ = [run if run.kind == "dense" else run.dense for run in runs]
            assert max(counts) - min(counts) <= max(map(owners_.count, owners_))


def test_chapters_that_compare_need_something_to_compare():
    for criteria in (("l1", "random"), ("spline",)):
        with pytest.raises(SettingError, match="compares 'spline' with others"):
            check_compared(get_profile("smoke", criteria=criteria))
    check_compared(get_profile("smoke", criteria=("l1", "spline")))


def test_workers_read_what_stands_behind_two_dashes(monkeypatch):
    commands = []
    monkeypatch.setattr(workers.subprocess, "Popen", lambda command, env: commands.append(command[3:]))
    monkeypatch.setattr(workers, "_ended", lambda process, end: 0)
    workers.run_workers(2, ["sweep", "--criteria", "l1", "--jobs", "2", "--", "layerwise"])
    assert commands == [["sweep", "--criteria", "l1", "--jobs", "2", "--jobs", "1", "--", "layerwise"]] * 2
