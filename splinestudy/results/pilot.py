"""What the pilot of the protocol found, as tables in Markdown: recipes, lengths of fine-tuning, sources of variance."""

from collections.abc import Sequence

import pandas as pd

from splinestudy.results.tables import markdown_table
from splinestudy.results.variance import variance_components
from splinestudy.runs.committed import Study, committed
from splinestudy.runs.methods import METHODS
from splinestudy.runs.pilot import TRIED
from splinestudy.runs.profiles import PROFILES
from splinestudy.runs.records import Record
from splinestudy.runs.store import RecordStore

FINETUNED = PROFILES["pilot"].finetune_epochs
"""Epochs after which readings are compared: those of the study."""


def pilot_report(store: RecordStore) -> str:
    """The pilot's committed records, as paragraphs of Markdown; says so where there are none yet."""
    study = Study("pilot", "pilot")
    dense, pruned = committed(study, store, "dense"), committed(study, store, "prune")
    if not dense:
        return "No record of the pilot is committed yet.\n"
    parts = ["Recipes, one network each:", _markdown(_recipes(dense))]
    if pruned:
        parts += ["Fine-tuning half of every layer's units away:", _markdown(_lengths(pruned))]
    if len(read := _readings(pruned)) > 1:
        parts += ["Readings of the spline criterion, fine-tuned alike:", _markdown(read)]
    if spread := _variance(pruned):
        parts.append(spread)
    return "\n\n".join(parts) + "\n"


def _recipes(records: Sequence[Record]) -> pd.DataFrame:
    rows = [
        {
            "highest rate": train["lr"],
            "labels smoothed by": train.get("label_smoothing", 0.0),
            "epochs": train["epochs"],
            "seed": record.settings["seed"],
            "test accuracy, %": f"{100 * record.results['epochs'][-1]['accuracy']:.1f}",
            "spline early bird after epoch": _drawn(record),
        }
        for record in records
        for train in [record.settings["train"]]
    ]
    order = ["seed", "epochs", "highest rate", "labels smoothed by"]
    return pd.DataFrame(rows).sort_values(order, ignore_index=True)


def _drawn(record: Record) -> str:
    epoch = record.results["spline"]["epoch"]
    return "never" if epoch is None else str(epoch + 1)


def _lengths(records: Sequence[Record]) -> pd.DataFrame:
    rows = [
        {
            "criterion": record.settings["criterion"],
            "epochs": record.settings["finetune"]["epochs"],
            "seed": record.settings["dense"]["seed"],
            "order": record.settings.get("order", 0),
            "test accuracy, %": f"{100 * record.results['accuracy']:.1f}",
        }
        for record in records
        if record.settings["criterion"] not in TRIED[1:]
    ]
    return pd.DataFrame(rows).sort_values(["criterion", "epochs", "seed", "order"], ignore_index=True)


def _readings(records: Sequence[Record]) -> pd.DataFrame:
    """Every reading on the same networks, the best first; those alone that all networks with two readings have."""
    rows = [
        {"reading": s["criterion"], "seed": s["dense"]["seed"], "accuracy": 100 * record.results["accuracy"]}
        for record in records
        for s in [record.settings]
        if s["criterion"] in TRIED and s.get("order", 0) == 0 and s["finetune"]["epochs"] == FINETUNED
    ]
    table = pd.DataFrame(rows, columns=["reading", "seed", "accuracy"]).pivot(
        index="reading", columns="seed", values="accuracy"
    )
    table = table.loc[:, table.notna().sum() > 1].dropna()
    mean = table.mean(axis=1).sort_values(ascending=False)
    columns = {f"seed {seed}, %": table[seed].map("{:.1f}".format) for seed in table}
    shown = pd.DataFrame({**columns, "mean, %": mean.map("{:.2f}".format)}).loc[mean.index]
    shown.insert(0, "reading", [METHODS[name].label for name in mean.index])
    return shown


def _variance(records: Sequence[Record]) -> str:
    """Standard deviations over dense networks and over orders of fine-tuning, criterion by criterion."""
    table = pd.DataFrame(
        columns=["criterion", "epochs", "dense", "order", "value"],
        data=[
            {
                "criterion": record.settings["criterion"],
                "epochs": record.settings["finetune"]["epochs"],
                "dense": record.settings["dense"]["seed"],
                "order": record.settings.get("order", 0),
                "value": 100 * record.results["accuracy"],
            }
            for record in records
        ],
    )
    lines = []
    for criterion, part in table.groupby("criterion"):
        several = part[part["epochs"] == part["epochs"][part["order"] > 0].max()]
        if several["dense"].nunique() > 1:
            found = variance_components(several)
            lines.append(
                f"* {criterion}: {found.between**0.5:.2f} points between dense networks, {found.within**0.5:.2f} "
                f"between orders of fine-tuning one of them ({len(several)} runs)"
            )
    return "Standard deviations:\n\n" + "\n".join(lines) if lines else ""


def _markdown(table: pd.DataFrame) -> str:
    return "\n".join(markdown_table(dict.fromkeys(table.columns, "---"), table.to_numpy()))
