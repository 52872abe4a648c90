"""Records as tidy tables, with means, spreads and paired comparisons over seeds. Needs pandas and scipy."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from splinelib.errors import SettingError
from splinelib.records import Record

MARGIN = 0.003
"""Accuracies closer than this (0.3 points) count as on par."""

CONFIDENCE = 0.95


def pruning_table(records: Sequence[Record], scope: str) -> pd.DataFrame:
    """One row for each prune record of ``scope``.

    Columns: profile, dataset, arch, width, images, seed, criterion, ratio; dense_accuracy, pruned_accuracy (before
    fine-tuning), accuracy (after), all in [0, 1]; parameters and flops as shares of the dense network's; seconds.
    """
    rows = []
    for record in records:
        settings, results = record.settings, record.results
        if settings["scope"] != scope:
            continue
        dense = settings["dense"]
        rows.append(
            {
                "profile": record.provenance["profile"],
                **{name: dense[name] for name in ("dataset", "arch", "width", "images", "seed")},
                "criterion": settings["criterion"],
                "ratio": settings["ratio"],
                **{name: results[name] for name in ("dense_accuracy", "pruned_accuracy", "accuracy")},
                "parameters": results["cost"]["parameters"] / results["dense_cost"]["parameters"],
                "flops": results["cost"]["flops"] / results["dense_cost"]["flops"],
                "seconds": record.provenance["seconds"],
            }
        )
    table = pd.DataFrame(rows)
    return table.sort_values(["ratio", "criterion", "seed"], ignore_index=True) if rows else table


def width_table(records: Sequence[Record], scope: str) -> pd.DataFrame:
    """One row for each layer of each prune record: criterion, ratio, seed, layer, position, kept (share)."""
    rows = [
        {
            "criterion": record.settings["criterion"],
            "ratio": record.settings["ratio"],
            "seed": record.settings["dense"]["seed"],
            "layer": layer,
            "position": position,
            "kept": kept / record.results["dense_widths"][layer],
        }
        for record in records
        if record.settings["scope"] == scope
        for position, (layer, kept) in enumerate(record.results["widths"].items(), start=1)
    ]
    return pd.DataFrame(rows)


def summarise(table: pd.DataFrame, by: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Number n, and mean and standard deviation (over seeds, with n − 1) of each value, for each group of ``by``."""
    groups = table.groupby(list(by), sort=False)
    out = groups.size().rename("n").to_frame()
    for value in values:
        out[f"{value}_mean"] = groups[value].mean()
        out[f"{value}_std"] = groups[value].std(ddof=1)
    return out.reset_index()


def paired_differences(
    table: pd.DataFrame, value: str = "accuracy", criterion: str = "spline"
) -> pd.DataFrame:
    """``criterion`` minus every other criterion, paired by seed, at every ratio.

    Columns: ratio, against, n, difference (mean), low, high (95 % confidence interval of the mean by Student's t,
    paired; NaN with a single seed) and verdict by :func:`verdict`.
    """
    if table.empty or criterion not in set(table["criterion"]):
        raise SettingError(f"criterion {criterion!r} is not in the table: run it, or compare another one")
    rows = []
    for ratio, group in table.groupby("ratio"):
        wide = group.pivot(index="seed", columns="criterion", values=value)
        for other in [name for name in table["criterion"].unique() if name != criterion]:
            pairs = wide[[criterion, other]].dropna()
            low, high = _interval((pairs[criterion] - pairs[other]).to_numpy())
            difference = float((pairs[criterion] - pairs[other]).mean())
            rows.append(
                {
                    "ratio": ratio,
                    "against": other,
                    "n": len(pairs),
                    "difference": difference,
                    "low": low,
                    "high": high,
                    "verdict": verdict(low, high),
                }
            )
    return pd.DataFrame(rows)


def _interval(differences: np.ndarray) -> tuple[float, float]:
    if len(differences) < 2:
        return float("nan"), float("nan")
    if np.ptp(differences) == 0:  # no spread: the interval is the point, where scipy divides by zero
        return float(differences[0]), float(differences[0])
    interval = stats.ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high)


def verdict(low: float, high: float, margin: float = MARGIN) -> str:
    """The rule, fixed before any number: where does the confidence interval of a difference lie?

    *better* if wholly above ``margin``, *worse* if wholly below ``-margin``, *on par* if wholly within ±margin,
    else *open*: the data do not decide. *one seed* where there is no interval.
    """
    if np.isnan(low):
        return "one seed"
    if low > margin:
        return "better"
    if high < -margin:
        return "worse"
    return "on par" if -margin <= low and high <= margin else "open"


