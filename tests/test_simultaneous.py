import doctest

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from splinelib.errors import SettingError
from splinestudy import results as tables
from splinestudy.results import simultaneous
from splinestudy.results.simultaneous import compare_with_control, critical_value, decide, fit_additive
from splinestudy.results.variance import seeds_needed, variance_components

EXPERIMENTS = 2000
CHANCE = 3 * np.sqrt(0.05 * 0.95 / EXPERIMENTS)  # three standard deviations of a counted share of 5 %: 1.5 %

# Of 7 blocks and 1 + 5 treatments; some have no pair with the control (column 0), one has a single block.
GAPS = np.array(
    [
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 1],
        [0, 1, 1, 1, 1, 0],
        [0, 1, 0, 1, 1, 0],
        [0, 1, 1, 1, 1, 0],
    ],
    dtype=bool,
)
COMPLETE = np.ones((5, 9), dtype=bool)


def complete(treatments):
    """The correlation of contrasts where no block is incomplete."""
    return (1 + np.eye(treatments)) / 2


def correlation_of(covariance):
    scale = np.sqrt(np.diag(covariance))
    return covariance / np.outer(scale, scale)


def tidy(values, names=("spline", "l1", "random", "taylor", "fpgm", "snip")):
    """Rows of seed, criterion and accuracy of an array [seeds, criteria] with NaN for runs that are missing."""
    rows = [
        {"seed": seed, "criterion": names[column], "accuracy": value}
        for (seed, column), value in np.ndenumerate(np.asarray(values, float))
        if not np.isnan(value)
    ]
    return pd.DataFrame(rows, columns=["seed", "criterion", "accuracy"])


def brute_force_largest(covariance, degrees, draws=400_000):
    """Draws of max |t|, from their definition: correlated normals over a chi of their own."""
    generator = np.random.default_rng(7)
    factor = np.linalg.cholesky(correlation_of(covariance))
    normal = generator.standard_normal((draws, len(factor))) @ factor.T
    return np.abs(normal).max(axis=1) / np.sqrt(generator.chisquare(degrees, draws) / degrees)


@pytest.mark.parametrize(
    ("confidence", "degrees", "published"),
    [
        (0.95, 5, [2.57, 3.03, 3.29, 3.48, 3.62, 3.73, 3.82, 3.90, 3.97]),
        (0.95, 10, [2.23, 2.57, 2.76, 2.89, 2.99, 3.07, 3.14, 3.19, 3.24]),
        (0.95, 20, [2.09, 2.38, 2.54, 2.65, 2.73, 2.80, 2.86, 2.90, 2.95]),
        (0.95, 60, [2.00, 2.27, 2.41, 2.51, 2.58, 2.64, 2.69, 2.73, 2.77]),
        (0.99, 20, [2.85, 3.13, 3.29, 3.40, 3.48, 3.55, 3.60, 3.65, 3.69]),
    ],
)
def test_critical_values_are_those_published(confidence, degrees, published):
    """Dunnett (1964, Biometrics 20:482), two-sided, 1 to 9 treatments besides the control; two decimals."""
    found = [critical_value(complete(k), degrees, confidence) for k in range(1, 10)]
    np.testing.assert_allclose(found, published, rtol=0, atol=0.0052)


@pytest.mark.parametrize("there", [COMPLETE, GAPS])
def test_critical_values_bound_the_largest_of_brute_force(there):
    fit = fit_additive(np.where(there, np.random.default_rng(0).normal(size=there.shape), np.nan))
    largest = brute_force_largest(fit.covariance, fit.degrees)
    c = critical_value(correlation_of(fit.covariance), fit.degrees)
    assert np.mean(largest <= c) == pytest.approx(
        0.95, abs=0.0015
    )  # four standard deviations of 400,000 draws
    if there is GAPS:  # where the correlation of complete blocks would be wrong
        assert np.mean(largest <= critical_value(complete(5), fit.degrees)) > 0.9525


def test_lattice_and_quadrature_agree(monkeypatch):
    exact = critical_value(complete(12), 44)
    monkeypatch.setattr(simultaneous.np, "allclose", lambda *_: False)
    lattice = critical_value(complete(12), 44)
    assert lattice != exact
    assert lattice == pytest.approx(exact, rel=1e-3)


