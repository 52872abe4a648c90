"""The runs of the chapter on initialisation: k-means, fits of one variable, and the toy at small widths."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch

from splinelib.checks import Count, NonNegative, Positive, check, check_fields
from splinelib.errors import SettingError
from splinestudy.analysis import kmeans, piecewise
from splinestudy.analysis.toy import ToySettings
from splinestudy.analysis.toy_widths import width_rows
from splinestudy.runs.columns import columns
from splinestudy.runs.run import Run
from splinestudy.runs.store import RecordStore


@dataclass(frozen=True)
class KMeansRun:
    """K-means from different starts.

    Attributes:
        centres: Gaussians in the plane, and centres fitted to them.
        points_each: points drawn from each Gaussian.
        spread: their standard deviation.
        apart: least distance of two means.
        factors: pruned fits start from so many times ``centres``; 1 is the plain random start.
        seeds: mixtures 0 … seeds - 1, one fit of every kind on each.
    """

    kind: ClassVar[str] = "kmeans"
    factors: tuple[int, ...]
    seeds: Count
    centres: Count = 64
    points_each: Count = 40
    spread: NonNegative = 0.012
    apart: NonNegative = 0.06

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.factors or min(self.factors) < 1 or max(self.factors) > self.points_each:
            raise SettingError(f"factors are {self.factors}: give whole numbers from 1 to {self.points_each}")

    def needs(self, store: RecordStore) -> Sequence[Run]:
        """Nothing."""
        return ()

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """``rows``, a list for each column."""
        return {"rows": columns(_kmeans_rows(self))}


@dataclass(frozen=True)
class RegressionRun:
    """Continuous piecewise linear fits of three functions of one variable.

    Attributes:
        widths: units of the small networks.
        wide: units of the large ones.
        seeds: networks of each kind, width and target.
        points: equally spaced training points on [-1, 1].
        steps: training steps of a large network, and of a pruned one after pruning; small ones take twice as many.
        lr: Adam's rate at the start.
    """

    kind: ClassVar[str] = "regression"
    widths: tuple[int, ...]
    seeds: Count
    steps: Count
    wide: Count = 64
    points: Count = 256
    lr: Positive = 0.01

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.widths or min(self.widths) < 2 or max(self.widths) > self.wide:
            raise SettingError(f"widths are {self.widths}: give whole numbers from 2 to {self.wide}")

    def needs(self, store: RecordStore) -> Sequence[Run]:
        """Nothing."""
        return ()

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """``rows``, a list for each column."""
        return {"rows": columns(regression_rows(self))}


@dataclass(frozen=True)
class ToyInitRun:
    """The X-shaped problem at small widths.

    Attributes:
        widths: hidden units of the small networks.
        toy: settings of the problem, of the large networks and of training.
    """

    kind: ClassVar[str] = "toy_init"
    widths: tuple[int, ...]
    toy: ToySettings

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or max(self.widths) > self.toy.hidden:
            raise SettingError(f"widths are {self.widths}: give whole numbers from 1 to {self.toy.hidden}")

    def needs(self, store: RecordStore) -> Sequence[Run]:
        """Nothing."""
        return ()

    def compute(self, store: RecordStore, device: torch.device, progress: bool) -> dict[str, Any]:
        """``rows``, a list for each column."""
        return {"rows": columns(width_rows(self.widths, self.toy))}


_SIZES: MappingProxyType[str, tuple[ToyInitRun, RegressionRun, KMeansRun]] = MappingProxyType(
    {
        "smoke": (
            ToyInitRun(widths=(4, 8), toy=ToySettings(runs=3, epochs=50)),
            RegressionRun(widths=(4, 8), seeds=3, steps=200, wide=32),
            KMeansRun(factors=(1, 2, 4), seeds=3, points_each=20),
        ),
        "quick": (
            ToyInitRun(widths=(3, 4, 6, 10), toy=ToySettings(runs=10, epochs=200)),
            RegressionRun(widths=(4, 8, 16), seeds=6, steps=1000),
            KMeansRun(factors=(1, 2, 4, 8), seeds=6),
        ),
        "reference": (
            ToyInitRun(widths=(2, 3, 4, 5, 6, 8, 10, 14), toy=ToySettings(runs=20)),
            RegressionRun(widths=(4, 6, 8, 12, 16, 24), seeds=50, steps=2000),
            KMeansRun(factors=(1, 2, 4, 8, 16), seeds=100),
        ),
    }
)


def initialisation_runs(size: str, seeds: int | None = None) -> tuple[ToyInitRun, RegressionRun, KMeansRun]:
    """The three runs, as large as ``size`` says; ``seeds`` replaces the number of seeds of each.

    Raises:
        SettingError: a number of seeds below 1.
    """
    toy, regression, kmeans = _SIZES[size]
    if seeds is None:
        return toy, regression, kmeans
    check("seeds", seeds, Count)
    return (
        dataclasses.replace(toy, toy=dataclasses.replace(toy.toy, runs=seeds)),
        dataclasses.replace(regression, seeds=seeds),
        dataclasses.replace(kmeans, seeds=seeds),
    )


def _kmeans_rows(study: KMeansRun) -> list[dict[str, Any]]:
    rows = []
    for seed in range(study.seeds):
        mixture = kmeans.gaussian_mixture(study.centres, study.points_each, study.spread, study.apart, seed)
        rows += kmeans.kmeans_rows(kmeans.compare_starts(mixture, study.factors, seed), seed)
    return rows


REGRESSION_STARTS = ("random", "random, fitted", "knots", "pruned by cost", "pruned by spline")


def regression_nets(study: RegressionRun, width: int, wide: piecewise.Nets) -> dict[str, piecewise.Nets]:
    """Trained small networks of ``width`` units from every start; ``wide`` are the trained large ones.

    Each holds ``seeds`` networks for each target, one target after the other. All starts but ``random`` have their
    outer weights fitted by least squares before they train.
    """
    x, y = samples(study)
    generator = torch.Generator().manual_seed(7_000_000 + width)
    random = piecewise.random_nets(len(y), width, generator)
    starts = {
        "random": random,
        "random, fitted": piecewise.fit_outer(random, x, y),
        "knots": piecewise.fit_outer(piecewise.knot_nets(piecewise.curvature_knots(x, y, width)), x, y),
        "pruned by cost": piecewise.fit_outer(wide.units(piecewise.cheapest_units(wide, x, y, width)), x, y),
        "pruned by spline": piecewise.fit_outer(wide.units(piecewise.spline_units(wide, width)), x, y),
    }
    return {
        name: piecewise.train_nets(
            nets, x, y, study.steps if name.startswith("pruned") else 2 * study.steps, study.lr
        )
        for name, nets in starts.items()
    }


def wide_nets(study: RegressionRun) -> piecewise.Nets:
    """The trained large networks, ``seeds`` for each target."""
    x, y = samples(study)
    fresh = piecewise.random_nets(len(y), study.wide, torch.Generator().manual_seed(7_000_000))
    return piecewise.train_nets(fresh, x, y, study.steps, study.lr)


def samples(study: RegressionRun) -> tuple[torch.Tensor, torch.Tensor]:
    """Training points ``[P]`` and values ``[targets · seeds, P]``."""
    x = torch.linspace(-1, 1, study.points, dtype=torch.float64)
    return x, torch.stack([piecewise.TARGETS[name](x) for name in _names(study)])


def _names(study: RegressionRun) -> list[str]:
    return [name for name in piecewise.TARGETS for _ in range(study.seeds)]


def regression_rows(study: RegressionRun) -> list[dict[str, Any]]:
    """One row for each network: target, start, width, seed, relative error; start ``wide`` for the large ones."""
    wide = wide_nets(study)
    results = [("wide", study.wide, wide)]
    for width in study.widths:
        results += [(name, width, nets) for name, nets in regression_nets(study, width, wide).items()]
    rows = []
    for start, width, nets in results:
        errors = piecewise.relative_error(nets, _names(study)).tolist()
        for number, (target, error) in enumerate(zip(_names(study), errors, strict=True)):
            seed = number % study.seeds
            rows.append({"target": target, "start": start, "width": width, "seed": seed, "error": error})
    return rows
