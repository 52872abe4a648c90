"""When the rule of each verdict was fixed, and how many of its records were finished before it."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from splinestudy.runs.records import Record


class Rule(NamedTuple):
    """A rule by the commit that fixed it, that commit's time in ISO 8601, and whether the protocol holds it.

    What the protocol does not hold is *post hoc*, even where no record was there: earlier versions of the records were.
    What has changed in one that it holds stands in :data:`CHANGED`.
    """

    commit: str
    fixed: str
    in_protocol: bool = False

    def beside(self, records: Sequence[Record], claim: str = "") -> str:
        """The commit and its day, how many of ``records`` were finished before it, and what changed for ``claim``."""
        word = "protocol" if self.in_protocol else "*post hoc*"
        later = [
            f"{change.what} (*post hoc*, {change.rule.dated(records)})"
            for change in CHANGED
            if self.in_protocol and claim in change.claims
        ]
        since = f"; changed since: {'; '.join(later)}" if later else ""
        return f"{word}, {self.dated(records)} records before{since}"

    def dated(self, records: Sequence[Record]) -> str:
        """Commit and day, and of ``records`` those finished before."""
        fixed = datetime.fromisoformat(self.fixed)
        before = sum(datetime.fromisoformat(r.provenance["finished"]) < fixed for r in records)
        return f"`{self.commit}` of {self.fixed[:10]}, {before} of {len(records)}"


class Change(NamedTuple):
    """What is another in the protocol's rule since records were there: in words, from when on, for which claims."""

    what: str
    rule: Rule
    claims: tuple[str, ...]


NO_RULE = "numbers without a rule"
"""Beside rows that judge nothing."""

PROTOCOL = Rule("5ce7d28", "2026-11-28T18:13:43+00:00", in_protocol=True)
READING = Rule("b495ad0", "2026-11-30T11:07:53+00:00", in_protocol=True)
SOFT = Rule("ecc92e7", "2026-11-29T00:44:16+00:00")
DEARER = Rule("05a37ba", "2026-11-29T06:01:16+00:00")
PLANNED = Rule("3ec72d0", "2026-11-29T18:21:19+00:00")
UNEQUAL = Rule("8e6856d", "2026-11-29T20:47:00+00:00")
LATE = Rule("767b16d", "2026-11-29T22:55:21+00:00")
MASKS = Rule("a16b2ae", "2026-11-30T08:29:00+00:00")
OVER = Rule("2f666db", "2026-11-30T18:02:44+00:00")
WHO = Rule("9dcb9ba", "2026-11-30T11:38:04+00:00")
CHANGED = (
    Change("soft filter pruning left set (a)", SOFT, ("C5", "C7")),
    Change("*contradicted* where a way costs no more", DEARER, ("C7",)),
    Change("*supported* takes every method planned", PLANNED, ("C5", "C6")),
    Change("the front page's word counts nine networks and ratios", UNEQUAL, ("C5", "C6")),
    Change("paired intervals for tickets too where they scatter unequally", UNEQUAL, ("C4",)),
    Change("a draw in the last epoch, or none, leaves the word undecided", LATE, ("C4",)),
    Change("EB Train is compared outside the joint intervals", MASKS, ("C7",)),
    Change("two networks decide the front page's word", WHO, ("C7",)),
    Change("the interval is one over networks", OVER, ("C2",)),
)
"""What the protocol's page says was changed in its rule, each with the commit that changed it."""

COIN = Rule("d5ae75c", "2026-11-23T07:37:32+00:00")
COIN_ON_IMAGES = Rule("1be6562", "2026-11-23T13:52:12+00:00")
TOUCHING = Rule("1cfbce1", "2026-11-23T07:54:23+00:00")
SETTLING = Rule("71c7e05", "2026-11-23T11:56:45+00:00")
COMPARISON = Rule("e35b858", "2026-11-23T05:22:54+00:00")
STANDING = Rule("76ebc7f", "2026-11-26T14:47:38+00:00")
SAVING = Rule("1fac265", "2026-11-23T11:22:18+00:00")
