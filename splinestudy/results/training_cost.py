"""What a pruned network has cost in all: operations, phase by phase."""

from collections.abc import Sequence

import pandas as pd

from splinestudy.data.catalogue import ENTRIES
from splinestudy.runs.methods import FRESH
from splinestudy.runs.records import Record

STEP = 3
"""Operations of a training step in those of a forward pass: one forward, and two for the gradients of inputs and
weights. (The first layer needs no gradient of its inputs, so this is a little too much, for all networks alike.)
"""

PHASES = ("dense", "detection", "scoring", "retraining")


def dense_training_flops(record: Record) -> float:
    """Operations of the whole dense training behind a prune record."""
    return STEP * _images(record) * all_dense_epochs(record) * record.results["dense_cost"]["flops"]


def phase_flops(record: Record) -> dict[str, float]:
    """Operations behind a prune record, for each of :data:`PHASES`.

    * *dense*: training the dense network until the units were chosen; nothing where it was not needed (:func:`needed`).
    * *detection*: the canvas's forward pass after each of these epochs, where the partition's detector drew. A mask
      costs nothing that is counted.
    * *scoring*: choosing the units, compensating, initialising; as counted while it ran, 0 in records that lack it
      (which chose by weights alone, or by a thousand images at most).
    * *retraining*: training the small network (at full width for soft filter pruning).
    """
    settings, results = record.settings, record.results
    dense, small = results["dense_cost"]["flops"], results["cost"]["flops"]
    epochs = dense_epochs_before(record) if needed(record) else 0
    canvas = settings["dense"]["canvas_side"] ** 2 if settings.get("draw") == "spline" else 0
    width = dense if settings["criterion"] == "sfp" else small
    return {
        "dense": STEP * _images(record) * epochs * dense,
        "detection": canvas * epochs * dense,
        "scoring": results.get("scoring_flops", 0),
        "retraining": STEP * _images(record) * retraining_epochs(record) * width,
    }


def needed(record: Record) -> bool:
    """Whether the dense network had to be trained: not for new weights where every layer loses the same share.

    That shape can be named beforehand, whatever chose the units. The widths that a global choice leaves cannot.
    """
    return record.settings.get("start", "trained") not in FRESH or record.settings["scope"] == "global"


def phase_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each prune record and phase: its operations as a share of the dense network's whole training.

    Columns: key, phase, share.
    """
    rows = []
    for record in records:
        total = dense_training_flops(record)
        rows += [
            {"key": record.key, "phase": phase, "share": flops / total}
            for phase, flops in phase_flops(record).items()
        ]
    return pd.DataFrame(rows, columns=["key", "phase", "share"])


def _images(record: Record) -> int:
    """Training images; records that do not say how many took all of a published data set, or as many as asked for."""
    if "training_images" in record.results:
        return record.results["training_images"]
    dense = record.settings["dense"]
    return dense["images"] or ENTRIES[dense["dataset"]].counts[0]


def all_dense_epochs(record: Record) -> int:
    """Epochs of the whole dense training."""
    return record.settings["dense"]["train"]["epochs"]


def dense_epochs_before(record: Record) -> int:
    """Epochs before the units were chosen; records from before there were draws are all from the end."""
    return record.results.get("dense_epochs", all_dense_epochs(record))


def retraining_epochs(record: Record) -> int:
    """Epochs of training the small network."""
    first = dense_epochs_before(record) if record.settings.get("onward") else 0
    return record.settings["finetune"]["epochs"] - first
