"""Marks of claims: their words by hand, and what their pages say of them."""

import random
import re
import shutil
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

from splinelib.errors import SettingError
from splinestudy.plots import first_case
from splinestudy.results import claim_marks, mark_pages
from splinestudy.results.claim_texts import CLAIMS
from splinestudy.results.claims import claim_rows
from splinestudy.results.decided import decided_table
from splinestudy.results.marks import (
    WORDS,
    Mark,
    counts,
    intervals,
    judging,
    mean_row,
    overall,
    summary,
    whole,
)
from splinestudy.results.progress import progress_report
from splinestudy.results.protocol import METHODS_OF
from splinestudy.results.protocol_networks import DECIDING, judged_on
from splinestudy.runs.committed import committed_store, owners
from splinestudy.runs.store import RecordStore

STORE = committed_store()


@pytest.fixture(scope="module")
def every_mark():
    return claim_marks.all_marks(STORE)


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        (["supported", "supported"], "supported"),
        (["supported", "undecided"], "in part"),
        (["supported", "contradicted"], "in part"),
        (["in part", "contradicted"], "in part"),
        (["contradicted", "undecided"], "contradicted"),
        (["undecided"], "undecided"),
        ([], "undecided"),
    ],
)
def test_one_word_for_several(words, whole):
    assert overall(words) == whole


HERE = "*post hoc*"


def made(word, rule, decides=True):
    nothing = intervals([])
    return Mark("C5", "case", "", word, "", nothing, "", (-1, 1), (), rule, rule != HERE, decides)


def test_a_claim_is_judged_by_the_rule_that_came_first():
    later = [made("contradicted", HERE), made("undecided", HERE)]
    assert (whole(later), judging(later)) == ("contradicted", later)
    assert summary(later) == "Undecided in 1, contradicted in 1 of 2 cases, by rules made post hoc"
    first = made("supported", "protocol of a day")
    assert (whole([*later, first]), judging([*later, first])) == ("supported", [first])
    assert summary([*later, first]).endswith(f"Beside it, post hoc: {counts(later)}")


def test_a_network_that_does_not_decide_leaves_a_claim_undecided():
    small = made("supported", "protocol of a day", decides=False)
    assert whole([made("contradicted", HERE), small]) == "undecided"
    assert "none of them on a network that decides" in summary([small])
    assert whole([small, made("contradicted", "protocol of a day")]) == "contradicted"


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["supported"] * 8, "undecided"),
        (["supported"] * 9, "supported"),
        (["contradicted"] + ["supported"] * 7, "undecided"),
        (["contradicted"] + ["supported"] * 8, "in part"),
        (["contradicted"] * 2 + ["supported"] * 3, "contradicted"),
    ],
)
def test_the_one_word_of_the_criterion_is_counted_as_the_protocol_counts(words, word):
    marks = [replace(made(one, "protocol"), counted=True) for one in words]
    small = replace(made("contradicted", "protocol", decides=False), counted=True)
    assert whole([*marks, small, small]) == word


def test_what_is_saved_at_best_is_saved_at_one_ratio(every_mark):
    words = ("contradicted", "supported", "undecided")
    one = [replace(made(word, "protocol"), once=True) for word in words]
    other = [replace(mark, case="another network", word="contradicted") for mark in one]
    assert whole(one) == "supported"
    assert whole([*one, *other]) == "in part"
    assert whole(other) == "undecided"  # other ratios, or the other network, may save something
    assert whole([*other, *other]) == "contradicted"
    assert whole([*other, *other[:2], replace(other[0], complete=False)]) == "undecided"
    assert whole([replace(mark, once=False) for mark in one]) == "in part"
    savings = [mark for mark in every_mark if mark.claim == "C7" and mark.by_protocol]
    assert savings
    assert all(mark.once for mark in savings)


def test_the_criterion_s_marks_on_the_protocol_s_networks_are_counted(every_mark):
    found = [mark for mark in every_mark if mark.claim in ("C5", "C6") and mark.by_protocol and mark.decides]
    assert found
    assert all(mark.counted for mark in found)


def test_mean_has_the_interval_of_student_s_t():
    values = [0.1, 0.4, 0.2, 0.35]
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(mean_row("x", values)[1:], [np.mean(values), interval.low, interval.high])
    assert np.isnan(mean_row("x", [0.5])[2:]).all()


def test_every_claim_has_marks_with_intervals_and_committed_records(every_mark):
    assert list(mark_pages.by_claim(every_mark)) == list(CLAIMS)
    owned = owners()
    for mark in every_mark:
        assert mark.word in WORDS
        assert len(mark.intervals) or mark.word == "contradicted"  # a rule that never drew
        assert "nan" not in mark.evidence
        assert mark.records
        assert set(mark.records) <= set(owned)


def test_without_records_there_are_no_marks(tmp_path):
    assert claim_marks.all_marks(committed_store(tmp_path)) == []
    figure, table = first_case([])
    assert len(figure.axes) == 1
    assert table.empty


def test_a_store_that_a_sweep_still_fills_can_be_judged(tmp_path):
    """Methods without the seeds of others, without what they are compared with, without a last epoch."""
    draw = random.Random(0)
    for key, (_, run) in owners().items():
        path = STORE.path(run)
        if draw.random() < 0.2 and path.exists():
            (tmp_path / run.kind).mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / run.kind / f"{key}.json")
    partly = committed_store(tmp_path)
    assert {mark.claim for mark in claim_marks.all_marks(partly)} > {"C4", "C5"}
    assert any(claim_rows(claim, partly) for claim in CLAIMS)
    assert progress_report(partly)


