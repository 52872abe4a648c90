"""Rows of the table of claims that follow the protocol: the criterion, early tickets, and what early birds save."""

from dataclasses import replace

import pandas as pd

from splinelib.pruning.selection import Scope
from splinestudy.results.claim_rows import compared, distance_at_the_draw, seeds_of, study_claim
from splinestudy.results.comparisons import standing
from splinestudy.results.early_bird import detection_summary, detection_table
from splinestudy.results.names import network_name, signed
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
    reproduced,
)
from splinestudy.results.pruning import pruning_table, whole_table
from splinestudy.results.rules import PROTOCOL
from splinestudy.results.ways import SPLINE, Way
from splinestudy.runs.committed import STUDIES, Study, committed
from splinestudy.runs.methods import METHODS
from splinestudy.runs.protocol import ALLOCATION, NORMALISATIONS, READINGS
from splinestudy.runs.records import Record
from splinestudy.runs.store import RecordStore

Rows = list[dict[str, str]]
Judged = list[tuple[Study, list[Record], pd.DataFrame]]

PROFILES = ("grey", "half", "full_residual", "full")
"""Profiles of the networks of ``book/protocol.md``."""

DECIDING = PROFILES[1:]
"""Those of the three networks on which the claim is *reproduced* or not."""

STANDINGS = ("supported", "undecided", "contradicted")


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


def criterion_rows(claim: str, scope: Scope, store: RecordStore) -> Rows:
    """C5 or C6: the word for the three networks that decide, then every network and the other readings of it."""
    rows: Rows = []
    standings: list[str] = []
    all_records: list[Record] = []
    for study, records, found in judged(scope, store):
        asked = planned(study)
        rows.append(_row(study_claim(claim, records, found, asked), "", records))
        rows += _readings(claim, records, scope, asked)
        rows += (
            _allocations(claim, records, asked) if scope == "global" else _sets(claim, study, records, store)
        )
        if study.profile in DECIDING:
            all_records += records
            standings += [standing(part["verdict"], asked.methods) for _, part in found.groupby("ratio")]
    if not rows:
        return []
    counts = ", ".join(f"{standings.count(word)} {word}" for word in STANDINGS)
    whole = {
        "records": "protocol, the three networks that decide",
        "ours": f"*{reproduced(standings)}*: of nine (three ratios each) {counts}",
        "rule": PROTOCOL.beside(all_records, claim),
    }
    return [rows[0] | whole, *rows]


def _readings(claim: str, records: list[Record], scope: Scope, asked: Planned) -> Rows:
    """What other readings of the criterion come to, for which the claim is not judged."""
    table = pruning_table(records, scope)
    found = {reading: judge(table, reading) for reading in map(Way, READINGS)}
    return [
        _row(
            study_claim(claim, records, part, asked),
            f"not the claim but its reading *{reading.label}*",
            records,
        )
        for reading, part in found.items()
        if not part.empty
    ]


def _allocations(claim: str, records: list[Record], asked: Planned) -> Rows:
    """All criteria at the widths of one, and the spline criterion by other normalisations of its scores."""
    mean = "the layer's mean against other normalisations of the spline scores"
    found = (
        (f"all at the widths of {METHODS[ALLOCATION].label}", judge_common(records), asked.methods),
        (mean, judge_normalisations(records), len(NORMALISATIONS)),
    )
    return [
        _row(
            study_claim(claim, records, part, asked._replace(methods=count)),
            f"not the claim but {what}",
            records,
        )
        for what, part, count in found
        if not part.empty
    ]


def _sets(claim: str, study: Study, records: list[Record], store: RecordStore) -> Rows:
    """The sets of the protocol by which the claim is not judged: like for like, and today's methods."""
    records, *found = judge_sets(study, records, store)
    seeds = planned(study).seeds
    names = ("all with least squares", "the criterion against today's methods")
    return [
        _row(
            study_claim(claim, records, part, Planned(len(methods), seeds)),
            f"not the claim but {name}",
            records,
        )
        for name, part, methods in zip(names, found, (LIKE_FOR_LIKE, TODAY), strict=True)
        if not part.empty
    ]


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


