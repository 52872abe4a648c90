import dataclasses
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from splinestudy import plots
from splinestudy import results as tables
from splinestudy.plots.style import family_colour, style_of
from splinestudy.results.comparisons import standing
from splinestudy.runs.records import Record

TRAIN = {"epochs": 16, "lr": 0.1, "norm_l1": 0.0}
DENSE = {
    "dataset": "d",
    "arch": "a",
    "width": 1.0,
    "images": 200,
    "seed": 0,
    "canvas_side": 10,
    "train": TRAIN,
}


def pruned(criterion="spline", seed=0, accuracy=0.5, ratio=0.5, kind="prune", l1=0.0, **settings):
    """A record of which only what tables read is there; the pruned network has a quarter of the FLOPs."""
    dense = DENSE | {"seed": seed, "train": TRAIN | {"norm_l1": l1}}
    content = {
        "dense": dense,
        "criterion": criterion,
        "scope": "layerwise",
        "ratio": ratio,
        **settings,
        "finetune": {"epochs": 4, "lr": 0.01} | settings.get("finetune", {}),
    }
    results = {
        "dense_accuracy": 0.9,
        "pruned_accuracy": 0.1,
        "accuracy": accuracy,
        "seconds": 3.0,
        "cost": {"parameters": 10, "flops": 25},
        "dense_cost": {"parameters": 40, "flops": 100},
        "widths": {"x": 1, "y": 2},
        "dense_widths": {"x": 2, "y": 8},
    }
    provenance = {"profile": "tiny", "seconds": 7.0, "hardware": "h", "finished": "2026-01-01"}
    return Record(kind, f"{criterion}{seed}", content, results, provenance)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "spline"),
        ({"compensate": "none", "start": "trained"}, "spline"),
        ({"compensate": "merge"}, "spline + merge"),
        ({"criterion": "l1", "compensate": "least_squares"}, "l1 + least_squares"),
        ({"criterion": "bn_scale", "l1": 1e-4}, "slimming"),
        ({"criterion": "l1", "l1": 1e-4}, "l1 after slimming"),
        ({"start": "fresh"}, "narrow"),
        ({"start": "initial"}, "ticket initial"),
        ({"start": "lsuv"}, "narrow lsuv"),
        ({"start": "fresh", "finetune": {"epochs": 80}}, "narrow long"),
        ({"draw": "spline"}, "spline early bird"),
        ({"draw": "mask", "criterion": "bn_scale", "l1": 1e-4}, "EB Train"),
        ({"draw": 0, "criterion": "snip"}, "snip at start"),
        ({"draw": 4}, "spline"),
        ({"start": "fresh", "scope": "global", "draw": "spline"}, "spline early bird anew"),
    ],
)
def test_methods_are_named_by_their_settings(settings, name):
    way = tables.way_of(pruned(**settings).settings)
    assert str(way.alone()) == name
    assert way.label


def test_pruning_table_by_hand():
    table = tables.pruning_table([pruned(), pruned("random", scope="global")], "layerwise")
    assert len(table) == 1
    row = table.iloc[0]
    assert (row["parameters"], row["flops"], row["accuracy"]) == (0.25, 0.25, 0.5)
    assert np.isnan(row["reestimated_accuracy"])
    # The dense training, then 4 of 16 epochs at a quarter of the cost; a narrow network needs no dense one.
    assert row["training"] == 1 + 4 / 16 / 4
    assert tables.pruning_table([pruned(start="fresh")], "layerwise")["training"].item() == 4 / 16 / 4
    assert tables.pruning_table([pruned("sfp")], "layerwise")["training"].item() == 1 + 4 / 16
    assert tables.pruning_table([], "layerwise").columns.tolist() == table.columns.tolist()


def test_starts_tell_retraining_from_fine_tuning():
    """The full rate of the dense run is retraining; networks drawn on the way, and other criteria, are left out."""
    train = TRAIN | {"lr": 0.1}
    slow, full = {"finetune": {"epochs": 4, "lr": 0.02}}, {"finetune": {"epochs": 8, "lr": 0.1}}
    found = {}
    for number, settings in enumerate([slow, full, full | {"draw": 4}, full | {"start": "fresh"}]):
        found[number] = pruned(accuracy=number / 10, **settings)
    found[4] = pruned("random", **slow)
    for record in found.values():
        record.settings["dense"]["train"] = train
    table = tables.starts_table(list(found.values()))
    assert dict(zip(table["way"].map(str), table["accuracy"], strict=True)) == {
        "spline": 0.0,
        "spline retrained": 0.1,
        "narrow": 0.3,
    }
    assert tables.starts_table([]).empty


