"""Claims beside what records show, in words made from their numbers alone."""

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd

from splinestudy.results.claim_texts import CLAIMS
from splinestudy.results.comparisons import standing
from splinestudy.results.early_bird import detection_summary, detection_table
from splinestudy.results.names import arch_name, data_name, dense_settings, network_name, profile_of, signed
from splinestudy.results.protocol import Planned
from splinestudy.results.simultaneous import MARGIN
from splinestudy.results.tables import markdown_table
from splinestudy.results.variance import seeds_needed
from splinestudy.runs.records import Record

VERDICTS = ("better", "at least on par", "on par", "open", "worse", "one seed")

NEAR_MARGIN = 0.8
"""Intervals that reach this share of the margin to either side find a true tie on par about every other time."""

MANY = 100
"""Seeds beyond which nobody asks how many exactly."""


def claim_table(rows: Sequence[dict[str, str]]) -> str:
    """Rows with equal keys as a Markdown table; those of claims have what the paper says in a column of its own."""
    said = [
        {"claim": row["claim"], "paper": CLAIMS[row["claim"]].text} | row if "claim" in row else row
        for row in rows
    ]
    return "\n".join(markdown_table(dict.fromkeys(said[0], "---"), [list(row.values()) for row in said]))


def detection_claim(records: Sequence[Record]) -> dict[str, str]:
    """Claim C4 beside what ``records`` show, in words made from their numbers alone."""
    table = detection_table(records)
    spline = detection_summary(table).iloc[0]
    final = np.array([_distance_to_last(record) for record in records])
    half = final.shape[1] // 2
    places = [f"{final[:, half].mean():.2f} half-way", f"{final[:, 0].mean():.2f} after the first epoch"]
    if spline["drawn"]:
        spread = "" if spline["drawn"] == 1 else f" ± {spline['epoch_std']:.1f}"
        ours = (
            f"drawn in {spline['drawn']} of {spline['n']} runs, after {spline['epoch_mean'] + 1:.1f}{spread} "
            f"of {final.shape[1]} epochs ({100 * spline['share_of_schedule']:.0f} % of the schedule)"
        )
        places.insert(0, f"{distance_at_the_draw(records):.2f} at the draw")
    else:
        ours = f"never drawn in {spline['n']} runs of {final.shape[1]} epochs"
    ours += f"; distance to the last epoch's partition {', '.join(places)}"
    return {
        "claim": "C4",
        "records": f"{network_name(records[0])}, profile {profile_of(records[0])}, n = {len(records)}",
        "ours": ours,
    }


def distance_at_the_draw(records: Sequence[Record]) -> float:
    """How far the last epoch's partition is from that of the draw: mean over the dense runs that have one."""
    draws = [(record, record.results["spline"]["epoch"]) for record in records]
    return float(np.mean([_distance_to_last(record)[epoch] for record, epoch in draws if epoch is not None]))


def _distance_to_last(record: Record) -> np.ndarray:
    return np.array(record.results["spline"]["distances"])[-1]


def pruning_claim(claim: str, records: Sequence[Record], differences: pd.DataFrame) -> dict[str, str]:
    """Claim C5 or C6 beside the verdicts of :func:`paired_differences`, counted for each baseline."""
    parts = []
    for other, group in differences.groupby("against", sort=False):
        found = ", ".join(
            f"{row.verdict} at {row.ratio:g} ({signed(100 * row.difference)})" for row in group.itertuples()
        )
        parts.append(f"against {other.label}: {found}")
    return {
        "claim": claim,
        "records": f"{network_name(records[0])}, profile {profile_of(records[0])}, {seeds_of(records)}",
        "ours": "; ".join(parts) + " (mean difference in points)",
    }


def seeds_of(records: Sequence[Record]) -> str:
    """How many seeds the dense runs behind prune records have, in words."""
    count = len({record.settings["dense"]["seed"] for record in records})
    return "1 seed" if count == 1 else f"{count} seeds"


