"""Tables of settling runs: does the partition settle, or do the steps become small?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from splinelib.early_bird.detectors import RELEASED_THRESHOLD, first_settled
from splinelib.early_bird.distances import distance_per_rate
from splinelib.errors import SettingError
from splinestudy.data.catalogue import ENTRIES
from splinestudy.results.comparisons import paired_differences, verdict
from splinestudy.results.names import network_name, profile_of, signed
from splinestudy.runs.plans import plan
from splinestudy.runs.profiles import Profile
from splinestudy.runs.records import Record, run_key
from splinestudy.runs.schedules import SCHEDULES, schedule_name
from splinestudy.runs.settling import SettlingRun


def schedule_table(records: Sequence[Record], profile: Profile) -> pd.DataFrame:
    """One row for each epoch of each settling record, watched on its first canvas.

    Columns: schedule (one of :data:`.SCHEDULES`), seed, epoch, lr, accuracy, averaged_accuracy; and in means
    over layers: distance (to the epoch before), per_rate (that divided by the learning rate), to_final (distance to the
    last epoch), moved (share of bits that will still change), averaged_to_final (as to_final, of the averaged
    weights).
    """
    return pd.DataFrame(
        [
            {"schedule": name, "seed": record.settings["training"]["seed"], **row}
            for name, record in _in_order(records, profile)
            for row in _epochs(record)
        ]
    )


def _epochs(record: Record) -> list[dict[str, float]]:
    watched, averaged = record.results["watched"][0], record.results["averaged"]
    distances = np.array(watched["distances"])
    per_rate = distance_per_rate(distances, [row["lr"] for row in record.results["epochs"]])
    rows = []
    for epoch, measured in enumerate(record.results["epochs"]):
        rows.append(
            {name: measured[name] for name in ("epoch", "lr", "accuracy", "averaged_accuracy")}
            | {
                "distance": distances[epoch, epoch - 1] if epoch else np.nan,
                "per_rate": per_rate[epoch - 1] if epoch else np.nan,
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
    rows = []
    for name, record in _in_order(records, profile):
        epochs = record.results["epochs"]
        lower = [row["epoch"] for row in epochs if row["lr"] < epochs[0]["lr"]]
        rows.append(
            {
                "schedule": name,
                "seed": record.settings["training"]["seed"],
                "epoch": _or_nan(record.results["watched"][0]["epoch"]),
                "first_drop": lower[0] if lower else np.nan,
                "epochs": len(epochs),
                "final_accuracy": epochs[-1]["accuracy"],
            }
        )
    return pd.DataFrame(rows)


def canvas_table(records: Sequence[Record], profile: Profile) -> pd.DataFrame:
    """One row for each canvas of each record that has several.

    Columns: schedule, canvas (in words), inputs, points, draw, seed, epoch (drawn, NaN if never), difference (root mean
    square over pairs of epochs between its distances and those of the largest pair canvas), cost (its points times a
    forward pass, as a share of an epoch's training).
    """
    rows = []
    for name, record in _in_order(records, profile):
        watched = record.results["watched"]
        if len(watched) > 1:
            rows += [{"schedule": name, **row} for row in _canvases(record, watched)]
    columns = ["schedule", "canvas", "inputs", "points", "draw", "seed", "epoch", "difference", "cost"]
    return pd.DataFrame(rows, columns=columns)


def _canvases(record: Record, watched: list[dict]) -> list[dict[str, object]]:
    own = [canvas for canvas in watched if (canvas["inputs"], canvas["draw"]) == ("pair", 0)]
    largest = np.array(max(own, key=lambda canvas: canvas["points"])["distances"])
    upper = np.triu_indices(len(largest), 1)
    training = record.settings["training"]
    images = training["images"] or ENTRIES[training["dataset"]].counts[0]
    return [
        {
            "canvas": _in_words(canvas),
            **{name: canvas[name] for name in ("inputs", "points", "draw")},
            "seed": training["seed"],
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
    found: dict[str, list[np.ndarray]] = {}
    for name, record in _in_order(records, profile):
        found.setdefault(name, []).append(np.array(record.results["watched"][0]["distances"]))
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

    ``table`` is a :func:`pruning_table` of tickets. Columns: way, ratio, dense_epochs, n, difference (mean of
    early minus last accuracy), low, high (95 % interval), verdict (of the early ticket, by :func:`verdict`).
    """
    parts, last = [], table["dense_epochs"].max()
    for way, tickets in table.groupby("way"):
        if last not in set(tickets["dense_epochs"]):  # a study cut short: nothing to compare with
            continue
        found = paired_differences(tickets, way=last, column="dense_epochs")
        early = found.rename(columns={"against": "dense_epochs"}).assign(
            difference=-found["difference"], low=-found["high"], high=-found["low"]
        )
        early["verdict"] = [verdict(low, high) for low, high in zip(early["low"], early["high"], strict=True)]
        parts.append(early.assign(way=way).sort_values(["ratio", "dense_epochs"]))
    columns = ["way", "ratio", "dense_epochs", "n", "difference", "low", "high", "verdict"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def settling_claim(
    records: Sequence[Record],
    draws: pd.DataFrame,
    epochs: pd.DataFrame,
    threshold: float = RELEASED_THRESHOLD,
) -> dict[str, str]:
    """Claim C4 beside the controls: does the partition settle by itself, or do the steps become small?

    It *settles* if at a constant learning rate the rule draws in the first half of the schedule in most runs, and the
    partition at that moment is nearer to the final one than ``threshold``; else it does *not*. The rule was fixed
    before any of these runs. Beside it stands the share of bits that will still change.
    """
    own = draws[draws["schedule"] == "constant"]
    parts = ["at a constant learning rate: not run" if own.empty else _by_itself(own, epochs, threshold)]
    for schedule, part in draws[draws["schedule"] != "constant"].groupby("schedule", sort=False):
        found = part["epoch"].dropna()
        when = f"epoch {found.mean():.1f}" if len(found) else "never"
        drop = part["first_drop"].iloc[0]
        falls = "" if schedule == "cosine" or np.isnan(drop) else f" (first drop at {drop:.0f})"
        parts.append(f"{schedule}: {when}{falls}")
    return {
        "claim": "C4",
        "records": f"{_named(records)}, {draws['seed'].nunique()} seeds a schedule",
        "ours": "; ".join(parts),
    }


def _by_itself(draws: pd.DataFrame, epochs: pd.DataFrame, threshold: float) -> str:
    """The verdict of :func:`settling_claim`, in words, from the draws at a constant rate."""
    first_half, then = _early_draws(draws, epochs)
    settles = settles_alone(draws, epochs, threshold)
    drawn = ", ".join("never" if np.isnan(epoch) else f"{epoch:.0f}" for epoch in draws["epoch"])
    if not first_half.any():
        half_way = epochs[epochs["epoch"] == epochs["epoch"].max() // 2]
        moved = half_way.loc[half_way["schedule"] == "constant", "moved"].mean()
        beside = f"; half-way {100 * moved:.0f} % of all bits will still change"
    else:
        beside = (
            f", then {then['to_final']:.2f} away from the final partition, "
            f"with {100 * then['moved']:.0f} % of all bits still to change"
        )
    return (
        f"at a constant learning rate drawn at epoch {drawn}, in the first half in {int(first_half.sum())} of "
        f"{len(draws)} runs{beside}: the partition {'settles' if settles else 'does not settle'} by itself"
    )


def settles_alone(draws: pd.DataFrame, epochs: pd.DataFrame, threshold: float = RELEASED_THRESHOLD) -> bool:
    """The rule of :func:`settling_claim`, from the draws at a constant rate."""
    first_half, then = _early_draws(draws, epochs)
    return bool(first_half.mean() > 0.5 and then["to_final"] < threshold)


def _early_draws(draws: pd.DataFrame, epochs: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Which draws fall in the first half of the schedule, and the mean state of the partition at these."""
    first_half = draws["epoch"] < draws["epochs"] / 2
    early = draws.loc[first_half, ["seed", "schedule", "epoch"]]
    return first_half, epochs.merge(early, on=["seed", "schedule", "epoch"])[["to_final", "moved"]].mean()


def ticket_claim(records: Sequence[Record], early: pd.DataFrame) -> dict[str, str]:
    """Claim C4 beside the outcomes of :func:`early_tickets`."""
    parts = []
    for (way, ratio), part in early.groupby(["way", "ratio"], sort=False):
        shown = ", ".join(
            f"{row.verdict} after {row.dense_epochs} ({signed(100 * row.difference)})"
            for row in part.itertuples()
        )
        parts.append(f"{way.label} at {ratio:g}: {shown}")
    return {
        "claim": "C4",
        "records": f"{_named(records)}, {early['n'].max()} seeds",
        "ours": "early tickets against the last one, retrained equally long (epochs, mean difference in points): "
        + "; ".join(parts),
    }


def _named(records: Sequence[Record]) -> str:
    return f"{network_name(records[0])}, profile {profile_of(records[0])}"


def _in_order(records: Sequence[Record], profile: Profile) -> list[tuple[str, Record]]:
    """Every record with the name of its schedule, in the order of :data:`SCHEDULES` and then of seeds.

    Raises :class:`SettingError` for a record that is not of the profile's plan.
    """
    planned = [run for run in plan("settling", profile) if isinstance(run, SettlingRun)]
    names = {run_key(run): schedule_name(run, profile) for run in planned}
    for record in records:
        if record.key not in names:
            raise SettingError(
                f"settling record {record.key} ({network_name(record)}) is not of this profile's plan: "
                "pass the profile that it was planned with"
            )
    order = list(SCHEDULES)
    named = [(names[record.key], record) for record in records]
    return sorted(named, key=lambda pair: (order.index(pair[0]), pair[1].settings["training"]["seed"]))


def _or_nan(epoch: int | None) -> float:
    return np.nan if epoch is None else float(epoch)
