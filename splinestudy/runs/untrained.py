"""Which runs without training a sweep has: criteria, variants, compensation, calibration batches, single layers."""

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


def sensitivity_runs(profile: Profile, dense: list[DenseRun]) -> list[SensitivityRun]:
    """One layer cut at a time."""
    return [SensitivityRun(run, SENSITIVE, 0.3) for run in dense]


def calibration_runs(profile: Profile, dense: list[DenseRun]) -> list[OneShotRun]:
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


def one_shot_runs(profile: Profile, dense: list[DenseRun]) -> list[OneShotRun]:
    """The profile's criteria and Model Folding."""
    return _layerwise(profile, dense, [(name, "none") for name in (*profile.criteria, "folding")])


def ablation_runs(profile: Profile, dense: list[DenseRun]) -> list[OneShotRun]:
    """Variants of the spline criterion."""
    names = ("spline", "spline_geometric", *names_of("variant"))
    return _layerwise(profile, dense, [(name, "none") for name in names])


def compensation_runs(profile: Profile, dense: list[DenseRun]) -> list[OneShotRun]:
    """Those of the profile's criteria that are :func:`compensated`, with either compensation."""
    hows: tuple[Compensate, ...] = ("least_squares", "merge")
    return _layerwise(profile, dense, [(name, how) for how in hows for name in compensated(profile)])


def _layerwise(
    profile: Profile, dense: list[DenseRun], methods: list[tuple[str, Compensate]]
) -> list[OneShotRun]:
    """Ratio by ratio, the two middle ones first; at each, seed by seed."""
    return [
        OneShotRun(run, name, "layerwise", ratio, how)
        for ratio in _middle_first(profile)
        for run in dense
        for name, how in methods
    ]


def global_compensation_runs(profile: Profile, dense: list[DenseRun]) -> list[OneShotRun]:
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
