"""The networks of the protocol with their records, judged by its rule: what rows, marks and chapters read."""

from dataclasses import replace

import pandas as pd

from splinelib.pruning.selection import Scope
from splinestudy.analysis.intervals import mean_interval
from splinestudy.results.comparisons import standing
from splinestudy.results.names import network_name
from splinestudy.results.protocol import (
    BIRD,
    LIKE_FOR_LIKE,
    MORE_WAYS,
    SOLVED,
    TODAY,
    Planned,
    judge,
    judge_saving,
    judge_tickets,
    planned,
)
from splinestudy.results.pruning import pruning_table, whole_table
from splinestudy.results.training_cost import dense_epochs_before
from splinestudy.results.ways import NARROW, SPLINE, Way, way_of
from splinestudy.runs.committed import STUDIES, Study, committed
from splinestudy.runs.protocol import ALLOCATION, NORMALISATIONS
from splinestudy.runs.records import Record
from splinestudy.runs.store import RecordStore

Judged = list[tuple[Study, list[Record], pd.DataFrame]]

PROFILES = ("grey", "half", "full_residual", "full")
"""Profiles of the networks of ``book/protocol.md``."""

DECIDING = PROFILES[1:]
"""Those of the three networks on which the claim is *reproduced* or not."""


def judged(scope: Scope, store: RecordStore) -> Judged:
    """The networks of :func:`studied` with their judgement (:func:`.judge`)."""
    return [(study, found, judge(pruning_table(found, scope))) for study, found in studied(scope, store)]


def studied(scope: Scope, store: RecordStore) -> list[tuple[Study, list[Record]]]:
    """Every network of the protocol that has records in ``scope``, with these.

    At equal FLOPs in global scope, where a study's ratios are those of the layerwise cuts that cost as much.
    """
    sweeps = ("paper_era", "core") if scope == "layerwise" else ("core_flops",)
    return [
        (study, records)
        for study in STUDIES
        if study.profile in PROFILES and study.sweep in sweeps
        if (records := [r for r in committed(study, store, "prune") if r.settings["scope"] == scope])
    ]


def deciding(scope: Scope, store: RecordStore) -> Judged:
    """Of :func:`judged` the three networks that decide, as far as they have records."""
    return [case for case in judged(scope, store) if case[0].profile in DECIDING]


def cells(networks: Judged) -> dict[str, pd.DataFrame]:
    """The comparisons of each network and ratio by these two in words."""
    return {
        f"{network_name(records[0])}, ratio {ratio:g}": part
        for _, records, found in networks
        for ratio, part in found.groupby("ratio")
    }


def judged_on(profile: str, scope: Scope, store: RecordStore) -> tuple[Study, list[Record], pd.DataFrame]:
    """The network of a profile by itself among :func:`judged`; without records and judgements if it has none."""
    for study, records, found in judged(scope, store):
        if study.profile == profile and not study.overrides:
            return study, records, found
    sweep = "paper_era" if scope == "layerwise" else "core_flops"
    return Study(sweep, profile), [], judge(pruning_table([], scope))


def behind(
    records: list[Record], found: pd.DataFrame, control: Way = SPLINE, allocation: str = ""
) -> list[Record]:
    """Of ``records`` those that a judgement ``found`` of ``control`` compares; with ``allocation``, at its widths."""
    ways, ratios = {control, *found["against"]}, set(found["ratio"])

    def compared(record: Record) -> bool:
        way = way_of(record.settings).alone()
        if allocation:
            return allocation in (way.allocation, way.method) and replace(way, allocation="") in ways
        return way in ways

    return [record for record in records if record.settings["ratio"] in ratios and compared(record)]


def judge_sets(
    study: Study, records: list[Record], store: RecordStore
) -> tuple[list[Record], pd.DataFrame, pd.DataFrame]:
    """Layerwise ``records`` with those that have least squares, and as :func:`.judge` sets (b) and (c)."""
    solved = committed(replace(study, sweep="like_for_like"), store, "prune")
    records = [*records, *solved]
    table = pruning_table(records, "layerwise")
    return records, judge(table, SOLVED, LIKE_FOR_LIKE), judge(table, SPLINE, TODAY)


def judge_common(records: list[Record]) -> pd.DataFrame:
    """As :func:`.judge`, of global cuts at the widths of :data:`.ALLOCATION`; its own cut has these by itself."""
    table = pruning_table(records, "global")
    table = table[(table["allocation"] == ALLOCATION) | (table["method"] == ALLOCATION)]
    return judge(table.assign(way=[replace(way, allocation="") for way in table["way"]]))


def judge_normalisations(records: list[Record]) -> pd.DataFrame:
    """As :func:`.judge`: spline scores by the layer's mean against the same by :data:`.NORMALISATIONS`."""
    others = [Way("spline", normalize=how) for how in NORMALISATIONS]
    return judge(pruning_table(records, "global"), SPLINE, others)


