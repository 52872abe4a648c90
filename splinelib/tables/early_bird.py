"""Tables of dense runs, their distances and draws."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from splinelib.records import Record


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
