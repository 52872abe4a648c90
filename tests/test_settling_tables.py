"""Tables and figures of settling, of tickets and of what they save, on records made by hand."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from test_tables import DENSE, pruned, with_results

from splinelib import SplineEarlyBird
from splinelib.early_bird.detectors import first_settled
from splinelib.errors import SettingError
from splinestudy import plots
from splinestudy import results as tables
from splinestudy.runs.plans import plan
from splinestudy.runs.profiles import get_profile
from splinestudy.runs.records import Record, run_key, settings_dict
from splinestudy.runs.schedules import DROPS, SCHEDULES, STEPS, chosen_schedules, schedule_name, settling_runs

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
def test_the_rule_applied_afterwards_draws_as_the_detector_does(seed):
    """At the zero point a unit's sign is that of its bias: on every update one in seven or so is negative."""
    random = np.random.default_rng(seed)
    threshold, window = [0.2, 0.24][seed % 2], 1 + seed % 3
    detector = SplineEarlyBird(torch.zeros(1, 1), threshold, window)
    model = torch.nn.Sequential(torch.nn.Linear(1, 40), torch.nn.ReLU())
    for _ in range(12):
        signs = torch.from_numpy(np.where(random.uniform(size=40) < 0.14, -1.0, 1.0))
        model[0].bias.data.copy_(signs)
        detector.update(model)
    assert first_settled(detector.distances, threshold, window) == detector.epoch


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


def test_the_order_of_records_does_not_matter(settling):
    for table in (tables.schedule_table, tables.draw_table, tables.canvas_table):
        assert table(settling[::-1], PROFILE).equals(table(settling, PROFILE))


def test_canvases_are_compared_with_the_largest(settling):
    table = tables.canvas_table(settling, PROFILE)
    assert len(table) == 2 * 2 * 13
    assert table["schedule"].unique().tolist() == ["standard", "constant"]
    assert set(table["difference"]) == {0.0}
    assert table.query("canvas == 'pair, 32 × 32'")["cost"].tolist() == [1024 / 300] * 4
    assert {"pair 2, 32 × 32", "64 test images", "1024 noise images"} <= set(table["canvas"])
    assert tables.canvas_table(settling[4:], PROFILE).empty


def test_the_cost_of_a_canvas_is_a_share_of_the_data_set_s_own_images():
    profile = get_profile("breadth", seeds=[0], epochs=4)
    (run,) = settling_runs(profile, ["standard"])
    table = tables.canvas_table([settling_record(run, 0.1)], profile).set_index("canvas")
    assert table.loc["pair, 100 × 100", "cost"] == 10_000 / (3 * 60_000)


def test_runs_of_another_profile_are_named(settling):
    other = get_profile("study", images=100, seeds=[1, 2], epochs=8)
    (run,) = settling_runs(dataclasses.replace(PROFILE, seeds=(0,)), ["standard"])
    with pytest.raises(SettingError, match=r"the run has seed 0, the profile's are \(1, 2\)"):
        schedule_name(run, other)
    with pytest.raises(SettingError, match=r"epochs=8.* on none of standard, constant, .* own profile"):
        schedule_name(run, dataclasses.replace(PROFILE, epochs=9))
    for table in (tables.schedule_table, tables.draw_table, tables.canvas_table, tables.matrices_by_schedule):
        with pytest.raises(SettingError, match=r"record \w+ \(VGG-16 ×1/8, CIFAR-10, 100 images\) is not"):
            table(settling, other)


def test_groups_of_schedules_share_the_standard_one_alone():
    assert set(DROPS) | set(STEPS) == set(SCHEDULES)
    assert set(DROPS) & set(STEPS) == {"standard"}


def test_rules_are_applied_to_every_run(settling):
    matrices = tables.matrices_by_schedule(settling, PROFILE)
    assert {name: len(found) for name, found in matrices.items()} == dict.fromkeys(SCHEDULES, 2)
    table = tables.rule_table(matrices["standard"], [0.05, 0.2, 0.4], [1, 3])
    assert np.isnan(table[0.05]).all()
    assert np.isnan(table[0.2]).all()  # one of the two runs never draws
    assert table[0.4].tolist() == [1, 3]


def settling_claim(records):
    drawn, epochs = tables.draw_table(records, PROFILE), tables.schedule_table(records, PROFILE)
    return tables.settling_claim(records, drawn, epochs)


def test_the_claim_follows_from_the_constant_schedule(settling):
    def claim(records):
        return settling_claim(records)["ours"]

    assert "drawn at epoch 3, never, in the first half in 1 of 2 runs" in claim(settling)
    assert "does not settle by itself" in claim(settling)
    still = [record if number % 2 == 0 else settling[number - 1] for number, record in enumerate(settling)]
    still = [
        dataclasses.replace(a, key=b.key, settings=b.settings) for a, b in zip(still, settling, strict=True)
    ]
    assert "the first half in 2 of 2 runs" in claim(still)
    # 0.2 away from the final partition, on average over layers: too far.
    far = "then 0.20 away from the final partition, with 40 % of all bits still to change: the partition does not"
    assert far in claim(still)
    for record in still:
        record.results["watched"][0]["to_final"] = [[0.1, 0.1]] * 8
    assert "still to change: the partition settles by itself" in claim(still)


