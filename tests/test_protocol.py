"""The protocol's rule: who is compared, by which intervals, and in which words."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from splinelib.errors import SettingError
from splinestudy.results.claim_rows import _seeds
from splinestudy.results.comparison_marks import criterion_marks, savings_marks, ticket_marks
from splinestudy.results.comparisons import standing
from splinestudy.results.marks import whole
from splinestudy.results.missing import missing_least_squares
from splinestudy.results.protocol import (
    BIRD,
    LIKE_FOR_LIKE,
    MASK_BIRD,
    METHODS_OF,
    PAPER_ERA,
    SOLVED,
    TODAY,
    UNEQUAL,
    Planned,
    all_there,
    costs,
    judge,
    judge_saving,
    judge_tickets,
    paired_with_bonferroni,
    reproduced,
    residual_spreads,
)
from splinestudy.results.protocol_networks import early_convergence, judge_sets, judged_savings, stricter
from splinestudy.results.protocol_rows import criterion_rows, saving_rows, ticket_rows
from splinestudy.results.recipe import ASKED, recipe_rows, recipe_table
from splinestudy.results.simultaneous import compare_with_control
from splinestudy.results.variance import seeds_needed
from splinestudy.results.ways import NARROW, SPLINE, Way, way_of
from splinestudy.runs.committed import Study, committed, committed_store
from splinestudy.runs.plans import plan
from splinestudy.runs.profiles import get_profile
from splinestudy.runs.protocol import ALLOCATION, CORE, NORMALISATIONS, READINGS
from splinestudy.runs.provenance import SOURCE
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.records import Record, settings_dict
from splinestudy.runs.store import RecordStore

STUDIES = 120  # simulated
OTHERS = [Way(name) for name in ("l1", "l2", "bn_scale", "fpgm", "taylor", "thinet", "random", "slimming")]


def tidy(values, ways=(SPLINE, *OTHERS), ratio=0.5):
    """Rows of an array [seeds, ways] with NaN for runs that are missing."""
    return pd.DataFrame(
        [
            {"seed": seed, "way": ways[column], "ratio": ratio, "accuracy": value}
            for (seed, column), value in np.ndenumerate(np.asarray(values, float))
            if not np.isnan(value)
        ]
    )


def test_the_set_is_what_the_study_computes_beside_the_spline_criterion():
    planned = {
        way_of(settings_dict(run)) for run in Study("paper_era", "grey").runs() if isinstance(run, PruneRun)
    }
    # Soft filter pruning is run once, to show why it is not compared.
    assert set(PAPER_ERA) == planned - {SPLINE, *map(Way, READINGS), Way("sfp", draw="start")}


def test_the_other_sets_are_what_the_study_computes_like_for_like():
    runs = [run for run in Study("like_for_like", "grey").runs() if isinstance(run, PruneRun)]
    assert {way_of(settings_dict(run)) for run in runs} == {SOLVED, *LIKE_FOR_LIKE, *TODAY}
    assert {run.dense for run in runs} < set(Study("core", "grey").runs())
    assert {way.method for way in LIKE_FOR_LIKE} == {*CORE, "slimming"} - {"spline"}


def test_the_other_sets_are_judged_apart(tmp_path):
    study, store = Study("paper_era", "grey", {"seeds": (0, 1, 2)}), RecordStore(tmp_path)
    real = committed(Study("paper_era", "grey"), committed_store(), "prune")[0]
    solved = replace(study, sweep="like_for_like")
    noise = np.random.default_rng(0)
    for run in dict.fromkeys((*study.runs(), *solved.runs())):
        if isinstance(run, PruneRun):
            accuracy = 0.8 + 0.1 * (run.compensate == "least_squares") + 1e-4 * noise.normal()
            store.save(run, real.results | {"accuracy": accuracy}, real.provenance)
    _, alike, today = judge_sets(study, committed(study, store, "prune"), store)
    assert set(alike["against"]) == set(LIKE_FOR_LIKE)
    assert set(alike["verdict"]) == {"at least on par"}
    found = {row.against: row.verdict for row in today.itertuples()}
    assert found == {TODAY[0]: "worse", TODAY[1]: "at least on par"}
    rows = criterion_rows("C5", "layerwise", store)
    beside = {row["records"].split(", ")[-1]: row["rule"] for row in rows}
    for name, part in (
        ("not the claim but all with least squares", alike),
        ("not the claim but the criterion against today's methods", today),
    ):  # each comparison has runs of its own beside those of the criterion
        runs = part["n"].sum() + 3 * part["ratio"].nunique()
        assert f"of {runs} records before" in beside[name]
    assert "0 of 0 records before" in rows[0]["rule"]  # SimpleCNN does not decide


def test_no_word_of_the_protocol_comes_before_all_methods_planned(tmp_path):
    """All cuts are alike, and every comparison at least on par; but in each set a method or two is not there yet."""
    store, noise = RecordStore(tmp_path), np.random.default_rng(0)
    real = committed(Study("paper_era", "grey"), committed_store(), "prune")[0]

    def planned(sweep, profile):
        runs = Study(sweep, profile, {"seeds": (0, 1, 2), "ratios": (0.5,)}).runs()
        return [run for run in runs if isinstance(run, PruneRun) and run.ratio != 0.3]

    def save(runs):
        for run in runs:
            before = {"dense_epochs": {"spline": 5, "mask": 6}.get(run.draw, 20)}
            accuracy = 0.8 + 1e-4 * noise.normal()
            store.save(run, real.results | before | {"accuracy": accuracy}, real.provenance)

    save([run for run in planned("paper_era", "half") if run.criterion in (*CORE, *READINGS)])
    solved = [run for run in planned("like_for_like", "half") if run.compensate == "least_squares"]
    save([run for run in solved if run.criterion != "thinet"])
    everywhere = planned("core_flops", "half")
    save([run for run in everywhere if run.criterion != "taylor" and run.normalize != "rank"])
    said = [row["ours"] for scope in ("layerwise", "global") for row in criterion_rows("C5", scope, store)]
    assert len(said) == 2 * (2 + len(READINGS) + 2)
    assert all("planned)" in words or "of 9 (" in words for words in said)
    assert not any("*supported*" in words for words in said)
    assert {mark.word for mark in criterion_marks("C6", "global", store)} == {"undecided"}
    ways = [run for run in (*planned("core", "full"), *planned("early", "full")) if run.ratio == 0.5]
    save([run for run in ways if run.criterion != "taylor"])
    assert "at 0.5 *not reproduced so far*" in saving_rows(store)[0]["ours"]
    assert [mark.word for mark in savings_marks(store)] == ["undecided"]
    save(ways)
    assert "at 0.5 *reproduced*" in saving_rows(store)[0]["ours"]
    assert [(mark.word, mark.decides) for mark in savings_marks(store)] == [("supported", True)]


def test_what_a_mark_of_costs_says_of_accuracies_is_counted(tmp_path):
    """A bird that ends worse than all, of which one way is cheaper: nothing is alike or open, and nothing is saved."""
    store, noise = RecordStore(tmp_path), np.random.default_rng(0)
    real = committed(Study("paper_era", "grey"), committed_store(), "prune")[0]
    for sweep in ("core", "early"):
        for run in Study(sweep, "full", {"seeds": (0, 1, 2)}).runs():
            if isinstance(run, PruneRun) and run.ratio == 0.5 and (run.onward or run.draw == "end"):
                own = {"dense_epochs": {"spline": 15, "mask": 5}.get(run.draw, 20)}
                own["accuracy"] = 0.8 - 0.1 * (run.draw == "spline") + 1e-4 * noise.normal()
                store.save(run, real.results | own, real.provenance)
    alone = RecordStore(tmp_path / "alone")
    for record in (json.loads(path.read_text()) for path in store.root.glob("prune/*.json")):
        if not (record["settings"].get("draw") == "spline" and record["settings"]["dense"]["seed"]):
            path = alone.root / "prune" / f"{record['key']}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record))
    assert not savings_marks(alone)  # a single early bird is shown in rows, and makes no mark
    assert len(saving_rows(alone)) == len(saving_rows(store))
    ((_, found, asked),) = judged_savings(store)
    least, most = 1 / found["saving"].max(), 1 / found["saving"].min()
    assert least < 1 < most
    assert found.loc[found["saving"].idxmin(), "against"] == MASK_BIRD
    taken = f"{least:.2f} of what the ways at fixed moments take and {most:.2f} of what EB Train takes"
    assert costs(found) == taken
    (mark,), (row, *_) = savings_marks(store), saving_rows(store)
    assert mark.word == "contradicted"
    assert f"against {asked.methods} other methods on 3 of 5 seeds: worse {asked.methods};" in mark.evidence
    assert "whatever the accuracies (EB Train alone costs no more);" in mark.evidence
    assert not re.search("alike|open|before training", mark.evidence)
    assert mark.evidence.endswith(f"its training takes {taken}")
    assert f"for {taken} (FLOPs), against {asked.methods} ways" in row["ours"]


def test_the_stricter_tests_of_what_is_saved_stand_beside_the_claim(tmp_path):
    """Of two seeds: the bird ends two points below the dense network, and one above the narrow one."""
    store = RecordStore(tmp_path)
    real = committed(Study("early", "grey"), committed_store(), "prune")[0]
    for run in Study("early", "full", {"seeds": (0, 1)}).runs():
        if isinstance(run, PruneRun) and run.ratio == 0.5 and (run.onward or run.start == "fresh"):
            own = {"dense_epochs": 20 if run.start == "fresh" else 15, "dense_accuracy": 0.9}
            own["accuracy"] = (0.87 if run.start == "fresh" else 0.88) + 1e-4 * run.dense.seed
            store.save(run, real.results | own, real.provenance)
    ((records, dense, narrow),) = stricter(store)
    assert {way_of(record.settings).alone() for record in records} == {BIRD, NARROW}
    (row,) = dense.itertuples()
    assert (row.ratio, row.n) == (0.5, 2)
    assert row.difference == pytest.approx(-0.01995, abs=1e-9)
    assert row.training == pytest.approx(birds_training(records), rel=0.01)  # and what the detector takes
    assert narrow["difference"].tolist() == pytest.approx([0.01], abs=1e-9)
    assert (narrow["saving"] < 1).all()
    said = {
        row["records"].split(": ")[1]: row["ours"]
        for row in saving_rows(store)
        if "stricter" in row["records"]
    }
    assert "at 0.5 −2.0 points (−2.1 to −1.9), for" in said["against the dense network"]
    assert re.search(
        r"at 0.5 [a-z ]+ \(\+1.0 points\), which takes 0\.\d\d ",
        said["against the narrow network from scratch"],
    )
    assert not ticket_rows(store)  # a network that never was cut is no ticket


def birds_training(records):
    """Operations of the early birds as a share of dense training, counted here from phases."""
    shares = []
    for record in records:
        if way_of(record.settings).alone() == BIRD:
            share = record.results["cost"]["flops"] / record.results["dense_cost"]["flops"]
            shares.append((15 + 5 * share) / 20)
    return np.mean(shares)


def test_a_mark_of_costs_says_where_choosing_before_training_is_the_cheaper_way():
    marks = [mark for mark in savings_marks(committed_store()) if mark.by_protocol]
    assert marks
    beaten = [mark for mark in marks if "SimpleCNN" in mark.case]
    assert all("chooses before training" in mark.evidence for mark in beaten)
    assert not any(mark.decides for mark in beaten)  # no early bird undercuts that
    assert whole(beaten) == "undecided"


def test_a_study_cut_short_has_whole_ratios():
    runs = [run for run in plan("core", get_profile("half")) if isinstance(run, PruneRun)]
    assert [run.ratio for run in runs] == [ratio for ratio in (0.5, 0.7, 0.3) for _ in range(len(runs) // 3)]
    seeds = [run.dense.seed for run in runs if run.ratio == 0.7]
    assert seeds == sorted(seeds)
    only = [
        run.ratio for run in plan("core", get_profile("half", ratios=(0.7,))) if isinstance(run, PruneRun)
    ]
    assert set(only) == {0.7}
    assert len(only) == len(runs) // 3


def test_one_allocation_is_judged_apart_from_each_one_s_own():
    runs = [run for run in Study("core_flops", "grey").runs() if isinstance(run, PruneRun)]
    ways = {way_of(settings_dict(run)) for run in runs}
    assert {(way.allocation, way.normalize) for way in ways} == {
        *(("", how) for how in ("mean", *NORMALISATIONS)),
        (ALLOCATION, "mean"),
    }
    shared = {way.method for way in ways if way.allocation}
    assert shared | {ALLOCATION} == {*CORE, "slimming", *READINGS}
    assert ALLOCATION not in shared


def test_spreads_of_complete_blocks_by_hand():
    values = np.random.default_rng(0).normal(size=(5, 4))
    left = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    own = np.sqrt((left**2).sum(axis=0) / (4 * 3 / 4))
    pooled = np.sqrt((left**2).sum() / 12)
    found = residual_spreads(tidy(values, (SPLINE, *OTHERS[:3])))
    np.testing.assert_allclose([found[way] for way in (SPLINE, *OTHERS[:3])], own / pooled)


def test_a_method_with_one_run_has_no_spread():
    values = np.random.default_rng(0).normal(size=(5, 4))
    values[1:, 3] = np.nan
    found = residual_spreads(tidy(values, (SPLINE, *OTHERS[:3])))
    assert np.isnan(found[OTHERS[2]])
    assert not np.isnan(found[SPLINE])


def test_bonferroni_is_students_interval_at_a_smaller_error():
    values = np.random.default_rng(1).normal(size=(6, 5))
    values[2, 1] = np.nan
    found = paired_with_bonferroni(tidy(values, (SPLINE, *OTHERS[:4]))).set_index("treatment")
    for column, way in enumerate(OTHERS[:4], start=1):
        differences = values[:, 0] - values[:, column]
        differences = differences[~np.isnan(differences)]
        interval = stats.ttest_1samp(differences, 0).confidence_interval(1 - 0.05 / 4)
        assert found.loc[way, "n"] == len(differences)
        np.testing.assert_allclose(found.loc[way, ["low", "high"]].astype(float), interval)


def test_equal_spreads_are_pooled_and_an_unequal_one_is_not():
    rng = np.random.default_rng(2)
    values = 0.9 + rng.normal(0, 0.003, (5, 9))
    alike = judge(tidy(values))
    assert set(alike["intervals"]) == {"Dunnett"}
    expected = compare_with_control(tidy(values), control=SPLINE, treatment="way")
    np.testing.assert_allclose(alike["low"], expected["low"])
    values[:, 0] = 0.9 + rng.normal(0, 0.05, 5)
    unequal = judge(tidy(values))
    assert set(unequal["intervals"]) == {"Bonferroni"}
    assert set(unequal["unequal"]) == {"spline"}


def test_by_chance_the_paired_intervals_decide_often_with_two_seeds_and_hardly_ever_with_five():
    """What the protocol says of them, for the criterion and all of set (a), which scatter alike here."""
    rng, ways, often = np.random.default_rng(4), (SPLINE, *PAPER_ERA), {}
    for seeds in (2, 5):
        spreads = [residual_spreads(tidy(rng.normal(size=(seeds, len(ways))), ways)) for _ in range(STUDIES)]
        often[seeds] = np.mean([max(found.values()) > UNEQUAL for found in spreads])
    assert often[2] > 0.3
    assert often[5] < 0.05


@pytest.mark.parametrize(("spread", "least"), [(1, 0.94), (6, 0.94)])
def test_intervals_cover_all_truths_whatever_the_spread_of_the_spline_criterion(spread, least):
    """With six times the spread of the others a pooled variance would cover them in half of all studies."""
    rng = np.random.default_rng(3)
    covered = pooled = 0
    for _ in range(STUDIES):
        values = rng.normal(size=(5, 1)) + rng.normal(size=(5, 9)) * ([spread] + [1] * 8)
        table = tidy(values)
        found = judge(table)
        covered += bool(((found["low"] <= 0) & (found["high"] >= 0)).all())
        all_alike = compare_with_control(table, control=SPLINE, treatment="way") if spread > 1 else found
        pooled += bool(((all_alike["low"] <= 0) & (all_alike["high"] >= 0)).all())
    assert covered / STUDIES > least - 3 * np.sqrt(0.05 * 0.95 / STUDIES)
    if spread > 1:
        assert pooled / STUDIES < 0.7


def test_only_the_paper_era_is_judged_against_and_ratios_apart():
    values = [[0.90, 0.80, 0.95], [0.91, 0.81, 0.96], [0.905, 0.805, 0.955]]
    greedy = Way("reconstruction", compensate="least_squares")
    table = pd.concat([tidy(values, (SPLINE, Way("l1"), greedy), ratio) for ratio in (0.3, 0.7)])
    found = judge(table)
    assert found[["ratio", "against", "verdict"]].to_numpy().tolist() == [
        [0.3, Way("l1"), "better"],
        [0.7, Way("l1"), "better"],
    ]


def test_what_is_undecided_says_how_many_seeds_would_do():
    values = 0.9 + np.random.default_rng(5).normal(0, 0.02, (3, 9))
    found = judge(tidy(values))
    sd = compare_with_control(tidy(values), control=SPLINE, treatment="way")["sd"][0]
    words = seeds_needed(sd, 8, 0.008)
    assert f"(where nothing differs, about {words} seeds would decide," in _seeds(found)
    assert _seeds(judge(tidy(0.9 + (values - 0.9) / 100))) == ""  # decided
    values[:, 0] = [0.7, 0.9, 1.1]
    assert _seeds(judge(tidy(values))) == ""  # whose spread is not common


def test_a_ratio_without_the_spline_criterion_has_no_verdict():
    assert judge(tidy([[0.9, 0.8]], (Way("l2"), Way("l1")))).empty


def test_the_control_must_be_there():
    with pytest.raises(SettingError, match="control"):
        paired_with_bonferroni(tidy([[0.9]], (Way("l1"),)))


def test_the_ticket_of_the_draw_is_compared_with_each_moment():
    detected = Way("spline", draw="detector")
    rows = [
        (seed, way, epochs, 0.9 + 0.001 * seed + gain)
        for seed in range(4)
        for way, epochs, gain in (
            (detected, 7 + seed, 0.0),  # wherever it drew
            (Way("spline", draw=5), 5, -0.05),
            (SPLINE, 20, 0.004 * (-1) ** seed),
        )
    ]
    table = pd.DataFrame(rows, columns=["seed", "way", "dense_epochs", "accuracy"]).assign(ratio=0.5)
    found = judge_tickets(table)
    assert found["against"].tolist() == [5, 20]
    np.testing.assert_allclose(found["difference"], [0.05, 0.0], atol=1e-12)
    assert found["verdict"].tolist() == ["better", "at least on par"]
    assert judge_tickets(table[table["way"] != detected]).empty


def test_a_ticket_of_the_second_half_or_of_the_end_itself_is_no_early_one(tmp_path):
    """It is equal to that of the end. Without the latter the last moment is named."""
    real = committed(Study("early", "grey"), committed_store(), "prune")[0]
    dense = committed(Study("early", "grey"), committed_store(), "dense")[0]
    runs = Study("early", "full_residual", {"seeds": (0, 1, 2)}).runs()
    tickets = [run for run in runs if isinstance(run, PruneRun) and not run.onward]
    drawn_at = ((6, True), (10, True), (11, True), (20, True), (20, False))
    for epoch, drawn, ends in (*((*when, True) for when in drawn_at), (6, True, False)):
        store, early = RecordStore(tmp_path / f"{epoch} {drawn} {ends}"), epoch <= 10
        for run in runs:
            if run.kind == "dense" and not run.train.norm_l1:
                store.save(run, dense.results, dense.provenance)
        for run in tickets:
            if ends or run.draw != "end":
                moment = {"end": 20, "spline": epoch}.get(run.draw, run.draw)
                own = {"dense_epochs": moment, "drawn": drawn or run.draw != "spline", "accuracy": 0.9}
                store.save(run, real.results | own, real.provenance)
        (row,), (mark,) = ticket_rows(store), ticket_marks(store)
        assert (mark.word == "supported") == (early and ends) == ("*converges early*" in row["ours"])
        assert "ends 0.0 points above that of " in mark.evidence
        assert ("above that of the end" in mark.evidence) == ends
        assert ("in 3 runs it drew at the end or never" in mark.evidence) == (epoch == 20)
        assert ("in 3 runs it drew in the second half" in mark.evidence) == (epoch == 11)


def test_savings_are_quotients_of_mean_training():
    ways = (BIRD, Way("l1"), Way("EB Train"), Way("narrow"))
    accuracy = tidy([[0.90, 0.90, 0.80, 0.99], [0.91, 0.91, 0.81, 0.99], [0.92, 0.92, 0.82, 0.99]], ways)
    training = {ways[0]: 0.5, ways[1]: 1.25, ways[2]: 0.4, ways[3]: 0.1}
    found = judge_saving(accuracy.assign(training=[training[way] for way in accuracy["way"]]))
    assert found["against"].tolist() == [Way("l1"), Way("EB Train")]
    np.testing.assert_allclose(found["saving"], [2.5, 0.8])
    assert found["verdict"].tolist() == ["at least on par", "better"]


def test_a_mask_that_is_drawn_never_leaves_the_other_intervals_alone():
    """EB Train's accuracies scatter by tens of points where it draws late: it is compared by itself."""
    others = tuple(Way(name) for name in ("l1", "l2", "fpgm", "taylor", "thinet", "random"))
    ways = (BIRD, *others, MASK_BIRD)
    noise = 1e-3 * np.random.default_rng(0).normal(size=(5, len(ways)))
    noise[:, -1] *= 300
    table = tidy(0.9 + noise, ways).assign(training=1.0)
    found = judge_saving(table).set_index("against")
    alone = judge(table[table["way"] != MASK_BIRD], BIRD, ways).set_index("against")
    assert (alone["intervals"] == "Dunnett").all()
    columns = ["n", "difference", "low", "high", "verdict", "intervals"]
    pd.testing.assert_frame_equal(found.loc[alone.index, columns], alone[columns])
    assert found.loc[MASK_BIRD, "verdict"] == "open"
    assert set(judge(table, BIRD, ways)["intervals"]) == {"Bonferroni"}


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [
        (["better", "at least on par"], "supported"),
        (["better", "worse"], "contradicted"),
        (["better", "open"], "undecided"),
        (["one seed"], "undecided"),
        ([], "undecided"),
    ],
)
def test_words_for_one_network_and_ratio(verdicts, word):
    assert standing(verdicts) == word