def describe(records: Sequence[Record]) -> str:
    """One line that says what records are: profile, data, network, seeds, hardware, date."""
    if not records:
        return "no records"
    first = records[0]
    dense = dense_settings(first)
    seeds = sorted({dense_settings(record)["seed"] for record in records})
    images = "all" if dense["images"] is None else f"{dense['images']:,}"
    name = arch_name(dense["arch"], dense["width"])
    hardware = ", ".join(sorted({record.provenance["hardware"] for record in records}))
    return (
        f"profile {profile_of(first)}: {data_name(dense['dataset'])} ({images} training images), {name}, "
        f"{dense['train']['epochs']} epochs, seeds {', '.join(map(str, seeds))}; "
        f"{len(records)} runs on {hardware}, finished {max(r.provenance['finished'] for r in records)[:10]}"
    )


def _unequal(judged: pd.DataFrame) -> str:
    """Why the protocol's second kind of intervals decided, if it did."""
    methods = judged["unequal"].iloc[0] if "unequal" in judged else ""
    return f" (paired intervals, since {methods} scatters more than the rest)" if methods else ""


def _seeds(judged: pd.DataFrame) -> str:
    """What it would take to decide, where the protocol's rule could tell; nothing where as many did not decide."""
    sd = judged["sd"].iloc[0] if "sd" in judged else np.nan
    if not sd > 0 or standing(judged["verdict"]) != "undecided":
        return ""
    seeds = seeds_needed(sd, len(judged), NEAR_MARGIN * MARGIN)
    if seeds <= judged["n"].max():
        return ""
    many = f"about {seeds}" if seeds <= MANY else f"more than {MANY}"
    return f" (where nothing differs, {many} seeds would decide, by the spread of those so far)"


def study_claim(
    claim: str, records: Sequence[Record], differences: pd.DataFrame, asked: Planned | None = None
) -> dict[str, str]:
    """Claim C5 or C6 beside a study of many methods: how many the spline criterion beats, equals or loses to.

    ``asked`` is what the protocol plans; None for what came before it.
    """
    parts = []
    for ratio, group in differences.groupby("ratio"):
        found = group["verdict"].value_counts()
        counts = [f"{word} {found[word]}" for word in VERDICTS if word in found]
        best = group.loc[group["difference"].idxmin()]
        word = f"*{standing(group['verdict'], asked.methods if asked else 1)}*"
        if asked and group["n"].max() < 2:
            word = "not judged"  # one seed has no interval
        parts.append(
            f"at {ratio:g} {word}, of {compared(group, asked)}: {', '.join(counts)}; "
            f"{_extreme(100 * best['difference'])} points, against {best['against'].label}"
            + _unequal(group)
            + _seeds(group)
        )
    return {
        "claim": claim,
        "records": f"study of methods, {network_name(records[0])}, {seeds_of(records)}",
        "ours": "; ".join(parts) or "no committed records",
    }


def _extreme(points: float) -> str:
    """The difference from the method that stands best against the criterion."""
    return f"{'smallest lead' if points > 0 else 'largest deficit'} {signed(points)}"


def compared(group: pd.DataFrame, asked: Planned | None = None, what: str = "methods") -> str:
    """How many methods are compared on how many seeds, and how many of each are planned if that is more."""
    if asked is None:
        return f"{len(group)} {what}"
    missing = f" ({asked.methods} planned)" if len(group) < asked.methods else ""
    least, most = group["n"].min(), group["n"].max()
    seeds = f"{most}" if least == most else f"{least} to {most}"
    planned = f" of {asked.seeds}" if least < asked.seeds else ""
    return f"{len(group)} {what}{missing} on {seeds}{planned} seeds"


def runs_html(*groups: Sequence[Record]) -> str:
    """The runs behind a figure, one line for each group, folded away."""
    lines = "".join(f"<li>{escape(describe(group))}</li>" for group in groups if group)
    return (
        f'<details class="runs"><summary>The runs</summary><ul>{lines}</ul></details>'
        if lines
        else "<p>No records.</p>"
    )
