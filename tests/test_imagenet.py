import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from breaking import kill, wait_until
from PIL import Image

from splinelib import DataError, RecordError, SettingError, SplineError, TrainingError, imagenet
from splinelib.imagenet import FineTune, ImageNetRun, finetuning, folders
from splinelib.imagenet import __main__ as cli
from splinelib.imagenet import run as running
from splinelib.imagenet.__main__ import main
from splinelib.records import RecordStore, read_record

CPU = torch.device("cpu")
CLASSES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three classes of noisy 40×36 images: 8 to train on and 3 to validate with in each."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for channel, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 120, (36, 40, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def folder(root):
    return imagenet.open_folder(root, 32)


def command(root, store, **changes):
    """Arguments of a run of seconds: SqueezeNet has dropout and no batch norm, MNASNet both."""
    values = {
        "data": root,
        "arch": "squeezenet1_1",
        "ratio": 0.3,
        "epochs": 2,
        "batch_size": 8,
        "calibration": 12,
    }
    values |= {"image_size": 32, "workers": 0, "lr": 0.001, "store": store, "precision": "float32"} | changes
    return [text for name, value in values.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def weights_of(store):
    (path,) = (store / "weights").glob("*.pt")
    return torch.load(path, weights_only=True)["model"]


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


# --- the whole way ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """The store that one undisturbed run left, and its record."""
    store = tmp_path_factory.mktemp("store")
    extra = {"compensate": "least_squares", "out": store / "record.json"}
    assert main(command(root, store, **extra)) == 0
    (path,) = (store / "imagenet").glob("*.json")
    return store, read_record(path)


def test_a_run_leaves_a_record_of_what_was_measured(finished, root, folder):
    store, record = finished
    results = record.results
    assert json.loads((store / "record.json").read_text())["key"] == record.key
    assert str(root) not in (store / "record.json").read_text()
    assert record.settings["dataset"] == folder.name
    dense = imagenet.build_network("squeezenet1_1", None, 3, seed=0)
    assert results["dense"] == oracle_accuracy(dense, folder)
    (path,) = (store / "weights").glob("*.pt")
    tuned = imagenet.load_pruned(path, "squeezenet1_1", 3, 32)
    assert results["tuned"] == oracle_accuracy(tuned, folder)
    assert results["cost"]["parameters"] == sum(p.numel() for p in tuned.parameters())
    assert results["cost"]["flops"] < results["dense_cost"]["flops"]
    kept = {name: units - round(0.3 * units) for name, units in results["dense_widths"].items()}
    assert results["widths"] == kept
    assert [row["epoch"] for row in results["epochs"]] == [0, 1]
    assert set(results["pruned"]) == set(results["compensated"]) == {"top1", "top5"}
    assert not list((store / "checkpoints").iterdir())


def oracle_accuracy(model, folder):
    """One image at a time."""
    hits = np.zeros(2)
    for path, label in folder.val:
        picture = imagenet.evaluation_transform(32)(Image.open(path).convert("RGB"))
        with torch.no_grad():
            order = model(picture[None])[0].argsort(descending=True).tolist()
        hits += [order[0] == label, label in order[:5]]
    top1, top5 = (hits / len(folder.val)).tolist()
    return {"top1": top1, "top5": top5}


def test_a_finished_run_is_not_computed_again(finished, root, monkeypatch):
    monkeypatch.setattr(running, "_pruned", lambda *arguments: pytest.fail("this is work"))
    assert main(command(root, finished[0], compensate="least_squares")) == 0


def test_a_killed_run_ends_as_if_nothing_had_happened(finished, root, tmp_path):
    arguments = command(root, tmp_path, compensate="least_squares", save_steps=1)
    process = subprocess.Popen(
        [sys.executable, "-m", "splinelib.imagenet", *arguments], stderr=subprocess.PIPE
    )
    # Before the last of its six steps is over, and in the midst of an epoch.
    wait_until(lambda: any(has_step(path) for path in tmp_path.glob("checkpoints/[!.]*.pt")), process)
    kill(process)
    assert not list(tmp_path.glob("imagenet/*.json"))
    assert main(arguments) == 0
    assert_same(weights_of(tmp_path), weights_of(finished[0]))
    (path,) = tmp_path.glob("imagenet/*.json")
    assert without_clock(read_record(path)) == without_clock(finished[1])


def has_step(path):
    return not path.name.endswith(".pruned.pt")


def without_clock(record):
    results = {name: value for name, value in record.results.items() if name != "prune_seconds"}
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in results["epochs"]]
    return {**results, "epochs": rows}


CHILD = """
import sys, torch
from splinelib.imagenet import __main__ as cli, processes, run
whole = run.finetune
def finetune(model, *arguments, **settings):
    rows = whole(model, *arguments, **settings)
    torch.save(model.state_dict(), f"{sys.argv[1]}/rank{processes.place()[0]}.pt")
    return rows
run.finetune = finetune
sys.exit(cli.main(sys.argv[2:]))
"""


