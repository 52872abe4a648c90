"""What early pruning saves: accuracy against the operations of all training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from splinestudy.results.claim_rows import network_name, seeds_of
from splinestudy.results.comparisons import summarise
from splinestudy.results.names import AFTER, GLOBAL, label_of
from splinestudy.results.pruning import AGAIN, is_retrained, method_name, pruning_table
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
from splinestudy.runs.records import Record

_BIRDS = "early bird|EB Train"
"""Pattern of the names of methods whose tickets a detector draws."""

_CONTROL = "narrow"
"""The method without any choice: only studies of every method have it."""


def savings_table(records: Sequence[Record]) -> pd.DataFrame:
    """The columns of :func:`pruning_table` for the records of both scopes, with ``scope``.

    Behind the names of methods stand :data:`AFTER` and the dense epochs where tickets are drawn at a fixed moment,
    ``" retrained"`` where that is the end, and :data:`GLOBAL` where they prune globally.
    """
    parts = [_row(record) for record in records] or [pruning_table([], "layerwise").assign(scope="")]
    return pd.concat(parts).sort_values(["ratio", "criterion", "seed"], ignore_index=True)


def energy_note(records: Sequence[Record]) -> str:
    """One line for each method and ratio: the energy of its trainings, mean over seeds, where it was counted."""
    found: dict[str, list[float]] = {}
    for record in records:
        rows = record.results["epochs"]
        dense = record.results.get("dense_joules") if needed(record) else 0.0
        if dense is not None and rows and "joules" in rows[-1]:
            name = f"{label_of(_name(record))}, ratio {record.settings['ratio']:g}"
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
        One row for each device, ratio and criterion: n, saving_mean and saving_std in operations, seconds_mean and
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
                        "criterion": _name(record),
                        "saving": dense_training_flops(record) / sum(phase_flops(record).values()),
                        "seconds": dense * times["wall_dense"] / spent,
                    }
                )
    table = pd.DataFrame(rows, columns=["device", "ratio", "criterion", "saving", "seconds"])
    return summarise(table, ["device", "ratio", "criterion"], ["saving", "seconds"])


def _timed(settings: Mapping[str, Any], times: Mapping[str, Any]) -> bool:
    """Whether a row of step times is about the network, precision and ratio of a prune record."""
    dense = settings["dense"]
    run = (dense["arch"], dense["width"], dense["train"]["precision"], settings["ratio"])
    timed = (times["arch"], times["width"], times["precision"], times["ratio"])
    return times["pass"] == "step" and dense["dataset"].startswith("cifar") and run == timed


def savings_summary(table: pd.DataFrame) -> pd.DataFrame:
    """For each method and ratio of :func:`savings_table`: what it loses against the dense network, what it saves.

    Columns: ratio, criterion, n, accuracy_mean and _std, training_mean and _std (of all phases, as a share of the dense
    training), saving (the reciprocal of that mean), loss (mean over seeds of dense minus pruned accuracy), loss_se (its
    standard error; NaN for one seed), no_loss (whether the loss is at most one standard error).
    """
    rows = []
    for (ratio, criterion), part in table.groupby(["ratio", "criterion"], sort=False):
        loss = part["dense_accuracy"] - part["accuracy"]
        error = loss.std(ddof=1) / np.sqrt(len(part))
        rows.append(
            {
                "ratio": ratio,
                "criterion": criterion,
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
    columns = ["ratio", "criterion", "n", "accuracy_mean", "accuracy_std", "training_mean", "training_std"]
    columns += ["saving", "loss", "loss_se", "no_loss"]
    return pd.DataFrame(rows, columns=columns)


def dense_spread(table: pd.DataFrame) -> tuple[float, float]:
    """Mean and standard deviation over seeds of the dense accuracy in :func:`savings_table`, trained without L1."""
    plain = table[~table["criterion"].str.contains("EB Train|slimming")].drop_duplicates("seed")
    return plain["dense_accuracy"].mean(), plain["dense_accuracy"].std(ddof=1)


def bird_ratios(table: pd.DataFrame) -> list[float]:
    """The ratios of :func:`savings_table` at which early birds were drawn, in order."""
    return sorted(set(table.loc[table["criterion"].str.contains(_BIRDS), "ratio"]))


def whole_ratios(table: pd.DataFrame) -> list[float]:
    """The ratios of :func:`savings_table` at which the control was run too, as in studies of every method, in order."""
    return sorted(set(table.loc[table["criterion"] == _CONTROL, "ratio"]))


def early_birds(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`savings_summary` of early birds, and of the narrow network from scratch as their control."""
    names = summary["criterion"]
    return summary[names.str.contains(_BIRDS) | (names == _CONTROL)]


