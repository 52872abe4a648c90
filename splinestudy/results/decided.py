"""How many comparisons of the protocol are decided, beside how many it wants decided."""

from splinestudy.results.names import arch_name
from splinestudy.results.protocol import planned
from splinestudy.results.protocol_networks import DECIDING, judged_on
from splinestudy.results.tables import markdown_table
from splinestudy.runs.committed import STUDIES, Study
from splinestudy.runs.protocol import RATIOS
from splinestudy.runs.store import RecordStore

WANTED = 0.9
"""Share of the layerwise comparisons with the paper's time, on the networks that decide, that are to be decided."""


def decided_table(store: RecordStore) -> str:
    """A row for each network that decides and a column for each ratio, as Markdown, and all of them in a sentence.

    A comparison is decided where it is *better*, *at least on par* or *worse*, on however many of the planned seeds.
    """
    rows, decided, asked = [], 0, 0
    for study in _studies():
        counts = [_decided(study, ratio, store) for ratio in sorted(RATIOS)]
        methods = planned(study).methods
        decided, asked = decided + sum(counts), asked + methods * len(counts)
        settings = study.settings()
        name = arch_name(settings.arch, settings.width)
        rows.append([name, *(f"{count} of {methods}" for count in counts)])
    columns = {"network": "---", **{f"{ratio:g}": "---:" for ratio in sorted(RATIOS)}}
    share = f"{decided} of {asked} comparisons are decided, {100 * decided / asked:.0f} %"
    wanted = f"{100 * WANTED:.0f} % are wanted"
    return "\n".join([*markdown_table(columns, rows), "", f"In all {share}; {wanted}."])


def _studies() -> list[Study]:
    """The layerwise studies of the networks that decide."""
    return [
        study
        for study in STUDIES
        if study.profile in DECIDING and study.sweep in ("paper_era", "core") and not study.overrides
    ]


def _decided(study: Study, ratio: float, store: RecordStore) -> int:
    judged = judged_on(study.profile, "layerwise", store)[2]
    part = judged[judged["ratio"] == ratio]
    return int((~part["verdict"].isin(("open", "one seed"))).sum())