def test_the_claim_says_what_moves_where_nothing_is_drawn(settling):
    moving = [record for number, record in enumerate(settling) if number % 2]
    claim = settling_claim(moving)["ours"]
    assert "drawn at epoch never, in the first half in 0 of 1 runs; half-way 40 % of all bits will" in claim


def test_the_claim_does_not_judge_what_was_not_run(settling):
    claim = settling_claim(settling[:2] + settling[4:])
    assert claim["ours"].startswith(
        "at a constant learning rate: not run; standard: epoch 3.0 (first drop at 4)"
    )
    assert "settle" not in claim["ours"]
    assert claim["records"] == "VGG-16 ×1/8, CIFAR-10, 100 images, profile tiny, 2 seeds a schedule"


def test_schedules_can_be_chosen():
    assert chosen_schedules(["cosine"]) == ("cosine",)
    assert {run.training.train.cosine for run in settling_runs(PROFILE, ["cosine"])} == {True}
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
    claim = tables.ticket_claim(last, early)
    assert "worse after 2 (−19.9), on par after 8 (+0.0)" in claim["ours"]
    assert claim["records"] == "a ×1, d, 200 images, profile tiny, 3 seeds"


def dense_record(seed, matrix):
    """A dense record of which only what tables of distances read is there; two layers, one mask."""
    count = len(matrix)
    results = {
        "epochs": [{"epoch": e, "lr": 0.1, "loss": 1.0, "accuracy": 0.1 * e} for e in range(count)],
        "spline": {
            "epoch": first_settled(matrix),
            "distances": matrix.tolist(),
            "consecutive_by_layer": [
                [0.5 * matrix[e, e - 1], 1.5 * matrix[e, e - 1]] for e in range(1, count)
            ],
        },
        "masks": [{"ratio": 0.3, "epoch": None, "distances": (matrix / 2).tolist()}],
    }
    settings = DENSE | {"seed": seed, "train": {"epochs": count}}
    return Record("dense", f"{seed}", settings, results, {"profile": "tiny"})


@pytest.fixture
def dense():
    """Every epoch moves a network by 0.02 or 0.03 away from all before, and from epoch 6 on by a tenth of that."""
    time = np.minimum(np.arange(9), 5) + 0.1 * np.maximum(np.arange(9) - 5, 0)
    gap = np.abs(time[:, None] - time[None, :])
    return [dense_record(seed, gap * rate) for seed, rate in enumerate((0.02, 0.03))]


def test_detections_are_summed_up_over_the_runs_that_draw(dense):
    dense[1].results["masks"][0]["epoch"] = 5
    summary = tables.detection_summary(tables.detection_table(dense)).set_index("detector")
    assert summary["n"].tolist() == [2, 2]
    assert summary["drawn"].tolist() == [2, 1]
    assert summary.loc["spline", ["epoch_mean", "epoch_std"]].tolist() == [3, 0]
    mask = summary.loc["mask 0.3"]
    assert mask[["share_of_schedule", "accuracy_at_draw_mean"]].tolist() == pytest.approx([6 / 9, 0.5])
    assert np.isnan(mask["share_of_schedule_std"])
    assert mask[["final_accuracy_mean", "final_accuracy_std"]].tolist() == pytest.approx([0.8, 0])


def test_the_sentence_of_a_draw_counts_epochs_as_its_share_does(dense):
    said = tables.detection_claim(dense)["ours"]  # both drawn at epoch 3, the fourth of nine
    assert said.startswith("drawn in 2 of 2 runs, after 4.0 ± 0.0 of 9 epochs (44 % of the schedule)")


def test_consecutive_distances_by_layer_and_by_detector(dense):
    layers = tables.layer_table(dense)
    assert len(layers) == 2 * 8 * 2
    assert layers.query("seed == 1 and epoch == 2 and layer == 2")["distance"].item() == pytest.approx(0.045)
    means = layers.groupby(["seed", "epoch"])["distance"].mean()
    detectors = tables.detector_distances(dense).set_index(["detector", "seed", "epoch"])["distance"]
    assert detectors["spline"].to_dict() == pytest.approx(means.to_dict())
    assert detectors["mask 0.3", 0, 8] == pytest.approx(0.001)
    for record in dense:
        record.results["masks"] = []  # a network without batch norm
    assert set(tables.detector_distances(dense)["detector"]) == {"spline"}