def test_one_way_layouts_have_the_critical_value_of_scipy():
    samples = np.random.default_rng(3).normal(size=(5, 6))
    low, high = stats.dunnett(
        *samples[1:], control=samples[0], rng=np.random.default_rng(0)
    ).confidence_interval()
    error = np.sqrt(samples.var(axis=1, ddof=1).mean() * 2 / 6)
    np.testing.assert_allclose((high - low) / 2 / error, critical_value(complete(4), 25), rtol=2e-3)


@pytest.mark.parametrize("there", [COMPLETE, GAPS])
def test_intervals_cover_all_truths_at_once_and_few_verdicts_are_wrong(there):
    """Truths lie on the margin, where a *better* or *worse* is wrong; seeds differ ten times as much as errors do.

    Student's t, one contrast at a time, fails both counts.
    """
    generator = np.random.default_rng(11)
    margin, sd = 0.003, 0.004
    blocks, treatments = there.shape
    truth = margin * (-1.0) ** np.arange(treatments - 1)
    levels = 0.9 - np.concatenate([[0], truth])
    first = fit_additive(np.where(there, 0.0, np.nan))
    adjusted = critical_value(correlation_of(first.covariance), first.degrees)
    student = stats.t.ppf(0.975, first.degrees)
    covered, wrong = {adjusted: 0, student: 0}, {adjusted: 0, student: 0}
    variances = []
    for _ in range(EXPERIMENTS):
        seeds = generator.normal(0, 10 * sd, (blocks, 1))
        values = levels + seeds + generator.normal(0, sd, there.shape)
        fit = fit_additive(np.where(there, values, np.nan))
        variances.append(fit.sd**2)
        for c in covered:
            half = c * fit.sd * np.sqrt(np.diag(fit.covariance))
            low, high = fit.differences - half, fit.differences + half
            covered[c] += bool(np.all((low <= truth) & (truth <= high)))
            verdicts = {decide(*pair, margin) for pair in zip(low, high, strict=True)}
            wrong[c] += bool(verdicts & {"better", "worse"})
    assert covered[adjusted] / EXPERIMENTS == pytest.approx(0.95, abs=CHANCE)
    assert covered[student] / EXPERIMENTS < 0.9
    assert wrong[adjusted] / EXPERIMENTS < 0.05
    assert wrong[student] / EXPERIMENTS > 0.05 + CHANCE
    assert np.mean(variances) == pytest.approx(sd**2, rel=0.03)


def test_complete_blocks_by_hand():
    values = np.array([[0.90, 0.88, 0.70], [0.92, 0.91, 0.75], [0.91, 0.91, 0.71]])
    found = compare_with_control(tidy(values))
    # Without incomplete blocks the residuals are what rows and columns leave.
    left = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    sd = np.sqrt(np.sum(left**2) / 4)
    half = critical_value(complete(2), 4) * sd * np.sqrt(2 / 3)
    assert found["treatment"].tolist() == ["l1", "random"]
    assert found["n"].tolist() == [3, 3]
    assert found["degrees"].tolist() == [4, 4]
    mean = (values[:, :1] - values[:, 1:]).mean(axis=0)
    np.testing.assert_allclose(found["difference"], mean)
    np.testing.assert_allclose(found["sd"], sd)
    np.testing.assert_allclose(found["low"], mean - half)
    np.testing.assert_allclose(found["high"], mean + half)


def test_one_method_besides_the_control_is_the_paired_t_test():
    table = tidy([[0.90, 0.88], [0.93, 0.92], [0.91, 0.915]]).assign(ratio=0.5)
    found = compare_with_control(table).iloc[0]
    expected = tables.paired_differences(table, way="spline", column="criterion").iloc[0]
    for name in ("n", "difference", "low", "high"):
        assert found[name] == pytest.approx(expected[name], rel=1e-9)
    spline, l1 = (table.loc[table["criterion"] == name, "accuracy"] for name in ("spline", "l1"))
    assert found["p"] == pytest.approx(stats.ttest_rel(spline, l1).pvalue)


def test_a_method_that_never_met_the_control_is_compared_through_another():
    """spline and l1 on seeds 0 and 1, l1 and random on seed 2: spline − random = (spline − l1) + (l1 − random)."""
    found = compare_with_control(tidy([[0.8, 0.7, np.nan], [0.9, 0.84, np.nan], [np.nan, 0.5, 0.2]]))
    assert found["n"].tolist() == [2, 0]
    np.testing.assert_allclose(found["difference"], [0.08, 0.38])
    # The differences 0.10 and 0.06 lie 0.02 from their mean; half of their variance is that of an error.
    sd = 0.02
    assert found["degrees"].tolist() == [1, 1]
    np.testing.assert_allclose(found["sd"], sd)
    width = (found["high"] - found["low"]).to_numpy()
    # Variances of the contrasts are 2 / 2 and 2 / 2 + 2, in errors' variances.
    assert width[1] / width[0] == pytest.approx(np.sqrt(3))
    c = critical_value(correlation_of(np.array([[1.0, 1.0], [1.0, 3.0]])), 1)
    assert width[0] == pytest.approx(2 * c * sd, rel=1e-9)


