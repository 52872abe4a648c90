"""When the rule of each verdict was fixed, and how many of its records were finished before it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from splinestudy.runs.protocol import READINGS, TODAY
from splinestudy.runs.records import Record

BESIDE = "beside"
"""In the place of a claim: what stands beside one, which is not judged by it."""

STRICTER = "stricter"
"""The same for the stricter tests under C7."""


class Rule(NamedTuple):
    """A rule by the commit that fixed it, that commit's time in ISO 8601, and whether the protocol holds it.

    What the protocol does not hold is *post hoc*, even where no record was there: earlier versions of the records were.
    What has changed in one that it holds stands in :data:`CHANGED`.
    """

    commit: str
    fixed: str
    in_protocol: bool = False

    def beside(self, records: Sequence[Record], claim: str = "") -> str:
        """The commit and its day, how many of ``records`` were finished before it, and what changed for ``claim``.

        ``claim`` may be :data:`BESIDE`.
        """
        word = "protocol" if self.in_protocol else "*post hoc*"
        later = [
            f"{change.what} (*post hoc*, {change.rule.dated(records)})"
            for change in CHANGED
            if self.in_protocol and change.concerns(records, claim)
        ]
        since = f"; changed since: {'; '.join(later)}" if later else ""
        return f"{word}, {self.dated(records)} records before{since}"

    def dated(self, records: Sequence[Record]) -> str:
        """Commit and day, and of ``records`` those finished before."""
        fixed = datetime.fromisoformat(self.fixed)
        before = sum(datetime.fromisoformat(r.provenance["finished"]) < fixed for r in records)
        return f"`{self.commit}` of {self.fixed[:10]}, {before} of {len(records)}"


def _small_and_global(settings: Mapping[str, Any]) -> bool:
    return bool(settings["dense"]["arch"] == "simple_cnn" and settings["scope"] == "global")


def _shared(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("allocation")) or settings.get("normalize", "mean") != "mean"


def _readings(settings: Mapping[str, Any]) -> bool:
    return settings["criterion"] in READINGS


def _sets(settings: Mapping[str, Any]) -> bool:
    how = settings["criterion"], settings.get("compensate", "none")
    return how[1] == "least_squares" or how in TODAY


class Change(NamedTuple):
    """What is another in the protocol's rule since it was written: in words, from when on, and where.

    Attributes:
        what: in words.
        rule: the commit.
        claims: those that it is about, or :data:`BESIDE`.
        among: whether it is about runs of such settings; None for all.
    """

    what: str
    rule: Rule
    claims: tuple[str, ...]
    among: Callable[[Mapping[str, Any]], bool] | None = None

    def concerns(self, records: Sequence[Record], claim: str) -> bool:
        """Whether it is about these records under ``claim``."""
        if claim not in self.claims:
            return False
        return self.among is None or any(self.among(record.settings) for record in records)


NO_RULE = "numbers without a rule"
"""Beside rows that judge nothing."""

PROTOCOL = Rule("5ce7d28", "2026-11-28T18:13:43+00:00", in_protocol=True)
READING = Rule("b495ad0", "2026-11-30T11:07:53+00:00", in_protocol=True)
SOFT = Rule("ecc92e7", "2026-11-29T00:44:16+00:00")
GLOBAL = Rule("77e6486", "2026-11-29T03:53:07+00:00")
DEARER = Rule("05a37ba", "2026-11-29T06:01:16+00:00")
SETS = Rule("09bf084", "2026-11-29T09:55:26+00:00")
PLANNED = Rule("3ec72d0", "2026-11-29T18:21:19+00:00")
UNEQUAL = Rule("8e6856d", "2026-11-29T20:47:00+00:00")
LATE = Rule("767b16d", "2026-11-29T22:55:21+00:00")
MASKS = Rule("a16b2ae", "2026-11-30T08:29:00+00:00")
OVER = Rule("2f666db", "2026-11-30T18:02:44+00:00")
WHO = Rule("9dcb9ba", "2026-11-30T11:38:04+00:00")
EARLY = Rule("8ec1669", "2026-12-01T01:59:34+00:00")
LAST = Rule("37435b0", "2026-12-01T03:25:41+00:00")
CHANGED = (
    Change("soft filter pruning left set (a)", SOFT, ("C5", "C7")),
    Change("soft filter pruning left set (a)", SOFT, (BESIDE,), _readings),
    Change("*contradicted* where a way costs no more", DEARER, ("C7",)),
    Change("*supported* takes every method planned", PLANNED, ("C5", "C6", BESIDE)),
    Change("the front page's word counts nine networks and ratios", UNEQUAL, ("C5", "C6")),
    Change("paired intervals for tickets too where they scatter unequally", UNEQUAL, ("C4",)),
    Change("a draw in the last epoch, or none, leaves the word undecided", LATE, ("C4",)),
    Change("EB Train is compared outside the joint intervals", MASKS, ("C7",)),
    Change("two networks decide the front page's word", WHO, ("C7",)),
    Change("the interval is one over networks", OVER, ("C2",)),
    Change("what is drawn in the second half of the schedule is not early", EARLY, ("C4",)),
    Change("networks and ratios count once all their planned seeds are there", EARLY, ("C5", "C6")),
    Change("one seed gets no word", LAST, ("C7",)),
    Change("the front page's word is *contradicted* where no ratio is left", LAST, ("C7",)),
    Change("how the stricter tests are computed", LAST, (STRICTER,)),
    Change("global scope on SimpleCNN as well", GLOBAL, ("C6", BESIDE), _small_and_global),
    Change("one allocation and the normalisations at one ratio alone", GLOBAL, (BESIDE,), _shared),
    Change("sets (b) and (c) on SimpleCNN as well, set (b) with the core alone", SETS, (BESIDE,), _sets),
)
"""What the protocol's page says was changed in its rule, each with the commit that changed it."""

MARKS = Rule("e37edc2", "2026-11-28T21:45:31+00:00")
"""Of what no sentence of the claims had a rule for before there were marks."""

COIN = Rule("d5ae75c", "2026-11-23T07:37:32+00:00")
COIN_ON_IMAGES = Rule("1be6562", "2026-11-23T13:52:12+00:00")
TOUCHING = Rule("1cfbce1", "2026-11-23T07:54:23+00:00")
SETTLING = Rule("71c7e05", "2026-11-23T11:56:45+00:00")
COMPARISON = Rule("e35b858", "2026-11-23T05:22:54+00:00")
STANDING = Rule("76ebc7f", "2026-11-26T14:47:38+00:00")
SAVING = Rule("1fac265", "2026-11-23T11:22:18+00:00")