def test_phases_by_hand():
    # 200 images, 16 dense epochs of 100 operations a forward pass; the small network has 25.
    total = 3 * 200 * 16 * 100
    onward = {"draw": "spline", "onward": True, "finetune": {"epochs": 16}}
    bird = with_results(pruned(**onward), dense_epochs=8, scoring_flops=7)
    assert tables.phase_flops(bird) == {
        "dense": 3 * 200 * 8 * 100,
        "detection": 100 * 8 * 100,
        "scoring": 7,
        "retraining": 3 * 200 * 8 * 25,
    }
    masked = with_results(pruned(**onward | {"draw": "mask"}), dense_epochs=8, training_images=100)
    assert tables.phase_flops(masked)["detection"] == 0
    assert tables.phase_flops(masked)["dense"] == 3 * 100 * 8 * 100
    fresh = with_results(pruned(start="lsuv"), dense_epochs=16, scoring_flops=5)
    widths = pruned(start="fresh", scope="global", draw="spline")  # which only the trained network could tell
    assert (
        tables.phase_flops(with_results(widths, dense_epochs=8, training_images=100))["dense"]
        == 3 * 100 * 8 * 100
    )
    assert tables.phase_flops(fresh) == {
        "dense": 0,
        "detection": 0,
        "scoring": 5,
        "retraining": 3 * 200 * 4 * 25,
    }
    assert tables.phase_flops(pruned("sfp"))["retraining"] == 3 * 200 * 4 * 100
    table = tables.phase_table([bird, fresh])
    shares = table.groupby("key", sort=False)["share"].sum()
    assert shares.iloc[0] == pytest.approx(sum(tables.phase_flops(bird).values()) / total)


def with_results(record, **results):
    return dataclasses.replace(record, key=f"{results}", results=record.results | results)


def test_one_shot_table_takes_the_better_measure():
    record = pruned(kind="oneshot", compensate="none")
    solved = pruned(kind="oneshot", compensate="least_squares")
    for one in (record, solved):
        one.results["reestimated_accuracy"] = 0.3
    table = tables.one_shot_table([record, solved])
    assert table["best_accuracy"].tolist() == [0.3, 0.1]
    assert table["compensate"].tolist() == ["none", "least_squares"]
    assert table["seconds"].tolist() == [3.0, 3.0]


def test_sensitivity_has_a_row_for_every_layer():
    cut = {"spline": {"a": 0.1, "b": 0.2}, "l1": {"a": 0.3, "b": 0.4}}
    record = with_results(pruned(kind="sensitivity"), accuracy=cut, norm_rank=cut)
    table = tables.sensitivity_table([record])
    assert table[["way", "layer", "position", "accuracy"]].to_numpy().tolist() == [
        [tables.SPLINE, "a", 1, 0.1],
        [tables.SPLINE, "b", 2, 0.2],
        [tables.Way("l1"), "a", 1, 0.3],
        [tables.Way("l1"), "b", 2, 0.4],
    ]
    assert (table["accuracy"] == table["norm_rank"]).all()
    summary = tables.summarise(table, ["way", "position"], ["accuracy"])
    _, axes = plt.subplots()
    plots.sensitivity_by_layer(axes, summary, 0.9)
    assert [text.get_text() for text in axes.legend().get_texts()] == ["dense", "spline", "filter L1 norm"]
    assert tables.sensitivity_table([]).empty


def test_pairs_that_are_not_there_are_left_out():
    records = [pruned("spline", s, 0.5 + s / 100) for s in range(3)] + [
        pruned("l1", s, 0.6 + s / 100) for s in range(3)
    ]
    records += [pruned("random", 7, 0.4), pruned("l1", 0, 0.2, ratio=0.3)]
    found = tables.paired_differences(tables.pruning_table(records, "layerwise"))
    assert found[["ratio", "against", "n", "verdict"]].to_numpy().tolist() == [
        [0.5, tables.Way("l1"), 3, "worse"]
    ]
    assert found["difference"].item() == pytest.approx(-0.1)


