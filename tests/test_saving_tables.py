"""Tables and figures of settling, of tickets and of what they save, on records made by hand."""

import dataclasses

import matplotlib.pyplot as plt
import pytest
from test_tables import pruned, with_results

from splinestudy import plots
from splinestudy import results as tables


def saving(criterion, seed, accuracy, scope="layerwise", **settings):
    record = pruned(criterion, seed, accuracy, scope=scope, **settings)
    record = with_results(record, dense_epochs=8 if settings.get("onward") else 16, epochs=[{"seconds": 1.0}])
    return dataclasses.replace(record, key=f"{criterion} {seed} {scope} {sorted(settings)}")


def named(table):
    """The table by the names of its ways."""
    return table.set_index(table["way"].map(str))


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
    table = tables.whole_table(savings)
    summary = named(tables.savings_summary(table))
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
    table = tables.whole_table(records)
    names = ["narrow early", "narrow long", "spline", "spline at epoch 4"]
    assert table["way"].map(str).tolist() == names
    assert table["draw"].tolist() == ["end", "end", "end", 4]
    assert table["way"].iloc[-1].label == "spline ticket of epoch 4, schedule anew"
    assert tables.bird_ratios(table) == []
    assert tables.whole_table([]).empty


def test_the_dense_accuracy_is_that_of_networks_without_l1_on_their_scales(savings):
    bird = {"draw": "mask", "onward": True, "finetune": {"epochs": 16}}
    slim = with_results(saving("bn_scale", 0, 0.5, l1=1e-4, **bird), dense_accuracy=0.1)
    table = tables.whole_table([*savings, slim])
    assert tables.dense_spread(table) == pytest.approx((0.9, 0))
    assert tables.bird_ratios(table) == [0.5]


def test_the_front_is_beaten_by_none(savings):
    front = tables.pareto_front(tables.savings_summary(tables.whole_table(savings)))
    assert front["way"].map(str).tolist() == ["narrow", "spline early bird", "ticket early"]


def test_the_saving_claim_names_the_largest_saving_without_loss(savings):
    summary = tables.savings_summary(tables.whole_table(savings))
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
    assert tables.energy_note([counted, *savings]) == "* spline early bird, ratio 0.5: 2.0 kJ"


def test_the_narrow_network_does_not_pay_for_energy_that_it_did_not_need(savings):
    counted = {"dense_joules": 500.0, "epochs": [{"joules": 1500.0}]}
    narrow = with_results(saving("random", 0, 0.7, start="fresh"), **counted)
    assert tables.energy_note([narrow]) == "* narrow network from scratch, ratio 0.5: 1.5 kJ"


def test_seconds_saved_by_hand(savings):
    times = {"arch": "a", "width": 1.0, "precision": "float32", "device": "cpu", "ratio": 0.5, "pass": "step"}
    times |= {"wall_dense": 4.0, "wall_pruned": 3.0}
    others = [times | {key: value} for key, value in (("ratio", 0.3), ("pass", "inference"), ("width", 2.0))]
    for record in savings:
        record.settings["dense"] |= {"arch": "a", "width": 1.0, "dataset": "cifar10"}
        record.settings["dense"]["train"] |= {"precision": "float32"}
    table = named(tables.wall_savings(savings, [times, *others]))
    assert set(table.index) == {"spline early bird", "narrow", "ticket early"}  # none that cuts globally
    assert set(table["n"]) == {3}
    assert table.loc["spline early bird", "seconds_mean"] == pytest.approx(16 * 4 / (8 * 4 + 8 * 3))
    assert table.loc["narrow", "seconds_mean"] == pytest.approx(16 * 4 / (4 * 3))
    assert table.loc["ticket early", "seconds_mean"] == pytest.approx(16 * 4 / (16 * 4 + 16 * 3))
    summary = named(tables.savings_summary(tables.whole_table(savings)))
    assert table["saving_mean"].to_dict() == pytest.approx(summary["saving"][table.index].to_dict())
    assert tables.wall_savings(savings, []).empty


def test_networks_retrained_at_the_full_rate_have_a_name_of_their_own():
    full = saving("spline", 0, 0.9, finetune={"epochs": 8, "lr": 0.1})
    short = saving("spline", 0, 0.8, draw="end")
    table = tables.whole_table([full, short])
    assert table["way"].map(str).tolist() == ["spline", "spline retrained"]
    assert table["retrained"].tolist() == [False, True]


def test_birds_stand_beside_their_control(savings):
    summary = tables.savings_summary(tables.whole_table(savings))
    birds = tables.early_birds(summary)
    bird = tables.Way("spline", draw="detector")
    assert set(birds["way"]) == {bird, dataclasses.replace(bird, scope="global"), tables.NARROW}
    table = tables.whole_table(savings)
    assert tables.whole_ratios(table) == [0.5]
    assert tables.whole_ratios(table[table["method"] != "narrow"]) == []
    _, axes = plt.subplots()
    plots.bird_curves(axes, birds, (0.9, 0.01))
    assert [text.get_text() for text in axes.texts] == ["0.5"] * 3


def test_one_seed_is_never_without_loss(savings):
    summary = tables.savings_summary(tables.whole_table(savings[:4]))
    assert not summary["no_loss"].any()
    assert summary["loss_se"].isna().all()


def test_phases_are_shares_and_the_cheapest_method_comes_first(savings):
    means = tables.phase_means(savings)
    assert list(means.columns) == list(tables.PHASES)
    assert means.index[0] == tables.NARROW
    assert means.loc[tables.Way("ticket early")].tolist() == pytest.approx([1, 0, 0, 0.25])


def test_savings_are_drawn(axes, savings):
    summary = tables.savings_summary(tables.whole_table(savings))
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
    summary = tables.savings_summary(tables.whole_table(records))
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
