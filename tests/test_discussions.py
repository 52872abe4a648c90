"""What discussions say in the words of a rule, held against the committed records: a new record may end a sentence."""

from pathlib import Path

import nbformat
import pytest

from splinestudy import results
from splinestudy.results import claim_marks, claims, initialisation, interpretation
from splinestudy.results.beyond import neighbours_by_layer
from splinestudy.results.protocol import MASK_BIRD, TODAY
from splinestudy.results.protocol_networks import (
    judge_common,
    judge_normalisations,
    judge_sets,
    judged_on,
    judged_savings,
    watched,
)
from splinestudy.results.ways import NARROW, SPLINE, Way
from splinestudy.results.width import judgements_by_width, networks_by_width, shared_tables
from splinestudy.runs.committed import Study, committed, committed_store
from splinestudy.runs.protocol import READINGS

ROOT = Path(__file__).parents[1]
STORE = committed_store()
NO_LOSS = {"better", "at least on par"}
NORMS = {Way("l1"), Way("fpgm")}
SAID = []


def says(chapter, words):
    """What is decorated tells whether the committed records say the same."""

    def kept(holds):
        SAID.append((chapter, words, holds))
        return holds

    return kept


def layerwise(profile, ratio):
    found = judged_on(profile, "layerwise", STORE)[2]
    return found[found["ratio"] == ratio]


def everywhere(ratio):
    found = judged_on("grey", "global", STORE)[2]
    return found[found["ratio"] == ratio]


def beside():
    study, records, _ = judged_on("grey", "layerwise", STORE)
    _, solved, today = judge_sets(study, records, STORE)
    return solved, today


def verdicts(part, *ways):
    """Those against these ways, at every ratio that has them."""
    found = part[part["against"].isin(ways)]
    assert set(found["against"]) == set(ways)
    return set(found["verdict"])


@says("04", "at least on par with every method of the paper's time where three tenths or half")
def criterion_holds_at_mild_ratios():
    return all(set(layerwise("grey", ratio)["verdict"]) <= NO_LOSS for ratio in (0.3, 0.5))


@says("04", "Where seven tenths go every comparison is open, and most lean against")
def all_open_at_seven_tenths():
    part = layerwise("grey", 0.7)
    return set(part["verdict"]) == {"open"} and (part["difference"] < 0).mean() > 0.5


@says(
    "index",
    "at least on par with every method of its time on SimpleCNN and VGG-16 ×1/2, with random choice close",
)
def on_par_where_half_go():
    parts = [layerwise(profile, 0.5) for profile in ("grey", "half")]
    ahead = [part.set_index("against").loc[Way("random"), "difference"] for part in parts]
    return all(set(part["verdict"]) <= NO_LOSS for part in parts) and all(0 < gain < 0.01 for gain in ahead)


@says("index", "on PreResNet-20 most end slightly ahead of it, and narrower networks speak against it")
def networks_differ_where_half_go():
    marks = claim_marks.claim_marks("C5", STORE)
    narrow = [mark.word for mark in marks if not mark.by_protocol and mark.at == "0.5"]
    speak = sorted(narrow) == ["contradicted", "contradicted", "undecided"]
    return residual_network_leans_the_other_way() and speak


@says(
    "04",
    "at least on par with all eleven methods, and random choice and what chooses before training end about half",
)
def half_width_says_the_same():
    part = layerwise("half", 0.5)
    behind = part[[way == Way("random") or way.draw == "start" for way in part["against"]]]
    half_a_point = behind["difference"].between(0.004, 0.0075).all() and len(behind) == 4
    return half_a_point and len(part) == 11 and set(part["verdict"]) <= NO_LOSS and set(part["n"]) == {3}


@says("04", "Filter norms, FPGM, SNIP and GraSP end a point and more ahead of it, which is *open*")
def ways_are_ahead_at_seven_tenths():
    part = layerwise("half", 0.7)
    ways = [
        *(Way(name) for name in ("l1", "l2", "fpgm")),
        *(Way(name, draw="start") for name in ("snip", "grasp")),
    ]
    ahead = part[part["against"].isin(ways)]
    a_point = ahead["difference"].between(-0.015, -0.01).all() and len(ahead) == 5
    against = (ahead["high"] < 0).all() and (ahead["low"] < -0.01).all()
    return a_point and against and set(ahead["verdict"]) == {"open"} and set(ahead["n"]) == {3}


