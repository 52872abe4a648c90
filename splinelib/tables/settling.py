"""Tables of settling runs: does the partition settle, or do the steps become small?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from splinelib.earlybird import first_settled
from splinelib.plans import plan
from splinelib.profiles import Profile
from splinelib.records import Record, run_key
from splinelib.runs import SettlingRun
from splinelib.schedules import SCHEDULES, schedule_name
from splinelib.tables.compare import paired_differences, verdict


def schedule_table(records: Sequence[Record], profile: Profile) -> pd.DataFrame:
    """One row for each epoch of each settling record, watched on its first canvas.

    Columns: schedule (one of :data:`.SCHEDULES`), seed, epoch, lr, accuracy, averaged_accuracy; and in means
    over layers: distance (to the epoch before), per_rate (that divided by the learning rate), to_final (distance to the
    last epoch), moved (share of bits that will still change), averaged_to_final (as to_final, of the averaged
    weights).
    """
    names = _names(profile)
    rows = [
        {"schedule": names[record.key], "seed": record.settings["training"]["seed"], **row}
        for record in records
        for row in _epochs(record)
    ]
    return _in_order(pd.DataFrame(rows))


def _epochs(record: Record) -> list[dict[str, float]]:
    watched, averaged = record.results["watched"][0], record.results["averaged"]
    distances = np.array(watched["distances"])
    rows = []
    for epoch, measured in enumerate(record.results["epochs"]):
        distance = distances[epoch, epoch - 1] if epoch else np.nan
        rows.append(
            {name: measured[name] for name in ("epoch", "lr", "accuracy", "averaged_accuracy")}
            | {
                "distance": distance,
                "per_rate": distance / measured["lr"],
                "to_final": np.mean(watched["to_final"][epoch]),
                "moved": 1 - np.mean(watched["settled"][epoch]),
                "averaged_to_final": np.mean(averaged["to_final"][epoch]),
            }
        )
    return rows


def draw_table(records: Sequence[Record], profile: Profile) -> pd.DataFrame:
    """One row for each settling record: schedule, seed, epoch (drawn, NaN if never), first_drop (the first epoch with
    a lower learning rate, NaN if there is none), epochs (of the run), final_accuracy.
    """
    names = _names(profile)
    rows = []
    for record in records:
        epochs = record.results["epochs"]
        lower = [row["epoch"] for row in epochs if row["lr"] < epochs[0]["lr"]]
        rows.append(
            {
                "schedule": names[record.key],
                "seed": record.settings["training"]["seed"],
                "epoch": _or_nan(record.results["watched"][0]["epoch"]),
                "first_drop": lower[0] if lower else np.nan,
                "epochs": len(epochs),
                "final_accuracy": epochs[-1]["accuracy"],
            }
        )
    return _in_order(pd.DataFrame(rows))


def canvas_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each canvas of each record that has several.

    Columns: canvas (in words), inputs, points, draw, seed, epoch (drawn, NaN if never), difference (root mean square
    over pairs of epochs between its distances and those of the largest pair canvas), cost (its points times a forward
    pass, as a share of an epoch's training).
    """
    rows = []
    for record in records:
        watched = record.results["watched"]
        if len(watched) > 1:
            rows += _canvases(record, watched)
    columns = ["canvas", "inputs", "points", "draw", "seed", "epoch", "difference", "cost"]
    return pd.DataFrame(rows, columns=columns)


def _canvases(record: Record, watched: list[dict]) -> list[dict[str, object]]:
    own = [canvas for canvas in watched if (canvas["inputs"], canvas["draw"]) == ("pair", 0)]
    largest = np.array(max(own, key=lambda canvas: canvas["points"])["distances"])
    upper = np.triu_indices(len(largest), 1)
    images = record.settings["training"]["images"] or 50_000
    return [
        {
            "canvas": _in_words(canvas),
            **{name: canvas[name] for name in ("inputs", "points", "draw")},
            "seed": record.settings["training"]["seed"],
            "epoch": _or_nan(canvas["epoch"]),
            "difference": np.sqrt(np.mean((np.array(canvas["distances"]) - largest)[upper] ** 2)),
            "cost": canvas["points"] / (3 * images),
        }
        for canvas in watched
    ]


def _in_words(canvas: dict) -> str:
    if canvas["inputs"] == "pair":
        pair = f"pair {canvas['draw'] + 1}" if canvas["draw"] else "pair"
        side = round(canvas["points"] ** 0.5)
        return f"{pair}, {side} × {side}"
    what = {"images": "test image", "noise": "noise image"}[canvas["inputs"]]
    return f"{canvas['points']} {what}{'s' if canvas['points'] > 1 else ''}"


def matrices_by_schedule(records: Sequence[Record], profile: Profile) -> dict[str, list[np.ndarray]]:
    """For each schedule the distances [epochs, epochs] of its runs, on their first canvas."""
    names = _names(profile)
    found: dict[str, list[np.ndarray]] = {}
    for record in records:
        found.setdefault(names[record.key], []).append(np.array(record.results["watched"][0]["distances"]))
    return found


