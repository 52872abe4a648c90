"""The registry of methods: a row is enough, and rows, records, figures and the book's table agree."""

import dataclasses
import itertools
import re
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from splinelib.criteria.weights import FPGM
from splinelib.errors import SettingError
from splinestudy.data import Calibration
from splinestudy.plots.style import family_colour, style_of
from splinestudy.results import Way, way_of
from splinestudy.runs.committed import committed_store
from splinestudy.runs.methods import METHODS, Method, choices, make_criterion, names_of
from splinestudy.runs.profiles import PROFILES, get_profile
from splinestudy.runs.shrinking import check_method
from splinestudy.runs.untrained import compensated

DATA = Calibration(torch.rand(4, 3, 8, 8), torch.arange(4) % 2)
BOOK = Path(__file__).parents[1] / "book"


def test_a_row_is_enough(monkeypatch):
    row = Method("mine", "my score", "weights", "1", "ours", make=lambda seed, data: FPGM())
    with pytest.raises(SettingError, match="criterion is 'mine'"):
        check_method("mine", "none", "trained", "layerwise")
    monkeypatch.setitem(METHODS, "mine", row)
    check_method("mine", "none", "trained", "layerwise")
    assert "mine" in names_of("score")
    assert "mine" in choices()
    assert isinstance(make_criterion("mine", 0, DATA), FPGM)
    assert Way("mine", "merge", scope="global").label == "my score, merging, global"
    assert style_of(Way("mine")) == (family_colour(Way("l1")), "1", "--")


def test_lists_derive_from_the_registry(monkeypatch):
    profile = PROFILES["study"]
    assert profile.criteria == names_of("score")
    assert compensated(profile) == ("spline", "l1", "random", "thinet", "reconstruction")
    monkeypatch.setitem(METHODS, "l2", dataclasses.replace(METHODS["l2"], compensated=True))
    assert "l2" in compensated(profile)
    assert set(choices()) == {name for name, row in METHODS.items() if row.make or row.role == "procedure"}
    with pytest.raises(SettingError, match="criteria is 'slimming'"):  # a combination, whose name no run has
        get_profile("study", criteria=["slimming"])


def test_rows_are_told_apart():
    assert [row.name for row in METHODS.values()] == list(METHODS)
    labels = [row.label for row in METHODS.values()]
    assert len(set(labels)) == len(labels)
    families = defaultdict(list)
    for row in METHODS.values():
        if row.role != "variant":  # those stand in figures of their own, one a row
            families[row.family].append(row.marker)
    for markers in families.values():
        assert len(set(markers)) == len(markers)
    curves = [row.curve for row in METHODS.values() if row.curve]
    assert len({dash for _, dash in curves}) > 2
    assert len(set(curves)) == len(curves)


@pytest.mark.parametrize("method", ["spline", "l1"])
def test_a_draw_or_full_rate_has_a_sign_of_its_own_in_the_family(method):
    family = METHODS[method].family
    taken = {row.marker for row in METHODS.values() if row.family == family and row.role != "variant"}
    assert style_of(Way(method, retrained=True))[1] not in taken
    drawn = [Way("spline", draw=draw) for draw in ("detector", 4)] + [
        Way("spline", draw="detector", anew=True)
    ]
    markers = {style_of(way)[1] for way in drawn}
    assert len(markers) == 3
    assert not markers & {"o", "P", "8"}


def test_no_two_ways_share_a_name():
    ways = [
        Way(
            method,
            compensate,
            draw,
            retrained=retrained,
            scope=scope,
            normalize=normalize,
            allocation=allocation,
        )
        for method, compensate, draw, retrained, scope, normalize, allocation in itertools.product(
            METHODS,
            ("none", "merge"),
            ("end", "start", "detector", "epochs", 1, 11),
            (False, True),
            ("layerwise", "global"),
            ("mean", "rank"),
            ("", "l1"),
        )
    ]
    assert len({way.id for way in ways}) == len(set(ways)) == len(ways)
    assert sorted(ways, reverse=True)[0].id == max(way.id for way in ways)
    with pytest.raises(SettingError, match="method is 'splin'"):
        Way("splin")


def test_every_record_was_made_by_a_row():
    store = committed_store()
    found = [record.settings for kind in ("prune", "oneshot") for record in store.load_all(kind)]
    assert found
    assert {settings["criterion"] for settings in found} <= set(choices())
    assert {way_of(settings).method for settings in found} <= set(METHODS)
    cut = [name for record in store.load_all("sensitivity") for name in record.settings["criteria"]]
    assert set(cut) <= set(names_of("score", "variant"))


def table_rows():
    """The rows of the book's table of methods: first cell and last."""
    text = (BOOK / "theory" / "baselines.md").read_text()
    table = text[text.index("```{list-table}") :].split("```")[1]
    rows = [re.split(r"\n  - ", row) for row in re.split(r"\n\* - ", table)[2:]]
    return [(row[0], row[-1]) for row in rows]


def labels_of(cell):
    return re.findall(r"\*([^*]+)\*", cell)


def test_the_table_of_the_book_is_that_of_the_registry():
    rows = {row.label: row for row in METHODS.values()}
    named = [label for cell, _ in table_rows() for label in labels_of(cell)]
    assert sorted(named) == sorted(row.label for row in rows.values() if row.role != "variant")
    for cell, source in table_rows():
        for row in map(rows.get, labels_of(cell)):
            if row.make:
                assert f"`{type(row.make(0, DATA)).__name__}(" in cell
            if row.era != "ours" and (cited := re.search(r"\{cite:t\}`\D+(\d{4})", source)):
                assert row.era == ("paper" if int(cited[1]) <= 2022 else "today")
            assert row.era == "ours" or source.strip() != "ours"


def test_variants_are_of_the_spline_criterion():
    for name in names_of("variant"):
        assert type(make_criterion(name, 0, DATA)) is type(make_criterion("spline", 0, DATA))
