"""What devices take for the paper's whole grid, from committed records and from steps that were timed."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from splinelib.errors import RecordError
from splinestudy.results.grid import GRID, RATIOS, Cell, Device, operations
from splinestudy.runs.records import Record


def drawn_share(dense: Sequence[Record]) -> float:
    """Share of dense training after which the partition's detector drew: median of the longest schedule's records."""
    longest = max(map(_epochs, dense))
    return statistics.median(
        (record.results["spline"]["epoch"] + 1) / longest
        for record in dense
        if _epochs(record) == longest and record.results["spline"]["epoch"] is not None
    )


def core(
    dense: Sequence[Record], steps: Sequence[Mapping[str, Any]], batch: int, large: Mapping[str, float]
) -> Device:
    """A CPU core: seconds from steps of a network that were timed, else from its dense records at full width.

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
        if one:  # on a quiet machine, so one network costs the same on every data set of its size
            seconds[cell] = one["cpu_dense"] / batch
        elif trained:
            seconds[cell] = statistics.median(trained)
        else:
            seconds[cell] = large.get(cell.arch, operations(cell) / rate)
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
