import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil

import pytest
import torch
from breaking import damaged
from tiny_runs import tiny_plan

from splinelib.errors import FileError, RecordError
from splinelib.files import atomic_path, sha256_of
from splinestudy.caches import cache_dir
from splinestudy.runs.committed import STUDIES
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.provenance import computed_on, provenance
from splinestudy.runs.records import ALGORITHMS, read_record, run_key, settings_dict
from splinestudy.runs.store import RecordStore
from splinestudy.training.settings import TrainSettings

DENSE, OTHER, PRUNED, _ = tiny_plan(seeds=(0, 1), criteria=("spline",))
RESULTS = {"accuracy": 0.1 + 0.2, "epochs": [{"loss": 1e-300}], "epoch": None, "name": "ω"}


@pytest.fixture
def store(tmp_path):
    return RecordStore(tmp_path)


def test_what_is_saved_is_loaded(store):
    saved = store.save(PRUNED, RESULTS, {"profile": "tiny"})
    assert saved == store.load(PRUNED)
    assert (saved.kind, saved.key) == ("prune", run_key(PRUNED))
    assert saved.results == RESULTS
    assert saved.provenance == {"profile": "tiny"}
    assert saved.settings == settings_dict(PRUNED)
    assert saved.settings["dense"]["train"]["milestones"] == [0.5, 0.75]
    assert store.path(PRUNED).parent.name == "prune"
    assert [path.name for path in store.path(PRUNED).parent.iterdir()] == [f"{saved.key}.json"]


def test_what_is_returned_is_what_a_reader_gets(store):
    saved = store.save(DENSE, {"pair": (1, 2), "by_epoch": {9: 0.5, 10: 0.25}}, {})
    assert saved.results == {"pair": [1, 2], "by_epoch": {"9": 0.5, "10": 0.25}}
    assert store.load(DENSE) == saved


def test_runs_do_not_mix(store):
    store.save(DENSE, {"value": 1}, {})
    assert store.load(OTHER) is None
    assert store.load(PRUNED) is None
    store.save(OTHER, {"value": 2}, {})
    store.save(PRUNED, {"value": 3}, {})
    assert sorted(record.results["value"] for record in store.load_all("dense")) == [1, 2]
    assert store.load_all("nothing") == []


def test_the_key_is_the_hash_of_kind_schema_and_settings():
    settings = json.dumps([1, "prune", settings_dict(PRUNED)], sort_keys=True)
    assert run_key(PRUNED) == hashlib.sha256(settings.encode()).hexdigest()[:16]


def test_the_key_of_a_run_stays_from_version_to_version():
    # Records are found by it: a change here orphans every record there is.
    run = DenseRun(
        "cifar10", None, "vgg16_bn", 0.25, 0, TrainSettings(16, precision="bfloat16"), 32, (0.3, 0.5, 0.7)
    )
    assert run_key(run) == "ec9074a0e9f5938a"


def test_an_algorithm_of_another_version_does_not_find_the_records_of_the_one_before(monkeypatch, store):
    solved = dataclasses.replace(PRUNED, compensate="least_squares")
    store.save(solved, {"accuracy": 0.5}, {})
    store.save(PRUNED, {"accuracy": 0.5}, {})
    assert settings_dict(solved)["algorithms"] == ALGORITHMS["compensate"]
    assert "algorithms" not in settings_dict(PRUNED)
    monkeypatch.setitem(ALGORITHMS, "compensate", {"least_squares": 3})
    assert store.load(solved) is None
    assert store.load(PRUNED).results == {"accuracy": 0.5}


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "digits"},
        {"images": None},
        {"seed": 1},
        {"mask_ratios": (0.5, 0.7)},
        {"test_images": 100},
        {"train": dataclasses.replace(DENSE.train, momentum=0.8)},
    ],
)
def test_every_setting_counts(changes):
    changed = dataclasses.replace(DENSE, **changes)
    assert run_key(changed) != run_key(DENSE)
    assert run_key(dataclasses.replace(PRUNED, dense=changed)) != run_key(PRUNED)
    assert run_key(
        dataclasses.replace(changed, **{name: getattr(DENSE, name) for name in changes})
    ) == run_key(DENSE)


@pytest.mark.parametrize("how", ["altered", "truncated", "empty", "other"])
def test_a_damaged_record_is_reported_and_set_aside(how, store, caplog):
    store.save(OTHER, RESULTS, {})
    path = store.path(DENSE)
    store.save(DENSE, RESULTS, {"profile": "tiny"})
    broken = damaged(path.read_bytes())[how]
    path.write_bytes(broken)
    with caplog.at_level(logging.WARNING):
        assert store.load(DENSE) is None
    assert str(path) in caplog.text
    assert "set aside" in caplog.text
    assert not path.exists()
    assert path.with_suffix(".damaged").read_bytes() == broken
    assert store.load(DENSE) is None
    assert [record.key for record in store.load_all("dense")] == [run_key(OTHER)]
    store.save(DENSE, RESULTS, {})
    assert store.load(DENSE).results == RESULTS


def test_any_altered_byte_of_the_content_is_noticed(store):
    path = store.path(DENSE)
    store.save(DENSE, {"accuracy": 0.875}, {"profile": "tiny"})
    text = path.read_text()
    for place in [match.start() for match in re.finditer(r"\w", text)]:
        path.write_text(text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :])
        with pytest.raises(RecordError, match=re.escape(str(path))):
            read_record(path)
    path.write_text(text)
    assert read_record(path).results == {"accuracy": 0.875}


def test_load_all_sets_aside_what_is_damaged(store):
    for run in (DENSE, OTHER):
        store.save(run, RESULTS, {})
    store.path(DENSE).write_text("{")
    assert [record.key for record in store.load_all("dense")] == [run_key(OTHER)]
    assert store.path(DENSE).with_suffix(".damaged").exists()