def pareto_front(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`savings_summary` that no other row beats in both mean accuracy and mean training cost."""
    ordered = summary.sort_values(["training_mean", "accuracy_mean"], ascending=[True, False])
    best = ordered["accuracy_mean"].cummax()
    first = ~best.duplicated()
    return ordered[(ordered["accuracy_mean"] == best) & first]


def phase_means(records: Sequence[Record]) -> pd.DataFrame:
    """Shares of the phases, a row for each method of :func:`savings_table` and a column for each of ``PHASES``.

    Means over seeds, and over ratios where ``records`` have several; the cheapest method first.
    """
    parts = phase_table(records).pivot(index="key", columns="phase", values="share")[list(PHASES)]
    names = {record.key: _name(record) for record in records}
    means = parts.groupby(parts.index.map(names)).mean()
    return means.loc[means.sum(axis=1).sort_values().index].rename_axis("criterion")


def _row(record: Record) -> pd.DataFrame:
    scope = record.settings["scope"]
    return pruning_table([record], scope).assign(criterion=_name(record), scope=scope)


def _name(record: Record) -> str:
    name, draw = method_name(record.settings), record.settings.get("draw", "end")
    if isinstance(draw, int) and draw > 0:
        name += f"{AFTER}{draw}"
    elif draw == "end" and is_retrained(record):
        name += AGAIN
    return name + GLOBAL if record.settings["scope"] == "global" else name


def _error(value: float) -> str:
    return "" if np.isnan(value) else f" ± {100 * value:.1f}"


def savings_claim(records: Sequence[Record], summary: pd.DataFrame) -> dict[str, str]:
    """Claim C7 beside what the records show, in words made from their numbers alone."""
    birds = summary[summary["criterion"].str.contains(_BIRDS)]
    free = summary[summary["no_loss"]]
    best = summary.loc[summary["loss"].idxmin()] if free.empty else free.loc[free["saving"].idxmax()]
    method = f"*{label_of(best['criterion'])}* at ratio {best['ratio']:g}"
    price = f"for {best['training_mean']:.2f} of the operations of dense training"
    if free.empty:
        loss = f"the least loss, {100 * best['loss']:.1f} points, has {method}, {price}"
        parts = [f"no method is without loss; {loss}"]
    elif best["saving"] <= 1:
        parts = [f"no saving without loss; the cheapest without loss is {method}, {price}"]
    else:
        parts = [f"largest saving without loss: {best['saving']:.2f} ×, {method}"]
    for name, part in birds.groupby("criterion", sort=False):
        found = ", ".join(
            f"{row.saving:.2f} × with {100 * row.loss:.1f}{_error(row.loss_se)} points lost at {row.ratio:g}"
            for row in part.sort_values("ratio").itertuples()
        )
        parts.append(f"*{label_of(str(name))}* saves {found}")
    return {
        "claim": "C7",
        "paper": "total training FLOPs fall by up to 3.5 × at similar or better accuracy",
        "records": f"{network_name(records[0])}, profile {records[0].provenance['profile']}, {seeds_of(records)}",
        "ours": "; ".join(parts),
    }