def ticket_rows(store: RecordStore) -> Rows:
    """C4: the ticket that the detector draws against that of the end and of moments between, each trained as long."""
    rows = []
    for study, dense, tickets, found in judged_tickets(store):
        drawn = detection_summary(detection_table(dense)).iloc[0]
        when = "never drawn"
        if drawn["drawn"]:
            when = f"drawn in {drawn['drawn']} of {drawn['n']} runs, after {100 * drawn['share_of_schedule']:.0f} % "
            when += f"of the schedule, then {distance_at_the_draw(dense):.2f} from the last epoch's partition"
        missed = undrawn(tickets)
        worth = "; ".join(_worth(float(ratio), part, study, missed) for ratio, part in found.groupby("ratio"))
        words = {
            "claim": "C4",
            "ours": f"{when}; {worth} (points)",
        }
        rows.append(_row(words, "tickets", tickets))
    return rows


def judged_tickets(store: RecordStore) -> list[tuple[Study, list[Record], list[Record], pd.DataFrame]]:
    """Every network of the protocol with dense records, tickets and :func:`.judge_tickets` of them, if it has any."""
    found = []
    for study, dense, pruned in early_studies(store):
        tickets = [record for record in pruned if not record.settings.get("onward")]
        judgement = judge_tickets(whole_table(tickets))
        if not judgement.empty:
            found.append((study, dense, tickets, judgement))
    return found


def undrawn(tickets: list[Record]) -> int:
    """How many of the detector's tickets it never drew: they are those of the end, which says nothing of early ones."""
    return sum(r.settings.get("draw") == "spline" and not r.results["drawn"] for r in tickets)


def _worth(ratio: float, part: pd.DataFrame, study: Study, missed: int) -> str:
    """The detector's tickets beside the others; that of the end decides, if all were drawn."""
    end = part.loc[part["against"] == study.settings().epochs, "verdict"]
    early = len(end) > 0 and end.isin(("better", "at least on par")).all() and not missed
    outcomes = ", ".join(
        f"{row.verdict} against {moment(row.against, study)} ({signed(100 * row.difference)})"
        for row in part.itertuples()
    )
    word = "converges early" if early else "is not seen to converge early"
    return f"at {ratio:g} the partition *{word}*: the ticket of the draw is {outcomes}"


def moment(epoch: float, study: Study) -> str:
    """How a ticket's moment is called."""
    return "the end" if epoch == study.settings().epochs else f"epoch {epoch:.0f}"


def saving_rows(store: RecordStore) -> Rows:
    """C7: all training of the spline early bird against that of every way of the paper's time to the same shape."""
    rows = []
    for records, found, asked in judged_savings(store):
        words = "; ".join(_saving(float(ratio), part, asked) for ratio, part in found.groupby("ratio"))
        claim = {
            "claim": "C7",
            "ours": f"{BIRD.label}: {words}",
        }
        rows.append(_row(claim, "against every way of the paper's time", records))
    return rows


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


def _saving(ratio: float, part: pd.DataFrame, asked: Planned) -> str:
    alike = part[part["verdict"].isin(("better", "at least on par"))]
    cheaper = (part["saving"] > 1).all()
    word = "reproduced" if len(alike) == len(part) >= asked.methods and cheaper else "not reproduced"
    least, most = 1 / part["saving"].max(), 1 / part["saving"].min()
    ways = compared(part, asked, "ways")
    return (
        f"at {ratio:g} *{word}*, for {least:.2f} to {most:.2f} of the FLOPs of {ways}, of which it is better than "
        f"or at least on par with {len(alike)}, worse than {(part['verdict'] == 'worse').sum()}"
    )


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


def _row(row: dict[str, str], what: str, records: list[Record]) -> dict[str, str]:
    name = ", ".join(
        part for part in ("protocol", network_name(records[0]), what or seeds_of(records)) if part
    )
    return {
        "claim": row["claim"],
        "records": name,
        "ours": row["ours"],
        "rule": PROTOCOL.beside(records, row["claim"]),
    }
