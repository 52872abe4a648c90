"""When the rule of each verdict was fixed, and how many of its records were finished before it."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from splinestudy.runs.records import Record


class Rule(NamedTuple):
    """A rule by the last commit that changed it, that commit's time in ISO 8601, and whether the protocol holds it.

    What the protocol does not hold is *post hoc*, even where no record was there: earlier versions of the records were.
    """

    commit: str
    fixed: str
    in_protocol: bool = False

    def beside(self, records: Sequence[Record]) -> str:
        """The commit and its day, and how many of ``records`` were finished before it."""
        fixed = datetime.fromisoformat(self.fixed)
        before = sum(datetime.fromisoformat(r.provenance["finished"]) < fixed for r in records)
        word = "protocol" if self.in_protocol else "*post hoc*"
        return f"{word}, `{self.commit}` of {self.fixed[:10]}, {before} of {len(records)} records before"


NO_RULE = "numbers without a rule"
"""Beside rows that judge nothing."""

PROTOCOL = Rule("5ce7d28", "2026-11-28T18:13:43+00:00", in_protocol=True)
COIN = Rule("d5ae75c", "2026-11-23T07:37:32+00:00")
COIN_ON_IMAGES = Rule("1be6562", "2026-11-23T13:52:12+00:00")
TOUCHING = Rule("1cfbce1", "2026-11-23T07:54:23+00:00")
SETTLING = Rule("71c7e05", "2026-11-23T11:56:45+00:00")
COMPARISON = Rule("e35b858", "2026-11-23T05:22:54+00:00")
STANDING = Rule("76ebc7f", "2026-11-26T14:47:38+00:00")
SAVING = Rule("1fac265", "2026-11-23T11:22:18+00:00")
SEPARATION = Rule("1cfbce1", "2026-11-23T07:54:23+00:00")
