"""Which runs make up a sweep: dense runs, and what is pruned from them. All lists in one readable place."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from splinelib.checks import checked
from splinelib.errors import SettingError
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.gpu import gpu_runs
from splinestudy.runs.methods import FRESH, names_of
from splinestudy.runs.pilot import pilot_runs
from splinestudy.runs.profiles import Profile, dense_runs, finetuning, slimming_runs
from splinestudy.runs.protocol import protocol_runs
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.run import Run
from splinestudy.runs.schedules import SCHEDULES, chosen_schedules, settling_runs
from splinestudy.runs.tickets import MOMENTS, birds, tickets
from splinestudy.runs.untrained import compensated, flops_share, untrained_runs
from splinestudy.training.trainer import TrainSettings

SWEEPS = (
    "early_bird",
    "settling",
    "tickets",
    "birds",
    "savings",
    "layerwise",
    "global",
    "methods",
    "methods_global",
    "methods_flops",
    "scratch",
    "initialisations",
    "one_shot",
    "compensation",
    "compensation_global",
    "calibration",
    "ablation",
    "sensitivity",
    "core",
    "core_flops",
    "paper_era",
    "early",
    "gpu",
    "toy",
    "boundary",
    "initialisation",
    "interpretation",
    "pilot",
)

METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "methods": {"scope": "layerwise"},
    "methods_global": {"scope": "global"},
    "methods_flops": {"scope": "global", "ratio_of": "flops"},
}
"""What the sweeps that compare all methods set."""


@checked
def plan(sweep: str, profile: Profile, schedules: Iterable[str] = SCHEDULES) -> list[Run]:
    """The runs of a sweep, dense runs first; ``schedules`` thins ``settling`` to some of :data:`.SCHEDULES`.

    * ``early_bird``: dense runs alone.
    * ``settling``: dense training on several schedules, watched on several canvases and with averaged weights.
    * ``tickets``: pruned at moments all along the dense run, each trained equally long afterwards.
    * ``birds``: early birds of both detectors, layerwise and globally, with all their training.
    * ``savings``: the same, pruning at initialisation, lottery tickets, the narrow network, pruning at the end, tickets
      with a schedule of their own, the widths of the global spline early bird with new weights, and the narrow network
      for the price of an early ticket; every one with all its training.
    * ``layerwise``, ``global``: the profile's criteria; prune, measure, fine-tune.
    * ``methods``, ``methods_global``, ``methods_flops``: layerwise, globally, and globally at equal FLOPs (those of the
      layerwise cut, about: a share ``1 - (1 - ratio)²`` is removed); the profile's criteria, those of them that are
      :func:`.compensated` with least squares, the spline criterion with merging, network slimming, and layerwise also
      Model Folding and soft filter pruning.
    * ``scratch``: the pruned shape trained from the initial, the early, and from new weights, on the dense schedule.
    * ``initialisations``: the narrow network with clever starts, and trained for as long as the operations of a
      lottery ticket last.
    * ``one_shot``, ``compensation``, ``ablation``: no training, at the profile's ``curve`` of ratios; its criteria and
      Model Folding, those that are :func:`.compensated` with either compensation, variants of the spline criterion.
    * ``compensation_global``: those with least squares in global scope, by units and by the FLOPs of the layerwise cut.
    * ``calibration``: least squares with fewer and with more images than elsewhere, at the two middle ratios.
    * ``sensitivity``: no training, one layer cut at a time.
    * ``core``, ``core_flops``, ``paper_era``: the study of the protocol, seed by seed: the core methods
      layerwise, globally at equal FLOPs, and with them every other one of the paper's time, layerwise.
    * ``early``: its early birds of both detectors at the same ratios, and tickets of one ratio at moments all along the
      dense run and where the partition's detector drew.
    * ``gpu``: dense networks, early birds and what is pruned at the end, at one ratio, on two networks.
    * ``toy``: the two-dimensional toy; ``boundary``: who touches the decision boundary on slices through images;
      ``initialisation``: k-means, fits of one variable, and the toy at small widths; ``interpretation``: networks of
      the dense runs read through their partition, and one more training watched for each seed.
    * ``pilot``: dense runs by variants of the profile's recipe, and fine-tuning of several lengths.

    Raises :class:`SettingError` for another name.
    """
    if sweep not in SWEEPS:
        raise SettingError(f"sweep is {sweep!r}: choose one of {', '.join(SWEEPS)}")
    if sweep in _ELSEWHERE:
        return _ELSEWHERE[sweep](profile)
    dense = dense_runs(profile)
    if sweep == "early_bird":
        return [*dense]
    if sweep == "gpu":
        return gpu_runs(profile)
    if sweep in ("core", "core_flops", "paper_era", "early"):
        return protocol_runs(sweep, profile)
    if sweep == "pilot":
        return [*pilot_runs(profile)]
    if sweep == "settling":
        return [*settling_runs(profile, chosen_schedules(schedules))]
    if sweep == "tickets":
        return [*dense, *tickets(dense, profile.ratios)]
    if sweep == "birds":
        slim = slimming_runs(profile)
        ratios = _middle_first(profile.ratios)
        return [*dense, *slim, *(bird for ratio in ratios for bird in birds(dense, slim, ratio))]
    if sweep == "savings":
        return _savings(profile, dense)
    if sweep in ("layerwise", "global"):
        return [*dense, *_tuned(profile, dense, {"scope": sweep}, profile.criteria)]
    if sweep in METHOD_SETTINGS:
        part = _by_flops(profile) if sweep == "methods_flops" else profile
        return _methods(part, dense, METHOD_SETTINGS[sweep])
    if sweep == "initialisations":
        return [*dense, *_initialisations(profile, dense)]
    if sweep == "scratch":
        return [*dense, *_scratch(profile, dense)]
    return [*dense, *untrained_runs(sweep, profile, dense)]


def _toy(profile: Profile) -> list[Run]:
    from splinestudy.analysis.toy import toy_settings
    from splinestudy.runs.toy import ToyRun

    return [ToyRun(toy_settings(profile.size))]


def _boundary(profile: Profile) -> list[Run]:
    from splinestudy.runs.boundary import boundary_runs

    return [*boundary_runs(profile)]


def _initialisation(profile: Profile) -> list[Run]:
    from splinestudy.runs.initialisation import initialisation_runs

    return [*initialisation_runs(profile.size)]


def _interpretation(profile: Profile) -> list[Run]:
    from splinestudy.runs.interpretation import interpretation_runs

    return [*interpretation_runs(profile.size, dense_runs(profile))]


# What these import needs numba or pandas, which a bare node of a cluster lacks.
_ELSEWHERE: dict[str, Callable[[Profile], list[Run]]] = {
    "toy": _toy,
    "boundary": _boundary,
    "initialisation": _initialisation,
    "interpretation": _interpretation,
}

EARLY_TICKET = MOMENTS[2]
"""The moment of those tickets whose price the narrow network is given as well."""

AT_START = ("snip", "synflow", "grasp")
"""Criteria made for untrained networks."""


def _tuned(
    profile: Profile, dense: list[DenseRun], settings: dict[str, Any], criteria: tuple[str, ...]
) -> list[PruneRun]:
    """Pruned and fine-tuned, seed by seed, so that a sweep cut short has whole seeds."""
    return [
        PruneRun(dense=run, criterion=criterion, ratio=ratio, finetune=finetuning(profile, run), **settings)
        for run in dense
        for ratio in profile.ratios
        for criterion in criteria
    ]


def _by_flops(profile: Profile) -> Profile:
    """The shares of FLOPs that layers lose, about, where each loses the profile's ratios of its units."""
    return dataclasses.replace(profile, ratios=tuple(flops_share(ratio) for ratio in profile.ratios))


