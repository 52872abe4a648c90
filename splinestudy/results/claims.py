"""The table of claims: what the committed records say about each, chapter by chapter, in rows for one table."""

from collections.abc import Callable, Sequence
from itertools import groupby

import pandas as pd

from splinelib.errors import SettingError
from splinelib.pruning.selection import Scope
from splinestudy import results
from splinestudy.results import boundary, initialisation, interpretation
from splinestudy.results.names import profile_of
from splinestudy.results.protocol import BIRD
from splinestudy.results.protocol_rows import criterion_rows, saving_rows, ticket_rows
from splinestudy.results.rules import (
    COIN,
    COIN_ON_IMAGES,
    COMPARISON,
    NO_RULE,
    READING,
    SAVING,
    SETTLING,
    STANDING,
    TOUCHING,
)
from splinestudy.results.tables import table
from splinestudy.results.toy import pruning_claim
from splinestudy.results.ways import NARROW, SPLINE, Way, way_of
from splinestudy.runs.committed import NARROW_PROFILES, Study, by_network, committed
from splinestudy.runs.records import Record
from splinestudy.runs.store import RecordStore

Rows = list[dict[str, str]]

SUCCESS = 0.95
"""Least test accuracy of a toy network that counts as a success, as in the chapter on initialisation."""

SWEEPS_OF_STARTS = ("initialisations", "scratch", "methods", "tickets")
"""Sweeps whose networks the comparison of starts takes together."""


WITHOUT_CRITERION = (NARROW, Way("ticket initial"), Way("ticket early"))
"""Ways to the shape of a layerwise cut that need no criterion, or only a mask: what papers forget to compare with."""


def claim_rows(claim: str, store: RecordStore) -> Rows:
    """What the committed records say about ``claim``: rows of claim, paper, records, ours, rule; none without records.

    Args:
        claim: ``"C1"`` to ``"C8"``.
        store: the committed records (:func:`splinestudy.runs.committed.committed_store`).

    Raises:
        SettingError: for another claim.
    """
    if claim not in _CLAIMS:
        raise SettingError(f"claim is {claim!r}: choose one of {', '.join(_CLAIMS)}")
    return _CLAIMS[claim](store)


def start_records(store: RecordStore) -> list[Record]:
    """Committed networks of the study by which starts are compared, each once; none without what they start against."""
    found = [
        record for sweep in SWEEPS_OF_STARTS for record in committed(Study(sweep, "study"), store, "prune")
    ]
    starts = {record.key: record for record in found if results.is_start(record)}
    return _comparable([*starts.values()], NARROW)


def _comparable(records: list[Record], way: Way) -> list[Record]:
    """The records, or none where they lack the way that all others are compared with, as an unfinished study may."""
    return records if way in {way_of(record.settings) for record in records} else []


def dense_studies(store: RecordStore) -> list[list[Record]]:
    """Committed dense networks whose partition was watched, network by network."""
    return [records for records in by_network("early_bird", store, "dense") if records]


def savings_studies(store: RecordStore) -> list[list[Record]]:
    """Committed networks whose whole cost is compared, network by network; those studies that have early birds.

    The first holds also the narrow networks that were trained for as long as a lottery ticket costs.
    """
    found = by_network("savings", store)
    found[0] += [r for r in start_records(store) if way_of(r.settings).method == "narrow long"]
    return [group for group in found if _comparable(group, BIRD)]


def same_shape(store: RecordStore) -> list[Record]:
    """Committed networks of the study that end where every layer has lost the same share, whatever led there."""
    sweeps = ("methods", "savings")
    found = [record for sweep in sweeps for record in committed(Study(sweep, "study"), store, "prune")]
    layerwise = {record.key: record for record in found if record.settings["scope"] == "layerwise"}
    return _comparable([*layerwise.values()], SPLINE)


def studies(sweep: str, store: RecordStore) -> list[list[Record]]:
    """Committed studies of methods before the protocol, one for each of :data:`.NARROW_PROFILES` that has records."""
    found = [committed(Study(sweep, name), store, "prune") for name in NARROW_PROFILES]
    return [records for records in found if SPLINE in {way_of(record.settings).alone() for record in records}]


def narrow_studies(scope: Scope, store: RecordStore) -> list[list[Record]]:
    """Those of :func:`studies` with the protocol's own cells in ``scope``."""
    return studies("core" if scope == "layerwise" else "core_flops", store)


def plane_records(store: RecordStore) -> list[Record]:
    """The committed records of the starts on k-means, regression and the toy; none unless all three are there."""
    planned = {run.kind: run for run in Study("initialisation", "reference").runs()}
    found = [store.load(planned[kind]) for kind in ("kmeans", "regression", "toy_init")]
    return [record for record in found if record] if all(found) else []


