"""Sentences of the chapter on compensation, by hand."""

import pandas as pd

from splinestudy.results.beyond import (
    gains_by_images,
    harm_by_layer,
    kept_by_scope,
    settled_variants,
    without_training,
)
from splinestudy.results.ways import SPLINE, Way


def cuts(*rows):
    """Rows of way and accuracies by layer, of two seeds that lie around these."""
    return pd.DataFrame(
        [
            {"way": way, "position": at, "seed": seed, "dense_accuracy": 0.9, "accuracy": accuracy + shift}
            for way, accuracies in rows
            for at, accuracy in enumerate(accuracies, start=1)
            for seed, shift in enumerate((-0.01, 0.01))
        ]
    )


def test_harm_names_the_two_worst_layers_and_where_it_ends():
    table = cuts((SPLINE, [0.8, 0.4, 0.7, 0.5, 0.88, 0.87]), (Way("l1"), [0.9, 0.6, 0.9, 0.65, 0.84, 0.86]))
    assert harm_by_layer(table) == (
        "The cut of layer 2 or 4 alone takes 90 % to 40 and 50 % by *spline*, 60 and 65 % by *filter L1 norm*; "
        "from layer 6 on no cut costs more than 4.0 points on average."
    )


def test_harm_may_never_end():
    assert harm_by_layer(cuts((SPLINE, [0.5, 0.4]))).endswith("nowhere do all cuts behind cost little.")


def test_a_variant_is_settled_where_all_its_intervals_leave_out_zero():
    rows = [
        (Way("spline unfolded"), 0.02, 0.01, 0.03),
        (Way("spline unfolded"), 0.05, 0.04, 0.06),
        (Way("spline rho=1"), -0.03, -0.05, -0.01),
        (Way("spline rho=1"), -0.03, -0.07, 0.01),
    ]
    table = pd.DataFrame(rows, columns=["way", "difference", "low", "high"])
    assert settled_variants(table) == (
        "Apart at every ratio, by 4 intervals that each stand alone: "
        "*spline unfolded* is better than the default by 2.0 to 5.0 points."
    )
    assert "better than the default by 2.0 to 2.0 points" in settled_variants(table[:1])
    assert settled_variants(table[2:]).endswith("no variant differs from the default at every ratio.")


def test_gains_are_steps_from_size_to_size():
    rows = [(0.5, SPLINE, 1000, 0.62), (0.5, SPLINE, 100, 0.5), (0.5, SPLINE, 300, 0.57)]
    table = pd.DataFrame(rows, columns=["ratio", "way", "images", "best_accuracy_mean"])
    assert gains_by_images(table, "images") == (
        "* *spline* at 0.5: 50 % with 100 images, +7.0 points with 300, +5.0 more with 1,000"
    )


def test_what_was_not_run_is_not_spoken_of():
    solved = Way("spline", "least_squares")
    summary = pd.DataFrame(
        {"way": [SPLINE, solved, SPLINE], "ratio": [0.5, 0.5, 0.3], "best_accuracy_mean": [0.2, 0.61, 0.9]}
    )
    fallen = (
        "With 50% of every layer's units gone and no training step, 79% fall to 20% by the spline criterion."
    )
    assert (
        without_training(summary, 0.5, 0.79)
        == f"{fallen} Solving the next layer anew lifts the same units to 61%."
    )
    assert without_training(summary[summary["way"] == SPLINE], 0.5, 0.79) == fallen


def test_scopes_are_compared_at_equal_operations_and_at_equal_units():
    greedy = Way("reconstruction", "least_squares")
    rows = [
        (greedy, "layerwise", "units", 0.5, 0.25, 0.8),
        (greedy, "global", "flops", 0.75, 0.26, 0.85),
        (greedy, "global", "flops", 0.51, 0.49, 0.88),
        (greedy, "global", "units", 0.5, 0.7, 0.9),
        (Way("l1", "least_squares"), "layerwise", "units", 0.5, 0.25, 0.1),
    ]
    names = ["way", "scope", "ratio_of", "ratio", "flops", "best_accuracy"]
    table = pd.DataFrame(rows, columns=names).assign(dense_accuracy=0.92, seed=0)
    assert kept_by_scope(table, (0.3, 0.5)) == (
        "* Of 92.0 % (of one network), 80.0 % are left with 50% of every layer's units gone; 85.0 % with one "
        "threshold for all layers at as few operations (25% of the dense ones); 90.0 % with as many units gone by it "
        "(70% of the operations left)."
    )
