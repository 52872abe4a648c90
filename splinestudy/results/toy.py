"""Claim C2 in the toy, in words made from a record's numbers."""

from typing import Any

import pandas as pd

from splinestudy.analysis.toy import KINDS

Rows = list[dict[str, Any]]


def pruning_claim(rows: Rows, source: str) -> dict[str, str]:
    """Claim C2 in the toy: what node and weight pruning do to boundaries at a low and at the largest ratio."""
    table = pd.DataFrame(rows)
    ratios = sorted(table["ratio"].unique())
    parts = []
    for ratio in dict.fromkeys((ratios[len(ratios) // 3], ratios[-1])):
        for kind in KINDS:
            chosen = table[(table["ratio"] == ratio) & (table["kind"] == kind)]
            gone, turned = 100 * chosen["vanished"].mean(), 100 * chosen["axis_parallel"].astype(float).mean()
            parts.append(
                f"{kind} {ratio:.0%}: {gone:.0f} % of boundaries vanish, {turned:.0f} % of length is parallel"
            )
    return {
        "claim": "C2",
        "records": f"{source}, {table['run'].nunique()} runs",
        "ours": "; ".join(parts),
    }
