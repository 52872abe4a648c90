"""Tables and figures of settling, of tickets and of what they save, on records made by hand."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from test_tables import pruned, with_results

from splinelib import SplineEarlyBird, plots, tables
from splinelib.earlybird import first_settled
from splinelib.plans import plan
from splinelib.profiles import get_profile
from splinelib.records import Record, run_key, settings_dict
from splinelib.schedules import SCHEDULES, chosen_schedules

PROFILE = get_profile("study", images=100, seeds=[0, 1], epochs=8)


def settling_record(run, distance):
    """Every two epochs are ``distance`` apart, each bit changes once and stays; two layers."""
    count, rates = run.training.train.epochs, run.training.train
    matrix = np.full((count, count), distance)
    np.fill_diagonal(matrix, 0)
    shown = {
        "epoch": first_settled(matrix),
        "distances": matrix.tolist(),
        "to_final": [[0.1, 0.3]] * (count - 1) + [[0.0, 0.0]],
        "settled": [[0.5, 0.7]] * (count - 1) + [[1.0, 1.0]],
    }
    watched = [
        {"inputs": c.inputs, "points": c.points, "draw": c.draw, "seconds": 1.0, **shown}
        for c in run.canvases
    ]
    rows = [
        {"epoch": epoch, "lr": rates.lr_at(epoch), "accuracy": 0.5, "averaged_accuracy": 0.6}
        for epoch in range(count)
    ]
    provenance = {"profile": "tiny", "seconds": 7.0, "hardware": "h", "finished": "2026-01-01"}
    results = {"epochs": rows, "watched": watched, "averaged": shown}
    return Record("settling", run_key(run), settings_dict(run), results, provenance)


@pytest.fixture
def settling():
    """Half of the schedules' runs stand still enough for the rule, and half do not."""
    runs = plan("settling", PROFILE)
    return [settling_record(run, 0.1 if number % 2 == 0 else 0.3) for number, run in enumerate(runs)]


@pytest.mark.parametrize("seed", range(20))
def test_the_rule_applied_afterwards_draws_as_the_detector_does(seed, generator):
    matrix = np.random.default_rng(seed).uniform(0.1, 0.25, (12, 12))
    threshold, window = [0.2, 0.24][seed % 2], 1 + seed % 3
    detector = SplineEarlyBird(None, threshold, window)
    for epoch in range(12):
        detector._history.append(None)
        detector._distances.append(matrix[epoch, :epoch, None])
        if detector.epoch is None and detector._settled():
            detector.epoch = epoch
    assert first_settled(matrix, threshold, window) == detector.epoch


def test_schedules_have_their_measures(settling):
    table = tables.schedule_table(settling, PROFILE)
    assert list(table["schedule"].unique()) == list(SCHEDULES)
    assert len(table) == 10 * 2 * 8
    row = table.query("schedule == 'standard' and seed == 0 and epoch == 5").iloc[0]
    assert row["distance"] == pytest.approx(0.1)
    assert row["per_rate"] == pytest.approx(0.1 / 0.01)
    assert row["to_final"] == pytest.approx(0.2)
    assert row["moved"] == pytest.approx(0.4)
    assert np.isnan(table.query("epoch == 0")["distance"]).all()


def test_draws_stand_beside_the_drop(settling):
    table = tables.draw_table(settling, PROFILE).set_index(["schedule", "seed"])
    assert table.loc[("standard", 0), "epoch"] == 3
    assert np.isnan(table.loc[("standard", 1), "epoch"])
    assert table["first_drop"].groupby("schedule").first()[
        ["standard", "early drop", "late drop"]
    ].tolist() == [
        4,
        2,
        6,
    ]
    assert np.isnan(table.loc[("constant", 0), "first_drop"])


def test_canvases_are_compared_with_the_largest(settling):
    table = tables.canvas_table(settling)
    assert len(table) == 2 * 13
    assert set(table["difference"]) == {0.0}
    assert table.query("canvas == 'pair, 32 × 32'")["cost"].tolist() == [1024 / 300] * 2
    assert {"pair 2, 32 × 32", "64 test images", "1024 noise images"} <= set(table["canvas"])
    assert tables.canvas_table(settling[2:]).empty