def test_thresholds_are_judged_by_the_tickets_nearest_to_their_draws(dense):
    early = {(2, 0): 0.5, (4, 0): 0.6, (4, 1): 0.61, (6, 0): 0.66, (6, 1): 0.72, (16, 0): 0.7, (16, 1): 0.75}
    records = [ticket(epochs, seed, accuracy) for (epochs, seed), accuracy in early.items()]
    found = tables.threshold_outcomes(
        dense, tables.pruning_table(records, "layerwise"), [0.01, 0.025, 0.05, 0.07, 0.2], window=2
    ).set_index("threshold")
    # Drawn where the distance to two epochs before falls below the threshold; after epoch 5 that takes two steps.
    assert found["drawn"].tolist() == [2, 2, 2, 2, 2]
    assert found["epoch_mean"].tolist() == [7, 6.5, 4, 2, 2]
    assert found["ticket_after"].tolist() == ["16", "16", "4 or 16", "4", "4"]
    assert found["n"].tolist() == [0, 0, 1, 2, 2]
    assert found.loc[0.05, "difference_mean"] == pytest.approx(-0.1)
    assert found.loc[0.2, ["difference_mean", "difference_std"]].tolist() == pytest.approx(
        [-0.12, 0.04 / 2**0.5]
    )
    assert np.isnan(found.loc[0.01, "difference_mean"])


def labels(ticks):
    return [label.get_text() for label in ticks]


def test_every_schedule_is_drawn(axes, settling):
    plots.schedule_curves(axes, tables.schedule_table(settling, PROFILE), "to_final", "y")
    assert [line.get_label() for line in axes.lines] == list(SCHEDULES)
    assert len({(line.get_color(), str(line.get_linestyle())) for line in axes.lines}) == len(SCHEDULES)


def test_layers_have_a_line_each_and_their_mean_a_band(axes, dense):
    layers = tables.summarise(tables.layer_table(dense), ["layer", "epoch"], ["distance"])
    mean = tables.summarise(tables.epoch_table(dense)[lambda t: t["epoch"] > 0], ["epoch"], ["distance"])
    plots.layer_distances(axes, layers, mean, 0.16)
    assert len(axes.lines) == 2 + 1 + 1
    assert axes.lines[0].get_ydata()[:2].tolist() == pytest.approx([0.0125, 0.0125])
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(0.025 + 0.01 / 2**0.5)
    assert heights.min() == pytest.approx(0.0025 - 0.001 / 2**0.5)


def test_every_detector_has_a_line_of_its_own(axes, dense):
    for record in dense:
        record.results["masks"] += [record.results["masks"][0] | {"ratio": ratio} for ratio in (0.5, 0.7)]
    summary = tables.summarise(tables.detector_distances(dense), ["detector", "epoch"], ["distance"])
    plots.detector_distances(axes, summary)
    assert [line.get_label() for line in axes.lines] == ["spline", "mask 0.3", "mask 0.5", "mask 0.7"]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 4


@pytest.mark.parametrize("drawn", [None, 20])
def test_looks_stand_beside_whole_ticks(axes, drawn):
    looks = pd.DataFrame({"step": [0, 10, 20], "previous": [np.nan, 0.2, 0.1], "last": [0.3, 0.1, 0.0]})
    epochs = pd.DataFrame({"step": [15, 30], "previous": [0.4, 0.3]})
    plots.step_distances(axes, looks, epochs, 0.16, drawn)
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert shown[:4] == [
        "to the last look",
        "to the look before",
        "whole epochs, to the one before",
        "threshold 0.16",
    ]
    assert shown[4:] == ([] if drawn is None else ["drawn, looking every few steps"])
    assert [line.get_ydata()[-1] for line in axes.lines[:3]] == [0.0, 0.1, 0.3]


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
    table = tables.canvas_table(settling[:2], PROFILE)
    plots.canvas_draws(axes, table, 8)
    assert labels(axes.get_yticklabels()) == list(table["canvas"].unique())


def test_the_rule_map_marks_what_is_never_drawn(axes, settling):
    matrices = tables.matrices_by_schedule(settling, PROFILE)["standard"]
    plots.rule_map(axes, tables.rule_table(matrices, [0.05, 0.4], [1, 3]), 8)
    assert [text.get_text() for text in axes.texts] == ["–", "1.0", "–", "3.0"]


def test_outcomes_have_a_point_for_each_draw(axes):
    records = [ticket(epochs, seed, 0.5) for epochs in (16, 1) for seed in range(2)]
    table = tables.pruning_table(records, "layerwise")
    plots.ticket_outcomes(axes, tables.summarise(table, ["way", "dense_epochs"], ["accuracy"]))
    assert axes.containers[0].lines[0].get_xdata().tolist() == [1, 16]


def test_exact_distances_stand_beside_sampled_ones(axes):
    exact, sampled = np.ones((2, 3)), np.ones((2, 2, 3))
    plots.exact_and_sampled(axes, np.array([1, 2, 4]), exact, sampled, (3, 10))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "area, exact",
        "3 × 3 points",
        "10 × 10 points",
    ]
