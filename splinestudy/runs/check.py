"""Checking a record: compute its run again and compare, number by number."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from splinelib.errors import RecordError, SettingError
from splinestudy.runs.committed import Study, owners
from splinestudy.runs.provenance import computed_on, is_folder
from splinestudy.runs.records import Record
from splinestudy.runs.store import RecordStore
from splinestudy.runs.sweep import sweep

TOLERANCE = 0.02
"""Most that a number in [0, 1] may differ on another machine; larger numbers by this share of themselves.

Training amplifies the last bit of a sum, so other processors, thread numbers and versions end elsewhere: single
networks of one recipe lie about half a point of accuracy apart.
"""

_SPENT = ("seconds", "joules", "dense_seconds", "dense_joules", "scoring_seconds", "scoring_flops")
"""What a run took, by the clock or in operations; how a network is read for its scores changes with the code."""


@dataclass(frozen=True)
class Agreement:
    """How a record and its run computed again compare.

    Attributes:
        study: the study that the record belongs to.
        numbers: how many numbers were compared, but for what the run took.
        equal: how many of them are equal to the last digit.
        largest: largest difference, relative for numbers beyond 1.
        where: path of that number in the results.
        other: paths of values that are no numbers, or are missing on one side, and differ.
        machines: where the record was computed, and where its run was again.
    """

    study: Study
    numbers: int
    equal: int
    largest: float
    where: str
    other: tuple[str, ...]
    machines: tuple[str, str]

    def holds(self, tolerance: float = TOLERANCE) -> bool:
        """Whether the record stands: nothing but numbers differs, and none by more than ``tolerance``."""
        return not self.other and self.largest <= tolerance


def check_keys(keys: Sequence[str]) -> None:
    """Raise :class:`SettingError` for a key of no run that a committed study plans."""
    for key in keys:
        if key not in owners():
            raise SettingError(
                f"key is {key!r}: no committed study plans such a run; a key is the name of a file in records/, "
                "without .json"
            )


def check_record(key: str, records: RecordStore, store: RecordStore, progress: bool = True) -> Agreement:
    """Compute the run of the committed record ``key`` again, in ``store``, with its number of threads, and compare.

    Raises:
        SettingError: no committed study plans a run of that name, or the store is that of the records.
        RecordError: there is no such record, or its run failed.
    """
    check_keys([key])
    if is_folder(store.address, records.root):
        raise SettingError(
            f"store is {store.address}, where the records lie: give another folder, for example an empty one"
        )
    study, run = owners()[key]
    kept = records.load(run)
    if kept is None:
        raise RecordError(f"{records.path(run)} is not there: it was not computed; `{study.command()}` does")
    with _threads(kept.provenance.get("threads", torch.get_num_threads())):
        report = sweep([run], store, profile=study.profile, progress=progress)
    if report.failed:
        raise RecordError(f"the run of {key} failed: {report.failed[0][1]}") from report.failed[0][1]
    return compare(study, kept, report.records[0])


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    """So many threads within the block: sums are cut into as many parts, and rounded part by part."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compare(study: Study, kept: Record, again: Record) -> Agreement:
    """Two records of one run, number by number."""
    numbers, equal, largest, where, other = 0, 0, 0.0, "", []
    for path, first, second in _pairs(kept.results, again.results, ""):
        if not (_number(first) and _number(second)):
            if first != second:
                other.append(path)
            continue
        numbers, equal = numbers + 1, equal + (first == second)
        difference = abs(first - second) / max(1.0, abs(first))
        if difference > largest:
            largest, where = difference, path
    machines = computed_on(kept.provenance), computed_on(again.provenance)
    return Agreement(study, numbers, equal, largest, where, tuple(other), machines)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pairs(first: Any, second: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """The leaves of two JSON values side by side; where their shapes differ, the parts as they are."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        for name in first:
            if name not in _SPENT:
                yield from _pairs(first[name], second[name], f"{path}.{name}" if path else name)
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for place, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from _pairs(one, other, f"{path}[{place}]")
    else:
        yield path, first, second