def test_rules_are_applied_to_every_run(settling):
    matrices = tables.matrices_by_schedule(settling, PROFILE)
    assert {name: len(found) for name, found in matrices.items()} == dict.fromkeys(SCHEDULES, 2)
    table = tables.rule_table(matrices["standard"], [0.05, 0.2, 0.4], [1, 3])
    assert np.isnan(table[0.05]).all()
    assert np.isnan(table[0.2]).all()  # one of the two runs never draws
    assert table[0.4].tolist() == [1, 3]


def test_the_claim_follows_from_the_constant_schedule(settling):
    def claim(records):
        drawn, epochs = tables.draw_table(records, PROFILE), tables.schedule_table(records, PROFILE)
        return tables.settling_claim(records, drawn, epochs)["ours"]

    assert "does not settle by itself" in claim(settling)  # drawn in one of two runs
    still = [record if number % 2 == 0 else settling[number - 1] for number, record in enumerate(settling)]
    still = [
        dataclasses.replace(a, key=b.key, settings=b.settings) for a, b in zip(still, settling, strict=True)
    ]
    assert "the first half in 2 of 2 runs" in claim(still)
    # 0.2 away from the final partition, on average over layers: too far.
    assert "then 0.20 away from the final partition: the partition does not settle" in claim(still)
    for record in still:
        record.results["watched"][0]["to_final"] = [[0.1, 0.1]] * 8
    assert "the partition settles by itself" in claim(still)


def test_schedules_can_be_chosen():
    assert chosen_schedules(["cosine"]) == ("cosine",)
    assert {run.training.train.cosine for run in plan("settling", PROFILE, ["cosine"])} == {True}
    for wrong, named in ((["cosin"], "'cosin'"), ([], "None")):
        with pytest.raises(Exception, match=f"schedules hold {named}: choose from standard"):
            chosen_schedules(wrong)


def ticket(epochs, seed, accuracy):
    draw = "end" if epochs == 16 else epochs
    return with_results(pruned("spline", seed, accuracy, draw=draw), dense_epochs=epochs)


def test_early_tickets_are_paired_with_the_last():
    lost = [ticket(2, seed, 0.50 + 0.001 * seed) for seed in range(3)]
    kept = [ticket(8, seed, 0.70 + 0.0001 * seed) for seed in range(3)]
    last = [ticket(16, seed, 0.70) for seed in range(3)]
    early = tables.early_tickets(tables.pruning_table([*lost, *kept, *last], "layerwise"))
    assert early["dense_epochs"].tolist() == [2, 8]
    assert early["difference"].tolist() == pytest.approx([-0.199, 0.0001])
    assert early["verdict"].tolist() == ["worse", "on par"]
    assert (early["low"] <= early["difference"]).all()
    cut_short = [with_results(pruned("random", 0, 0.4, draw=2), dense_epochs=2)]
    both = tables.pruning_table([*lost, *kept, *last, *cut_short], "layerwise")
    assert tables.early_tickets(both).equals(early)  # there is no last random ticket to compare with
    claim = tables.ticket_claim(last, early)["ours"]
    assert "worse after 2 (-19.9), on par after 8 (+0.0)" in claim


def saving(criterion, seed, accuracy, scope="layerwise", **settings):
    record = pruned(criterion, seed, accuracy, scope=scope, **settings)
    record = with_results(record, dense_epochs=8 if settings.get("onward") else 16, epochs=[{"seconds": 1.0}])
    return dataclasses.replace(record, key=f"{criterion} {seed} {scope} {sorted(settings)}")


@pytest.fixture
def savings():
    bird = {"draw": "spline", "onward": True, "finetune": {"epochs": 16}}
    return [
        record
        for seed in range(3)
        for record in (
            saving("spline", seed, 0.9, **bird),
            saving("spline", seed, 0.8, scope="global", **bird),
            saving("random", seed, 0.7 + 0.01 * seed, start="fresh"),
            saving("l1", seed, 0.95, start="early", finetune={"epochs": 16}),
        )
    ]


