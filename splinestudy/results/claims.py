"""The ledger of claims: what the committed records say about each, chapter by chapter, in rows for one table."""

from collections.abc import Callable, Mapping
from typing import Any

from splinelib.errors import SettingError
from splinestudy import results as tables
from splinestudy.notebook import committed_records, committed_store
from splinestudy.results import initialisation as verdict
from splinestudy.results import interpretation as verdicts
from splinestudy.runs import boundary as boundary_study
from splinestudy.runs import initialisation as winning
from splinestudy.runs import interpretation as reading
from splinestudy.runs.profiles import Profile, dense_runs, get_profile
from splinestudy.runs.records import Record
from splinestudy.runs.study_records import table
from splinestudy.runs.toy import pruning_claim

Rows = list[dict[str, str]]
Parameters = Mapping[str, Any]

SUCCESS = 0.95
"""Least test accuracy of a toy network that counts as a success, as in the chapter on initialisation."""

STARTS = ("initialisations", "scratch", "methods", "tickets")
"""Sweeps whose networks the comparison of starts takes together."""


WITHOUT_CRITERION = ("narrow", "ticket initial", "ticket early")
"""Ways to the shape of a layerwise cut that need no criterion, or only a mask: what papers forget to compare with."""


def claim_rows(claim: str, parameters: Parameters) -> Rows:
    """What the committed records say about ``claim``: rows of claim, paper, records, ours; none without records.

    Args:
        claim: ``"C1"`` to ``"C8"``.
        parameters: of a notebook, of which ``records`` names the folder (:func:`splinestudy.notebook.committed_store`).

    Raises:
        SettingError: for another claim.
    """
    if claim not in _CLAIMS:
        raise SettingError(f"claim is {claim!r}: choose one of {', '.join(_CLAIMS)}")
    return _CLAIMS[claim](parameters)


def start_records(parameters: Parameters) -> list[Record]:
    """Committed networks of the study by which starts are compared, each once."""
    study = get_profile("study")
    found = [record for sweep in STARTS for record in committed_records("prune", sweep, parameters, study)]
    return list({record.key: record for record in found if tables.is_start(record)}.values())


def dense_studies(parameters: Parameters) -> list[list[Record]]:
    """Committed dense networks whose partition was watched, network by network."""
    found = [committed_records("dense", "early_bird", parameters, profile) for profile in _study_profiles()]
    return [records for records in found if records]


def savings_studies(parameters: Parameters) -> list[list[Record]]:
    """Committed networks whose whole cost is compared, network by network; those studies that have early birds.

    The first holds also the narrow networks that were trained for as long as a lottery ticket costs.
    """
    found = [committed_records("prune", "savings", parameters, profile) for profile in _study_profiles()]
    found[0] += [
        record for record in start_records(parameters) if tables.method_name(record.settings) == "narrow long"
    ]
    return [group for group in found if any(record.settings.get("onward") for record in group)]


def same_shape(parameters: Parameters) -> list[Record]:
    """Committed networks of the study that end where every layer has lost the same share, whatever led there."""
    study = get_profile("study")
    sweeps = ("methods", "savings")
    found = [record for sweep in sweeps for record in committed_records("prune", sweep, parameters, study)]
    return list({record.key: record for record in found if record.settings["scope"] == "layerwise"}.values())


def _coin(parameters: Parameters) -> Rows:
    store, settings = committed_store(parameters), winning.get_studies("reference")
    found = [store.load(study) for study in (settings.kmeans, settings.regression, settings.toy)]
    rows = []
    loaded = [table(record) for record in found if record]
    if len(loaded) == len(found):
        means, fits, toy = loaded
        gains = verdict.all_gains(means, fits, toy.assign(success=toy["accuracy"] >= SUCCESS))
        rows += verdict.first_claim(gains, dict.fromkeys(("k-means", "regression", "toy"), "reference"))
    if starts := start_records(parameters):
        differences = tables.paired_differences(tables.starts_table(starts), criterion="narrow")
        rows.append(verdict.image_claim(differences, "study"))
    return [
        {
            "claim": "C1",
            "paper": "a large model pruned and a small one cleverly initialised are two sides of one coin",
            "records": f"{row['problem']}, profile {row['profile']}",
            "ours": f"*{row['C1']}*; "
            + "; ".join(
                f"{name.split(',')[0]}: {row[name]}" for name in row if name.endswith("random start")
            ),
        }
        for row in rows
    ]


