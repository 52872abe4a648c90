"""What is measured of every pruned network before any training."""

import dataclasses
from typing import Any

from torch import Tensor, nn

from splinelib.errors import SettingError
from splinelib.pruning.cut import cut_of
from splinelib.pruning.flops import cost
from splinelib.pruning.least_squares import reestimate_norms
from splinestudy.data import Dataset
from splinestudy.runs.methods import names_of
from splinestudy.training.loop import evaluate


def check_share(ratio_of: str, criterion: str) -> None:
    """Raise :class:`SettingError` for a ``ratio_of`` that does not go with the criterion."""
    procedures = names_of("procedure")
    if ratio_of != "units" and criterion in procedures:
        raise SettingError(
            f"ratio_of is {ratio_of!r} with criterion {criterion!r}: {' and '.join(procedures)} count units"
        )


def measured(dense: nn.Module, pruned: nn.Module, data: Dataset, images: Tensor) -> dict[str, Any]:
    """A pruned network before any training: accuracy as it is and with batch norms re-estimated; cost and widths."""
    example, cut = images[:2], cut_of(pruned)
    return {
        "pruned_accuracy": evaluate(pruned, data),
        "reestimated_accuracy": evaluate(reestimate_norms(pruned, images), data),
        "dense_cost": dataclasses.asdict(cost(dense, example)),
        "cost": dataclasses.asdict(cost(pruned, example)),
        "widths": {name: units - len(cut.selection.get(name, ())) for name, units in cut.units.items()},
        "dense_widths": cut.units,
    }