def test_savings_by_hand(savings):
    table = tables.savings_table(savings)
    summary = tables.savings_summary(table).set_index("criterion")
    assert set(summary.index) == {"spline early bird", "spline early bird (global)", "narrow", "ticket early"}
    bird = summary.loc["spline early bird"]
    canvas = 100 * 8 / (3 * 200 * 16)
    assert bird["saving"] == pytest.approx(1 / (0.5 + 0.5 * 0.25 + canvas))
    assert bird["loss"] == pytest.approx(0)
    assert bird["no_loss"]
    assert summary.loc["narrow", "loss"] == pytest.approx(0.19)
    assert summary.loc["narrow", "loss_se"] == pytest.approx(0.01 / 3**0.5)
    assert summary["no_loss"].to_dict() == {
        "spline early bird": True,
        "spline early bird (global)": False,
        "narrow": False,
        "ticket early": True,
    }


def test_early_tickets_and_their_price_have_names_of_their_own():
    records = [
        saving("spline", 0, 0.9, draw=4, finetune={"epochs": 8}),
        saving("spline", 0, 0.8, draw="end", finetune={"epochs": 2}),
        saving("random", 0, 0.7, start="fresh", finetune={"epochs": 24}),
        saving("random", 0, 0.7, start="fresh", finetune={"epochs": 80}),
    ]
    table = tables.savings_table(records)
    assert table["criterion"].tolist() == ["narrow early", "narrow long", "spline", "spline at epoch 4"]
    assert tables.label_of("spline at epoch 4") == "spline ticket of epoch 4, schedule anew"
    assert tables.bird_ratios(table) == []
    assert tables.savings_table([]).empty


def test_the_dense_accuracy_is_that_of_networks_without_l1_on_their_scales(savings):
    bird = {"draw": "mask", "onward": True, "finetune": {"epochs": 16}}
    slim = with_results(saving("bn_scale", 0, 0.5, **bird), dense_accuracy=0.1)
    table = tables.savings_table([*savings, slim])
    assert tables.dense_spread(table) == pytest.approx((0.9, 0))
    assert tables.bird_ratios(table) == [0.5]


def test_the_front_is_beaten_by_none(savings):
    front = tables.pareto_front(tables.savings_summary(tables.savings_table(savings)))
    assert front["criterion"].tolist() == ["narrow", "spline early bird", "ticket early"]


def test_the_saving_claim_names_the_largest_saving_without_loss(savings):
    summary = tables.savings_summary(tables.savings_table(savings))
    claim = tables.savings_claim(savings, summary)["ours"]
    assert claim.startswith("largest saving without loss: 1.41 ×, *spline early bird* at ratio 0.5")
    dear = summary.assign(saving=summary["saving"] / 2, training_mean=2 * summary["training_mean"])
    claim = tables.savings_claim(savings, dear)["ours"]
    assert claim.startswith(
        "no saving without loss; the cheapest without loss is *spline early bird* at ratio 0.5"
    )
    worse = summary.assign(no_loss=False)
    assert (
        "no method is without loss; the least loss, -5.0 points"
        in tables.savings_claim(savings, worse)["ours"]
    )


def test_energy_is_said_where_it_was_counted(savings):
    assert "not measured" in tables.energy_note(savings)
    counted = with_results(savings[0], dense_joules=500.0, epochs=[{"joules": 1500.0}])
    assert tables.energy_note([counted, *savings]) == "* spline early bird: 2.0 kJ"


def test_one_seed_is_never_without_loss(savings):
    summary = tables.savings_summary(tables.savings_table(savings[:4]))
    assert not summary["no_loss"].any()
    assert summary["loss_se"].isna().all()


def test_phases_are_shares_and_the_cheapest_method_comes_first(savings):
    means = tables.phase_means(savings)
    assert list(means.columns) == list(tables.PHASES)
    assert means.index[0] == "narrow"
    assert means.loc["ticket early"].tolist() == pytest.approx([1, 0, 0, 0.25])


# --- figures --------------------------------------------------------------------------------------------------


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def labels(ticks):
    return [label.get_text() for label in ticks]