def _methods(profile: Profile, dense: list[DenseRun], how: dict[str, Any]) -> list[Run]:
    """Ratio by ratio, the middle one first, so that a study cut short compares all methods somewhere."""
    slim = slimming_runs(profile)
    runs: list[Run] = [*dense, *slim]
    for ratio in _middle_first(profile.ratios):
        part = dataclasses.replace(profile, ratios=(ratio,))
        runs += _tuned(part, dense, how, profile.criteria)
        runs += _tuned(part, slim, how, ("bn_scale",))
        runs += _tuned(part, dense, how | {"compensate": "least_squares"}, compensated(profile))
        runs += _tuned(part, dense, how | {"compensate": "merge"}, ("spline",))
        if how["scope"] == "layerwise":
            runs += _tuned(part, dense, how, names_of("procedure"))
    return runs


def _savings(profile: Profile, dense: list[DenseRun]) -> list[Run]:
    """Ratio by ratio, the middle one first."""
    slim = slimming_runs(profile)
    runs: list[Run] = [*dense, *slim]
    for ratio in _middle_first(profile.ratios):
        part = dataclasses.replace(profile, ratios=(ratio,))
        runs += birds(dense, slim, ratio)
        runs += _scratch(part, dense)
        runs += _tuned(part, dense, {"scope": "layerwise"}, ("spline",))
        runs += _tuned(part, slim, {"scope": "layerwise"}, ("bn_scale",))
        for criterion in AT_START:
            runs += [PruneRun(run, criterion, "layerwise", ratio, run.train, draw=0) for run in dense]
        runs += tickets(dense, (ratio,), ("spline",), (EARLY_TICKET, 1 / 2, 1))
        runs += _reborn(dense, ratio)
        runs += [
            PruneRun(
                run,
                "random",
                "layerwise",
                ratio,
                _for_the_price(run.train, ratio, EARLY_TICKET, 1 / 2),
                start="fresh",
            )
            for run in dense
        ]
    return list(dict.fromkeys(runs))  # where little is cut, the longer training is the standard one


