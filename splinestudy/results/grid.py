"""What the paper's whole grid would cost, extrapolated from measured steps and from committed records."""

import heapq
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import torch

from splinelib.errors import RecordError
from splinelib.pruning.flops import training_flops
from splinestudy.models import build_model
from splinestudy.results.names import arch_name, data_name
from splinestudy.results.tables import markdown_table
from splinestudy.runs.methods import METHODS
from splinestudy.runs.records import Record
from splinestudy.runs.store import RecordStore

RATIOS, SEEDS, DEVICES = (0.3, 0.5, 0.7), 3, (1, 8, 64)


@dataclass(frozen=True)
class Cell:
    """A network on a data set, as the paper trains it [code, eb].

    Attributes:
        arch: network.
        dataset: its data.
        images: training images.
        epochs: passes over them; as many again after pruning.
        shape: of an image.
        classes: of the data set.
        like: the network that step times were taken of whose kind this one is.
    """

    arch: str
    dataset: str
    images: int
    epochs: int
    shape: tuple[int, int, int]
    classes: int
    like: str


_CIFAR = (50_000, 160, (3, 32, 32))
GRID = (
    Cell("simple_cnn", "mnist", 60_000, 160, (1, 32, 32), 10, "vgg16_bn"),
    *(
        Cell(arch, data, *_CIFAR, classes, like)
        for data, classes in (("cifar10", 10), ("cifar100", 100))
        for arch, like in (
            ("preresnet20", "preresnet20"),
            ("preresnet101", "preresnet20"),
            ("vgg16_bn", "vgg16_bn"),
            ("mobilenet_v2", "preresnet20"),
        )
    ),
    *(
        Cell(arch, "imagenet", 1_281_167, 90, (3, 224, 224), 1000, "vgg16_bn")
        for arch in ("resnet18", "resnet50")
    ),
)
"""Networks and data of the paper; ResNets on ImageNet alone."""

COMPARED = tuple(
    row.name for row in METHODS.values() if row.role == "score" and row.era == "paper" or row.name == "spline"
)
"""The spline criterion, and the scores of the paper's time."""


@dataclass(frozen=True)
class Device:
    """What one kind of device takes.

    Attributes:
        name: as tables call it.
        seconds: of a training image of each network of the grid.
        shares: of these, by network and ratio, where so many of each layer's units are gone.
    """

    name: str
    seconds: Mapping[Cell, float]
    shares: Mapping[Cell, Mapping[float, float]]


@cache
def operations(cell: Cell) -> int:
    """Of a training image."""
    model = build_model(
        cell.arch, num_classes=cell.classes, in_channels=cell.shape[0], image_size=cell.shape[1], seed=0
    )
    return training_flops(model, torch.zeros(1, *cell.shape))


def core(
    dense: Sequence[Record], steps: Sequence[Mapping[str, Any]], batch: int, large: Mapping[str, float]
) -> Device:
    """A CPU core: seconds from dense records of a network at full width, else from steps that were timed.

    A network that was neither trained nor timed is taken to do as many operations a second as the one of its kind.

    Args:
        dense: committed dense records.
        steps: rows of ``benchmarks/results/step_time.json``; those in bfloat16 at full width count.
        batch: images of their steps.
        large: seconds of a core for an image, of networks on larger pictures (``benchmarks/results/streaming.json``).
    """
    timed = {
        (row["arch"], row["ratio"]): row
        for row in steps
        if (row["pass"], row["precision"], row["width"], row["device"]) == ("step", "bfloat16", 1.0, "cpu")
    }
    seconds, shares = {}, {}
    for cell in GRID:
        rows = {ratio: timed[cell.like, ratio] for ratio in RATIOS}
        one = timed.get((cell.arch, RATIOS[0]))
        like = rows[RATIOS[0]]
        rate = batch * like["flops_dense"] / like["cpu_dense"]
        trained = [
            _core_seconds(record, cell)
            for record in dense
            if _is(record, cell) and "cores" in _hardware(record)
        ]
        if trained:
            seconds[cell] = statistics.median(trained)
        else:
            seconds[cell] = one["cpu_dense"] / batch if one else large.get(cell.arch, operations(cell) / rate)
        shares[cell] = {ratio: row["cpu_pruned"] / row["cpu_dense"] for ratio, row in rows.items()}
    return Device("CPU core", seconds, shares)


def _is(record: Record, cell: Cell) -> bool:
    settings = record.settings
    found = tuple(settings[name] for name in ("arch", "dataset", "width", "images"))
    return found == (cell.arch, cell.dataset, 1.0, None)


def _hardware(record: Record) -> str:
    return record.provenance["hardware"]


def _core_seconds(record: Record, cell: Cell) -> float:
    """Of a training image; records from before they told their threads were made with one."""
    threads = record.provenance.get("threads", 1)
    return record.results["epochs"][-1]["seconds"] * threads / (cell.images * _epochs(record))


def _epochs(record: Record) -> int:
    return record.settings["train"]["epochs"]


