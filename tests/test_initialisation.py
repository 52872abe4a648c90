"""The studies on initialisation: records, the toy at small widths, and the rule for claim C1."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from oracles_analysis import best_of_subsets

from splinelib.errors import SettingError
from splinestudy.analysis import toy_widths
from splinestudy.analysis.toy import ToySettings, new_nets, x_problem
from splinestudy.results import initialisation as verdict
from splinestudy.results.tables import origin, table
from splinestudy.results.ways import Way
from splinestudy.runs import initialisation as studies
from splinestudy.runs.committed import committed_store
from splinestudy.runs.store import RecordStore
from splinestudy.runs.sweep import sweep

TINY_TOY = ToySettings(runs=3, hidden=6, epochs=3)


def test_a_study_is_computed_once(tmp_path, monkeypatch):
    study = studies.KMeansRun(factors=(1, 2), seeds=2, centres=4, points_each=6, apart=0.2)
    store, calls, compute = RecordStore(tmp_path), [], studies.KMeansRun.compute
    monkeypatch.setattr(
        studies.KMeansRun, "compute", lambda run, *rest: calls.append(run) or compute(run, *rest)
    )
    settings = {"profile": "smoke", "progress": False}
    (first,), (again,) = (sweep([study], store, **settings).records for _ in range(2))
    assert calls == [study]
    assert again.results == first.results
    assert again.provenance["profile"] == "smoke"
    assert set(table(again)["start"]) == {"random", "kmeans++", "truth", "pruned", "restarts"}
    assert "profile smoke" in origin(again)
    sweep([dataclasses.replace(study, seeds=1)], store, **settings)
    assert len(calls) == 2


def test_sizes_take_other_seeds():
    toy, regression, kmeans = studies.initialisation_runs("reference", seeds=4)
    assert (kmeans.seeds, regression.seeds, toy.toy.runs) == (4, 4, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: studies.initialisation_runs("smoke", 0), "seeds is 0"),
        (lambda: studies.KMeansRun(factors=(1, 99), seeds=1), "factors are"),
        (lambda: studies.RegressionRun(widths=(1,), seeds=1, steps=1), "widths are"),
        (lambda: studies.RegressionRun(widths=(4,), seeds=0, steps=1), "seeds is 0"),
        (lambda: studies.ToyInitRun(widths=(9,), toy=TINY_TOY), "widths are"),
        (lambda: toy_widths.small_nets("best", 2, TINY_TOY, None, None), "start is 'best'"),
        (lambda: toy_widths.small_nets("xavier", 7, TINY_TOY, None, None), "width is 7"),
        (lambda: verdict.mean_interval(np.array([1.0, np.inf])), "finite: False"),
        (lambda: committed_store("/nowhere"), "no folder"),
    ],
)
def test_wrong_settings_are_named(call, message):
    with pytest.raises(SettingError, match=message):
        call()


def test_regression_study_has_every_network():
    study = studies.RegressionRun(widths=(3, 4), seeds=2, steps=5, wide=8, points=40)
    rows = pd.DataFrame(studies.regression_rows(study))
    assert len(rows) == 3 * 2 * (1 + 2 * 5)
    assert set(rows.loc[rows["start"] == "wide", "width"]) == {8}
    knots = rows[rows["start"] == "knots"].groupby(["target", "width"])["error"]
    assert (knots.nunique() == 1).all()  # nothing is drawn
    assert (rows[rows["start"] == "random"].groupby(["target", "width"])["error"].nunique() == 2).all()


# --- the toy ---------------------------------------------------------------------------------------------------------


def test_small_toys_start_where_they_should():
    training, _ = x_problem(TINY_TOY)
    first, trained = new_nets(TINY_TOY), new_nets(TINY_TOY, "normal 1")
    kept, rewound, fresh, moved = (
        toy_widths.small_nets(start, 2, TINY_TOY, (first, trained), training)
        for start in ("kept", "rewind", "xavier", "through data")
    )
    largest = np.linalg.norm(trained.weight1, axis=2).argsort(axis=1)[:, -2:]
    for run, units in enumerate(largest):
        assert set(np.flatnonzero(kept.mask[run, :, 0])) == set(units)
        np.testing.assert_array_equal(kept.weight1[run, units], trained.weight1[run, units])
        np.testing.assert_array_equal(rewound.weight1[run, units], first.weight1[run, units])
    assert fresh.weight1.shape == moved.weight1.shape == (3, 2, 2)
    np.testing.assert_array_equal(fresh.weight1, moved.weight1)
    values = moved.weight1 @ training.inputs.T + moved.bias1[:, :, None]
    np.testing.assert_allclose(np.abs(values).min(axis=2), 0, atol=1e-12)
    assert (np.abs(fresh.bias1) == 0).all()


def test_every_toy_run_has_its_row():
    rows = pd.DataFrame(toy_widths.width_rows((2, 4), TINY_TOY))
    assert len(rows) == 3 * (1 + 2 * len(toy_widths.FIRST_WEIGHTS))
    assert rows["accuracy"].between(0, 1).all()
    examples = toy_widths.example_nets(2, TINY_TOY)
    assert list(examples) == ["large", *toy_widths.FIRST_WEIGHTS]


# --- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.2, 1, "better"),
        (-1, -0.2, "worse"),
        (-0.05, 0.05, "equal"),
        (0, 0.2, "open"),
        (np.nan, np.nan, "open"),
    ],
)
def test_gain_verdict(low, high, said):
    assert verdict.gain_verdict(low, high) == said


def test_mean_interval_covers_the_mean():
    mean, low, high = verdict.mean_interval(np.arange(100.0))
    assert low < mean == 49.5 < high
    # The bootstrap's interval of a mean is that of the normal law: ± 1.96 s / √n.
    np.testing.assert_allclose(high - low, 2 * 1.96 * np.arange(100.0).std() / 10, rtol=0.1)
    assert verdict.mean_interval(np.array([2.0]))[0] == 2


def test_gains_are_paired_by_seed():
    random = pd.Series([1.0, 2.0, 4.0], index=[0, 1, 2])
    half = pd.Series([2.0, 1.0, 0.5], index=[2, 1, 0])
    row = verdict.gain_row(half, random, log=True)
    np.testing.assert_allclose([row["gain"], row["low"], row["high"]], np.log(2))
    assert (row["n"], row["verdict"]) == (3, "better")
    assert verdict.gain_row(half, random, log=False)["gain"] == pytest.approx(-3.5 / 3)


def tables(pruned, clever):
    """Rows of all three studies in which the starts have these errors (successes: 1 - error), random ones 1."""
    values = {"random": 1.0, "pruned": pruned, "kmeans++": clever, "truth": 0.1}
    kmeans = [
        {"seed": seed, "start": start, "factor": 4 if start == "pruned" else 1, "error": value, "missed": 0}
        for seed in range(3)
        for start, value in values.items()
    ]
    starts = {"random": 1.0, "pruned by cost": pruned, "knots": clever, "wide": 0.1}
    fits = [
        {
            "target": "smooth",
            "start": start,
            "width": 8 if start == "wide" else 4,
            "seed": seed,
            "error": value,
        }
        for seed in range(3)
        for start, value in starts.items()
    ]
    toys = {"xavier": 1.0, "kept": pruned, "rewind": clever, "large": 0.0}
    toy = [
        {"start": start, "width": 4, "run": run, "success": 1 - value}
        for run in range(3)
        for start, value in toys.items()
    ]
    return pd.DataFrame(kmeans), pd.DataFrame(fits), pd.DataFrame(toy)


@pytest.mark.parametrize(
    ("pruned", "clever", "said"),
    [(0.5, 0.5, "holds"), (0.5, 1.0, "half"), (1.0, 0.5, "half"), (1.0, 1.0, "fails")],
)
def test_first_claim_follows_its_rule(pruned, clever, said):
    profiles = {"k-means": "quick", "regression": "smoke", "toy": "paper"}
    rows = verdict.first_claim(verdict.all_gains(*tables(pruned, clever)), profiles)
    assert [row["C1"] for row in rows] == [said] * 3
    assert [row["problem"] for row in rows] == ["k-means", "regression, smooth", "toy"]
    assert [row["profile"] for row in rows] == ["quick", "smoke", "paper"]


@pytest.mark.parametrize(
    ("pruned", "clever", "said"),
    [
        (["better", "better", "open"], ["better"], "holds"),
        (["better", "open", "open"], ["better"], "open"),
        (["equal", "worse", "better"], ["better"], "half"),
        (["equal", "worse", "open"], ["worse"], "fails"),
    ],
)
def test_one_coin_counts_sizes(pruned, clever, said):
    table = pd.DataFrame({"start": ["p"] * len(pruned) + ["c"] * len(clever), "verdict": [*pruned, *clever]})
    assert verdict.one_coin(table, "p", "c") == said


@pytest.mark.parametrize(
    ("large", "clever", "said"),
    [
        ([("worse", "open"), ("worse", "better"), ("open", "open")], ["worse", "worse", "open"], "holds"),
        (
            [("better", "on par"), ("better", "on par"), ("worse", "open")],
            ["worse", "worse", "worse"],
            "half",
        ),
        ([("better", "open"), ("better", "on par"), ("worse", "open")], ["worse", "worse", "worse"], "open"),
        ([("better", "on par"), ("better", "better")], ["on par", "better"], "fails"),
        ([], ["worse"], "open"),
    ],
)
def test_first_claim_on_images_counts_ratios(large, clever, said):
    """``large`` and ``clever`` hold the narrow network's verdicts against each side, ratio by ratio."""
    rows = []
    for ratio, (spline, ticket) in enumerate(large):
        rows += [(ratio / 10, "spline", spline), (ratio / 10, "ticket early", ticket)]
    rows += [(ratio / 10, "narrow lsuv", found) for ratio, found in enumerate(clever)]
    rows += [(0.0, "narrow long", "worse")]  # on neither side
    table = pd.DataFrame(rows, columns=["ratio", "against", "verdict"]).assign(difference=-0.01)
    table["against"] = table["against"].map(Way)
    row = verdict.image_claim(table, "tiny")
    assert row["C1"] == said
    assert row["clever start, against the random start"].startswith("*narrow, LSUV* +1.0 points")


@pytest.mark.parametrize("tries", [1, 2, 3, 5])
def test_expected_best_of_restarts(tries):
    errors = [3.0, 1.0, 4.0, 1.5, 9.0]
    assert verdict.expected_best(np.array(errors), tries) == pytest.approx(best_of_subsets(errors, tries))


def test_restarts_train_as_many_units_as_the_wide_network():
    table = verdict.restart_table(tables(0.5, 0.7)[1])
    assert table["restarts"].tolist() == [2]
    assert table[["one random start", "best of restarts", "pruned by cost"]].iloc[0].tolist() == [
        1.0,
        1.0,
        0.5,
    ]
