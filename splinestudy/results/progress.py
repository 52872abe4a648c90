"""How far the protocol's study is: whole comparisons, runs, and the hours that the rest would take."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from splinelib.pruning.selection import Scope
from splinestudy.results.names import arch_name, data_name, three_figures
from splinestudy.results.protocol import METHODS_OF
from splinestudy.results.protocol_networks import PROFILES
from splinestudy.results.tables import markdown_table
from splinestudy.runs.committed import STUDIES, Study
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.records import Record, run_key
from splinestudy.runs.store import RecordStore

_COLUMNS = {"network": "---", "layerwise": "---:", "global": "---:", "runs": "---:", "hours left": "---:"}


def progress_report(store: RecordStore) -> str:
    """A row for each network of the protocol, as Markdown.

    Columns: the network; layerwise and global, how many pairs of ratio and seed have every method planned; runs that
    are there; and the hours of one core that the others would take, by the seconds of an epoch of those that are.
    """
    studies = [study for study in STUDIES if study.profile in PROFILES]
    networks = groupby(studies, key=lambda study: (study.profile, tuple(study.overrides.items())))
    groups = [list(group) for _, group in networks]
    rows = [_row(group, store) for group in groups if _judged(group)]
    return "\n".join(markdown_table(_COLUMNS, rows)) + "\n"


def _judged(studies: Sequence[Study]) -> list[Study]:
    """Those by which a claim about the criterion is judged."""
    return [study for study in studies if study.sweep in METHODS_OF]


def _row(studies: Sequence[Study], store: RecordStore) -> list[str]:
    trained = (run for study in studies for run in study.runs() if isinstance(run, (DenseRun, PruneRun)))
    runs = {run_key(run): run for run in trained}
    there = {key: record for key, run in runs.items() if (record := store.load(run))}
    left = [run for key, run in runs.items() if key not in there]
    network = next(run for run in runs.values() if isinstance(run, DenseRun))
    return [
        f"{arch_name(network.arch, network.width)}, {data_name(network.dataset)}",
        *(_whole(studies, scope, there) for scope in ("layerwise", "global")),
        f"{len(there)} of {len(runs)}",
        _hours(left, there.values()),
    ]


def _whole(studies: Sequence[Study], scope: Scope, there: Iterable[str]) -> str:
    """Of the pairs of ratio and seed those that have every method that is judged, and every reading."""
    judged = (run for study in _judged(studies) for run in study.runs() if isinstance(run, PruneRun))
    cuts = [run for run in judged if run.scope == scope and run.criterion != "sfp"]  # it left the set
    pairs = {(run.ratio, run.dense.seed) for run in cuts}
    missing = {(run.ratio, run.dense.seed) for run in cuts if run_key(run) not in there}
    return f"{len(pairs - missing)} of {len(pairs)}" if pairs else "not planned"


def _hours(left: Iterable[DenseRun | PruneRun], there: Iterable[Record]) -> str:
    """Of one core, at the median seconds of an epoch; pruned networks take those of dense ones where none is there."""
    seconds: dict[str, list[float]] = {"dense": [], "prune": []}
    for record in there:
        core_seconds = record.provenance["threads"] * record.provenance["seconds"]
        seconds[record.kind].append(core_seconds / _schedule(record.settings)["epochs"])
    if not seconds["dense"]:
        return "not timed"
    dense = float(np.median(seconds["dense"]))
    pruned = float(np.median(seconds["prune"])) if seconds["prune"] else dense
    taken = sum(
        run.train.epochs * dense if isinstance(run, DenseRun) else run.finetune.epochs * pruned
        for run in left
    )
    return three_figures(taken / 3600)


def _schedule(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """That of the run's own training, where what is pruned has one after its dense network's."""
    return settings["finetune"] if "finetune" in settings else settings["train"]
