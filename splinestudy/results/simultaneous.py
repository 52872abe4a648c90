"""Every method against one control at once: blocks, a pooled variance and intervals that hold together.

The model of one network and ratio is additive: value = block + treatment + error, where blocks are seeds, treatments
are methods and errors are independent and normal with one variance, whatever the method. Its least squares contrasts
"control minus treatment", divided by their standard errors, have a joint t distribution; intervals of half width c
standard errors, with P(max |t| ≤ c) = 95 %, cover *all* true differences at once in 95 % of studies. That is Dunnett
(1955, J. Am. Stat. Assoc. 50:1096), by the general form of Hothorn, Bretz and Westfall (2008, Biom. J. 50:346), which
lets a method miss some blocks.

>>> accuracy = {"spline": [0.91, 0.93, 0.92], "l1": [0.90, 0.92, 0.92], "random": [0.80, 0.83, 0.81]}
>>> rows = [(name, seed, a) for name, row in accuracy.items() for seed, a in enumerate(row)]
>>> found = compare_with_control(pd.DataFrame(rows, columns=["criterion", "seed", "accuracy"]))
>>> found[["treatment", "n", "difference", "low", "high"]].round(3).to_numpy().tolist()
[['l1', 3, 0.007, -0.008, 0.021], ['random', 3, 0.107, 0.092, 0.121]]
>>> [decide(row.low, row.high, margin=0.01) for row in found.itertuples()]
['at least on par', 'better']
"""

from collections.abc import Hashable
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, sparse, special, stats

from splinelib.errors import SettingError

MARGIN = 0.01
"""The protocol's: accuracies that differ by less than a point count as on par."""

QUADRATURE_NODES = 128
"""Of each of the two Gauss rules for complete blocks: twice as many change critical values by less than 0.003 %."""

LATTICE_SEED = 0
"""Of the random shifts of scipy's lattice rule: equal input gives equal output, bit for bit."""

LATTICE_POINTS = 20_000
"""Of scipy's lattice rule for incomplete blocks: critical values are then within 0.1 %, up to 40 treatments."""

NO_SPREAD = 1e-12
"""A pooled standard deviation below this share of the largest value is rounding: least squares on a hundred values
leaves some 1e-15, and accuracies on 50,000 images differ by 2e-5 at least."""


class Contrasts(NamedTuple):
    """Estimates [k] of control minus each treatment, their covariance [k, k] in units of the error variance, the pooled
    standard deviation of an error (NaN without degrees of freedom) and its degrees of freedom.
    """

    differences: np.ndarray
    covariance: np.ndarray
    sd: float
    degrees: int


