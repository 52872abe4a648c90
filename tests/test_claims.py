import pytest

from splinelib.errors import SettingError
from splinestudy.results.claims import claim_rows
from splinestudy.runs.committed import committed_store, owners, record_keys

CLAIMS = [f"C{number}" for number in range(1, 9)]
COMMITTED = committed_store()


@pytest.mark.parametrize("claim", CLAIMS)
def test_committed_records_speak_to_every_claim(claim):
    rows = claim_rows(claim, COMMITTED)
    assert rows
    assert all(list(row) == ["claim", "paper", "records", "ours"] for row in rows)
    assert {row["claim"] for row in rows} == {claim}
    assert all("nan" not in row["ours"] and row["ours"] != "no committed records" for row in rows)


@pytest.mark.parametrize("claim", CLAIMS)
def test_without_records_nothing_is_said(claim, tmp_path):
    assert claim_rows(claim, committed_store(tmp_path)) == []


def test_claims_that_there_are_not_are_named():
    with pytest.raises(SettingError, match="claim is 'C9': choose one of C1, "):
        claim_rows("C9", COMMITTED)


def test_every_committed_record_belongs_to_a_study_and_has_the_name_of_its_settings():
    owned = owners()
    assert [key for _, key in record_keys(COMMITTED) if key not in owned] == []