def _pinpointed(parameters: Parameters) -> Rows:
    found = committed_store(parameters).load_all("toy")
    return [
        pruning_claim(record.results["pruning"], f"profile {record.provenance['profile']}")
        for record in found
    ]


def _contributing(parameters: Parameters) -> Rows:
    found = committed_store(parameters).load_all("boundary")
    rows = []
    if found:
        profile = f"profile {found[0].provenance['profile']}"
        rows += boundary_study.touching_claim(boundary_study.boundary_table(found), profile)
    if read := _read(parameters):
        rows.append(verdicts.touching_claim(read))
    return rows


def _settling(parameters: Parameters) -> Rows:
    rows = [tables.detection_claim(group) for group in dense_studies(parameters)]
    for watched in (get_profile("study", images=20_000), get_profile("breadth")):
        if settling := committed_records("settling", "settling", parameters, watched):
            draws, epochs = tables.draw_table(settling, watched), tables.schedule_table(settling, watched)
            rows.append(tables.settling_claim(settling, draws, epochs))
    if tickets := committed_records("prune", "tickets", parameters, get_profile("study")):
        early = tables.early_tickets(tables.pruning_table(tickets, "layerwise"))
        rows.append(tables.ticket_claim(tickets, early))
    return rows


def _criterion(claim: str, scope: str, name: str, parameters: Parameters) -> Rows:
    return [
        tables.study_claim(claim, study, tables.paired_differences(tables.pruning_table(study, scope)))
        for study in studies(name, parameters)
    ]


def _layerwise(parameters: Parameters) -> Rows:
    rows = _criterion("C5", "layerwise", "methods", parameters)
    if records := same_shape(parameters):
        table = tables.savings_table(records)
        differences = tables.paired_differences(
            table[table["criterion"].isin(("spline", *WITHOUT_CRITERION))]
        )
        rows.append(tables.pruning_claim("C5", records, differences))
    return rows


def studies(sweep: str, parameters: Parameters) -> list[list[Record]]:
    """Committed studies of methods, network by network; those with records."""
    found = [committed_records("prune", sweep, parameters, profile) for profile in _study_profiles()]
    return [records for records in found if records]


def _study_profiles() -> list[Profile]:
    """The networks of the committed studies: five on CIFAR-10, then one each on Fashion-MNIST and MNIST."""
    named = [get_profile(name) for name in ("study", "reference", "paper", "residual")]
    deep = get_profile("residual", arch="preresnet101", width=0.25, images=10_000)
    return [*named, deep, get_profile("breadth"), get_profile("breadth", dataset="mnist")]


def _savings(parameters: Parameters) -> Rows:
    return [
        tables.savings_claim(study, tables.savings_summary(tables.savings_table(study)))
        for study in savings_studies(parameters)
    ]


def _explained(parameters: Parameters) -> Rows:
    read = _read(parameters)
    if not read:
        return []
    return [
        verdicts.separation_claim(verdicts.correlation_table(verdicts.rows_table(read, "channels")), read)
    ]


def _read(parameters: Parameters) -> list[Record]:
    """The committed readings of trained networks."""
    planned, _ = reading.get_studies("reference", dense_runs(get_profile("reference", width=1 / 8)))
    return [record for record in map(committed_store(parameters).load, planned) if record]


_CLAIMS: dict[str, Callable[[Parameters], Rows]] = {
    "C1": _coin,
    "C2": _pinpointed,
    "C3": _contributing,
    "C4": _settling,
    "C5": _layerwise,
    "C6": lambda parameters: _criterion("C6", "global", "methods_flops", parameters),
    "C7": _savings,
    "C8": _explained,
}
