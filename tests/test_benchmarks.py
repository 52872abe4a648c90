"""What the benchmarks compute besides time, at toy size; nothing here is timed against anything."""

import json
import sys

import pytest
import torch

from benchmarks import (
    compensation,
    cost_page,
    detection,
    kept,
    page,
    portable,
    speedup,
    speedup_page,
    step_time,
    throughput,
    widths,
    zoo,
)
from benchmarks.machine import CPU, least, machine
from splinelib import remove_units, sign_codes
from splinelib.early_bird import code_distance
from splinestudy.models import build_model

BITS_OF_ALL = 2**22  # more than any layer here has, so codes are not sampled


def vgg(seed):
    return build_model("vgg16_bn", num_classes=10, width=0.05, image_size=32, seed=seed)


@pytest.fixture
def static(tmp_path, monkeypatch):
    """A results folder and a folder of the book, both empty."""
    for name, module in (("RESULTS", kept), ("STATIC", page), ("STATIC", cost_page)):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setattr(module, name, tmp_path / name)
    return tmp_path / "STATIC"


def test_authors_way_gives_the_distance_of_codes():
    _, canvas = detection.setting("vgg16_bn", 0.05, 3, CPU)
    floats = [detection.float_activations(vgg(seed), canvas) for seed in (0, 1)]
    codes = [sign_codes(vgg(seed), canvas, BITS_OF_ALL) for seed in (0, 1)]
    # Both are means of the same few shares, up to the order of rounding.
    found, wanted = detection.float_distance(*floats), float(code_distance(*codes).mean())
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    assert detection.float_bytes(vgg(0), canvas) == 4 * sum(
        piece.numel() for layer in floats[0] for piece in layer
    )


def test_networks_are_read_as_training_leaves_them():
    model, canvas = detection.setting("preresnet101", 0.25, 2, CPU)
    pieces = detection.float_activations(model, canvas)
    assert len(pieces) > 90
    assert all(piece.is_contiguous(memory_format=torch.channels_last) for layer in pieces for piece in layer)


def test_the_page_has_the_first_canvas_and_the_file_all(tmp_path, monkeypatch):
    monkeypatch.setattr(
        detection, "setting", lambda arch, width, side, device: (vgg(0), torch.zeros(side**2, 3, 32, 32))
    )
    monkeypatch.setattr(detection, "memory", lambda *given: {"peak_mb": 1.0})
    arguments = [
        "detection",
        "--sides",
        "2",
        "3",
        "--epochs",
        "5",
        "--rounds",
        "1",
        "--threads",
        str(torch.get_num_threads()),
    ]
    monkeypatch.setattr(sys, "argv", [*arguments, "--output", str(tmp_path / "detection.json")])
    detection.main()
    result = json.loads((tmp_path / "detection.json").read_text())
    assert result["settings"]["side"] == 2
    assert {row["points"] for row in result["rows"].values()} == {4}
    assert {row["points"] for row in result["more"]["3"].values()} == {9}
    assert "Canvas of 4 points" in cost_page.detection_lines(result)[0]


def test_history_is_made_of_codes_of_their_own():
    _, canvas = detection.setting("vgg16_bn", 0.05, 2, CPU)
    history = detection.copies(sign_codes(vgg(0), canvas), 3)
    assert len({code.layers[0].ctypes.data for code in history}) == 3
    assert all(distance.sum() == 0 for distance in detection.to_earlier(history))


def test_least_time_counts():
    row = {}
    least(row, (2.0, 1.0), "codes_")
    least(row, (1.0, 3.0), "codes_")
    assert row == {"codes_wall": 1.0, "codes_cpu": 1.0}


@pytest.mark.parametrize(("flops", "time", "share"), [(4, 4, 1.0), (4, 1, 0.0), (3, 2, 0.5), (2, 0.5, -0.5)])
def test_realised_share(flops, time, share):
    assert step_time.realised_share(flops, time) == share


