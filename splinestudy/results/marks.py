"""A mark: what records say of a claim in one case, in one word, with the intervals that it was read from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import pandas as pd

from splinestudy.analysis.intervals import mean_interval
from splinestudy.results.protocol import SAVINGS, reproduced
from splinestudy.results.rules import CHANGED
from splinestudy.runs.records import Record

Word = Literal["supported", "in part", "undecided", "contradicted"]
WORDS: tuple[Word, ...] = get_args(Word)


@dataclass(frozen=True, eq=False)
class Mark:
    """What records say of a claim in one case.

    Attributes:
        claim: ``"C1"`` to ``"C8"``.
        case: the network with its data, or the problem, as people write it.
        at: the ratio where the claim is judged at several, ``""`` where it is not.
        word: the verdict.
        evidence: one line, made from the numbers.
        intervals: what the verdict was read from: columns label, value, low, high.
        axis: what the intervals are of, with their unit.
        band: between these a difference counts as none; or a value within it is what the claim says.
        records: keys of the records.
        rule: when the rule was fixed, and how many of the records were there before.
        by_protocol: the rule is the protocol's, which came before the records that it governs.
        decides: the case counts for the claim's one word; the protocol names the networks that do under C5, C6 and C7.
        counted: the claim's one word comes from how many of its deciding cases got which (:func:`.reproduced`).
        complete: every method and seed that is planned is there, so that its word is the last one.
        once: one ratio is enough for its case, as for a claim of what is saved at best.
    """

    claim: str
    case: str
    at: str
    word: Word
    evidence: str
    intervals: pd.DataFrame = field(repr=False)
    axis: str
    band: tuple[float, float]
    records: tuple[str, ...] = field(repr=False)
    rule: str
    by_protocol: bool = False
    decides: bool = True
    counted: bool = False
    complete: bool = True
    once: bool = False


Marks = list[Mark]

_BY_COUNT: dict[str, Word] = {
    "reproduced": "supported",
    "mixed": "in part",
    "not decided yet": "undecided",
    "not reproduced": "contradicted",
}


def overall(words: Iterable[Word]) -> Word:
    """One word for several cases.

    *supported* if they all are, *contradicted* if some are and none is supported even in part, *undecided* if nothing
    else is among them, and otherwise *in part*.

    >>> overall(["supported", "undecided"]), overall(["contradicted", "undecided"])
    ('in part', 'contradicted')
    """
    found = set(words)
    if found == {"supported"}:
        return "supported"
    if found <= {"undecided"}:
        return "undecided"
    return "in part" if found & {"supported", "in part"} else "contradicted"


def judging(marks: Sequence[Mark]) -> list[Mark]:
    """The marks that a claim is judged by: those of the protocol, whose rule came first; without any, all."""
    return [mark for mark in marks if mark.by_protocol] or list(marks)


def whole(marks: Sequence[Mark]) -> Word:
    """The one word for a claim, from those of its :func:`judging` marks that decide: as :func:`overall` has it, or as
    the protocol counts nine networks and ratios.
    """
    deciding = [mark for mark in judging(marks) if mark.decides]
    if any(mark.counted for mark in deciding):
        return _by_count([mark.word for mark in deciding if mark.complete])
    if any(mark.once for mark in deciding):
        return _by_best(deciding)
    return overall(mark.word for mark in deciding)


def _by_best(deciding: Sequence[Mark]) -> Word:
    """A claim of what is gained at best: lost only where it is everywhere, with all that is planned."""
    lost = [mark.complete and mark.word == "contradicted" for mark in deciding]
    if all(lost) and len(lost) >= SAVINGS:
        return "contradicted"
    enough = {mark.case for mark in deciding if mark.word == "supported"}
    return overall("supported" if mark.case in enough else "undecided" for mark in deciding)


def _by_count(words: Sequence[Word]) -> Word:
    """Of nine that are all undecided nothing holds in part."""
    found = _BY_COUNT[reproduced(words)]
    return "undecided" if found == "in part" and "supported" not in words else found


def summary(marks: Sequence[Mark]) -> str:
    """How many cases of a claim got which word: by the protocol, and beside it by rules that came after records."""
    first = judging(marks)
    rest = [mark for mark in marks if mark not in first]
    if not first[0].by_protocol:
        return f"{counts(marks).capitalize()}, by rules made post hoc"
    since = any(first[0].claim in change.claims for change in CHANGED)
    fixed = "whose rule has changed since in part" if since else "fixed before its runs"
    found = f"By the protocol, {fixed}: {counts(first)}"
    if not any(mark.decides for mark in first):
        found += ", none of them on a network that decides"
    return f"{found}. Beside it, post hoc: {counts(rest)}" if rest else found


def counts(marks: Sequence[Mark]) -> str:
    """How many cases got which word, in words."""
    found = [mark.word for mark in marks]
    said = [f"{word} in {found.count(word)}" for word in WORDS if word in found]
    return f"{', '.join(said)} of {len(marks)} cases"


def keys_of(records: Iterable[Record]) -> tuple[str, ...]:
    """The records' keys in order."""
    return tuple(sorted(record.key for record in records))


def intervals(rows: Iterable[tuple[str, float, float, float]], unit: float = 1) -> pd.DataFrame:
    """Rows of label, value, low, high as a table, with the numbers times ``unit``."""
    table = pd.DataFrame(list(rows), columns=["label", "value", "low", "high"])
    numbers = ["value", "low", "high"]
    return table.assign(**(unit * table[numbers].astype(float)))


def mean_row(label: str, values: Sequence[float]) -> tuple[str, float, float, float]:
    """The mean of ``values`` with its 95 % interval by Student's t, NaN for a single one, as a row of intervals."""
    return label, *mean_interval(values)