def compare_with_control(
    table: pd.DataFrame,
    control: Hashable = "spline",
    value: str = "accuracy",
    block: str = "seed",
    treatment: str = "criterion",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Simultaneous intervals of ``control`` minus every other treatment, for ONE network and ratio.

    ``table`` has one row for each run; a NaN counts as no run. One row comes back for each other treatment, in the
    table's order: treatment, n (blocks that have both), difference (least squares estimate in the units of ``value``),
    low, high (their family covers all true differences with probability ``confidence``), p (two-sided, adjusted for the
    family), sd (pooled standard deviation of an error) and degrees (its degrees of freedom).

    Without degrees of freedom, so always with one block, low, high, p and sd are NaN. Without a spread the interval is
    the point. An estimate may lean on blocks that lack one of the two, through other treatments; where no block is
    incomplete it is the mean of the paired differences. Variances that differ between methods break the model:
    intervals of the steady methods become too wide, those of the unsteady ones too narrow, and all of them where the
    control is unsteady (with twice the standard deviation of 20 others, 95 % become about 78 %).

    An empty table gives an empty one. Raises SettingError without the control, with two runs of one treatment in one
    block, and where no chain of common blocks links a treatment to the control.
    """
    columns = ["treatment", "n", "difference", "low", "high", "p", "sd", "degrees"]
    if table.empty:
        return pd.DataFrame(columns=columns)
    wide = _blocks_by_treatments(table.dropna(subset=[value]), control, value, block, treatment)
    others = list(wide.columns[1:])
    if not others:
        return pd.DataFrame(columns=columns)
    differences, covariance, sd, degrees = fit_additive(wide.to_numpy(float))
    low = high = p = np.full(len(others), np.nan)
    if degrees > 0:
        scale = np.sqrt(np.diag(covariance))
        correlation = covariance / np.outer(scale, scale)
        half_width = critical_value(correlation, degrees, confidence) * sd * scale
        low, high = differences - half_width, differences + half_width
        p = _adjusted_p(differences, sd * scale, correlation, degrees)
    there = wide.notna().to_numpy()
    return pd.DataFrame(
        {
            "treatment": others,
            "n": (there[:, :1] & there[:, 1:]).sum(axis=0),
            "difference": differences,
            "low": low,
            "high": high,
            "p": p,
            "sd": sd,
            "degrees": degrees,
        },
        columns=columns,
    )


def _blocks_by_treatments(
    table: pd.DataFrame, control: Hashable, value: str, block: str, treatment: str
) -> pd.DataFrame:
    """One row for each block, one column for each treatment, the control first; NaN where a treatment has no run."""
    names = list(table[treatment].unique())
    if control not in names:
        raise SettingError(
            f"control {control!r} has no {value} in the table of {names}: run it, or name another"
        )
    twice = table[table.duplicated([block, treatment])]
    if not twice.empty:
        first = twice.iloc[0]
        raise SettingError(
            f"{treatment} {first[treatment]!r} has several runs in {block} {first[block]}: keep one of them, or "
            "compare one network and ratio at a time"
        )
    wide = table.pivot(index=block, columns=treatment, values=value)
    wide = wide[[control, *(name for name in names if name != control)]]
    linked = linked_to(control, table, block, treatment)
    if loose := [name for name in wide if name not in linked]:
        raise SettingError(
            f"no chain of common {block}s links {loose} to the control {control!r}: run them on its {block}s, or "
            "leave them out"
        )
    return wide


def linked_to(
    control: Hashable, table: pd.DataFrame, block: str = "seed", treatment: str = "criterion"
) -> set[Hashable]:
    """The treatments that a chain of shared blocks links to ``control``, itself included, given a row for each run.

    Only differences of linked treatments can be estimated: the graph's components are the model's free levels.

    >>> linked_to("a", pd.DataFrame({"criterion": list("abcd"), "seed": [0, 0, 1, 1]})) == {"a", "b"}
    True
    """
    there = pd.crosstab(table[block], table[treatment]).astype(bool)
    graph = sparse.block_array([[None, there.to_numpy()], [there.to_numpy().T, None]])
    _, component = sparse.csgraph.connected_components(graph, directed=False)
    of = dict(zip(there, component[len(there) :], strict=True))
    return {name for name in of if of[name] == of[control]}


def fit_additive(values: np.ndarray) -> Contrasts:
    """Least squares contrasts of the first column against the others, by the model value = block + treatment + error.

    ``values`` [blocks, 1 + k] holds one treatment in each column, NaN where it misses the block; the design must be
    connected. With X the indicators of blocks and of all treatments but the first, the covariance is the treatments'
    part of (XᵀX)⁻¹, and the variance is the residual sum of squares over its degrees of freedom.
    """
    blocks, _ = values.shape
    design, observed, inverse = _normal_equations(values)
    effects = inverse @ design.T @ observed
    degrees = len(observed) - design.shape[1]
    # Without degrees of freedom the fit is exact, and its residuals say nothing.
    sd = float(np.sqrt(np.sum((observed - design @ effects) ** 2) / degrees)) if degrees else np.nan
    rounding = NO_SPREAD * np.abs(observed).max()
    if sd <= rounding:
        sd, effects = 0.0, np.where(np.abs(effects) <= rounding, 0.0, effects)
    return Contrasts(-effects[blocks:], inverse[blocks:, blocks:], sd, degrees)


def _normal_equations(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Design X [runs, blocks + treatments − 1], observations [runs] and (XᵀX)⁻¹ of the additive model."""
    block, treatment = np.nonzero(~np.isnan(values))
    design = np.hstack([np.eye(values.shape[0])[block], np.eye(values.shape[1])[treatment][:, 1:]])
    return design, values[block, treatment], np.linalg.inv(design.T @ design)


def leverages_and_residuals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every run of ``values`` [blocks, treatments]: its treatment's column, its leverage and its residual."""
    design, observed, inverse = _normal_equations(values)
    leverage = np.einsum("ri,ij,rj->r", design, inverse, design)
    return np.nonzero(~np.isnan(values))[1], leverage, observed - design @ (inverse @ design.T @ observed)


def critical_value(correlation: np.ndarray, degrees: int, confidence: float = 0.95) -> float:
    """The c with P(max |t| ≤ c) = ``confidence`` for k jointly t distributed statistics (Dunnett 1955).

    ``correlation`` [k, k] is that of the contrasts, 1/2 between any two where all blocks are complete; ``degrees`` are
    those of the pooled variance. By quadrature for complete blocks, else by scipy's multivariate t
    (:data:`LATTICE_POINTS`). Raises SettingError where ``confidence`` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise SettingError(f"confidence must lie between 0 and 1, not {confidence}: 0.95 is usual")
    error = (1 - confidence) / 2
    student, bonferroni = stats.t.isf([error, error / len(correlation)], degrees)

    def excess(c: float) -> float:
        return _within(c, correlation, degrees) - confidence

    # Student's and Bonferroni's quantiles are bounds; wider ones keep the change of sign despite the lattice's error.
    found = optimize.brentq(excess, 0.9 * student, 1.1 * bonferroni)
    return float(np.clip(found, student, bonferroni))


def _within(c: float, correlation: np.ndarray, degrees: int) -> float:
    """P(max |t| ≤ c) for t of this correlation [k, k]."""
    k = len(correlation)
    if np.allclose(correlation, (1 + np.eye(k)) / 2):
        return _within_complete(float(c), k, degrees)
    return _by_lattice(float(c), correlation.tobytes(), k, degrees)


# Both are kept, since a chapter asks for the same intervals in its marks and in its sentences.
@cache
def _by_lattice(c: float, correlation: bytes, k: int, degrees: int) -> float:
    """The slow one."""
    limit = np.full(k, c)
    probability = stats.multivariate_t.cdf(
        limit,
        shape=np.frombuffer(correlation).reshape(k, k),
        df=degrees,
        lower_limit=-limit,
        maxpts=LATTICE_POINTS,
        random_state=LATTICE_SEED,
    )
    return float(probability)


@cache
def _within_complete(c: float, k: int, degrees: int) -> float:
    """P(max |t| ≤ c) where t = (zᵢ − z₀) / (√2 s): given z₀ and s the k are independent (Dunnett 1955)."""
    control, density, share, weight = _gauss_rules()
    s = np.sqrt(stats.chi2.ppf(share, degrees) / degrees)
    reach = np.sqrt(2) * c * s[:, None]
    one = special.ndtr(control + reach) - special.ndtr(control - reach)
    return float(weight @ one**k @ density)


@cache
def _gauss_rules() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nodes and weights, once, for a standard normal and for a share between 0 and 1."""
    normal, density = np.polynomial.hermite_e.hermegauss(QUADRATURE_NODES)
    share, weight = np.polynomial.legendre.leggauss(QUADRATURE_NODES)
    return normal, density / np.sqrt(2 * np.pi), (share + 1) / 2, weight / 2


def _adjusted_p(
    differences: np.ndarray, errors: np.ndarray, correlation: np.ndarray, degrees: int
) -> np.ndarray:
    """P(max |t| ≥ the |t| found) for each difference and its standard error."""
    if not errors.any():
        return np.where(differences == 0, 1.0, 0.0)
    t = np.abs(differences) / errors
    adjusted = 1 - np.array([_within(c, correlation, degrees) for c in t])
    # Student's and Bonferroni's p are its bounds, and better than quadrature where it is very small.
    single = 2 * stats.t.sf(t, degrees)
    return np.clip(adjusted, single, np.minimum(1, len(t) * single))


def decide(low: float, high: float, margin: float = MARGIN) -> str:
    """The protocol's word for an interval of control minus treatment (``book/protocol.md``).

    *better* above ``margin``; *at least on par* above minus the margin; *worse* below it; else *open*: the interval
    holds minus the margin, so that the claim "on par or better" is not decided. *one seed* where there is no interval.
    """
    if np.isnan(low):
        return "one seed"
    if low > margin:
        return "better"
    if low > -margin:
        return "at least on par"
    return "worse" if high < -margin else "open"
