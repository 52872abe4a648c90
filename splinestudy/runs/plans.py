"""Which runs make up a sweep: dense runs, and what is pruned from them. All sweeps in one table, at the end."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from splinelib.checks import checked
from splinelib.errors import SettingError
from splinestudy.runs.dense import DenseRun, dense_runs, finetuning, slimming_runs
from splinestudy.runs.gpu import gpu_runs
from splinestudy.runs.methods import FRESH, names_of
from splinestudy.runs.pilot import pilot_runs
from splinestudy.runs.profiles import Profile
from splinestudy.runs.protocol import AT_START, protocol_runs
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.run import Run
from splinestudy.runs.schedules import SCHEDULES, settling_runs
from splinestudy.runs.tickets import MOMENTS, birds, tickets
from splinestudy.runs.untrained import (
    ablation_runs,
    calibration_runs,
    compensated,
    compensation_runs,
    global_compensation_runs,
    one_shot_runs,
    sensitivity_runs,
)
from splinestudy.training.settings import TrainSettings

EARLY_TICKET = MOMENTS[2]
"""The moment of those tickets whose price the narrow network is given as well."""


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


def _methods(profile: Profile) -> list[Run]:
    """Ratio by ratio, the middle one first, so that a study cut short compares all methods somewhere."""
    dense, slim = dense_runs(profile), slimming_runs(profile)
    runs: list[Run] = [*dense, *slim]
    how = {"scope": "layerwise"}
    for ratio in _middle_first(profile.ratios):
        part = dataclasses.replace(profile, ratios=(ratio,))
        runs += _tuned(part, dense, how, profile.criteria)
        runs += _tuned(part, slim, how, ("bn_scale",))
        runs += _tuned(part, dense, how | {"compensate": "least_squares"}, compensated(profile))
        runs += _tuned(part, dense, how | {"compensate": "merge"}, ("spline",))
        runs += _tuned(part, dense, how, names_of("procedure"))
    return runs


def _birds(profile: Profile) -> list[Run]:
    dense, slim = dense_runs(profile), slimming_runs(profile)
    return [
        *dense,
        *slim,
        *(one for ratio in _middle_first(profile.ratios) for one in birds(dense, slim, ratio)),
    ]


def _savings(profile: Profile) -> list[Run]:
    """Ratio by ratio, the middle one first."""
    dense, slim = dense_runs(profile), slimming_runs(profile)
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
        for run in dense:
            priced = _for_the_price(run.train, ratio, EARLY_TICKET, 1 / 2)
            runs.append(PruneRun(run, "random", "layerwise", ratio, priced, start="fresh"))
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


def _after_dense(make: Callable[[Profile, list[DenseRun]], Sequence[Run]]) -> Callable[[Profile], list[Run]]:
    """The dense runs of a profile, and what is made of them."""

    def runs(profile: Profile) -> list[Run]:
        dense = dense_runs(profile)
        return [*dense, *make(profile, dense)]

    return runs


# What the next six import needs numba or pandas, which a bare node of a cluster lacks.


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


def _readings(profile: Profile) -> list[Run]:
    from splinestudy.runs.interpretation import reading_runs

    networks = [*dense_runs(profile), *slimming_runs(profile)]
    return [*networks, *reading_runs(profile.size, networks)]


def _local_complexity(profile: Profile) -> list[Run]:
    from splinestudy.runs.interpretation import progress_runs

    return [*progress_runs(profile.size, profile.seeds)]


def _neighbours(profile: Profile) -> list[Run]:
    from splinestudy.runs.neighbours import neighbours_runs

    return [*(dense := dense_runs(profile)), *neighbours_runs(dense)]


@dataclass(frozen=True)
class Sweep:
    """What a sweep is about, and the runs of a profile that it consists of, dense runs first."""

    about: str
    runs: Callable[[Profile], Sequence[Run]]


def _pruned(scope: str) -> Callable[[Profile], list[Run]]:
    return _after_dense(lambda profile, dense: _tuned(profile, dense, {"scope": scope}, profile.criteria))


SWEEPS = {
    "early_bird": Sweep("dense runs alone", dense_runs),
    "settling": Sweep(
        "dense training on several schedules, watched on several canvases and with averaged weights",
        lambda profile: settling_runs(profile, SCHEDULES),
    ),
    "tickets": Sweep(
        "pruned at moments all along the dense run, each trained equally long afterwards",
        _after_dense(lambda profile, dense: tickets(dense, profile.ratios)),
    ),
    "birds": Sweep("early birds of both detectors, layerwise and globally, with all their training", _birds),
    "savings": Sweep(
        "early birds, pruning at initialisation, lottery tickets, the narrow network, pruning at the end, tickets with "
        "a schedule of their own, the widths of the global spline early bird with new weights, and the narrow network "
        "for the price of an early ticket; every one with all its training",
        _savings,
    ),
    "layerwise": Sweep("the profile's criteria, layerwise; prune, measure, fine-tune", _pruned("layerwise")),
    "global": Sweep("the profile's criteria, globally; prune, measure, fine-tune", _pruned("global")),
    "methods": Sweep(
        "all methods layerwise: the profile's criteria, some with least squares, the spline criterion with merging, "
        "network slimming, Model Folding, soft filter pruning",
        _methods,
    ),
    "scratch": Sweep(
        "the pruned shape trained from the initial, the early, and from new weights, on the dense schedule",
        _after_dense(_scratch),
    ),
    "initialisations": Sweep(
        "the narrow network with clever starts, and trained for as long as the operations of a lottery ticket last",
        _after_dense(_initialisations),
    ),
    "one_shot": Sweep(
        "no training, at the profile's curve of ratios: its criteria and Model Folding",
        _after_dense(one_shot_runs),
    ),
    "compensation": Sweep(
        "no training: criteria with least squares and with merging", _after_dense(compensation_runs)
    ),
    "compensation_global": Sweep(
        "no training: least squares in global scope, by units and by the FLOPs of the layerwise cut",
        _after_dense(global_compensation_runs),
    ),
    "calibration": Sweep(
        "no training: least squares with fewer and with more images than elsewhere",
        _after_dense(calibration_runs),
    ),
    "ablation": Sweep("no training: variants of the spline criterion", _after_dense(ablation_runs)),
    "sensitivity": Sweep("no training, one layer cut at a time", _after_dense(sensitivity_runs)),
    "core": Sweep("the protocol's core methods layerwise, ratio by ratio", partial(protocol_runs, "core")),
    "core_flops": Sweep(
        "the protocol's core methods globally at equal FLOPs, and at one allocation",
        partial(protocol_runs, "core_flops"),
    ),
    "paper_era": Sweep(
        "core, and every other method of the paper's time, layerwise", partial(protocol_runs, "paper_era")
    ),
    "like_for_like": Sweep(
        "the protocol's core methods layerwise, all with least squares, and today's methods",
        partial(protocol_runs, "like_for_like"),
    ),
    "early": Sweep(
        "the protocol's early birds of both detectors, and tickets of one ratio at moments all along the dense run and "
        "where the partition's detector drew",
        partial(protocol_runs, "early"),
    ),
    "gpu": Sweep(
        "dense networks, early birds and what is pruned at the end, at one ratio, on two networks", gpu_runs
    ),
    "toy": Sweep("the two-dimensional toy", _toy),
    "boundary": Sweep("who touches the decision boundary on slices through images", _boundary),
    "neighbours": Sweep(
        "dense networks, and how nearly the closest boundaries of their layers coincide", _neighbours
    ),
    "initialisation": Sweep("k-means, fits of one variable, and the toy at small widths", _initialisation),
    "readings": Sweep(
        "dense networks, with and without network slimming's penalty on scales, read through their partition",
        _readings,
    ),
    "local_complexity": Sweep(
        "how many boundaries pass near images while a network trains, one training for each seed",
        _local_complexity,
    ),
    "pilot": Sweep(
        "dense runs by variants of the profile's recipe, and fine-tuning of several lengths", pilot_runs
    ),
}
"""Every sweep by its name. Order within a sweep is the order of computing: cut short, it leaves whole comparisons."""


@checked
def plan(sweep: str, profile: Profile) -> list[Run]:
    """The runs of a sweep of :data:`SWEEPS`, dense runs first. Raises :class:`SettingError` for another name."""
    if sweep not in SWEEPS:
        raise SettingError(f"sweep is {sweep!r}: choose one of {', '.join(SWEEPS)}")
    return [*SWEEPS[sweep].runs(profile)]
