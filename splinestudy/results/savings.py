"""What early pruning saves: accuracy against the operations of all training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from splinestudy.results.claim_rows import seeds_of
from splinestudy.results.comparisons import summarise
from splinestudy.results.names import network_name, profile_of
from splinestudy.results.training_cost import (
    PHASES,
    all_dense_epochs,
    dense_epochs_before,
    dense_training_flops,
    needed,
    phase_flops,
    phase_table,
    retraining_epochs,
)
from splinestudy.results.ways import NARROW, way_of
from splinestudy.runs.records import Record


def energy_note(records: Sequence[Record]) -> str:
    """One line for each method and ratio: the energy of its trainings, mean over seeds, where it was counted."""
    found: dict[str, list[float]] = {}
    for record in records:
        rows = record.results["epochs"]
        dense = record.results.get("dense_joules") if needed(record) else 0.0
        if dense is not None and rows and "joules" in rows[-1]:
            name = f"{way_of(record.settings).label}, ratio {record.settings['ratio']:g}"
            found.setdefault(name, []).append(dense + rows[-1]["joules"])
    if not found:
        return "Energy: not measured, since no device of these runs counts it."
    means = {name: np.mean(joules) / 1000 for name, joules in found.items()}
    return "\n".join(f"* {name}: {kilojoules:.1f} kJ" for name, kilojoules in means.items())


def wall_savings(records: Sequence[Record], step_times: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """What is saved in operations and in seconds, for methods that cut every layer alike on networks that were timed.

    Seconds are those of training steps alone: the epochs of each phase times what a step of its network takes.

    Args:
        records: prune records; those whose network and ratio were not timed are left out.
        step_times: rows of ``benchmarks/results/step_time.json``.

    Returns:
        One row for each device, ratio and way: n, saving_mean and saving_std in operations, seconds_mean and
        seconds_std (the same quotients in seconds). Above 1 less is spent than on the dense network.
    """
    rows = []
    for record in records:
        settings, dense = record.settings, all_dense_epochs(record)
        alike = settings["scope"] == "layerwise" and settings["criterion"] != "sfp"
        for times in step_times if alike else ():
            if _timed(settings, times):
                before = dense_epochs_before(record) if needed(record) else 0
                spent = before * times["wall_dense"] + retraining_epochs(record) * times["wall_pruned"]
                rows.append(
                    {
                        "device": times["device"],
                        "ratio": settings["ratio"],
                        "way": way_of(settings),
                        "saving": dense_training_flops(record) / sum(phase_flops(record).values()),
                        "seconds": dense * times["wall_dense"] / spent,
                    }
                )
    table = pd.DataFrame(rows, columns=["device", "ratio", "way", "saving", "seconds"])
    return summarise(table, ["device", "ratio", "way"], ["saving", "seconds"])


def _timed(settings: Mapping[str, Any], times: Mapping[str, Any]) -> bool:
    """Whether a row of step times is about the network, precision and ratio of a prune record."""
    dense = settings["dense"]
    run = (dense["arch"], dense["width"], dense["train"]["precision"], settings["ratio"])
    timed = (times["arch"], times["width"], times["precision"], times["ratio"])
    return times["pass"] == "step" and dense["dataset"].startswith("cifar") and run == timed


def savings_summary(table: pd.DataFrame) -> pd.DataFrame:
    """For each method and ratio of :func:`whole_table`: what it loses against the dense network, what it saves.

    Columns: ratio, way, n, accuracy_mean and _std, training_mean and _std (of all phases, as a share of the dense
    training), saving (the reciprocal of that mean), loss (mean over seeds of dense minus pruned accuracy), loss_se (its
    standard error; NaN for one seed), no_loss (whether the loss is at most one standard error).
    """
    rows = []
    for (ratio, way), part in table.groupby(["ratio", "way"], sort=False):
        loss = part["dense_accuracy"] - part["accuracy"]
        error = loss.std(ddof=1) / np.sqrt(len(part))
        rows.append(
            {
                "ratio": ratio,
                "way": way,
                "n": len(part),
                **{
                    f"{name}_{how}": getattr(part[name], how)()
                    for name in ("accuracy", "training")
                    for how in ("mean", "std")
                },
                "saving": 1 / part["training"].mean(),
                "loss": loss.mean(),
                "loss_se": error,
                "no_loss": bool(loss.mean() <= error),  # never for one seed, whose error is unknown
            }
        )
    columns = ["ratio", "way", "n", "accuracy_mean", "accuracy_std", "training_mean", "training_std"]
    columns += ["saving", "loss", "loss_se", "no_loss"]
    return pd.DataFrame(rows, columns=columns)


def dense_spread(table: pd.DataFrame) -> tuple[float, float]:
    """Mean and standard deviation over seeds of the dense accuracy in :func:`whole_table`, trained without L1."""
    plain = table[table["norm_l1"] == 0].drop_duplicates("seed")
    return plain["dense_accuracy"].mean(), plain["dense_accuracy"].std(ddof=1)


def bird_ratios(table: pd.DataFrame) -> list[float]:
    """The ratios of :func:`whole_table` at which early birds were drawn, in order."""
    return sorted(
        {ratio for ratio, way in zip(table["ratio"], table["way"], strict=True) if way.is_early_bird}
    )


def whole_ratios(table: pd.DataFrame) -> list[float]:
    """The ratios of :func:`whole_table` at which the control was run too, as in studies of every method, in order."""
    return sorted(set(table.loc[table["way"] == NARROW, "ratio"]))


def early_birds(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`savings_summary` of early birds, and of the narrow network from scratch as their control."""
    return summary[[way.is_early_bird or way == NARROW for way in summary["way"]]]


