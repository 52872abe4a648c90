"""How many seeds it takes: where the variance of pruned networks comes from, and what a margin asks for."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from splinelib.errors import SettingError
from splinestudy.results.simultaneous import critical_value


class VarianceComponents(NamedTuple):
    """Variance of the dense networks' own levels, and of one more run (fine-tuning order) of one dense network."""

    between: float
    within: float


def variance_components(table: pd.DataFrame) -> VarianceComponents:
    """Variance between dense networks and within them, by a one-way analysis of variance, for ONE method and ratio.

    ``table`` has a ``value`` for each fine-tuning ``order`` of each ``dense`` network, not necessarily equally many.
    With a networks of nᵢ runs, N in all, and mean squares B between and W within, the method of moments gives

        within = W,    between = max(0, (B − W) / n₀),    n₀ = (N − Σ nᵢ² / N) / (a − 1)

    (Searle, Casella and McCulloch 1992, *Variance Components*, 3.6); where all nᵢ are equal and B ≥ W, that is REML. A
    run of a new network has variance between + within, and the mean of n orders of one network within / n around its
    level. Orders are taken to be nested: order 0 of two networks has nothing in common. Raises SettingError with a
    network's order given twice, fewer than two networks, or no network with two orders.
    """
    repeated = table.duplicated(["dense", "order"])
    if repeated.any():
        first = table[repeated].iloc[0]
        raise SettingError(
            f"dense {first['dense']} has order {first['order']} twice: compare one method and ratio at a time"
        )
    table = table.dropna(subset=["value"])
    groups = table.groupby("dense")["value"]
    sizes = groups.count().to_numpy()
    networks, runs = len(sizes), sizes.sum()
    if networks < 2 or runs == networks:
        raise SettingError(
            f"{runs} runs of {networks} dense networks do not tell their variances apart: two networks or more are "
            "needed, and two orders or more of one"
        )
    means = groups.mean().to_numpy()
    # Variances by pandas rather than a difference of sums of squares, which would cancel.
    within = np.nansum(groups.var(ddof=1).to_numpy() * (sizes - 1)) / (runs - networks)
    between_square = np.sum(sizes * (means - table["value"].mean()) ** 2) / (networks - 1)
    size = (runs - np.sum(sizes**2) / runs) / (networks - 1)
    return VarianceComponents(max(0.0, float((between_square - within) / size)), float(within))


def seeds_needed(sd: float, treatments: int, margin: float, confidence: float = 0.95) -> int:
    """Least number of complete blocks whose simultaneous intervals have a half width of ``margin`` at most.

    The half width is c · sd · √(2 / n), with ``sd`` the pooled standard deviation of an error (as a pilot's
    :func:`compare_with_control` gives it), and c the critical value of ``treatments`` comparisons, the control not
    counted, at (n − 1) · ``treatments`` degrees of freedom. No interval then reaches beyond both −margin and margin:
    each comparison rules out *better* or *worse*. *On par* asks for more: with half widths just at the margin only an
    estimate of exactly 0 is; pass four fifths of the margin, and a true tie is found on par about every other time.
    Raises SettingError for a margin or sd that is not positive, or fewer than one treatment.
    """
    if not (0 < sd < np.inf and margin > 0 and treatments >= 1):
        raise SettingError(
            f"sd {sd}, margin {margin} and {treatments} treatments: the first two must be positive, and one method "
            "at least be compared with the control"
        )
    # Exact for complete blocks: each contrast shares the control's half of its variance with every other.
    correlation = (1 + np.eye(treatments)) / 2

    def enough(n: int) -> bool:
        c = critical_value(correlation, (n - 1) * treatments, confidence)
        return bool(c * sd * np.sqrt(2 / n) <= margin)

    most = 2
    while not enough(most):
        most *= 2
    # Half widths fall with n, so bisection from the last power of two that was too few finds the least.
    least = max(2, most // 2 + 1)
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if enough(middle) else (middle + 1, most)
    return most
