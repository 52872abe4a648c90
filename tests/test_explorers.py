"""The explorers show the records' numbers, and their script follows the library's rule."""

import json

import numpy as np
import pytest
from test_playground import run_script

from book._tools import explorers as pages
from splinelib.early_bird.detectors import first_settled
from splinestudy.results import explorers
from splinestudy.results.protocol import PAPER_ERA, judge
from splinestudy.results.protocol_networks import judge_sets, judged
from splinestudy.results.pruning import pruning_table
from splinestudy.runs.committed import committed_store

RULE = f"""
import {{ readFileSync }} from "node:fs";
import {{ firstSettled, distance }} from "{pages.SOURCE.as_uri()}/rule.mjs";
const cases = JSON.parse(readFileSync(0));
console.log(JSON.stringify(cases.map(([rows, epochs, threshold, window]) =>
  [firstSettled(rows, epochs, threshold, window), distance(rows, 0, epochs - 1), distance(rows, epochs - 1, 1)])));
"""


@pytest.fixture(scope="module")
def trainings():
    return explorers.trainings(committed_store())


@pytest.fixture(scope="module")
def comparisons():
    return explorers.comparisons(committed_store())


def test_script_draws_where_the_library_does(trainings):
    seeds = [seed for training in trainings for seed in training["seeds"]]
    cases = [
        (seed["distances"], len(seed["accuracy"]), threshold, window)
        for seed in seeds
        for threshold, window in ((0.16, 3), (0.05, 1), (0.002, 5), (0.3, 10))
    ]
    found = run_script(RULE, cases)
    drawn = 0
    for (rows, epochs, threshold, window), (epoch, first_last, last_second) in zip(cases, found, strict=True):
        matrix = explorers.whole(rows, epochs)
        assert epoch == first_settled(matrix, threshold, window)
        assert first_last == matrix[0, -1]
        assert last_second == matrix[-1, 1]
        drawn += epoch is not None
    assert 0 < drawn < len(cases)


def test_thousandths_give_the_matrix_back():
    matrix = np.random.default_rng(0).integers(0, 1000, (7, 7)) / 1000
    matrix = np.triu(matrix, 1) + np.triu(matrix, 1).T
    np.testing.assert_array_equal(explorers.whole(explorers._below(matrix), 7), matrix)


def test_intervals_are_those_of_the_verdicts(comparisons):
    study, records, found = judged("layerwise", committed_store())[0]
    shown = next(one for one in comparisons if one["rule"] == "protocol" and one["scope"] == "layerwise")
    for part in shown["ratios"]:
        wanted = found[found["ratio"] == part["ratio"]].set_index("against")
        rows = part["intervals"][next(iter(explorers.SETS))]
        assert len(rows) == len(wanted)
        assert {row[0]: (row[1], row[4]) for row in rows} == {
            way.label: (round(100 * row["difference"], 2), row["verdict"]) for way, row in wanted.iterrows()
        }


def test_a_set_holds_its_own_methods_and_what_they_are_compared_with(comparisons):
    _, records, _ = judged("layerwise", committed_store())[0]
    table = pruning_table(records, "layerwise")
    assert len(judge(table)) == len(judge(table, against=PAPER_ERA))
    for one in comparisons:
        for part in one["ratios"]:
            labels = {method["label"]: method["sets"] for method in part["methods"]}
            for name, control in explorers.SETS.items():
                members = {label for label, sets in labels.items() if name in sets}
                compared = {row[0] for row in part["intervals"][name]}
                if control.label in members:
                    assert compared == members - {control.label}
                else:
                    assert not compared


def test_every_set_of_the_protocol_is_compared(comparisons):
    study, records, _ = judged("layerwise", committed_store())[0]
    _, *wanted = judge_sets(study, records, committed_store())
    shown = next(one for one in comparisons if one["rule"] == "protocol" and one["scope"] == "layerwise")
    for name, found in zip(list(explorers.SETS)[1:3], wanted, strict=True):
        rows = {
            (part["ratio"], *row) for part in shown["ratios"] for row in map(tuple, part["intervals"][name])
        }
        assert len(rows) == len(found) > 0
        assert {(ratio, label, word) for ratio, label, *_, word in rows} == {
            (row.ratio, row.against.label, row.verdict) for row in found.itertuples()
        }


def test_pages_are_one_piece_that_loads_nothing(trainings, comparisons):
    for page in pages.pages(trainings, comparisons):
        assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
        assert "/*" not in page
        assert "import " not in page
        assert "export " not in page


def test_data_cannot_end_the_script(tmp_path):
    template = tmp_path / "page.html"
    template.write_text("<script>/*SCRIPT*/ f(/*DATA*/)</script>")
    (tmp_path / "a.mjs").write_text("export function f() {}")
    page = pages.one_piece(template, ("a.mjs",), {"name": "</script><b>"})
    assert page.count("</script>") == 1
    assert json.loads(page[page.rindex("f(") + 2 : page.rindex(")<")]) == {"name": "</script><b>"}