@says(
    "index",
    "Where seven tenths go most methods end ahead; the one that is clearly better also trains the small",
)
@says(
    "04",
    "Where seven tenths go, also after three, it is *worse* than SynFlow, whose longer training may be why",
)
def worse_than_synflow_at_seven_tenths():
    part = layerwise("half", 0.7)
    worse, records = part[part["verdict"] == "worse"], judged_on("half", "layerwise", STORE)[1]
    epochs = {name: set() for name in ("synflow", "spline")}
    for record in records:
        epochs.get(record.settings["criterion"], set()).add(record.settings["finetune"]["epochs"])
    longer = min(epochs["synflow"]) > max(epochs["spline"])
    ahead = (part["difference"] < 0).mean() > 0.5
    return (
        longer and ahead and [*worse["against"]] == [Way("synflow", draw="start")] and set(part["n"]) == {3}
    )


@says("04", "all eleven are *open*: their spreads are unlike after two seeds, and two decide no pair")
@says("04", "All other cuts of the trained network end slightly ahead there, even random choice")
def all_trained_cuts_are_slightly_ahead_at_three_tenths():
    part = layerwise("half", 0.3)
    trained = part[[way.draw != "start" for way in part["against"]]]
    ahead = trained["difference"].between(-0.006, 0, inclusive="neither").all() and len(trained) == 8
    undecided = set(part["verdict"]) == {"open"} and set(part["intervals"]) == {"Bonferroni"}
    return ahead and undecided and len(part) == 11 and set(part["n"]) == {2}


@says(
    "04",
    "every method but random choice ends ahead of the criterion, by less than a point, and all of it *open* after one",
)
@says("11", "all but random choice the criterion ends less than a point behind, and *open*")
def residual_network_leans_the_other_way():
    part = layerwise("full_residual", 0.5)
    others = part[part["against"] != Way("random")]
    ahead = others["difference"].between(-0.01, 0, inclusive="neither").all()
    once = [way.method for way in others[others["n"] == 1]["against"]]
    return ahead and set(others["verdict"]) == {"open"} and once == ["slimming"] and others["n"].max() == 2


@says("04", "nothing is *worse* or *better* on SimpleCNN")
def solved_tells_nothing_apart():
    solved = beside()[0]
    at_half = solved[solved["ratio"] == 0.5]
    on_par = {way.method for way in at_half[at_half["verdict"].isin(NO_LOSS)]["against"]}
    others = set(at_half["verdict"]) - NO_LOSS
    return (
        not set(solved["verdict"]) & {"better", "worse"}
        and on_par == {"random", "bn_scale"}
        and others == {"open"}
    )


@says("04", "*better* than greedy reconstruction with least squares, and at least on par with Model Folding")
def today_does_not_help():
    today = beside()[1]
    greedy, folding = (verdicts(today, way) for way in TODAY)
    return greedy == {"better"} and folding == {"at least on par"}


@says("04", "*worse* than the narrow network from scratch")
def narrow_beats_pruned():
    table = results.whole_table(claims.same_shape(STORE))
    table = table[table["way"].isin((SPLINE, *claims.WITHOUT_CRITERION))]
    return verdicts(results.paired_differences(table), NARROW, Way("ticket early")) == {"worse"}


@says("02", "better than everything that came out of the large one, at every ratio")
def narrow_for_longer_beats_all():
    table = results.starts_table(claims.start_records(STORE))
    longer = Way("narrow long")
    large = [way for way in table["way"].unique() if not way.method.startswith("narrow")]
    means = table.groupby(["ratio", "way"])["accuracy"].mean().unstack()
    return (means[longer] > means[large].max(axis=1)).all()


@says("02", "Rewound to early weights it is better on average at every ratio")
def early_tickets_beat_narrow_on_average():
    found = results.paired_differences(results.starts_table(claims.start_records(STORE)), way=NARROW)
    return (found.loc[found["against"] == Way("ticket early"), "difference"] < 0).all()