def test_chapter_opens_with_the_intervals_of_its_first_case(every_mark):
    marks = [mark for mark in every_mark if mark.claim == "C5"]
    figure, table = first_case(marks)
    case = [mark for mark in marks if mark.case == marks[0].case]
    assert figure.get_suptitle() == marks[0].case
    assert len(table) == sum(len(mark.intervals) for mark in case)
    assert [axes.get_title() for axes in figure.axes] == [f"{mark.at}: {mark.word}" for mark in case]
    with pytest.raises(SettingError, match="claim is 'C9'"):
        claim_marks.claim_marks("C9", STORE)


def test_one_wide_interval_does_not_press_the_others_into_dots(every_mark):
    """It is cut off with arrows at both ends, and its numbers stay; intervals of like reach are all shown whole."""
    mark = next(mark for mark in every_mark if mark.claim == "C5")
    for wide, cut in ((100.0, True), (2.0, False)):
        rows = [("wide", 0.0, -wide, wide), *((str(number), 0.5, -0.5, 1.5) for number in range(5))]
        figure, table = first_case([replace(mark, intervals=intervals(rows))])
        (axes,) = figure.axes
        arrows = [line for line in axes.lines if line.get_marker() in ("<", ">")]
        assert len(arrows) == 2 * cut == 2 * ("arrows" in axes.get_xlabel())
        assert (axes.get_xlim()[1] < wide) == cut
        assert table["high"].max() == wide
        plt.close(figure)


@pytest.mark.parametrize("claim", ["C5", "C6"])
def test_marks_say_what_the_sentences_say(claim, every_mark):
    """The words of the sentences are made on another way; older ones are about all methods, today's included."""
    said = [
        (float(ratio), word)
        for row in claim_rows(claim, STORE)
        if row["rule"].startswith("protocol")
        and ("not the claim" not in row["records"] or "at the widths of" in row["records"])
        for ratio, word in re.findall(r"at ([\d.]+) \*(\w+)\*", row["ours"])
    ]
    shown = [(float(mark.at), mark.word) for mark in every_mark if mark.claim == claim and _by_protocol(mark)]
    assert said == shown
    assert said or claim == "C6"


def _by_protocol(mark):
    return mark.by_protocol


def test_words_follow_from_the_intervals_that_are_shown(every_mark):
    for mark in every_mark:
        if mark.claim in ("C5", "C6", "C7"):
            low, high = mark.band
            worse = (mark.intervals["high"] < low).any()
            decided = ((mark.intervals["low"] > low) & mark.intervals["low"].notna()).all()
            dearer = mark.claim == "C7" and _by_protocol(mark)  # or its training costs as much as another's
            assert (mark.word == "contradicted") == worse or dearer
            assert mark.word != "supported" or decided


def test_marks_by_the_protocol_are_those_whose_rule_it_is(every_mark):
    assert {mark.by_protocol for mark in every_mark} == {True, False}
    for mark in every_mark:
        assert mark.by_protocol == mark.rule.startswith("protocol"), mark


def test_glance_has_a_row_a_claim_and_the_matrix_a_chip_a_mark(every_mark):
    glance = mark_pages.glance_html(every_mark)
    assert glance.count('<th scope="row">') == len(CLAIMS)
    for group in mark_pages.by_claim(every_mark).values():
        assert summary(group) in glance
    matrix = mark_pages.matrix_html(every_mark)
    assert matrix.count('<a class="mark') == len(every_mark)
    anchors = set(re.findall(r'href="#([\w-]+)"', matrix))
    folds = "".join(mark_pages.folds_html(claim, every_mark, ["svg", "pdf"]) for claim in CLAIMS)
    assert anchors == set(re.findall(r'<div id="([\w-]+)"', folds))
    assert folds.count("python -m splinestudy sweep") >= len(anchors)


def test_every_fold_says_when_its_rule_was_fixed(every_mark):
    for claim in CLAIMS:
        folds = mark_pages.folds_html(claim, every_mark, ["svg", "pdf"])
        assert folds.count("Rule: ") == folds.count("<details")
        assert "`" not in folds
    assert {bool(re.search("post hoc|protocol", mark.rule)) for mark in every_mark} == {True}


def test_every_mark_says_when_its_rule_was_fixed_and_how_many_records_came_before():
    marks = claim_marks.all_marks(committed_store())
    assert len(marks) > 50
    dated = r"^(protocol|\*post hoc\*), `[0-9a-f]{7}` of 20\d\d-\d\d-\d\d, \d+ of \d+ records before"
    assert [mark.rule for mark in marks if not re.match(dated, mark.rule)] == []


def test_decided_comparisons_are_counted_beside_all_that_are_planned(tmp_path):
    table = decided_table(committed_store())
    found = [judged_on(profile, "layerwise", committed_store())[2] for profile in DECIDING]
    words = [word for part in found for word in part["verdict"]]
    decided = len([word for word in words if word not in ("open", "one seed")])
    planned = sum(METHODS_OF[sweep] * 3 for sweep in ("core", "core", "paper_era"))
    assert f"In all {decided} of {planned} comparisons are decided" in table
    assert f"| VGG-16 ×1/2 | {' | '.join(_count(found[0], ratio) for ratio in (0.3, 0.5, 0.7))} |" in table
    assert f"In all 0 of {planned} comparisons are decided, 0 %; 90 % are wanted." in decided_table(
        RecordStore(tmp_path)
    )


def _count(part, ratio):
    verdicts = part.loc[part["ratio"] == ratio, "verdict"]
    return f"{sum(word not in ('open', 'one seed') for word in verdicts)} of {METHODS_OF['paper_era']}"