def detection_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each dense record and detector.

    Columns: profile, dataset, arch, width, seed, detector ("spline" or "mask 0.3" …), epoch (of the draw, from 0;
    NaN if never), epochs (of the whole run), accuracy_at_draw (NaN if never), final_accuracy.
    """
    rows = []
    for record in records:
        settings, results = record.settings, record.results
        drawn = {"spline": results["spline"]["epoch"]}
        drawn |= {f"mask {mask['ratio']:g}": mask["epoch"] for mask in results["masks"]}
        for detector, epoch in drawn.items():
            rows.append(
                {
                    "profile": record.provenance["profile"],
                    **{name: settings[name] for name in ("dataset", "arch", "width", "seed")},
                    "detector": detector,
                    "epoch": np.nan if epoch is None else float(epoch),
                    "epochs": settings["train"]["epochs"],
                    "accuracy_at_draw": np.nan if epoch is None else results["epochs"][epoch]["accuracy"],
                    "final_accuracy": results["epochs"][-1]["accuracy"],
                }
            )
    return pd.DataFrame(rows)


def detection_summary(table: pd.DataFrame) -> pd.DataFrame:
    """For each detector of :func:`detection_table`: runs, draws, epoch and share of the schedule, accuracies."""
    rows = []
    for detector, group in table.groupby("detector", sort=False):
        rows.append(
            {
                "detector": detector,
                "n": len(group),
                "drawn": int(group["epoch"].notna().sum()),
                "epoch_mean": group["epoch"].mean(),
                "epoch_std": group["epoch"].std(ddof=1),
                "share_of_schedule": ((group["epoch"] + 1) / group["epochs"]).mean(),
                "accuracy_at_draw": group["accuracy_at_draw"].mean(),
                "final_accuracy": group["final_accuracy"].mean(),
            }
        )
    return pd.DataFrame(rows)


def stack(parts: Sequence[pd.DataFrame], profiles: Sequence[str]) -> pd.DataFrame:
    """Tables of several profiles as one, with the profile as its first column."""
    return pd.concat([part.assign(profile=name) for part, name in zip(parts, profiles, strict=True)]).pipe(
        lambda table: table[["profile", *[column for column in table if column != "profile"]]]
    )


def claim_table(rows: Sequence[dict[str, str]]) -> str:
    """Rows with equal keys as a Markdown table."""
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *[[row[name] for name in header] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def detection_claim(records: Sequence[Record]) -> dict[str, str]:
    """Claim C4 beside what ``records`` show, in words made from their numbers alone."""
    table = detection_table(records)
    spline = detection_summary(table).iloc[0]
    if spline["drawn"]:
        spread = "" if spline["drawn"] == 1 else f" ± {spline['epoch_std']:.1f}"
        ours = (
            f"drawn in {spline['drawn']} of {spline['n']} runs, at epoch {spline['epoch_mean']:.1f}{spread} "
            f"of {int(table['epochs'].iloc[0])} ({100 * spline['share_of_schedule']:.0f} % of the schedule)"
        )
    else:
        ours = f"never drawn in {spline['n']} runs of {int(table['epochs'].iloc[0])} epochs"
    final = np.mean([_distance_to_last(record) for record in records], axis=0)
    half = len(final) // 2
    ours += f"; distance to the last epoch's partition {final[half]:.2f} half-way, {final[0]:.2f} after the first epoch"
    return {
        "claim": "C4",
        "paper": "the partition converges early in training",
        "records": f"profile {records[0].provenance['profile']}, n = {len(records)}",
        "ours": ours,
    }


def _distance_to_last(record: Record) -> np.ndarray:
    return np.array(record.results["spline"]["distances"])[-1]


def pruning_claim(claim: str, records: Sequence[Record], differences: pd.DataFrame) -> dict[str, str]:
    """Claim C5 or C6 beside the verdicts of :func:`paired_differences`, counted for each baseline."""
    parts = []
    for other, group in differences.groupby("against", sort=False):
        found = ", ".join(
            f"{row.verdict} at {row.ratio:g} ({100 * row.difference:+.1f})" for row in group.itertuples()
        )
        parts.append(f"against {other}: {found}")
    seeds = {record.settings["dense"]["seed"] for record in records}
    return {
        "claim": claim,
        "paper": "on par with or better than the state of the art",
        "records": f"profile {records[0].provenance['profile']}, {len(seeds)} seeds",
        "ours": "; ".join(parts) + " (mean difference in points)",
    }


def epoch_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each epoch of each dense record: seed, epoch, lr, loss, accuracy, distance (to the one before)."""
    rows = []
    for record in records:
        distances = np.array(record.results["spline"]["distances"])
        for row in record.results["epochs"]:
            epoch = row["epoch"]
            distance = distances[epoch, epoch - 1] if epoch else np.nan
            measured = {name: row[name] for name in ("epoch", "lr", "loss", "accuracy")}
            rows.append({"seed": record.settings["seed"], **measured, "distance": distance})
    return pd.DataFrame(rows)


def mean_matrix(records: Sequence[Record]) -> np.ndarray:
    """Epoch × epoch distances of the spline detector, the mean over records of one length: [epochs, epochs]."""
    return np.mean([record.results["spline"]["distances"] for record in records], axis=0)


def layer_matrix(records: Sequence[Record]) -> np.ndarray:
    """Distances of consecutive epochs by layer, the mean over records: [epochs - 1, layers]."""
    return np.mean([record.results["spline"]["consecutive_by_layer"] for record in records], axis=0)


def describe(records: Sequence[Record]) -> str:
    """One line that says what records are: profile, data, network, seeds, hardware, date."""
    if not records:
        return "no records"
    first = records[0]
    dense = first.settings.get("dense", first.settings)
    seeds = sorted({record.settings.get("dense", record.settings)["seed"] for record in records})
    images = "all" if dense["images"] is None else f"{dense['images']:,}"
    hardware = ", ".join(sorted({record.provenance["hardware"] for record in records}))
    return (
        f"profile {first.provenance['profile']}: {dense['dataset']} ({images} training images), {dense['arch']} "
        f"×{dense['width']:g}, {dense['train']['epochs']} epochs, seeds {', '.join(map(str, seeds))}; "
        f"{len(records)} runs on {hardware}, finished {max(r.provenance['finished'] for r in records)[:10]}"
    )
