"""Tables of boundary records, and claim C3 beside them, in words made from their numbers."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from splinestudy.results.marks import Word
from splinestudy.results.names import network_name
from splinestudy.runs.records import Record

TINY = 0.1
"""Up to this share of units counts as the claim's "tiny fraction"; the submission's abstract gives no number."""


def boundary_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each network, seed, slice and layer (``all`` for the whole network)."""
    rows: list[dict[str, Any]] = []
    for record in records:
        dense = record.settings["dense"]
        name = network_name(record)
        regions = record.results["regions"]
        rows += [
            {"network": name, "seed": dense["seed"], "regions": regions[row["slice"]], **row}
            for row in record.results["rows"]
        ]
    return pd.DataFrame(rows)


def boundary_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds and slices for each whole network, in percent."""
    whole = table[table["layer"] == "all"].groupby("network", sort=False)
    shares = ["crossing", "touching", "touching_of_crossing", "channels_touching"]
    text = {
        name: [
            f"{100 * m:.1f} ± {100 * s:.1f}"
            for m, s in zip(whole[name].mean(), whole[name].std(ddof=1).fillna(0), strict=True)
        ]
        for name in shares
    }
    columns = {
        "units": whole["units"].first(),
        "slices": whole.size(),
        "regions met": whole["regions"].mean().round().astype(int),
    }
    return pd.DataFrame(columns).assign(**text).reset_index()


def touching_word(share: float) -> Word:
    """Claim C3, by the mean share of units that touch: *supported* where it is at most :data:`TINY`."""
    return "supported" if share <= TINY else "contradicted"


def touching_claim(table: pd.DataFrame, source: str) -> list[dict[str, str]]:
    """Claim C3 beside each network's numbers: it *holds* where :func:`touching_word` supports it."""
    rows = []
    for name, group in table[table["layer"] == "all"].groupby("network", sort=False):
        mean, spread = 100 * group["touching"].mean(), 100 * group["touching"].std(ddof=1)
        found = f"{mean:.0f}" + (f" ± {spread:.0f}" if len(group) > 1 else "")
        verdict = "holds" if touching_word(mean / 100) == "supported" else "does not hold"
        rows.append(
            {
                "claim": "C3",
                "records": f"{source}, {len(group)} slices",
                "ours": f"{name}: {found} % of {int(group['units'].iloc[0])} units touch it; {verdict}",
            }
        )
    return rows