def test_two_processes_end_with_the_same_weights(root, tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = command(
        root, tmp_path, arch="mnasnet0_5", epochs=1, batch_size=12, lr=0.05, compensate="merge"
    )
    done = subprocess.run(
        [*torchrun, str(script), str(tmp_path), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert_same(first, second)
    assert_same(first, weights_of(tmp_path))
    (path,) = tmp_path.glob("imagenet/*.json")
    record = read_record(path)
    assert record.results["processes"] == 2
    (weights,) = (tmp_path / "weights").glob("*.pt")
    tuned = imagenet.load_pruned(weights, "mnasnet0_5", 3, 32)
    assert record.results["tuned"] == oracle_accuracy(tuned, imagenet.open_folder(root, 32))


# --- its parts ----------------------------------------------------------------------------------------------------


def test_fine_tuning_learns_colours_and_lowers_the_rate(folder):
    model = imagenet.build_network("squeezenet1_1", None, 3, seed=1)
    settings = FineTune(epochs=6, batch_size=12, lr=0.01, schedule="cosine")
    state = torch.get_rng_state()
    rows = imagenet.finetune(model, folder, settings, seed=0, device=CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["lr"] < 0.1 * rows[0]["lr"]


def test_rates_are_those_of_the_schedules():
    step, cosine = FineTune(90, lr=0.1), FineTune(90, lr=0.1, schedule="cosine")
    rates = [step.lr_at(epoch) for epoch in (0, 29.9, 30, 59, 60, 89)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert [cosine.lr_at(epoch) for epoch in (0, 45, 90)] == pytest.approx([0.1, 0.05, 0])


def test_augmentation_follows_from_seed_and_index(folder):
    def images(seed, workers_before=0):
        torch.rand(workers_before)
        return [folders.Images(folder.train, imagenet.training_transform(32), seed)[i][0] for i in (0, 5)]

    once, again, other = images(3), images(3, workers_before=7), images(4)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(once, other, strict=True))


def test_calibration_images_are_drawn_by_seed(folder):
    first, again, other = (imagenet.calibration_batch(folder, 10, seed) for seed in (0, 0, 1))
    assert first.images.shape == (10, 3, 32, 32)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert len(imagenet.calibration_batch(folder, 1000, 0).labels) == 24


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_come_from_files(tmp_path, suffix):
    from safetensors.torch import save_file

    model, path = imagenet.build_network("squeezenet1_1", None, 3, seed=5), tmp_path / f"w{suffix}"
    if suffix == ".pt":
        torch.save({"model": {f"module.{k}": v for k, v in model.state_dict().items()}}, path)
    else:
        save_file(model.state_dict(), path)
    assert_same(imagenet.build_network("squeezenet1_1", str(path), 3).state_dict(), model.state_dict())
    with pytest.raises(SettingError, match="do not fit squeezenet1_1 with 4 classes"):
        imagenet.build_network("squeezenet1_1", str(path), 4)


def test_weights_that_are_code_are_not_run(tmp_path):
    torch.save(print, tmp_path / "w.pt")
    with pytest.raises(SettingError, match="cannot be read as tensors"):
        imagenet.build_network("squeezenet1_1", str(tmp_path / "w.pt"), 3)


def test_prices_are_those_of_the_networks(generator):
    images = torch.randn(4, 3, 32, 32, generator=generator)
    dense, none, merge = imagenet.price_pruning(
        "squeezenet1_1", 0.5, "layerwise", ["none", "merge"], images, 0
    )
    assert (dense["compensate"], dense["ratio"], dense["parameters"]) == ("dense", 0.0, 1_235_496)
    assert none["widths"] == {name: units - round(units / 2) for name, units in dense["widths"].items()}
    assert none["parameters"] == merge["parameters"] < dense["parameters"]
    assert 0 < none["flops"] < dense["flops"]
    assert min(none["forward_seconds"], none["prune_seconds"]) > 0


# --- bad inputs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ratio": 1.0}, "ratio is 1.0"),
        ({"arch": "resnet9"}, "arch is 'resnet9': choose one of torchvision's"),
        ({"arch": "inception_v3"}, "arch is 'inception_v3'"),
        ({"data": "/nowhere"}, "/nowhere is no folder; the layout must be /nowhere/train/<class>/*"),
        ({"weights": "IMAGENET"}, "neither a file nor torchvision's for squeezenet1_1"),
        ({"weights": "IMAGENET1K_V1"}, "know 1000 classes, the folder has 3"),
        ({"batch_size": 64}, "train/ has 24 images: lower it"),
        ({"batch_size": 1}, "batch_size 1: need"),
        ({"epochs": -1}, "epochs is -1"),
        ({"lr": 0}, "lr is 0.0"),
        ({"calibration": 1}, "calibration is 1"),
        ({"workers": -1}, "workers is -1"),
        ({"out": "."}, "out is the folder ."),
    ],
)
def test_inputs_are_checked_before_any_work(root, tmp_path, changes, named, capsys, monkeypatch):
    monkeypatch.setattr(cli, "run_imagenet", lambda *arguments: pytest.fail("this is work"))
    assert main(command(root, tmp_path, **changes)) == 2
    assert named in capsys.readouterr().err


def test_folders_of_another_layout_are_named(root, tmp_path):
    (tmp_path / "train" / "red").mkdir(parents=True)
    with pytest.raises(DataError, match=r"val is no folder"):
        imagenet.open_folder(tmp_path)
    (tmp_path / "val" / "green").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be used"):
        imagenet.open_folder(tmp_path)
    for place in ("train/red", "val/green"):
        (tmp_path / place / "x.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="in one of train/ and val/ only, such as 'green'"):
        imagenet.open_folder(tmp_path)
    (tmp_path / "val" / "green").rename(tmp_path / "val" / "red")
    broken = imagenet.open_folder(tmp_path, 32)
    with pytest.raises(DataError, match=r"x\.png cannot be decoded"):
        imagenet.calibration_batch(broken, 1, 0)


def test_checkpoints_of_other_settings_are_refused(folder, tmp_path):
    model = imagenet.build_network("squeezenet1_1", None, 3)
    path = tmp_path / "c.pt"
    imagenet.finetune(model, folder, FineTune(1, 12), seed=0, device=CPU, checkpoint=path)
    with pytest.raises(RecordError, match="was not made with"):
        imagenet.finetune(model, folder, FineTune(1, 12, lr=0.5), seed=0, device=CPU, checkpoint=path)


def test_a_loss_that_is_not_finite_ends_the_run(folder):
    model = imagenet.build_network("squeezenet1_1", None, 3)
    with pytest.raises(TrainingError, match="lower lr"):
        imagenet.finetune(model, folder, FineTune(3, 4, lr=1e6), seed=0, device=CPU)


def test_batches_are_shared_evenly(folder):
    with pytest.raises(
        SettingError, match="batch_size is 8 for 3 processes: give a multiple of 3, at least 6"
    ):
        finetuning.check_batch(folder, FineTune(1, 8), 3)


def test_a_run_of_other_data_has_another_name(root, folder, tmp_path):
    store = RecordStore(tmp_path)
    one, other = (store.path(ImageNetRun(name, "resnet18", None, 0.3)) for name in (folder.name, "x"))
    assert one != other


# --- the chapter --------------------------------------------------------------------------------------------------

PARAMETERS = {
    "profile": "smoke",
    "data": None,
    "arch": "squeezenet1_1",
    "weights": None,
    "ratios": [0.3, 0.5],
    "scope": "layerwise",
    "criterion": "l1",
    "compensate": "merge",
    "calibration": 4,
    "image_size": 32,
    "epochs": 0,
    "batch_size": 8,
    "seed": 0,
    "store": None,
}


def test_without_data_the_chapter_says_what_is_needed_and_measures_nothing():
    runs, folder = imagenet.planned(PARAMETERS)
    assert folder is None
    assert imagenet.run_all(runs, folder, PARAMETERS) == []
    text = imagenet.needed(PARAMETERS)
    assert "Not run" in text
    (line,) = [line for line in text.replace("\\\n", "").splitlines() if line.startswith("torchrun")]
    options = cli._parser().parse_args(line.split("splinelib.imagenet ")[1].split())
    assert (options.arch, options.ratio, options.compensate) == ("squeezenet1_1", 0.3, "merge")
    assert options.criterion == runs[0].criterion == "l1"


def test_with_data_the_chapter_shows_every_stage(root, tmp_path):
    parameters = PARAMETERS | {"data": str(root), "store": str(tmp_path)}
    runs, folder = imagenet.planned(parameters)
    rows = imagenet.accuracy_rows(imagenet.run_all(runs, folder, parameters))
    found = [(row["ratio"], row["network"]) for row in rows]
    assert found == [(ratio, name) for ratio in (0.3, 0.5) for name in ("dense", "pruned", "compensated")]
    dense = imagenet.build_network("squeezenet1_1", None, 3, seed=0)
    assert {name: rows[0][name] for name in ("top1", "top5")} == oracle_accuracy(dense, folder)
    assert rows[0]["parameters"] > rows[1]["parameters"] > rows[4]["parameters"]
    assert "24 training and 9 validation images of 3 classes" in imagenet.announced(runs, folder)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ratios": 0.3}, "ratios is 0.3"),
        ({"ratios": [1.5]}, "ratio is 1.5"),
        ({"profile": "huge"}, "huge"),
        ({"criterion": "magic"}, "magic"),
        ({"data": "/nowhere"}, "/nowhere is no folder"),
    ],
)
def test_the_chapter_checks_its_parameters(changes, named):
    with pytest.raises(SplineError, match=named):
        imagenet.planned(PARAMETERS | changes)