def test_levels_of_blocks_do_not_matter():
    generator = np.random.default_rng(5)
    values = np.where(GAPS, generator.normal(size=GAPS.shape), np.nan)
    one, other = fit_additive(values), fit_additive(values + generator.normal(0, 100, (len(values), 1)))
    np.testing.assert_allclose(one.differences, other.differences, atol=1e-10)
    assert one.sd == pytest.approx(other.sd)


@pytest.mark.parametrize("there", [COMPLETE[:, :6], GAPS])
def test_p_is_small_where_the_interval_leaves_out_zero(there):
    generator = np.random.default_rng(2)
    values = generator.normal(0, 0.01, there.shape) + 0.9 - 0.01 * np.arange(6)
    found = compare_with_control(tidy(np.where(there, values, np.nan)))
    fit = fit_additive(np.where(there, values, np.nan))
    largest = brute_force_largest(fit.covariance, fit.degrees)
    t = np.abs(fit.differences) / fit.sd / np.sqrt(np.diag(fit.covariance))
    np.testing.assert_allclose(found["p"], [np.mean(largest >= one) for one in t], atol=0.003)
    outside = (found["low"] > 0) | (found["high"] < 0)
    assert set(outside) == {True, False}
    assert ((found["p"] < 0.05) == outside).all()
    assert (found["p"] > 2 * stats.t.sf(t, fit.degrees)).all()


def test_results_repeat_bit_for_bit_and_leave_the_global_seed_alone():
    table = tidy(np.where(GAPS, np.random.default_rng(4).normal(size=GAPS.shape), np.nan))
    first = compare_with_control(table)
    np.random.seed(99)  # noqa: NPY002 (scipy would draw from it)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    pd.testing.assert_frame_equal(compare_with_control(table), first, check_exact=True)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_one_seed_has_differences_but_no_interval():
    found = compare_with_control(tidy([[0.9, 0.8, 0.7]]))
    np.testing.assert_allclose(found["difference"], [0.1, 0.2])
    assert found[["low", "high", "p", "sd"]].isna().all(axis=None)
    assert found["degrees"].tolist() == [0, 0]
    assert {decide(row.low, row.high, 0.003) for row in found.itertuples()} == {"one seed"}


def test_without_a_spread_the_interval_is_the_point():
    levels = np.array([[0.9], [0.7], [0.3]])
    found = compare_with_control(tidy(levels - [0, 0.1, 0]))
    np.testing.assert_allclose(found["difference"], [0.1, 0.0], atol=1e-14)
    assert (found["low"] == found["difference"]).all()
    assert (found["high"] == found["difference"]).all()
    assert found["p"].tolist() == [0.0, 1.0]
    assert [decide(row.low, row.high, 0.003) for row in found.itertuples()] == ["better", "at least on par"]


def test_tables_without_a_comparison_give_none():
    columns = compare_with_control(tidy([[0.9, 0.8], [0.9, 0.7]])).columns.tolist()
    for table in (tidy(np.empty((0, 2))), tidy([[0.9], [0.8]])):
        found = compare_with_control(table)
        assert found.empty
        assert found.columns.tolist() == columns


def test_a_run_without_a_value_is_no_run():
    table = tidy([[0.9, 0.8], [0.8, 0.75], [0.7, 0.69]])
    failed = table.assign(accuracy=table["accuracy"].where(table.index != 5))
    rest = compare_with_control(table.drop(index=5))
    pd.testing.assert_frame_equal(compare_with_control(failed), rest)
    pd.testing.assert_frame_equal(compare_with_control(pd.concat([failed, failed[5:]])), rest)


@pytest.mark.parametrize(
    ("table", "settings", "message"),
    [
        (tidy([[0.9, 0.8]]), {"control": "ours"}, r"control 'ours' .*\['spline', 'l1'\]"),
        (tidy([[0.9, 0.8]] * 2).assign(seed=3), {}, "criterion 'spline' has several runs in seed 3"),
        (
            tidy([[0.9, 0.8, np.nan], [np.nan, np.nan, 0.7]]),
            {},
            r"links \['random'\] to the control 'spline'",
        ),
        (tidy([[0.9, 0.8], [0.8, 0.75]]), {"confidence": 95}, "between 0 and 1, not 95"),
    ],
)
def test_what_cannot_be_compared_is_named(table, settings, message):
    with pytest.raises(SettingError, match=message):
        compare_with_control(table, **settings)