def rule_table(
    matrices: Sequence[np.ndarray], thresholds: Sequence[float], windows: Sequence[int]
) -> pd.DataFrame:
    """Mean drawn epoch over runs (NaN if one of them never draws), a row for each window, a column for a threshold."""
    found = [
        [
            np.mean([_or_nan(first_settled(m, threshold, window)) for m in matrices])
            for threshold in thresholds
        ]
        for window in windows
    ]
    return pd.DataFrame(found, index=pd.Index(windows, name="window"), columns=list(thresholds))


def early_tickets(table: pd.DataFrame) -> pd.DataFrame:
    """Each early ticket against the one drawn at the end, retrained equally long, paired by seed.

    ``table`` is a :func:`pruning_table` of tickets. Columns: criterion, ratio, dense_epochs, n, difference (mean of
    early minus last accuracy), low, high (95 % interval), verdict (of the early ticket, by :func:`verdict`).
    """
    parts, last = [], table["dense_epochs"].max()
    for criterion, tickets in table.groupby("criterion"):
        if last not in set(tickets["dense_epochs"]):  # a study cut short: nothing to compare with
            continue
        found = paired_differences(tickets.assign(criterion=tickets["dense_epochs"]), criterion=last)
        early = found.rename(columns={"against": "dense_epochs"}).assign(
            difference=-found["difference"], low=-found["high"], high=-found["low"]
        )
        early["verdict"] = [verdict(low, high) for low, high in zip(early["low"], early["high"], strict=True)]
        parts.append(early.assign(criterion=criterion).sort_values(["ratio", "dense_epochs"]))
    columns = ["criterion", "ratio", "dense_epochs", "n", "difference", "low", "high", "verdict"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def settling_claim(
    records: Sequence[Record], draws: pd.DataFrame, epochs: pd.DataFrame, threshold: float = 0.16
) -> dict[str, str]:
    """Claim C4 beside the controls: does the partition settle by itself, or do the steps become small?

    It *settles* if at a constant learning rate the rule draws in the first half of the schedule in most runs, and the
    partition at that moment is nearer to the final one than ``threshold``; else it does *not*. The rule was fixed
    before any of these runs.
    """
    own = draws[draws["schedule"] == "constant"]
    first_half = own["epoch"] < own["epochs"] / 2
    early = own.loc[first_half, ["seed", "schedule", "epoch"]]
    near = epochs.merge(early, on=["seed", "schedule", "epoch"])["to_final"].mean()
    settles = bool(first_half.mean() > 0.5 and near < threshold)
    parts = [
        f"at a constant learning rate drawn in the first half in {int(first_half.sum())} of {len(own)} runs"
        + ("" if early.empty else f", then {near:.2f} away from the final partition")
        + f": the partition {'settles' if settles else 'does not settle'} by itself"
    ]
    for schedule, part in draws[draws["schedule"] != "constant"].groupby("schedule", sort=False):
        found = part["epoch"].dropna()
        when = f"epoch {found.mean():.1f}" if len(found) else "never"
        drop = part["first_drop"].iloc[0]
        falls = "" if schedule == "cosine" or np.isnan(drop) else f" (first drop at {drop:.0f})"
        parts.append(f"{schedule}: {when}{falls}")
    return {
        "claim": "C4",
        "paper": "the partition converges early in training",
        "records": f"profile {records[0].provenance['profile']}, {draws['seed'].nunique()} seeds a schedule",
        "ours": "; ".join(parts),
    }


def ticket_claim(records: Sequence[Record], early: pd.DataFrame) -> dict[str, str]:
    """Claim C4 beside the outcomes of :func:`early_tickets`."""
    parts = []
    for (criterion, ratio), part in early.groupby(["criterion", "ratio"], sort=False):
        shown = ", ".join(
            f"{row.verdict} after {row.dense_epochs} ({100 * row.difference:+.1f})"
            for row in part.itertuples()
        )
        parts.append(f"{criterion} at {ratio:g}: {shown}")
    return {
        "claim": "C4",
        "paper": "early-bird tickets can be detected from the spline",
        "records": f"profile {records[0].provenance['profile']}, {early['n'].max()} seeds",
        "ours": "early tickets against the last one, retrained equally long (epochs, mean difference in points): "
        + "; ".join(parts),
    }


def _names(profile: Profile) -> dict[str, str]:
    """Key of every settling run of the profile's plan -> name of its schedule."""
    planned = [run for run in plan("settling", profile) if isinstance(run, SettlingRun)]
    return {run_key(run): schedule_name(run, profile) for run in planned}


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of :data:`SCHEDULES`."""
    if table.empty:
        return table
    order = {name: place for place, name in enumerate(SCHEDULES)}
    return table.sort_values("schedule", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def _or_nan(epoch: int | None) -> float:
    return np.nan if epoch is None else float(epoch)