def start_gains(plane: Sequence[Record]) -> pd.DataFrame:
    """Gains of the starts over a random one, from :func:`plane_records`."""
    means, fits, toy = map(table, plane)
    return initialisation.all_gains(means, fits, toy.assign(success=toy["accuracy"] >= SUCCESS))


def _coin(store: RecordStore) -> Rows:
    rows = []
    if plane := plane_records(store):
        gains = start_gains(plane)
        profiles = dict.fromkeys(("k-means", "regression", "toy"), "reference")
        rows += [(row, COIN.beside(plane)) for row in initialisation.first_claim(gains, profiles)]
    if starts := start_records(store):
        differences = results.paired_differences(results.starts_table(starts), way=NARROW)
        rows.append((initialisation.image_claim(differences, "study"), COIN_ON_IMAGES.beside(starts)))
    return [
        {
            "claim": "C1",
            "records": f"{row['problem']}, profile {row['profile']}",
            "ours": f"*{row['C1']}*; "
            + "; ".join(
                f"{name.split(',')[0]}: {row[name]}" for name in row if name.endswith("random start")
            ),
            "rule": rule,
        }
        for row, rule in rows
    ]


def _pinpointed(store: RecordStore) -> Rows:
    toys = [
        pruning_claim(record.results["pruning"], f"profile {profile_of(record)}") | {"rule": NO_RULE}
        for record in committed(Study("toy", "reference"), store)
    ]
    told = [
        interpretation.effects_claim(read) | {"rule": READING.beside(read, "C2")} for read in readings(store)
    ]
    return toys + told


def _contributing(store: RecordStore) -> Rows:
    found = committed(Study("boundary", "reference", {"width": 1 / 8}), store, "boundary")
    rows = []
    if found:
        profile = f"profile {profile_of(found[0])}"
        touching = boundary.touching_claim(boundary.boundary_table(found), profile)
        rows += [row | {"rule": TOUCHING.beside(found)} for row in touching]
    return rows + [
        interpretation.touching_claim(read) | {"rule": READING.beside(read)} for read in readings(store)
    ]


def _settling(store: RecordStore) -> Rows:
    rows = ticket_rows(store)
    rows += [results.detection_claim(group) | {"rule": NO_RULE} for group in dense_studies(store)]
    for study in (Study("settling", "study", {"images": 20_000}), Study("settling", "breadth")):
        if settling := committed(study, store, "settling"):
            profile = study.settings()
            draws, epochs = results.draw_table(settling, profile), results.schedule_table(settling, profile)
            settled = results.settling_claim(settling, draws, epochs)
            rows.append(settled | {"rule": SETTLING.beside(settling)})
    if tickets := committed(Study("tickets", "study"), store, "prune"):
        early = results.early_tickets(results.pruning_table(tickets, "layerwise"))
        rows.append(results.ticket_claim(tickets, early) | {"rule": COMPARISON.beside(tickets)})
    return rows


def _criterion(claim: str, scope: Scope, store: RecordStore) -> Rows:
    """The protocol's study and its word, then the studies before it."""
    rows = criterion_rows(claim, scope, store)
    for study in narrow_studies(scope, store):
        differences = results.paired_differences(results.pruning_table(study, scope))
        rows.append(results.study_claim(claim, study, differences) | {"rule": STANDING.beside(study)})
    return rows


def _layerwise(store: RecordStore) -> Rows:
    rows = _criterion("C5", "layerwise", store)
    if records := same_shape(store):
        table = results.whole_table(records)
        differences = results.paired_differences(table[table["way"].isin((SPLINE, *WITHOUT_CRITERION))])
        rows.append(results.pruning_claim("C5", records, differences) | {"rule": COMPARISON.beside(records)})
    return rows


def _savings(store: RecordStore) -> Rows:
    return saving_rows(store) + [
        results.savings_claim(study, results.savings_summary(results.whole_table(study)))
        | {"rule": SAVING.beside(study)}
        for study in savings_studies(store)
    ]


def _explained(store: RecordStore) -> Rows:
    rows = []
    for read in readings(store):
        correlations = interpretation.correlations_of(read)
        rows.append(interpretation.separation_claim(correlations, read) | {"rule": READING.beside(read)})
    return rows


def readings(store: RecordStore) -> list[list[Record]]:
    """The committed readings of trained networks, seed by seed: without a penalty on scales, then with it."""
    found = sorted(
        committed(Study("readings", "half"), store, "reading"),
        key=lambda record: record.settings["dense"]["seed"],
    )
    groups = groupby(sorted(found, key=interpretation.network_read), key=interpretation.network_read)
    return [list(group) for _, group in groups]


_CLAIMS: dict[str, Callable[[RecordStore], Rows]] = {
    "C1": _coin,
    "C2": _pinpointed,
    "C3": _contributing,
    "C4": _settling,
    "C5": _layerwise,
    "C6": lambda store: _criterion("C6", "global", store),
    "C7": _savings,
    "C8": _explained,
}