def test_timed_step_trains_and_leaves_weights():
    models = step_time.networks("preresnet20", 0.25, [0.5])
    trainer = step_time.trainer_of(models[0.5], "float32", CPU)
    before = [parameter.detach().clone() for parameter in models[0.5].parameters()]
    step_time.step(trainer, *step_time.noise(2, CPU))
    gradients = [parameter.grad for parameter in models[0.5].parameters()]
    assert all(gradient is not None and gradient.any() for gradient in gradients)
    torch.testing.assert_close(before, list(models[0.5].parameters()), rtol=0, atol=0)


def step_time_result():
    models = step_time.networks("preresnet20", 0.25, [0.5])
    rows = step_time.measure(models, "bfloat16", batch=2, seconds=0, device=CPU)
    where = {"arch": "preresnet20", "width": 0.25, "device": "cpu", "precision": "bfloat16"}
    return [where | row for row in rows]


def test_rows_hold_operations_and_ratios():
    rows = step_time_result()
    assert [row["pass"] for row in rows] == ["step", "inference"]
    for row in rows:
        assert row["flops_ratio"] == row["flops_dense"] / row["flops_pruned"] > 1
        assert row["time_ratio"] == row["wall_dense"] / row["wall_pruned"]
    assert rows[0]["flops_pruned"] > 2 * rows[1]["flops_pruned"]  # a step has a backward pass as well


def test_page_without_results_says_how_to_get_them(static):
    (static / "detection.svg").touch()
    cost_page.main()
    assert "python -m benchmarks.detection" in (static / "detection.txt").read_text()
    assert "python -m benchmarks.step_time" in (static / "step_time.txt").read_text()
    assert "python -m benchmarks.throughput" in (static / "throughput.txt").read_text()
    assert not (static / "detection.svg").exists()


def test_page_shows_what_was_measured(static, monkeypatch):
    cases = {"vgg16_bn": detection.setting("vgg16_bn", 0.05, 2, CPU)}
    rows = detection.measure(cases, epochs=3, rounds=1, max_bytes=2**20, device=CPU)
    note = {
        "machine": detection.machine(1),
        "settings": {"width": 0.05, "epochs": 3, "rounds": 1, "batch": 2},
    }
    small = build_model("simple_cnn", num_classes=10, image_size=32, seed=0)
    found = throughput.row("simple_cnn", 1.0, 0.0, small, 2e9)
    results = {"detection": rows, "step_time": step_time_result(), "throughput": [found]}
    note["rates"] = {"matrix_product": 2e9}
    monkeypatch.setattr(cost_page, "load", lambda name: note | {"rows": results[name.removesuffix(".json")]})
    cost_page.main()
    said = (static / "throughput.txt").read_text()
    share = (
        f"| {found['images']:,.0f} | {found['operations'] / 1e9:.0f} | {found['operations'] / 2e7:.0f} % |"
    )
    assert "matrix product 2 GFLOP/s" in said
    assert share in said
    for name in ("detection", "step_time"):
        assert f"_static/{name}.svg" in (static / f"{name}.txt").read_text()
        assert (static / f"{name}.svg").stat().st_size > 0
    assert f"| layers with a code | {rows['vgg16_bn']['layers']} |" in (static / "detection.txt").read_text()