@says(
    "02",
    "the large model's side wins by the rule, with networks that are retrained or rewound to early weights",
)
def large_side_wins_on_images():
    found = results.paired_differences(results.starts_table(claims.start_records(STORE)), way=NARROW)
    large, clever = initialisation.IMAGE_ROLES.values()
    beaten = found[(found["verdict"] == "worse") & found["against"].isin(large)]
    wins = beaten["ratio"].nunique() > found["ratio"].nunique() / 2
    who = set(beaten["against"]) == {Way("spline", retrained=True), Way("ticket early")}
    side = found[found["against"].isin(clever)]
    return wins and who and set(side["verdict"]) == {"open"}


@says("index", "where it drops in steps, the paper's rule mostly draws before that of EB Train")
@says("03", "before the mask rule, but for one ratio each on two of them, one of which has the paper's size")
def spline_draws_before_the_masks():
    later, wide = [], []
    for group in claims.dense_studies(STORE):
        drawn = results.detection_summary(results.detection_table(group)).set_index("detector")
        assert (drawn["drawn"] == drawn["n"]).all()
        shares = drawn["share_of_schedule"]
        later.append((shares.drop("spline") <= shares["spline"]).sum())
        wide += [later[-1]] if results.network_name(group[0]).startswith("VGG-16 ×1,") else []
    return sorted(later) == [0] * (len(later) - 2) + [1, 1] and wide == [1]


@says("index", "where it falls smoothly, mostly after it on the networks for CIFAR-10")
@says("03", "where half of the units or more go, the mask rule draws first, or in the same epoch")
def the_masks_draw_before_the_spline_rule():
    waits = []
    for group in watched(STORE):
        if "CIFAR-10" in results.network_name(group[0]):
            drawn = results.detection_summary(results.detection_table(group)).set_index("detector")
            assert (drawn["drawn"] == drawn["n"]).all()
            waits.append(drawn.loc["spline", "epoch_mean"] - drawn["epoch_mean"].drop("spline"))
    deep = [wait.drop("mask 0.3") for wait in waits]
    later = [value > 0 for wait in waits for value in wait]
    return len(waits) == 3 and all((wait >= 0).all() for wait in deep) and sum(later) > len(later) / 2


@says("03", "hardly anything is lost in the mean where half or more go")
def tickets_from_a_quarter_on():
    study = Study("tickets", "study")
    tickets = results.early_tickets(results.pruning_table(committed(study, STORE, "prune"), "layerwise"))
    share = tickets["dense_epochs"] / study.settings().epochs
    gained = tickets["difference"]
    deep = (gained[(share >= 1 / 4) & (tickets["ratio"] > 0.4)] > -0.003).all()
    mild = tickets["ratio"] < 0.4
    return (
        deep
        and (gained[mild & (share == 1 / 4)] < -0.01).all()
        and (gained[mild & (share >= 1 / 2)] > 0).all()
    )


@says("05", "at least on par with every method, and all of them lie within a point or two")
def globally_on_par_at_half():
    part = everywhere(0.51)
    return set(part["verdict"]) <= NO_LOSS and part["difference"].abs().max() < 0.02


@says("05", "behind every one of them on average, and no comparison is decided")
def globally_behind_all_at_a_quarter():
    part = everywhere(0.75)
    return set(part["verdict"]) == {"open"} and (part["difference"] < 0).all()


@says("05", "ends above dividing it by the layer's mean, though by the rule that stays *open*")
def per_operation_ends_above():
    found = judge_normalisations(judged_on("grey", "global", STORE)[1])
    row = found[found["against"] == Way("spline", normalize="flops")]
    return set(row["verdict"]) == {"open"} and (row["difference"] < 0).all()


@says("05", "ahead of every one on average, but its other readings are not, single networks collapse")
def globally_ahead_of_all_at_a_tenth():
    part, table = everywhere(0.91), results.pruning_table(judged_on("grey", "global", STORE)[1], "global")
    means = table[table["ratio"] == 0.91].groupby("way")["accuracy"].mean()
    if any(means[Way(reading)] > means[Way("l1")] for reading in READINGS):
        return False
    wide = (part["high"] - part["low"]).min() > 0.3
    return set(part["verdict"]) == {"open"} and (part["difference"] > 0).all() and wide


