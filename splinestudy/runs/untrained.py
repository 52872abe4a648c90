"""Runs without any training: networks of dense runs pruned and measured as they are, whole or one layer at a time."""

from splinelib.pruning.pipeline import Compensate
from splinelib.pruning.selection import RatioOf
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.methods import METHODS, names_of
from splinestudy.runs.one_shot import OneShotRun, SensitivityRun
from splinestudy.runs.profiles import Profile

SENSITIVE = ("spline", "spline same_side", "l1", "random")
"""By which single layers are cut: the paper's criterion, with and without pairs that face opposite ways, and others."""


CALIBRATION_IMAGES = (100, 300, 1000, 3000)
"""Sizes of the calibration batch that least squares is tried with."""


def untrained_runs(
    sweep: str, profile: Profile, dense: list[DenseRun]
) -> list[OneShotRun] | list[SensitivityRun]:
    """The runs of a sweep of which only the dense runs train: ``one_shot`` and those behind it in the plans' list.

    See :func:`splinestudy.runs.plans.plan`.
    """
    if sweep == "sensitivity":
        return [SensitivityRun(run, SENSITIVE, 0.3) for run in dense]
    if sweep == "compensation_global":
        return _globally(profile, dense)
    if sweep == "calibration":
        return _by_images(profile, dense)
    return _layerwise(sweep, profile, dense)


def _by_images(profile: Profile, dense: list[DenseRun]) -> list[OneShotRun]:
    """Units chosen at random and by what re-solving would cost, at the two middle ratios."""
    return [
        OneShotRun(run, name, "layerwise", ratio, "least_squares", images=images)
        for ratio in _middle_first(profile)[:2]
        for run in dense
        for images in CALIBRATION_IMAGES
        for name in ("random", "reconstruction")
    ]


def _middle_first(profile: Profile) -> list[float]:
    return sorted(profile.curve, key=lambda ratio: abs(ratio - 0.4))


def compensated(profile: Profile) -> tuple[str, ...]:
    """The profile's criteria that are compared with compensation."""
    return tuple(name for name in profile.criteria if METHODS[name].compensated)


def flops_share(ratio: float) -> float:
    """The share of FLOPs that layers lose, about, where each loses ``ratio`` of its units."""
    return round(1 - (1 - ratio) ** 2, 2)


def _layerwise(sweep: str, profile: Profile, dense: list[DenseRun]) -> list[OneShotRun]:
    """Ratio by ratio, the two middle ones first; at each, seed by seed."""
    methods: list[tuple[str, Compensate]]
    if sweep == "one_shot":
        methods = [(name, "none") for name in (*profile.criteria, "folding")]
    elif sweep == "ablation":
        methods = [(name, "none") for name in ("spline", "spline_geometric", *names_of("variant"))]
    else:
        methods = [(name, "least_squares") for name in compensated(profile)]
        methods += [(name, "merge") for name in compensated(profile)]
    return [
        OneShotRun(run, name, "layerwise", ratio, how)
        for ratio in _middle_first(profile)
        for run in dense
        for name, how in methods
    ]


def _globally(profile: Profile, dense: list[DenseRun]) -> list[OneShotRun]:
    """The two middle ratios first, by units and by FLOPs."""
    shares: list[tuple[float, RatioOf]] = [
        share
        for ratio in _middle_first(profile)
        for share in ((ratio, "units"), (flops_share(ratio), "flops"))
    ]
    return [
        OneShotRun(run, name, "global", ratio, "least_squares", ratio_of)
        for ratio, ratio_of in shares
        for run in dense
        for name in compensated(profile)
    ]