def pareto_front(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`savings_summary` that no other row beats in both mean accuracy and mean training cost."""
    ordered = summary.sort_values(["training_mean", "accuracy_mean"], ascending=[True, False])
    best = ordered["accuracy_mean"].cummax()
    first = ~best.duplicated()
    return ordered[(ordered["accuracy_mean"] == best) & first]


def phase_means(records: Sequence[Record]) -> pd.DataFrame:
    """Shares of the phases, a row for each method of :func:`whole_table` and a column for each of ``PHASES``.

    Means over seeds, and over ratios where ``records`` have several; the cheapest method first.
    """
    parts = phase_table(records).pivot(index="key", columns="phase", values="share")[list(PHASES)]
    ways = {record.key: way_of(record.settings) for record in records}
    means = parts.groupby([ways[key] for key in parts.index]).mean()
    return means.loc[means.sum(axis=1).sort_values().index].rename_axis("way")


def _error(value: float) -> str:
    return "" if np.isnan(value) else f" ± {100 * value:.1f}"


def savings_claim(records: Sequence[Record], summary: pd.DataFrame) -> dict[str, str]:
    """Claim C7 beside what the records show, in words made from their numbers alone."""
    birds = summary[[way.is_early_bird for way in summary["way"]]]
    free = summary[summary["no_loss"]]
    best = summary.loc[summary["loss"].idxmin()] if free.empty else free.loc[free["saving"].idxmax()]
    method = f"*{best['way'].label}* at ratio {best['ratio']:g}"
    price = f"for {best['training_mean']:.2f} of the operations of dense training"
    if free.empty:
        loss = f"the least loss, {100 * best['loss']:.1f} points, has {method}, {price}"
        parts = [f"no method is without loss; {loss}"]
    elif best["saving"] <= 1:
        parts = [f"no saving without loss; the cheapest without loss is {method}, {price}"]
    else:
        parts = [f"largest saving without loss: {best['saving']:.2f} ×, {method}"]
    for way, part in birds.groupby("way", sort=False):
        found = ", ".join(
            f"{row.saving:.2f} × with {100 * row.loss:.1f}{_error(row.loss_se)} points lost at {row.ratio:g}"
            for row in part.sort_values("ratio").itertuples()
        )
        parts.append(f"*{way.label}* saves {found}")
    return {
        "claim": "C7",
        "records": f"{network_name(records[0])}, profile {profile_of(records[0])}, {seeds_of(records)}",
        "ours": "; ".join(parts),
    }