@says("05", "comes nearer to all but network slimming, and what is left stays *open*")
def common_widths_stay_open():
    common = judge_common(judged_on("grey", "global", STORE)[1]).set_index("against")
    nearer = common["difference"].abs() < everywhere(0.75).set_index("against")["difference"].abs()
    return set(common["verdict"]) == {"open"} and [*nearer.index[~nearer]] == [Way("slimming")]


def at_width(scope, ratio):
    return judgements_by_width(shared_tables(networks_by_width(scope, STORE), scope, ratio))


@says("11", "the criterion is *worse* than L1 norm, geometric median and network slimming")
def residual_is_worse():
    part = at_width("layerwise", 0.5)["PreResNet-20 ×1/2, CIFAR-10"]
    return verdicts(part, *NORMS, Way("slimming")) == {"worse"} and verdicts(part, Way("random")) == {"open"}


@says("11", "on VGG-16 it is *worse* than L1 norm and geometric median at both widths")
def globally_worse_than_norms():
    found = at_width("global", 0.75)
    parts = [found[f"VGG-16 ×1/{width}, CIFAR-10"] for width in (8, 4)]
    return all(verdicts(part, *NORMS) == {"worse"} for part in parts)


@says("11", "Where seven tenths go it is the quarter width that loses most, and no distance vanishes")
def a_quarter_loses_most_at_seven_tenths():
    found = at_width("layerwise", 0.7)
    losses = [
        -found[f"VGG-16 ×1/{width}, CIFAR-10"].set_index("against").loc[[*NORMS], "difference"]
        for width in (8, 4, 2)
    ]
    return all((part > 0).all() for part in losses) and all((losses[1] > losses[at]).all() for at in (0, 2))


@says("index", "hardly any boundaries come near coinciding")
def plain_and_penalised():
    return claims.readings(STORE)


@says("06", "nearly every channel of these networks comes to meet it")
def nearly_every_channel_touches():
    shares = [interpretation.rows_table(read, "touching")["units_touching"] for read in plain_and_penalised()]
    return all(share.mean() > 0.99 for share in shares)


@says(
    "06",
    "Under the penalty on scales they are in every network where a fifth goes, and in most where less goes",
)
def seldom_touching_units_are_spare_under_the_penalty():
    plain, penalised = (
        interpretation.removal_gaps(interpretation.rows_table(read, "removal")).unstack()
        for read in plain_and_penalised()
    )
    no_better = (plain.mean(axis=1) < 0.5).all()
    ahead = penalised > 0
    return no_better and ahead.loc[0.2].all() and (ahead.mean(axis=1) > 0.5).all()


@says(
    "06",
    "With it, as network slimming uses the scale, the relation reaches further forward, and the claim holds as",
)
@says(
    "06",
    "nothing of it is left over the whole network, under the penalty or without: what remains is slightly reversed",
)
@says(
    "index",
    "there a channel's batch-norm scale goes with how far its activations separate classes, though not once",
)
def scale_tells_classes_under_the_penalty():
    tables = [interpretation.correlations_of(read) for read in plain_and_penalised()]
    found = [table.set_index(["measure", "layer"]).sort_index() for table in tables]
    (plain, penalised), last = [table.loc["separation", "all"] for table in found], ("separation", "conv5_3")
    divided = all((table.loc["standardised", "all"]["high"] < 0).all() for table in found)
    weak, strong = (
        (plain["high"] < interpretation.STRONG).all(),
        (penalised["low"] > interpretation.STRONG).all(),
    )
    return weak and strong and divided and all((table.loc[last]["low"] > 0.7).all() for table in found)


