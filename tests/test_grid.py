import json

import pytest

from splinelib.errors import RecordError
from splinestudy.results.grid import COMPARED, GRID, RATIOS, jobs, makespan, operations
from splinestudy.results.grid_devices import core, drawn_share, gpu
from splinestudy.results.grid_page import COUNTS, grid_report
from splinestudy.runs.committed import committed_store
from splinestudy.runs.provenance import SOURCE
from splinestudy.runs.records import Record

VGG = next(cell for cell in GRID if (cell.arch, cell.dataset) == ("vgg16_bn", "cifar10"))
STEPS = [
    {
        "arch": arch,
        "width": 1.0,
        "device": "cpu",
        "precision": "bfloat16",
        "pass": "step",
        "ratio": ratio,
        "flops_dense": 1000,
        "flops_pruned": 1000 * (1 - ratio) ** 2,
        "cpu_dense": seconds,
        "cpu_pruned": seconds * (1 - ratio),
    }
    for arch, seconds in (("vgg16_bn", 2.0), ("preresnet20", 4.0))
    for ratio in RATIOS
]


def record(
    arch="vgg16_bn", dataset="cifar10", hardware="GPU", span=("00:00:00", "00:01:00"), drawn=15, seconds=80.0
):
    settings = {"arch": arch, "dataset": dataset, "width": 1.0, "images": None, "train": {"epochs": 160}}
    day = "2026-01-01T{}+00:00"
    provenance = {"hardware": hardware, "started": day.format(span[0]), "finished": day.format(span[1])}
    results = {"epochs": [{"seconds": seconds}], "spline": {"epoch": drawn}}
    return Record("dense", "0" * 16, settings, results, provenance)


def test_a_core_takes_what_steps_then_records_then_operations_say():
    made = [record("simple_cnn", "mnist", "CPU, 2 cores", seconds=96.0), record(hardware="CPU, 2 cores")]
    device = core(made, STEPS, batch=4, large={"resnet18": 7.0})
    assert device.seconds[VGG] == 2.0 / 4
    assert device.seconds[GRID[0]] == 96.0 / (60_000 * 160)
    by_name = {(cell.arch, cell.dataset): device.seconds[cell] for cell in GRID}
    assert by_name["resnet18", "imagenet"] == 7.0
    mobile = next(cell for cell in GRID if cell.arch == "mobilenet_v2")
    assert device.seconds[mobile] == pytest.approx(operations(mobile) * 4.0 / (4 * 1000))
    assert device.shares[VGG] == pytest.approx({ratio: 1 - ratio for ratio in RATIOS})


def test_runs_that_shared_a_gpu_are_counted_once():
    """Two at one time and one after a pause: 3 trainings in 60 + 30 s."""
    spans = [("00:00:00", "00:00:50"), ("00:00:10", "00:01:00"), ("00:02:00", "00:02:30")]
    device = gpu([record(span=span) for span in spans] + [record(hardware="CPU, 2 cores")], STEPS)
    assert device.seconds[VGG] == pytest.approx(90 / (3 * 50_000 * 160))
    assert device.shares[VGG] == pytest.approx({ratio: (1 - ratio) ** 2 for ratio in RATIOS})
    with pytest.raises(RecordError, match="no dense record was made on a GPU"):
        gpu([record(hardware="CPU, 2 cores")], STEPS)


def test_early_birds_go_on_from_the_draw():
    device = core([], STEPS, batch=4, large={})
    dense, pruned = jobs(VGG, device, None)
    early, rest = jobs(VGG, device, 0.1)
    assert dense == 0.5 * 50_000 * 160
    assert (early, len(rest)) == (pytest.approx(0.1 * dense), len(RATIOS) * len(COMPARED))
    assert rest == pytest.approx([0.9 * seconds for seconds in pruned])
    assert drawn_share([record(drawn=15), record(drawn=7), record(drawn=31), record(drawn=None)]) == 0.1


@pytest.mark.parametrize(
    ("chains", "devices", "seconds"),
    [
        ([(1.0, [1.0, 1.0, 1.0])], 1, 4.0),
        ([(1.0, [1.0, 1.0, 1.0])], 3, 2.0),
        ([(2.0, [1.0]), (1.0, [5.0])], 2, 6.0),
        ([(5.0, [1.0]), (1.0, [1.0, 1.0])], 64, 6.0),
        ([], 8, 0.0),
    ],
)
def test_runs_are_handed_out_behind_their_dense_runs(chains, devices, seconds):
    assert makespan(chains, devices) == seconds


def test_the_page_is_made_from_what_is_committed():
    results = SOURCE / "benchmarks" / "results"
    steps, files = (json.loads((results / f"{name}.json").read_text()) for name in ("step_time", "streaming"))
    large = {row["arch"]: row["core_seconds"] for row in files["rows"]}
    report = grid_report(committed_store(), steps["rows"], steps["settings"]["batch"], large)
    tables = [line for line in report.splitlines() if line.startswith("|")]
    assert len(tables) == (len(GRID) + 3) + (len(COUNTS) + 2)
    assert {line.count("|") for line in tables} == {7, 6}
