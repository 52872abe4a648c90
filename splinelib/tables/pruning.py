"""Tables of pruning runs."""

from collections.abc import Sequence

import pandas as pd

from splinelib.records import Record


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