@pytest.mark.parametrize(
    ("pair", "word"),
    [
        ((0.011, 0.1), "better"),
        ((0.009, 0.1), "at least on par"),
        ((-0.009, 0.002), "at least on par"),
        ((-0.011, 0.1), "open"),
        ((-0.1, -0.009), "open"),
        ((-0.1, -0.011), "worse"),
        ((np.nan, np.nan), "one seed"),
    ],
)
def test_decisions_are_those_of_the_protocol(pair, word):
    assert decide(*pair) == word
    assert decide(*(end * 2 for end in pair), margin=0.02) == word


def orders(*runs):
    """A table of the fine-tuning orders of some dense networks."""
    rows = [(dense, order, value) for dense, row in enumerate(runs) for order, value in enumerate(row)]
    return pd.DataFrame(rows, columns=["dense", "order", "value"])


def test_variance_components_by_hand():
    assert variance_components(orders([1, 3], [6, 8])) == pytest.approx((11.5, 2))  # B = 25, W = 2, n₀ = 2
    assert variance_components(orders([0], [3, 4, 5])) == pytest.approx(
        (22 / 3, 1)
    )  # B = 12, W = 1, n₀ = 1.5
    assert variance_components(orders([1, 3], [1, 3])) == pytest.approx((0, 2))  # B = 0 < W
    assert variance_components(orders([1, 3, np.nan], [np.nan], [6, 8])) == pytest.approx((11.5, 2))


def test_variance_components_are_true_on_average():
    generator = np.random.default_rng(8)
    sizes = [2, 3, 5, 4, 2, 4]
    found = [
        variance_components(
            orders(*[level + generator.normal(0, 1, n) for level, n in zip(row, sizes, strict=True)])
        )
        for row in generator.normal(0, 3, (300, len(sizes)))
    ]
    # A variance of six levels has a relative standard deviation of √(2/5), its mean over 300 one of 4 %.
    np.testing.assert_allclose(np.mean(found, axis=0), [9, 1], rtol=0.1)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (orders([1, 2]), "2 runs of 1 dense networks"),
        (orders([1], [2]), "2 runs of 2 dense networks"),
        (orders([1, 2], [3, 4]).assign(order=0), "dense 0 has order 0 twice"),
    ],
)
def test_variances_that_cannot_be_told_apart_are_named(table, message):
    with pytest.raises(SettingError, match=message):
        variance_components(table)


@pytest.mark.parametrize(
    ("sd", "treatments", "margin"), [(0.004, 3, 0.003), (0.001, 1, 0.01), (0.003, 8, 0.004)]
)
def test_seeds_needed_are_the_least_that_do(sd, treatments, margin):
    def half_width(n):
        return critical_value(complete(treatments), (n - 1) * treatments) * sd * np.sqrt(2 / n)

    every = range(2, 60)
    assert seeds_needed(sd, treatments, margin) == next(n for n in every if half_width(n) <= margin)


def test_ties_are_found_on_par_every_other_time_at_four_fifths_of_the_margin():
    sd, treatments, margin = 0.004, 6, 0.003
    generator = np.random.default_rng(6)
    shares = []
    for share in (1.0, 0.8):
        n = seeds_needed(sd, treatments, share * margin)
        fits = [fit_additive(generator.normal(0, sd, (n, 1 + treatments))) for _ in range(300)]
        c = critical_value(complete(treatments), fits[0].degrees)
        half = np.array([c * fit.sd * np.sqrt(2 / n) for fit in fits])
        differences = np.array([fit.differences for fit in fits])
        shares.append(np.mean(np.abs(differences) + half[:, None] <= margin))
    assert shares[0] < 0.1
    assert shares[1] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "settings", [(0.0, 3, 0.003), (0.004, 3, 0.0), (0.004, 0, 0.003), (np.nan, 3, 0.003)]
)
def test_seeds_are_not_counted_without_sense(settings):
    with pytest.raises(SettingError, match="must be positive"):
        seeds_needed(*settings)


def test_the_example_runs():
    found = doctest.testmod(simultaneous)
    assert found.attempted > 3
    assert found.failed == 0