def rewritten(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda content: content.update(schema=0), "has schema 0, this version reads 1"),
        (lambda content: content.pop("results"), r"lacks \['results'\]"),
        (lambda content: content.pop("digest"), r"lacks \['digest'\]"),
        (lambda content: content["results"].update(accuracy=1.0), "was altered"),
        (lambda content: content["results"].update(accuracy=float("nan")), "was altered"),
        (lambda content: content["settings"].update(seed=7), "was altered"),
    ],
)
def test_what_is_wrong_with_a_record_is_named(change, named, store):
    store.save(DENSE, dict(RESULTS), {})
    rewritten(store.path(DENSE), change)
    with pytest.raises(RecordError, match=named):
        read_record(store.path(DENSE))


def test_a_record_under_another_name_is_not_taken_for_that_run(store):
    store.save(DENSE, RESULTS, {})
    store.path(DENSE).rename(store.path(OTHER))
    assert store.load(OTHER) is None


def test_a_list_is_no_record(store):
    store.path(DENSE).parent.mkdir()
    store.path(DENSE).write_text("[]")
    with pytest.raises(RecordError, match="lacks everything"):
        read_record(store.path(DENSE))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.zeros(1), {1, 2}])
def test_results_that_json_cannot_hold_are_named(value, store):
    with pytest.raises(RecordError, match=r"results of DenseRun.*cannot be written"):
        store.save(DENSE, {"value": value}, {})
    assert store.load(DENSE) is None


def test_a_claim_keeps_everybody_else_out(store):
    again, other = RecordStore(store.root), RecordStore(store.root)
    with store.claim(DENSE) as mine:
        assert mine
        with again.claim(DENSE) as second:
            assert not second
        with other.claim(OTHER) as free:
            assert free
    with again.claim(DENSE) as free:
        assert free


def fail():
    raise ValueError("halfway")


def test_a_claim_ends_with_an_exception(store):
    with pytest.raises(ValueError, match="halfway"), store.claim(DENSE):
        fail()
    with store.claim(DENSE) as free:
        assert free


def test_provenance_says_where_and_with_what():
    made_by = provenance("quick", torch.device("cpu"), "then", "now", 1.23456)
    assert made_by["versions"]["torch"] == torch.__version__
    assert {name: made_by[name] for name in ("profile", "started", "finished", "seconds", "threads")} == {
        "profile": "quick",
        "started": "then",
        "finished": "now",
        "seconds": 1.23,
        "threads": 1,
    }
    assert "cores" in made_by["hardware"]
    assert made_by["commit"] is None or re.fullmatch("[0-9a-f]{40}", made_by["commit"])
    json.dumps(made_by)


def test_provenance_says_which_processor_of_a_name(tmp_path, monkeypatch):
    listed = tmp_path / "cpuinfo"
    monkeypatch.setattr("splinestudy.runs.provenance._CPUINFO", listed)
    names = {"model name": "Some CPU", "cpu family": "25", "model": "17", "flags": "avx512f amx_tile"}
    listed.write_text("".join(f"{name}\t: {value}\n" for name, value in names.items()))
    made_by = provenance("quick", torch.device("cpu"), "then", "now", 1.0)
    assert made_by["hardware"].startswith("Some CPU, ")
    assert made_by["generation"] == "family 25, model 17"
    listed.write_text("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n")
    made_by = provenance("quick", torch.device("cpu"), "then", "now", 1.0)
    assert made_by["generation"] == "implementer 0x41, part 0xd40"
    assert made_by["hardware"].endswith(" cores")
    listed.unlink()  # as where there is no Linux
    made_by = provenance("quick", torch.device("cpu"), "then", "now", 1.0)
    assert "generation" not in made_by
    assert "cores, generation not recorded, torch" in computed_on(made_by)


# --- artifacts ------------------------------------------------------------------------------------------------


def half_written(path):
    """An atomic write that fails after the first word."""
    try:
        with atomic_path(path) as temporary:
            temporary.write_text("half, ")
            fail()
    except ValueError:
        return temporary


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "folder" / "file.json"
    assert not half_written(path).exists()
    assert list(path.parent.iterdir()) == []
    with atomic_path(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
        assert (temporary.parent, temporary.suffix) == (path.parent, ".json")
        inode = temporary.stat().st_ino
    assert path.stat().st_ino == inode  # renamed, not copied
    half_written(path)
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_digests_do_not_depend_on_the_pieces():
    assert sha256_of(b"ab", b"", memoryview(b"c")) == sha256_of(b"abc") == hashlib.sha256(b"abc").hexdigest()


def test_caches_lie_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SPLINELIB_TEST", str(tmp_path))
    assert cache_dir("SPLINELIB_TEST", "runs") == tmp_path
    monkeypatch.delenv("SPLINELIB_TEST")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_dir("SPLINELIB_TEST", "runs") == tmp_path / "splinelib" / "runs"
    assert not (tmp_path / "splinelib").exists()


def test_pipes_files_as_stores_and_records_of_another_kind_are_named(tmp_path):
    run = STUDIES[0].runs()[0]
    store = RecordStore(tmp_path / "store")
    store.save(run, {}, {})
    (store.root / "prune").mkdir()
    shutil.copy(store.path(run), store.root / "prune")
    with pytest.raises(RecordError, match="is of kind 'dense'"):
        store.load_all("prune")
    store.path(run).unlink()
    os.mkfifo(store.path(run))
    with pytest.raises(FileError, match="no plain file"):
        store.load(run)
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="is a file: name a folder"):
        RecordStore(tmp_path / "file").holds(tmp_path / "file" / "x")