def _reborn(dense: list[DenseRun], ratio: float) -> list[PruneRun]:
    """The widths of the global early bird with new weights on the dense schedule: is it the shape that counts?

    The layerwise shape with new weights is the narrow network.
    """
    return [
        PruneRun(run, "spline", "global", ratio, run.train, draw="spline", start="fresh") for run in dense
    ]


def _middle_first(ratios: tuple[float, ...]) -> list[float]:
    middle = ratios[len(ratios) // 2]
    return sorted(ratios, key=lambda ratio: abs(ratio - middle))


def _scratch(profile: Profile, dense: list[DenseRun]) -> list[PruneRun]:
    """Lottery tickets (rewound to initial or early weights) and the narrower network, on the dense run's schedule."""
    return [
        PruneRun(run, "random" if start == "fresh" else "l1", "layerwise", ratio, run.train, start=start)
        for ratio in profile.ratios
        for run in dense
        for start in ("initial", "early", "fresh")
    ]


def _initialisations(profile: Profile, dense: list[DenseRun]) -> list[PruneRun]:
    """The narrow network from scratch; its clever starts on the same schedule; and its long training at last."""
    return [
        PruneRun(run, "random", "layerwise", ratio, train, start=start)
        for start, longer in (*((start, False) for start in FRESH), ("fresh", True))
        for ratio in _middle_first(profile.ratios)
        for run in dense
        for train in [_for_the_price(run.train, ratio) if longer else run.train]
    ]


def _for_the_price(
    standard: TrainSettings, ratio: float, dense: float = 1, ticket: float = 1
) -> TrainSettings:
    """A schedule on which a network without ``ratio`` of its units costs as much as a ticket with its dense training.

    Both are trained for that share of the standard schedule. Where every layer loses the same share of its units, the
    operations of a step fall by the square of what is kept, about.
    """
    shares = ticket + dense / (1 - ratio) ** 2
    return dataclasses.replace(standard, epochs=max(1, round(shares * standard.epochs)))
