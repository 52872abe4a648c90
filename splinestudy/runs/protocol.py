"""The runs of the study (``book/protocol.md``), in the order in which every stop leaves whole comparisons."""

from dataclasses import replace
from typing import Any, Final

from splinelib.pruning.pipeline import Compensate
from splinestudy.runs.dense import DenseRun, dense_runs, finetuning, slimming_runs
from splinestudy.runs.profiles import Profile
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.run import Run
from splinestudy.runs.tickets import detected_ticket, early_birds, tickets
from splinestudy.runs.untrained import flops_share

RATIOS = (0.5, 0.7, 0.3)
"""In the order in which they are computed."""

CORE = ("spline", "l1", "random", "fpgm", "bn_scale", "taylor", "thinet")
"""Choices of units in the trained dense network; network slimming is one more, in a network trained for it."""

READINGS = ("spline unfolded", "spline geometric rho=0.2")
"""Readings of the paper's criterion that stand beside the raw one: those two that did best in the pilot."""

OTHERS = ("l2",)
"""Further choices of the paper's time."""

ALLOCATION = "l1"
"""Whose widths all choices get where they share one allocation in global scope."""

NORMALISATIONS: Final = ("rank", "none", "flops")
"""Of the spline scores in global scope, beside the layer's mean, by which the claim is judged."""

TODAY: tuple[tuple[str, Compensate], ...] = (("reconstruction", "least_squares"), ("folding", "none"))
"""Methods that appeared since, with what each does about the removed units."""

AT_START = ("snip", "grasp", "synflow")
"""Choices made before training; their networks are trained on the dense network's whole schedule."""


def protocol_runs(sweep: str, profile: Profile) -> list[Run]:
    """The runs of ``core``, ``core_flops``, ``paper_era``, ``like_for_like`` or ``early``.

    Ratio by ratio, those of :data:`RATIOS` that the profile has, in each seed by seed, the core methods before the
    others.
    """
    pairs = list(zip(dense_runs(profile), slimming_runs(profile), strict=True))
    runs: list[Run] = []
    if sweep == "early":
        for dense, slim in pairs:
            runs += [dense, slim, *_early(dense, slim)]
        return runs
    ratios = [ratio for ratio in RATIOS if ratio in profile.ratios]
    for ratio in ratios:
        for dense, slim in pairs:
            core = _core(sweep, profile, dense, slim, ratio)
            runs += [dense, slim, *(_solved(core) if sweep == "like_for_like" else core)]
    for ratio in ratios if sweep == "paper_era" else ():
        for dense, _ in pairs:
            runs += _others(profile, dense, ratio)
    for dense, slim in pairs if sweep == "core_flops" else ():
        runs += _common(profile, dense, slim)
    return list(dict.fromkeys(runs))


def _early(dense: DenseRun, slim: DenseRun) -> list[PruneRun]:
    """What claims C4 and C7 take: both early birds at every ratio, tickets of the first, the narrow network at each."""
    found: list[PruneRun] = []
    for ratio in RATIOS:
        found += early_birds([dense], "spline", "spline", ratio, "layerwise")
        found += early_birds([slim], "mask", "bn_scale", ratio, "layerwise")
    narrow = [PruneRun(dense, "random", "layerwise", ratio, dense.train, start="fresh") for ratio in RATIOS]
    return [*found, detected_ticket(dense, RATIOS[0]), *tickets([dense], RATIOS[:1], ("spline",)), *narrow]


def _core(sweep: str, profile: Profile, dense: DenseRun, slim: DenseRun, ratio: float) -> list[PruneRun]:
    how: dict[str, Any] = {"scope": "layerwise", "ratio": ratio}
    if sweep == "core_flops":  # about what the layerwise cut takes
        how = {"scope": "global", "ratio": flops_share(ratio), "ratio_of": "flops"}

    def tuned(run: DenseRun, criterion: str) -> PruneRun:
        return PruneRun(run, criterion, finetune=finetuning(profile, run), **how)

    return [
        *(tuned(dense, criterion) for criterion in CORE),
        tuned(slim, "bn_scale"),
        *(tuned(dense, criterion) for criterion in READINGS),
    ]


def _solved(core: list[PruneRun]) -> list[PruneRun]:
    """Every choice of units with least squares behind it, and today's methods; the criterion by one reading."""
    choices = [run for run in core if run.criterion not in READINGS]
    return [
        *(replace(run, compensate="least_squares") for run in choices),
        *(replace(core[0], criterion=name, compensate=how) for name, how in TODAY),
    ]


def _common(profile: Profile, dense: DenseRun, slim: DenseRun) -> list[PruneRun]:
    """At the first ratio every choice at the widths of one criterion, and the paper's by other normalisations."""
    own = _core("core_flops", profile, dense, slim, RATIOS[0])
    return [
        *(replace(run, allocation=ALLOCATION) for run in own if run.criterion != ALLOCATION),
        *(replace(run, normalize=how) for run in own if run.criterion == "spline" for how in NORMALISATIONS),
    ]


def _others(profile: Profile, dense: DenseRun, ratio: float) -> list[PruneRun]:
    """L2 norm; what chooses before training, trained as long; on the small network also soft filter pruning, once.

    Which is run to show why it is not compared: on this schedule it is not what its authors meant.
    """
    soft = ("sfp",) if dense.arch == "simple_cnn" and dense.seed == profile.seeds[0] == 0 else ()
    return [
        *(PruneRun(dense, name, "layerwise", ratio, finetuning(profile, dense)) for name in OTHERS),
        *(PruneRun(dense, name, "layerwise", ratio, dense.train, draw=0) for name in (*AT_START, *soft)),
    ]