def test_a_claim_is_not_supported_before_all_methods_planned_are_there():
    assert [standing(["better"] * 7, asked) for asked in (7, 8)] == ["supported", "undecided"]
    assert standing(["worse"], 8) == "contradicted"


@pytest.mark.parametrize("sweep", ["core", "core_flops", "paper_era"])
def test_every_sweep_plans_as_many_methods_as_it_is_judged_by(sweep):
    runs = plan(sweep, get_profile("half", seeds=(0,), ratios=(0.5,)))
    own = [
        run for run in runs if isinstance(run, PruneRun) and not run.allocation and run.normalize == "mean"
    ]
    names = [run.criterion for run in own if run.criterion not in (*READINGS, "spline", "sfp")]
    assert len(names) == METHODS_OF[sweep]


@pytest.mark.parametrize(
    ("standings", "word"),
    [
        (["supported"] * 9, "reproduced"),
        (["supported"] * 8 + ["undecided"], "mixed"),
        (["supported"] * 8 + ["contradicted"], "mixed"),
        (["supported"] * 7 + ["contradicted"] * 2, "not reproduced"),
        (["contradicted"] * 2, "not reproduced"),
        (["supported"] * 8, "not decided yet"),
        ([], "not decided yet"),
    ],
)
def test_the_word_for_the_claim(standings, word):
    assert reproduced(standings) == word


