"""What width changes: the same cuts on networks of several widths, by the same methods and the protocol's rule."""

from collections.abc import Mapping, Sequence

import pandas as pd

from splinelib.pruning.selection import Scope
from splinestudy.results.claim_rows import VERDICTS
from splinestudy.results.claims import narrow_studies
from splinestudy.results.comparisons import standing
from splinestudy.results.names import network_name
from splinestudy.results.protocol import judge
from splinestudy.results.protocol_networks import DECIDING, studied
from splinestudy.results.pruning import pruning_table
from splinestudy.results.ways import SPLINE, Way
from splinestudy.runs.records import Record
from splinestudy.runs.store import RecordStore

Tables = dict[str, pd.DataFrame]

COMPARED = tuple(map(Way, ("l1", "fpgm", "random", "slimming")))
"""What every one of these networks was also pruned by."""


def networks_by_width(scope: Scope, store: RecordStore) -> dict[str, list[Record]]:
    """The networks on CIFAR-10 that were pruned in ``scope``, kind by kind and the narrowest first, by their names."""
    wide = (records for study, records in studied(scope, store) if study.profile in DECIDING)
    groups = [*narrow_studies(scope, store), *wide]
    groups.sort(key=lambda records: (_dense(records)["arch"] != "vgg16_bn", _dense(records)["width"]))
    return {network_name(records[0]): records for records in groups}


def shared_tables(networks: Mapping[str, Sequence[Record]], scope: Scope, ratio: float) -> Tables:
    """The rows of :func:`.pruning_table` at one ratio: :data:`COMPARED` and the criterion, where a network has all."""
    ways = {SPLINE, *COMPARED}
    tables = {name: pruning_table(records, scope) for name, records in networks.items()}
    parts = {
        name: table[(table["ratio"] == ratio) & table["way"].isin(ways)] for name, table in tables.items()
    }
    return {name: part for name, part in parts.items() if ways == set(part["way"])}


def judgements_by_width(tables: Mapping[str, pd.DataFrame]) -> Tables:
    """The judgement of each of :func:`shared_tables` by the protocol's rule."""
    return {name: judge(table) for name, table in tables.items()}


def losses_by_width(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A row for each network: seeds, accuracy of the dense networks in %, and the points each method ends below it."""
    rows = []
    for name, table in tables.items():
        lost = 100 * (table["dense_accuracy"] - table["accuracy"])
        means = lost.groupby(table["way"]).mean()
        methods = {way.label: means[way] for way in (SPLINE, *COMPARED)}
        seeds, dense = table["seed"].nunique(), 100 * table["dense_accuracy"].mean()
        rows.append({"network": name, "n": seeds, "dense": dense, **methods})
    return pd.DataFrame(rows)


def standings_by_width(
    networks: Mapping[str, Sequence[Record]], scope: Scope, ratios: Sequence[float]
) -> pd.DataFrame:
    """A row for each ratio and network: the verdicts against :data:`COMPARED`, counted, and what they come to.

    That is no word for the claim, which is about every method planned (:func:`.standing`).
    """
    rows = []
    for ratio in ratios:
        for name, found in judgements_by_width(shared_tables(networks, scope, ratio)).items():
            verdicts = list(found["verdict"])
            counts = {word: verdicts.count(word) for word in VERDICTS if word != "on par"}
            rows.append({"ratio": ratio, "network": name, **counts, "against these": standing(verdicts)})
    return pd.DataFrame(rows)


def _dense(records: Sequence[Record]) -> dict[str, object]:
    return records[0].settings["dense"]