def test_a_study_is_counted():
    rows = [("l1", -0.02, "worse"), ("random", 0.04, "better"), ("taylor", 0.0, "open")]
    differences = pd.DataFrame(
        [{"ratio": 0.5, "against": tables.Way(a), "difference": d, "verdict": v} for a, d, v in rows]
    )
    claim = tables.study_claim("C5", [pruned()], differences)
    assert claim["ours"] == (
        "at 0.5 *contradicted*, of 3 methods: better 1, open 1, worse 1; "
        "largest deficit −2.0 points, against filter L1 norm"
    )


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [
        (["better", "on par"], "supported"),
        (["better", "open"], "undecided"),
        (["one seed"], "undecided"),
        (["better", "open", "worse"], "contradicted"),
    ],
)
def test_verdicts_against_many_are_taken_together(verdicts, word):
    assert standing(verdicts) == word


def test_every_method_has_a_colour_of_its_family():
    l1, spline = tables.Way("l1", "least_squares"), tables.Way("spline", "merge")
    assert family_colour(l1) == family_colour(tables.Way("fpgm")) != family_colour(tables.Way("taylor"))
    assert family_colour(tables.Way("spline rho=0.2")) == family_colour(spline) == style_of(spline)[0]
    assert style_of(tables.Way("l1", "merge"))[2] != style_of(l1)[2]


def test_dots_are_ordered_best_first():
    import matplotlib.pyplot as plt

    records = [
        pruned(n, s, a + s / 100) for n, a in (("l1", 0.3), ("spline", 0.6), ("random", 0.1)) for s in (0, 1)
    ]
    summary = tables.summarise(tables.pruning_table(records, "layerwise"), ["way"], ["accuracy"])
    figure, axes = plt.subplots()
    plots.method_dots(axes, summary, "accuracy", "accuracy", dense=0.9)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["spline", "filter L1 norm", "random"]
    plt.close(figure)


@pytest.mark.parametrize("ratios", [[], [0.5], [0.7, 0.3, 0.5]])
def test_columns_of_ratios_share_one_order_of_methods(ratios):
    import matplotlib.pyplot as plt

    cases = pd.DataFrame({"ratio": pd.Series(ratios, dtype=float)})
    spline, l1, random = map(tables.Way, ("spline", "l1", "random"))
    summary = cases.merge(pd.DataFrame({"way": [spline, random]}), how="cross")
    summary = summary.assign(accuracy_mean=0.6, accuracy_std=0.1)
    differences = cases.merge(pd.DataFrame({"against": [random, tables.Way("taylor")]}), how="cross")
    differences = differences.assign(difference=-0.2, low=-0.3, high=-0.1)

    dots = plots.dots_by_ratio(summary, "accuracy", [spline, l1, random], dense=0.9)
    forest = plots.forest_by_ratio(differences, 0.003, [l1, random], title="at {:g}".format)

    for figure, rows in ((dots, [0, 2]), (forest, [1])):
        axes = figure.axes
        assert len(axes) == max(len(ratios), 1)
        for ax in axes[: len(ratios)]:
            assert [bar.lines[0].get_ydata()[0] for bar in ax.containers] == rows
        named = [ax.yaxis.get_tick_params()["labelleft"] for ax in axes]
        assert named == [True] + [False] * (len(axes) - 1)  # only the first names the rows
        plt.close(figure)
    assert [ax.get_title() for ax in dots.axes][: len(ratios)] == [f"ratio {r:g}" for r in sorted(ratios)]
    assert [ax.get_title()[:6] for ax in forest.axes][: len(ratios)] == [f"at {r:g}" for r in sorted(ratios)]


def test_widths_are_shares():
    table = tables.width_table([pruned()], "layerwise")
    assert table["kept"].tolist() == [0.5, 0.25]


def cells(styler):
    """Header and rows of a styled table as the reader sees them."""
    html = styler.to_html()
    table = ElementTree.fromstring(html[html.index("<table") :])
    assert table.get("class") == "dataframe"
    return [[cell.text.replace("\u00a0", " ") for cell in row] for row in table.iter("tr")]


