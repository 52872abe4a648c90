"""How confident intervals are, everywhere, and that of a mean."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
"""Share of repetitions in which an interval holds the truth."""


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Mean and the bounds of its interval by Student's t; NaN bounds for a single value.

    >>> [round(number, 3) for number in mean_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return mean, float("nan"), float("nan")
    if np.ptp(values) < 1e-12:  # no spread, but for rounding: the interval is the point
        return mean, mean, mean
    reach = float(stats.t.isf((1 - confidence) / 2, count - 1) * np.std(values, ddof=1) / count**0.5)
    return mean, mean - reach, mean + reach