def test_every_schedule_is_drawn(axes, settling):
    plots.schedule_curves(axes, tables.schedule_table(settling, PROFILE), "to_final", "y")
    assert [line.get_label() for line in axes.lines] == list(SCHEDULES)
    assert len({(line.get_color(), str(line.get_linestyle())) for line in axes.lines}) == len(SCHEDULES)


def test_draws_have_a_row_each(axes, settling):
    plots.schedule_draws(axes, tables.draw_table(settling, PROFILE))
    assert labels(axes.get_yticklabels()) == list(SCHEDULES)


def test_a_detector_that_never_draws_is_marked_at_the_edge(axes):
    table = pd.DataFrame({"detector": ["spline", "spline", "mask 0.3"], "epoch": [2, 4, np.nan], "epochs": 8})
    plots.detected_epochs(axes, table)
    dots = [(part.get_offsets()[:, 0].tolist()) for part in axes.collections]
    assert dots == [[2, 4], [], [], [8]]
    assert labels(axes.get_yticklabels()) == ["spline", "mask 0.3"]


@pytest.mark.parametrize(("count", "rows"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)])
def test_panels_stand_two_in_a_row(count, rows):
    figure, axes = plots.panels(count, 4, 3)
    plt.close(figure)
    assert len(axes) == len(figure.axes) == count
    assert figure.get_size_inches().tolist() == [4 if count < 2 else 8, 3 * rows]


def test_canvases_have_a_row_each(axes, settling):
    table = tables.canvas_table(settling)
    plots.canvas_draws(axes, table, 8)
    assert labels(axes.get_yticklabels()) == list(table["canvas"].unique())


def test_the_rule_map_marks_what_is_never_drawn(axes, settling):
    matrices = tables.matrices_by_schedule(settling, PROFILE)["standard"]
    plots.rule_map(axes, tables.rule_table(matrices, [0.05, 0.4], [1, 3]), 8)
    assert [text.get_text() for text in axes.texts] == ["–", "1.0", "–", "3.0"]


def test_savings_are_drawn(axes, savings):
    summary = tables.savings_summary(tables.savings_table(savings))
    plots.pareto(axes, summary, tables.pareto_front(summary), (0.9, float("nan")))
    assert {text.get_text() for text in axes.legend().get_texts()} == {
        "lottery ticket, early weights",
        "narrow network from scratch",
        "spline early bird",
        "spline early bird, global",
        "dense",
    }


def test_tickets_of_several_moments_share_a_sign(axes):
    records = [saving("spline", 0, 0.5 + epoch / 100, draw=epoch, finetune={"epochs": 8}) for epoch in (4, 8)]
    summary = tables.savings_summary(tables.savings_table(records))
    plots.pareto(axes, summary, tables.pareto_front(summary), (0.9, 0.1))
    plots.legend_below(axes.figure, columns=1)
    assert [text.get_text() for text in axes.texts] == ["4", "8"]
    shown = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert shown == ["spline ticket of epoch (number), schedule anew", "dense"]


def test_phases_are_stacked(axes, savings):
    means = tables.phase_means(savings)
    plots.phase_bars(axes, means)
    ends = {bar.get_y(): bar.get_x() + bar.get_width() for bar in axes.patches}
    assert list(ends.values()) == pytest.approx(means.sum(axis=1).tolist())


def test_outcomes_have_a_point_for_each_draw(axes):
    records = [ticket(epochs, seed, 0.5) for epochs in (16, 1) for seed in range(2)]
    table = tables.pruning_table(records, "layerwise")
    plots.ticket_outcomes(axes, tables.summarise(table, ["criterion", "dense_epochs"], ["accuracy"]))
    assert axes.containers[0].lines[0].get_xdata().tolist() == [1, 16]


def test_exact_distances_stand_beside_sampled_ones(axes):
    exact, sampled = np.ones((2, 3)), np.ones((2, 2, 3))
    plots.exact_and_sampled(axes, np.array([1, 2, 4]), exact, sampled, (3, 10))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "area, exact",
        "3 × 3 points",
        "10 × 10 points",
    ]