def test_speedup_compares_networks_of_the_same_flops(static, monkeypatch):
    models = speedup.networks("simple_cnn", 0.5, side=32, width=0.5)
    least, longest = speedup.measure(models, "bfloat16", "eager", 32, batch=2, rounds=1, device=CPU)
    rows = list(speedup.compare(models, least, side=32))
    assert [(row["way"], row["pass"]) for row in rows] == [
        (w, p) for w in speedup.WAYS for p in step_time.PASSES
    ]
    for row in rows:
        assert row["realised_share"] == pytest.approx((row["time_ratio"] - 1) / (row["flops_ratio"] - 1))
        assert row["flops_ratio"] == pytest.approx(rows[0]["flops_ratio"], rel=0.15)
        where = {
            "arch": "preresnet20",
            "mode": "eager",
            "precision": "bfloat16",
            "ratio": 0.5,
            "side": 32,
            "batch": 2,
        }
        row |= where | {"realised_share": 0.1}
    for row in rows[:2]:
        row["kernels"] = {which: longest[which, row["pass"]] for which in ("dense", "splinelib")}
    assert {"aten::mkldnn_convolution", "aten::convolution_backward"} <= set(rows[0]["kernels"]["dense"])
    monkeypatch.setattr(speedup_page, "load", lambda name: {"machine": detection.machine(1), "rows": rows})
    speedup_page.main()
    text = (page.STATIC / "speedup.txt").read_text()
    assert "and 0 realise what was asked for" in text
    assert text.count("PreResNet-20 |") == 4
    assert "mkldnn_convolution" in text


def test_time_of_compensation_is_kept_row_by_row(static, monkeypatch):
    arguments = ["compensation", "--width", "0.05", "--images", "4", "--rounds", "1", "--resume"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(compensation, "RESULTS", kept.RESULTS)
    real, done = compensation.timed, []
    monkeypatch.setattr(compensation, "timed", lambda call: real(call) if len(done) < 2 else 1 / 0)
    monkeypatch.setattr(
        compensation, "save", lambda *given, old=compensation.save: (done.append(1), old(*given))
    )
    with pytest.raises(ZeroDivisionError):
        compensation.main()
    assert len(compensation.load("compensation.json")["rows"]) == 2
    monkeypatch.setattr(compensation, "timed", real)
    compensation.main()
    rows = compensation.load("compensation.json")["rows"]
    assert [row["call"].split(",")[0] for row in rows] == [
        "forward pass", "least squares", "least squares", "greedy reconstruction", "ThiNet",
    ]  # fmt: skip
    assert "| VGG-16 ×0.05, 4 of 32 × 32 | forward pass |" in (static / "compensation.txt").read_text()


def test_speed_of_portable_code_is_a_share_of_this_processors():
    rows = {"the processor at hand": {"compiling": 9.0, "cpu": {"net": 0.5}}}
    rows["any x86-64"] = {"compiling": 8.0, "cpu": {"net": 2.0}}
    lines = portable.page_of({"machine": machine(1), "rows": rows})
    assert lines[-1] == "| any x86-64 | 8.0 | 0.25 |"


def test_widths_are_timed_for_both_passes():
    found = widths.measure(4, 6, (2, 3), "bfloat16")
    assert list(found) == ["step", "inference"]
    assert all(list(times) == [2, 3] and min(times.values()) > 0 for times in found.values())


def test_zoo_tells_right_pruning_from_wrong(monkeypatch):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 2, 1)
    )
    model, images = model.double().eval(), torch.randn(4, 3, 6, 6, dtype=torch.float64)
    row = zoo.measure(model, images)
    assert (row["writers"], row["modules"], row["units"], row["left"]) == (1, 2, 8, 0)
    assert [(cut["units"], cut["right"]) for cut in row["cuts"]] == [(4, True)] * 4
    assert "4 of 8" in zoo.line(row | {"model": "tiny"})

    def removing_others(model, inputs, layers, selection, compensation, data):
        others = {name: sorted({*range(8)} - {*units}) for name, units in selection.items()}
        return remove_units(model, inputs, others, layers)

    monkeypatch.setattr(zoo, "remove_compensated", removing_others)
    assert [cut["right"] for cut in zoo.measure(model, images)["cuts"]] == [False, True, False, True]


def test_zoo_says_why_a_layer_is_left_whole():
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = torch.nn.Linear(3, 6), torch.nn.Linear(6, 4), torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.c(self.b(self.a(x).reshape(-1, 6)).relu())

    row = zoo.measure(Counting().double(), torch.randn(5, 3, dtype=torch.float64))
    assert row["left"] == 1
    assert "counts on its width" in row["why"]