@says(
    "index",
    "the regions that a cut takes away tell a little of the accuracy that is left, on average over five networks, not",
)
@says(
    "01",
    "the more regions a choice takes away, the less is left, on average over the networks read, though not in",
)
@says(
    "06",
    "on average over five networks; of boundary length the interval just reaches zero. In one of the five it is the",
)
def regions_tell_a_little_under_the_penalty():
    plain, penalised = plain_and_penalised()
    rows = [
        [interpretation.effects_row(read, value)[1:] for value in ("regions", "length")]
        for read in (plain, penalised)
    ]
    words = [[interpretation.effects_word(low, high) for _, low, high in both] for both in rows]
    effects = interpretation.rows_table(penalised, "effects")
    mild = [
        interpretation.effect_correlations(effects[effects["ratio"] <= 0.1], value)
        for value in interpretation.EFFECTS
    ]
    against = [sum(rho > 0 for rho in each) for each in mild]
    little, touches = rows[1][0][0] > -0.3, 0 < rows[1][1][2] < 0.05
    decided = words == [["undecided"] * 2, ["supported", "undecided"]]
    return decided and little and touches and against == [1, 1] and len(penalised) == 5


@says("06", "the spline criterion agrees with no other much more than chance would")
def spline_agrees_with_none():
    overlaps = [interpretation.mean_overlap(read, 0.2) for read in plain_and_penalised()]
    alike = all(table.loc["l1", "fpgm"] > 0.7 for table in overlaps)
    return alike and all(table["spline"].drop("spline").max() < 0.2 for table in overlaps)


@says("07", "Networks that were trained to the end have hardly any boundaries that come near coinciding")
def closest_boundaries_stand_apart():
    closest = []
    for profile in ("half", "full_residual"):
        layers = neighbours_by_layer(committed(Study("neighbours", profile), STORE, "neighbours"))
        assert (layers["alignment_middle"] > layers["chance_middle"]).all()
        closest += [*layers["closest"]]
    return max(closest) < 0.9 and sum(one < 0.7 for one in closest) > len(closest) / 2


@says("07", "the geometric offset with a larger weight ends above the default")
def geometric_offset_ends_above():
    table = results.one_shot_table(committed(Study("ablation", "study"), STORE, "oneshot"))
    found = results.paired_differences(table, "reestimated_accuracy")
    above = found[found["high"] < 0].groupby("against").size()
    return [*above.index[above == found["ratio"].nunique()]] == [Way("spline geometric rho=0.2")]


@says("09", "cheaper than that of every method that prunes at the end, and dearer than choosing")
def cheaper_than_pruning_at_the_end():
    found = next(
        part for records, part, _ in judged_savings(STORE) if "SimpleCNN" in results.network_name(records[0])
    )
    at_start = [way.draw == "start" for way in found["against"]]
    at_end = [way.draw == "end" and not way.is_early_bird for way in found["against"]]
    alike = set(found["verdict"]) <= {*NO_LOSS, "open"}
    return (found[at_end]["saving"] > 1).all() and (found[at_start]["saving"] < 1).all() and alike


@says("09", "at half of the units and on one seed so far, it is drawn after four fifths of the schedule")
@says(
    "09",
    "ends points below every way that prunes at the end, and below EB Train, which draws earlier and costs less",
)
def the_bird_of_the_residual_network_comes_late():
    records, part, _ = next(
        found for found in judged_savings(STORE) if "PreResNet-20 ×1" in results.network_name(found[0][0])
    )
    births = {record.results["dense_epochs"] for record in records if record.settings.get("draw") == "spline"}
    mask = part["against"] == MASK_BIRD
    late = births == {16} and set(part["ratio"]) == {0.5} and set(part["n"]) == {1}
    below = (100 * part.loc[~mask, "difference"]).round().between(-3, -2).all()
    return (
        late
        and below
        and (part[mask][["saving"]] < 1).all().all()
        and (part.loc[mask, "difference"] < 0).all()
    )


@pytest.mark.parametrize(
    ("chapter", "words", "holds"), SAID, ids=[f"{case[0]}-{case[2].__name__}" for case in SAID]
)
def test_what_a_discussion_says_is_what_the_records_say(chapter, words, holds):
    path = ROOT / "book" / f"{chapter}.md"
    if path.exists():
        text = path.read_text()
    else:
        (path,) = (ROOT / "notebooks").glob(f"{chapter}_*.ipynb")
        cells = nbformat.read(path, as_version=4).cells
        text = " ".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert words in text, f"{path.name} no longer says this: change the test with it"
    assert holds(), (
        f"{path.name} says {words!r}, which the committed records no longer do: write what they say"
    )
