"""K-means as a model of pruning: many random centres, thinned to K, against K centres started in different ways."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, kmeans_plusplus

from splinelib.errors import SettingError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TRIES = 10_000  # draws of one mean before the plane counts as full
_ITERATIONS = 300


@dataclass(frozen=True, eq=False)
class Mixture:
    """Points ``[N, 2]`` drawn from Gaussians of equal weight and spread around ``means [K, 2]`` in the unit square."""

    points: Floats
    means: Floats
    spread: float


def gaussian_mixture(count: int, points_each: int, spread: float, apart: float, seed: int) -> Mixture:
    """``count`` Gaussians with means uniform in the unit square, no two of them nearer than ``apart``.

    Args:
        points_each: points drawn from each Gaussian.
        spread: standard deviation along both axes.

    Raises:
        SettingError: the square has no room for so many means so far apart.
    """
    generator = np.random.default_rng((3, seed))
    means = np.empty((0, 2))
    tries = 0
    while len(means) < count:
        mean = generator.uniform(0, 1, 2)
        if not len(means) or np.linalg.norm(means - mean, axis=1).min() >= apart:
            means, tries = np.vstack([means, mean]), 0
        tries += 1
        if tries > _TRIES:
            raise SettingError(f"count={count} means do not fit apart={apart}: lower one of the two")
    noise = generator.normal(0, spread, (count, points_each, 2))
    return Mixture((means[:, None] + noise).reshape(-1, 2), means, spread)


def fit_centres(points: Floats, start: Floats) -> tuple[Floats, float]:
    """Lloyd's algorithm from the centres ``start [K, 2]``: centres, and the mean squared distance to the nearest."""
    fit = KMeans(len(start), init=start, n_init=1, max_iter=_ITERATIONS).fit(points)
    return fit.cluster_centers_.astype(np.float64), float(fit.inertia_ / len(points))


def random_start(points: Floats, count: int, generator: np.random.Generator) -> Floats:
    """``count`` different points."""
    if count > len(points):
        raise SettingError(f"{count} centres for {len(points)} points: take fewer centres or more points")
    return points[generator.choice(len(points), count, replace=False)]


def drop_centres(points: Floats, centres: Floats, keep: int) -> Ints:
    """Thin ``centres [C, 2]`` to ``keep`` of them, again and again without the one whose removal costs least.

    Removing a centre costs the rise of the summed squared distance when its points go to their second-nearest centre.
    Centres do not move meanwhile. Returns the indices kept, ascending.
    """
    if not 1 <= keep <= len(centres):
        raise SettingError(f"keep is {keep} of {len(centres)} centres: give 1 to {len(centres)}")
    squared = ((points[:, None] - centres) ** 2).sum(axis=2)
    present = np.ones(len(centres), dtype=bool)
    nearest, gap = _two_nearest(squared)
    cost = np.bincount(nearest[:, 0], gap, len(centres))
    for _ in range(len(centres) - keep):
        fall = int(np.where(present, cost, np.inf).argmin())
        present[fall] = False
        squared[:, fall] = np.inf
        moved = np.flatnonzero((nearest == fall).any(axis=1))
        if len(moved) and present.sum() > 1:
            np.subtract.at(cost, nearest[moved, 0], gap[moved])
            nearest[moved], gap[moved] = _two_nearest(squared[moved])
            np.add.at(cost, nearest[moved, 0], gap[moved])
    return np.flatnonzero(present)


def _two_nearest(squared: Floats) -> tuple[Ints, Floats]:
    """For each row the columns of its two smallest entries, and the difference of the two."""
    if squared.shape[1] == 1:
        return np.zeros((len(squared), 2), dtype=np.int64), np.zeros(len(squared))
    two = np.argpartition(squared, 1, axis=1)[:, :2]
    values = np.take_along_axis(squared, two, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    values = np.take_along_axis(values, order, axis=1)
    return np.take_along_axis(two, order, axis=1), values[:, 1] - values[:, 0]


def missed_means(mixture: Mixture, centres: Floats) -> Floats:
    """Those means of the mixture ``[M, 2]`` that have no centre within three standard deviations."""
    distance = np.linalg.norm(mixture.means[:, None] - centres, axis=2).min(axis=1)
    return mixture.means[distance > 3 * mixture.spread]


@dataclass(frozen=True, eq=False)
class Fit:
    """One fit of K centres: how it was started, from how many times K centres, and what came out."""

    start: str
    factor: int
    centres: Floats
    error: float
    missed: int


def pruned_fit(mixture: Mixture, factor: int, generator: np.random.Generator) -> tuple[Fit, Floats]:
    """Fit ``factor · K`` random centres, thin them to K, fit again; returns the fit and the many centres before."""
    count = len(mixture.means)
    many, _ = fit_centres(mixture.points, random_start(mixture.points, factor * count, generator))
    kept = many[drop_centres(mixture.points, many, count)]
    centres, error = fit_centres(mixture.points, kept)
    return Fit("pruned", factor, centres, error, len(missed_means(mixture, centres))), many


def best_of_restarts(mixture: Mixture, factor: int, generator: np.random.Generator) -> Fit:
    """The best of ``factor`` fits from K random centres: the same number of centres fitted, without pruning."""
    starts = [random_start(mixture.points, len(mixture.means), generator) for _ in range(factor)]
    centres, error = min((fit_centres(mixture.points, start) for start in starts), key=lambda fit: fit[1])
    return Fit("restarts", factor, centres, error, len(missed_means(mixture, centres)))


def compare_starts(mixture: Mixture, factors: tuple[int, ...], seed: int) -> list[Fit]:
    """All ways to K centres on one mixture. Factor 1 of ``pruned`` and ``restarts`` is the fit ``random``."""
    generator = np.random.default_rng((4, seed))
    count = len(mixture.means)
    plus, _ = kmeans_plusplus(mixture.points, count, random_state=seed)
    starts = {
        "random": random_start(mixture.points, count, generator),
        "kmeans++": plus,
        "truth": mixture.means,
    }
    fits = []
    for name, start in starts.items():
        centres, error = fit_centres(mixture.points, start)
        fits.append(Fit(name, 1, centres, error, len(missed_means(mixture, centres))))
    for factor in factors:
        if factor > 1:
            fits += [
                pruned_fit(mixture, factor, generator)[0],
                best_of_restarts(mixture, factor, generator),
            ]
    return fits


def kmeans_rows(fits: list[Fit], seed: int) -> list[dict[str, Any]]:
    """One row for each fit: seed, start, factor, error relative to that from the truth, and means missed."""
    truth = next(fit.error for fit in fits if fit.start == "truth")
    return [
        {
            "seed": seed,
            "start": fit.start,
            "factor": fit.factor,
            "error": fit.error / truth,
            "missed": fit.missed,
        }
        for fit in fits
    ]