def test_a_network_and_ratio_count_once_all_planned_seeds_are_there():
    """Contradicted everywhere, but with seeds to come: nothing is certain. Nine undecided ones are nothing in part."""
    asked = Planned(2, 5)
    part = pd.DataFrame({"n": [5, 5]})
    assert all_there(part, asked)
    assert not all_there(part.assign(n=[5, 4]), asked)
    assert not all_there(part.iloc[:1], asked)
    shown = next(mark for mark in criterion_marks("C5", "layerwise", committed_store()) if mark.counted)

    def word_of(word, complete, count=9):
        return whole([replace(shown, word=word, decides=True, complete=complete)] * count)

    assert word_of("contradicted", False) == "undecided"
    assert word_of("contradicted", True) == "contradicted"
    assert word_of("undecided", True) == "undecided"
    assert word_of("supported", True) == "supported"
    assert word_of("supported", True, 8) == "undecided"


def test_networks_stand_beside_what_the_recipe_should_reach(tmp_path):
    said = (SOURCE / "book" / "protocol.md").read_text()
    assert all(f"{100 * asked:g} % with " in said for asked in ASKED.values())
    store = RecordStore(tmp_path)
    assert recipe_rows(store) == []
    assert "None" in recipe_table(store)
    for profile, reached in (("half", (0.90, 0.91)), ("full_residual", (0.905,))):
        runs = [run for run in Study("core", profile).runs() if run.kind == "dense"]
        plain = [run for run in runs if not run.train.norm_l1]
        for run, accuracy in zip(plain, reached, strict=False):
            rows = [{"accuracy": 0.1, "loss": 2.0}, {"accuracy": accuracy, "loss": accuracy - 0.6}]
            store.save(run, {"epochs": rows}, {})
        slim = next(run for run in runs if run.train.norm_l1)
        store.save(slim, {"epochs": [{"accuracy": 0.2}]}, {})
    half, residual = recipe_rows(store)
    assert half == {
        "network": "VGG-16 ×1/2, CIFAR-10",
        "seeds": "2",
        "accuracy": "90.50 ± 0.71 %",
        "asked": "91 %",
        "short by": "0.50 points",
        "training loss": "0.31",
    }
    assert (residual["seeds"], residual["short by"]) == ("1", "reached")


def test_runs_with_least_squares_that_are_not_there_are_counted(tmp_path):
    study, store = Study("methods", "study"), RecordStore(tmp_path)
    solved = [run for run in study.runs() if getattr(run, "compensate", "") == "least_squares"]
    for run in solved[:-2]:
        store.save(run, {}, {})
    assert missing_least_squares(study, store).startswith(f"*2 of {len(solved)} runs with least squares")
    for run in solved[-2:]:
        store.save(run, {}, {})
    assert missing_least_squares(study, store) == ""


@pytest.mark.parametrize(("epochs", "word"), [(6, "contradicted"), (18, "undecided"), (20, "undecided")])
def test_a_late_draw_that_ends_worse_says_nothing_of_early_ones(epochs, word):
    settings = {"draw": "spline", "dense": {"train": {"epochs": 20}}}
    ticket = Record("prune", "key", settings, {"dense_epochs": epochs}, {})
    found = pd.DataFrame({"against": [20], "verdict": ["worse"]})
    assert early_convergence(found, [ticket], Study("early", "full")) == word
