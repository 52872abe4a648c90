import re
import shutil
import subprocess
from datetime import datetime
from functools import cache

import pytest

from splinelib.errors import SettingError
from splinestudy.results import rules, runs_html
from splinestudy.results.claim_rows import claim_table
from splinestudy.results.claim_texts import CLAIMS
from splinestudy.results.claims import claim_rows
from splinestudy.runs.committed import Study, committed, committed_store, owners
from splinestudy.runs.provenance import SOURCE
from splinestudy.runs.records import Record

COMMITTED = committed_store()


@cache
def committed_rows(claim):
    return claim_rows(claim, COMMITTED)


@pytest.mark.parametrize("claim", CLAIMS)
def test_committed_records_speak_to_every_claim(claim):
    rows = committed_rows(claim)
    assert rows
    assert all(list(row) == ["claim", "records", "ours", "rule"] for row in rows)
    assert {row["claim"] for row in rows} == {claim}
    assert all("nan" not in row["ours"] and row["ours"] != "no committed records" for row in rows)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_table_of_claims_says_what_the_paper_says(claim):
    header, _, line = claim_table(committed_rows(claim)[:1]).splitlines()
    assert [name.strip() for name in header.strip("|").split("|")] == [
        "claim",
        "paper",
        "records",
        "ours",
        "rule",
    ]
    assert line.startswith(f"| {claim} | {CLAIMS[claim].text} |")


def test_runs_are_told_in_a_line_for_each_group_that_has_any():
    pilot = committed(Study("pilot", "pilot"), COMMITTED)
    html = runs_html(pilot, [], pilot[:1])
    assert html.count("<li>") == 2
    assert f"; {len(pilot)} runs on" in html
    assert "; 1 runs on" in html
    assert runs_html([]) == runs_html() == "<p>No records.</p>"


def test_rules_name_a_commit_and_its_time():
    """A history cut short, or an archive without one, has none of the commits; a full one has them all."""
    held = [rule for rule in vars(rules).values() if isinstance(rule, rules.Rule)]
    times = [_git("show", "-s", "--format=%cI", rule.commit) for rule in held]
    assert None not in times or set(times) == {None} or _git("rev-parse", "--is-shallow-repository") == "true"
    for rule, time in zip(held, times, strict=True):
        assert time is None or datetime.fromisoformat(time) == datetime.fromisoformat(rule.fixed)


def _git(*arguments):
    if shutil.which("git") is None:
        return None
    done = subprocess.run(["git", *arguments], cwd=SOURCE, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def test_records_before_a_rule_are_counted():
    def record(finished):
        return Record("prune", "key", {}, {}, {"finished": finished})

    rule = rules.Rule("abc", "2026-01-02T00:00:00+00:00", in_protocol=True)
    records = [record("2026-01-01T23:59:59+00:00"), record("2026-01-02T00:00:01+00:00")]
    assert rule.beside(records) == "protocol, `abc` of 2026-01-02, 1 of 2 records before"


def about(row):
    """What of a claim a row is about."""
    if "a stricter test" in row["records"]:
        return rules.STRICTER
    return rules.BESIDE if "not the claim but" in row["records"] else row["claim"]


WHERE = {
    "soft filter pruning left set (a)": lambda row: (
        about(row) != rules.BESIDE or "its reading" in row["records"]
    ),
    "global scope on SimpleCNN as well": lambda row: "SimpleCNN" in row["records"] and row["claim"] == "C6",
    "one allocation and the normalisations at one ratio alone": lambda row: re.search(
        "at the widths of|normalisations", row["records"]
    ),
    "sets (b) and (c) on SimpleCNN as well, set (b) with the core alone": lambda row: re.search(
        "least squares|today's methods", row["records"]
    ),
}
"""The rows that a change is about, where it is not about all of a claim."""


def test_what_changed_in_the_protocol_s_rule_is_named_beside_it_and_as_post_hoc():
    page = (SOURCE / "book" / "protocol.md").read_text()
    assert "Whatever is decided later is called *post hoc* there." in page
    said = {claim: {row["rule"] for row in committed_rows(claim)} for claim in CLAIMS}
    for what in {change.what for change in rules.CHANGED}:
        changes = [change for change in rules.CHANGED if change.what == what]
        words = f"{what} (*post hoc*, `{changes[0].rule.commit}` of"
        for claim in CLAIMS:
            rows = [row for row in committed_rows(claim) if row["rule"].startswith("protocol")]
            assert rows or claim not in changes[0].claims
            for row in rows:
                here = any(about(row) in change.claims for change in changes)
                here = here and WHERE.get(what, lambda row: True)(row)
                assert (words in row["rule"]) == bool(here), (what, row)
        assert any(words in rule for rules_said in said.values() for rule in rules_said), what
    finished = {"C5": "2026-11-29T00:44:15+00:00", "C6": "2026-11-29T18:21:20+00:00"}
    for claim, time in finished.items():
        settings = {"dense": {"arch": "vgg16_bn"}, "scope": "global"}
        words = rules.PROTOCOL.beside([Record("prune", "key", settings, {}, {"finished": time})], claim)
        assert words.count("1 of 1") == {"C5": 4, "C6": 2}[claim]
    assert "changed since" not in rules.COIN.beside([], "C5")


def test_no_record_of_the_protocol_is_older_than_its_rule():
    rows = [row for claim in ("C5", "C6") for row in committed_rows(claim)]
    found = [row["rule"] for row in rows if row["rule"].startswith("protocol")]
    assert found
    assert all(", 0 of " in rule for rule in found)


@pytest.mark.parametrize("claim", CLAIMS)
def test_without_records_nothing_is_said(claim, tmp_path):
    assert claim_rows(claim, committed_store(tmp_path)) == []


def test_claims_that_there_are_not_are_named():
    with pytest.raises(SettingError, match="claim is 'C9': choose one of C1, "):
        claim_rows("C9", COMMITTED)


def test_every_committed_record_belongs_to_a_study_and_has_the_name_of_its_settings():
    owned = owners()
    keys = [path.stem for path in COMMITTED.root.glob("*/[!.]*.json")]
    assert len(keys) > 1000
    assert [key for key in keys if key not in owned] == []