def test_a_styled_table_joins_means_with_spreads_and_names_methods():
    table = pd.DataFrame(
        {
            "ratio": [0.5, 0.3],
            "way": [tables.NARROW, tables.Way("l1", "least_squares")],
            "n": [3, 12345],
            "accuracy_mean": [0.71234, float("nan")],
            "accuracy_std": [0.0051, float("nan")],
            "loss": [0.1, -0.25],
            "loss_se": [0.01, float("nan")],
            "no_loss": [False, True],
        },
        index=[7, 7],
    )
    header, first, second = cells(tables.styled(table))
    assert header == ["ratio", "method", "n", "accuracy ± std", "loss ± standard error", "no loss"]
    assert first == ["0.5", "narrow network from scratch", "3", "0.712 ± 0.005", "0.100 ± 0.010", "no"]
    assert second == ["0.3", "filter L1 norm, least squares", "12,345", "–", "-0.250", "yes"]


def test_stacked_tables_name_their_parts_first_and_epochs_have_one_decimal():
    parts = [
        pd.DataFrame({"epoch_mean": [7 + 2 / 3], "epoch_std": [0.577]}),
        pd.DataFrame({"epoch_mean": [8.0]}),
    ]
    assert cells(tables.styled(tables.stack(parts, ["a", "b"], "network"))) == [
        ["network", "epoch ± std"],
        ["a", "7.7 ± 0.6"],
        ["b", "8.0"],
    ]
    assert list(tables.stack(parts, ["a", "b"])["profile"]) == ["a", "b"]


def test_a_styled_table_shows_intervals():
    table = pd.DataFrame(
        {
            "against": [tables.Way("l1")] * 2,
            "difference": [0.02, 0.01],
            "low": [0.01, np.nan],
            "high": [0.03, np.nan],
        }
    )
    assert cells(tables.styled(table, precision=2)) == [
        ["against", "difference [95 % interval]"],
        ["filter L1 norm", "0.02 [0.01, 0.03]"],
        ["filter L1 norm", "0.01"],
    ]
    alone = table.drop(columns="difference").assign(verdict="open")
    assert cells(tables.styled(alone, precision=2))[0] == ["against", "low", "high", "verdict"]


def test_best_first_averages_over_ratios():
    summary = pd.DataFrame(
        {
            "way": ["a", "b", "a", "b"],
            "ratio": [0.3, 0.3, 0.7, 0.7],
            "accuracy_mean": [0.9, 0.8, 0.1, 0.7],
        }
    )
    assert tables.best_first(summary) == ["b", "a"]
    assert tables.best_first(summary.iloc[:0]) == []
    missing = pd.DataFrame(
        {"way": ["c"], "ratio": [0.3], "accuracy_mean": [0.95]}
    )  # not run where all lose much
    assert tables.best_first(pd.concat([summary, missing])) == ["b", "c", "a"]
    assert tables.best_first(pd.concat([summary, missing.assign(accuracy_mean=0.5)])) == ["b", "a", "c"]


def test_differences_that_differ_by_rounding_alone_have_no_spread(recwarn):
    rows = [
        {"ratio": 0.5, "seed": seed, "way": tables.Way(name), "accuracy": value}
        for seed in range(3)
        for name, value in (("spline", 0.1 * seed + 0.3), ("random", 0.1 * seed))
    ]
    difference = tables.paired_differences(pd.DataFrame(rows)).iloc[0]
    # To the last digit, since a plot takes no whisker of a negative length.
    assert difference["low"] == difference["difference"] == difference["high"] == pytest.approx(0.3)
    assert not recwarn.list


def test_networks_share_a_scale_that_no_wide_interval_sets():
    columns = ["ratio", "against", "difference", "low", "high"]
    ways = [tables.Way("l1"), tables.Way("fpgm")]
    narrow = pd.DataFrame([(0.5, way, 0.002, -0.01, 0.014) for way in ways], columns=columns)
    wide = pd.DataFrame(
        [(0.5, ways[0], 0.002, -0.2, 0.2), (0.5, ways[1], 0.001, -0.01, 0.3)], columns=columns
    )
    unknown = narrow.assign(low=np.nan, high=np.nan)  # of a single seed
    figure = plots.forest_by_network({"wide": wide, "narrow": narrow, "one": unknown}, 0.01, ways)
    arrows = [[line.get_marker() for line in ax.lines if line.get_marker() in "<>"] for ax in figure.axes]
    assert arrows == [["<", ">", ">"], [], []]
    assert ["arrows" in ax.get_xlabel() for ax in figure.axes] == [True, False, False]
    assert {ax.get_xlim() for ax in figure.axes} == {(-6.0, 6.0)}