def gpu(dense: Iterable[Record], steps: Sequence[Mapping[str, Any]]) -> Device:
    """A GPU, from the dense records that were made on one, detectors and tests included.

    All networks are taken to do as many operations a second as theirs, pruned ones too. Runs that shared it at one
    time are counted by the time in which any ran.

    Raises :class:`RecordError` where there are none.
    """
    made = [record for record in dense if "cores" not in _hardware(record)]
    if not made:
        raise RecordError("no dense record was made on a GPU: commit one, or leave GPUs out")
    spans = sorted(tuple(_clock(record, end) for end in ("started", "finished")) for record in made)
    busy, until = 0.0, spans[0][0]
    for begin, end in spans:
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    done = sum(_operations_of(record) for record in made)
    cut = {row["ratio"]: row["flops_pruned"] / row["flops_dense"] for row in steps if row["pass"] == "step"}
    return Device(
        _hardware(made[0]),
        {cell: operations(cell) * busy / done for cell in GRID},
        {cell: {ratio: cut[ratio] for ratio in RATIOS} for cell in GRID},
    )


def _clock(record: Record, end: str) -> float:
    return datetime.fromisoformat(record.provenance[end]).timestamp()


def _operations_of(record: Record) -> int:
    """All of a dense record's training."""
    cell = next(cell for cell in GRID if _is(record, cell))
    return operations(cell) * cell.images * _epochs(record)


def draw(dense: Sequence[Record]) -> float:
    """Share of dense training after which the partition's detector drew: median of the longest schedule's records."""
    longest = max(map(_epochs, dense))
    return statistics.median(
        (record.results["spline"]["epoch"] + 1) / longest
        for record in dense
        if _epochs(record) == longest and record.results["spline"]["epoch"] is not None
    )


def jobs(cell: Cell, device: Device, drawn: float | None) -> tuple[float, list[float]]:
    """Seconds of one seed's dense training, and of every network that is pruned from it and trained again.

    With early birds, ``drawn`` being the share of the training at which they are, the dense network is trained to there
    and what is pruned goes on from there; without, both are trained for the whole schedule.
    """
    whole = device.seconds[cell] * cell.images * cell.epochs
    dense, rest = (whole, whole) if drawn is None else (whole * drawn, whole * (1 - drawn))
    return dense, [rest * device.shares[cell][ratio] for ratio in RATIOS for _ in COMPARED]


def makespan(chains: Sequence[tuple[float, Sequence[float]]], devices: int) -> float:
    """Seconds until ``devices`` have done all: a run after its dense run, of those that may start the longest first.

    >>> makespan([(1.0, [2.0, 2.0])], devices=2)
    3.0
    """
    ready = sorted((-seconds, number) for number, (seconds, _) in enumerate(chains))  # which is a heap
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < devices:
            seconds, number = heapq.heappop(ready)
            heapq.heappush(running, (now - seconds, number))
        now, number = heapq.heappop(running)
        if number >= 0:  # a dense run, which sets its others free
            for seconds in chains[number][1]:
                heapq.heappush(ready, (-seconds, -1))
    return now


def grid_report(
    store: RecordStore, steps: Sequence[Mapping[str, Any]], batch: int, large: Mapping[str, float]
) -> str:
    """The page's sentence and tables as Markdown; arguments as of :func:`core`."""
    dense = store.load_all("dense")
    drawn = draw(dense)
    cases = [
        (device, early)
        for device in (core(dense, steps, batch, large), gpu(dense, steps))
        for early in (None, drawn)
    ]
    runs = len(GRID) * SEEDS * (1 + len(COMPARED) * len(RATIOS))
    names = [f"{device.name}, {'early birds' if early else 'trained out'}" for device, early in cases]
    hours = {
        cell: [SEEDS * makespan([jobs(cell, device, early)], 1) / 3600 for device, early in cases]
        for cell in GRID
    }
    totals = [sum(column) for column in zip(*hours.values(), strict=True)]
    rows = [
        [
            arch_name(cell.arch, 1).removesuffix(" ×1"),
            data_name(cell.dataset),
            *map(_three_figures, hours[cell]),
        ]
        for cell in GRID
    ]
    spans = [
        [str(count)]
        + [
            _span(makespan([jobs(cell, *case) for cell in GRID for _ in range(SEEDS)], count))
            for case in cases
        ]
        for count in DEVICES
    ]
    dense_share = sum(SEEDS * jobs(cell, cases[0][0], None)[0] for cell in GRID) / 3600 / totals[0]
    labels = ", ".join(METHODS[name].label for name in COMPARED)
    lines = [
        f"{len(GRID)} pairs of network and data, {len(COMPARED)} methods ({labels}), {len(RATIOS)} ratios and "
        f"{SEEDS} seeds make {runs:,} runs. With early birds the dense networks are trained for {drawn:.1%} of their "
        "schedule, the median of the committed records with the paper's schedule. Early birds save "
        f"{1 - totals[1] / totals[0]:.0%} of the core-hours. Dense networks take {dense_share:.0%} of them: each is "
        f"pruned in {len(COMPARED) * len(RATIOS)} ways, and every pruned network is trained.",
        "",
        "Hours of one device:",
        "",
        *_table(["network", "data", *names], [*rows, ["all", "", *map(_three_figures, totals)]]),
        "",
        "Time until all is done, on so many devices:",
        "",
        *_table(["devices", *names], spans),
    ]
    return "\n".join(lines) + "\n"


def _three_figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _span(seconds: float) -> str:
    days = seconds / 86_400
    return (
        f"{days / 365.25:,.1f} years"
        if days > 730
        else f"{days:,.0f} days"
        if days >= 3
        else f"{24 * days:.0f} hours"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return markdown_table({name: "--:" if place else "---" for place, name in enumerate(head)}, rows)