def judged_tickets(store: RecordStore) -> list[tuple[Study, list[Record], list[Record], pd.DataFrame]]:
    """Every network of the protocol with dense records, tickets and :func:`.judge_tickets` of them, if it has any."""
    found = []
    for study, dense, pruned in early_studies(store):
        tickets = [
            record for record in pruned if not record.settings.get("onward") and not _is_narrow(record)
        ]
        judgement = judge_tickets(whole_table(tickets))
        if not judgement.empty:
            found.append((study, dense, tickets, judgement))
    return found


def stricter(store: RecordStore) -> list[tuple[list[Record], pd.DataFrame, pd.DataFrame]]:
    """Every network of the protocol that has early birds: these and narrow networks, what both must stand up to (C7).

    First the early bird against the dense network of its seed, by ratio: ratio, n, difference, low, high (Student's t),
    training (operations, as a share of the dense training's). Then :func:`.judge` against the narrow network from
    scratch, with saving, how many times the early bird's operations the narrow network's are.
    """
    found = []
    for _, _, pruned in early_studies(store):
        birds = [r for r in pruned if r.settings.get("onward") and way_of(r.settings).alone() == BIRD]
        taken = [*birds, *(record for record in pruned if _is_narrow(record))]
        table = pruning_table(taken, "layerwise")
        rows = [
            (
                ratio,
                len(part),
                *mean_interval((part["accuracy"] - part["dense_accuracy"]).tolist()),
                part["training"].mean(),
            )
            for ratio, part in table[table["way"] == BIRD].groupby("ratio")
        ]
        dense = pd.DataFrame(rows, columns=["ratio", "n", "difference", "low", "high", "training"])
        narrow = judge(table, BIRD, [NARROW])
        training = table.groupby(["ratio", "way"])["training"].mean()
        shares = [training[ratio, NARROW] / training[ratio, BIRD] for ratio in narrow["ratio"]]
        if rows:
            found.append((taken, dense, narrow.assign(saving=shares)))
    return found


def _is_narrow(record: Record) -> bool:
    return way_of(record.settings).alone() == NARROW


def moment(epoch: float, study: Study) -> str:
    """How a ticket's moment is called."""
    return "the end" if epoch == study.settings().epochs else f"epoch {epoch:.0f}"


def not_early(tickets: list[Record], detector: str = "spline") -> int:
    """How many of a detector's tickets are those of the end itself, which say nothing of early ones.

    They are where it drew in the last epoch or never.
    """
    detected = [ticket for ticket in tickets if ticket.settings.get("draw") == detector]
    return sum(
        dense_epochs_before(ticket) >= ticket.settings["dense"]["train"]["epochs"] for ticket in detected
    )


def drawn_late(tickets: list[Record]) -> int:
    """How many of the partition detector's tickets it drew in the second half of the schedule."""
    shares = [
        dense_epochs_before(ticket) / ticket.settings["dense"]["train"]["epochs"]
        for ticket in tickets
        if ticket.settings.get("draw") == "spline"
    ]
    return sum(share > 1 / 2 for share in shares)


def early_convergence(found: pd.DataFrame, tickets: list[Record], study: Study) -> str:
    """*supported*, *undecided* or *contradicted* (C4): the ticket of the end decides, if all others came before it.

    What most runs draw in the second half of the schedule is not early, and says nothing of early ones.
    """
    end = found.loc[found["against"] == study.settings().epochs, "verdict"]
    if end.empty or not_early(tickets):
        return "undecided"
    detected = sum(ticket.settings.get("draw") == "spline" for ticket in tickets)
    return "undecided" if 2 * drawn_late(tickets) > detected else standing(end)


def judged_savings(store: RecordStore) -> list[tuple[list[Record], pd.DataFrame, Planned]]:
    """Every network of the protocol that has early birds: all its records, :func:`.judge_saving`, ways planned."""
    found = []
    for study, _, pruned in early_studies(store):
        birds = [record for record in pruned if record.settings.get("onward")]
        layerwise = [
            other
            for other in STUDIES
            if (other.profile, other.overrides) == (study.profile, study.overrides)
            and other.sweep in ("paper_era", "core")
        ]
        others = [record for other in layerwise for record in committed(other, store, "prune")]
        judgement = judge_saving(pruning_table([*birds, *others], "layerwise"))
        if not judgement.empty:
            most = max(planned(other) for other in layerwise)
            asked = most._replace(methods=most.methods + MORE_WAYS)
            found.append(([*birds, *others], judgement, asked))
    return found


def watched(store: RecordStore) -> list[list[Record]]:
    """Dense networks of the protocol whose partition was watched, network by network; not those for slimming."""
    found = [
        committed(study, store, "dense")
        for study in STUDIES
        if study.profile in PROFILES and study.sweep in ("paper_era", "core")
    ]
    return [plain for group in found if (plain := _plain(group))]


def early_studies(store: RecordStore) -> list[tuple[Study, list[Record], list[Record]]]:
    """Studies of early birds with their dense and pruned records."""
    found = [
        (study, committed(study, store, "dense"), committed(study, store, "prune"))
        for study in STUDIES
        if study.sweep == "early"
    ]
    return [(study, _plain(dense), pruned) for study, dense, pruned in found if pruned]


def _plain(dense: list[Record]) -> list[Record]:
    """Without those that were trained for slimming."""
    return [record for record in dense if not record.settings["train"]["norm_l1"]]
