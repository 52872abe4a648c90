"""Tables of dense runs, their distances and draws."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from splinelib.early_bird.detectors import first_settled
from splinestudy.results.comparisons import summarise
from splinestudy.results.names import profile_of
from splinestudy.runs.records import Record


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
                    "profile": profile_of(record),
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
    """For each detector of :func:`detection_table`: runs n, how many of them were drawn, and means with spreads.

    The means and standard deviations, over the runs that were drawn, are of the epoch, the share of the schedule until
    then (``share_of_schedule``, with ``share_of_schedule_std``), and the accuracy at the draw; over all runs, of the
    final accuracy.
    """
    shares = table.assign(share_of_schedule=(table["epoch"] + 1) / table["epochs"])
    values = ["epoch", "share_of_schedule", "accuracy_at_draw", "final_accuracy"]
    summary = summarise(shares, ["detector"], values)
    drawn = table.groupby("detector", sort=False)["epoch"].count()
    summary.insert(2, "drawn", drawn.to_numpy())
    return summary.rename(columns={"share_of_schedule_mean": "share_of_schedule"})


def epoch_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each epoch of each dense record: seed, epoch, lr, loss, accuracy, distance (to the one before),
    to_last (distance to the last epoch).
    """
    rows = []
    for record in records:
        distances = np.array(record.results["spline"]["distances"])
        for row in record.results["epochs"]:
            epoch = row["epoch"]
            distance = distances[epoch, epoch - 1] if epoch else np.nan
            measured = {name: row[name] for name in ("epoch", "lr", "loss", "accuracy")}
            measured |= {"distance": distance, "to_last": distances[epoch, -1]}
            rows.append({"seed": record.settings["seed"], **measured})
    return pd.DataFrame(rows)


def mean_matrix(records: Sequence[Record]) -> np.ndarray:
    """Epoch × epoch distances of the spline detector, the mean over records of one length: [epochs, epochs]."""
    return np.mean([record.results["spline"]["distances"] for record in records], axis=0)


def layer_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each dense record, epoch (from 1) and layer (from 1): seed, epoch, layer, distance to the epoch
    before.
    """
    rows = [
        {"seed": record.settings["seed"], "epoch": epoch, "layer": layer, "distance": distance}
        for record in records
        for epoch, layers in enumerate(record.results["spline"]["consecutive_by_layer"], start=1)
        for layer, distance in enumerate(layers, start=1)
    ]
    return pd.DataFrame(rows, columns=["seed", "epoch", "layer", "distance"])


def detector_distances(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each dense record, detector and epoch (from 1): seed, detector, epoch, distance to the epoch before.

    Detectors are called as in :func:`detection_table`. The partition's distance is the share of differing bits,
    the mean over layers; a mask's is the share of channels that it keeps at one of the two epochs alone.
    """
    rows = []
    for record in records:
        watched = {"spline": record.results["spline"]["distances"]}
        watched |= {f"mask {mask['ratio']:g}": mask["distances"] for mask in record.results["masks"]}
        rows += [
            {"seed": record.settings["seed"], "detector": detector, "epoch": epoch, "distance": distance}
            for detector, matrix in watched.items()
            for epoch, distance in enumerate(np.diagonal(matrix, -1), start=1)
        ]
    return pd.DataFrame(rows, columns=["seed", "detector", "epoch", "distance"])


def threshold_outcomes(
    dense: Sequence[Record], tickets: pd.DataFrame, thresholds: Sequence[float], window: int = 3
) -> pd.DataFrame:
    """What the tickets that other thresholds would have drawn lose against the last one, paired by seed.

    Each dense record draws at every threshold, and is given the ticket of its seed that was drawn nearest to that
    moment, at it or later. ``tickets`` are those of one criterion, from :func:`pruning_table`, retrained equally long.

    Columns: ratio, threshold, drawn (runs that draw), epoch_mean, epoch_std (over those); ticket_after (the moments of
    their tickets, in epochs of dense training), n (those before the end), difference_mean, difference_std (accuracy of
    these minus that of the last ticket; NaN where there are none).
    """
    matrices = {record.settings["seed"]: np.array(record.results["spline"]["distances"]) for record in dense}
    last = tickets["dense_epochs"].max()
    rows = []
    for ratio, part in tickets.groupby("ratio"):
        accuracy = part.pivot(index="seed", columns="dense_epochs", values="accuracy")
        for threshold in thresholds:
            found = {seed: first_settled(matrix, threshold, window) for seed, matrix in matrices.items()}
            drawn = {seed: epoch for seed, epoch in found.items() if epoch is not None}
            rows.append({"ratio": ratio, "threshold": threshold, **_outcome(accuracy, drawn, last)})
    return pd.DataFrame(rows)


def _outcome(accuracy: pd.DataFrame, drawn: dict[int, int], last: int) -> dict[str, object]:
    """The columns of :func:`threshold_outcomes` for runs drawn at these epochs; ``accuracy`` is [seed, moment]."""
    epochs = pd.Series(drawn, dtype=float)
    moments = {}
    for seed in accuracy.index.intersection(list(drawn)):
        recorded = accuracy.loc[seed].dropna().index
        # Epochs count from 0: after epoch e the network has been trained for e + 1.
        moments[seed] = min((moment for moment in recorded if moment > drawn[seed]), default=last)
    early = {seed: moment for seed, moment in moments.items() if moment < last}
    lost = pd.Series(
        [accuracy.loc[seed, moment] - accuracy.loc[seed, last] for seed, moment in early.items()], dtype=float
    )
    return {
        "drawn": len(drawn),
        "epoch_mean": epochs.mean(),
        "epoch_std": epochs.std(ddof=1),
        "ticket_after": " or ".join(f"{moment:g}" for moment in sorted(set(moments.values()))),
        "n": int(lost.count()),
        "difference_mean": lost.mean(),
        "difference_std": lost.std(ddof=1),
    }
