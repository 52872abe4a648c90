"""The same cuts on networks of several widths."""

import pytest

from splinestudy.results.ways import SPLINE
from splinestudy.results.width import (
    COMPARED,
    judgements_by_width,
    losses_by_width,
    networks_by_width,
    shared_tables,
    standings_by_width,
)
from splinestudy.runs.committed import Study, committed, committed_store
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.store import RecordStore

NAMES = [
    "VGG-16 ×1/8, CIFAR-10",
    "VGG-16 ×1/4, CIFAR-10",
    "VGG-16 ×1/2, CIFAR-10",
    "PreResNet-20 ×1/2, CIFAR-10",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Half of the units gone: spline one point behind slimming and level with the rest; the residual lacks L1 norm."""
    store = RecordStore(tmp_path_factory.mktemp("store"))
    real = committed(Study("core", "reference"), committed_store(), "prune")[0]
    for profile in ("residual", "half", "reference", "study"):
        sweep = "paper_era" if profile == "half" else "core"
        for run in Study(sweep, profile, {"seeds": (0, 1)}).runs():
            missing = profile == "residual" and getattr(run, "criterion", "") == "l1"
            if isinstance(run, PruneRun) and run.ratio == 0.5 and not missing:
                accuracy = 0.7 + 0.1 * run.dense.seed + 0.01 * (run.dense.train.norm_l1 > 0)
                store.save(run, real.results | {"accuracy": accuracy, "dense_accuracy": 0.9}, real.provenance)
    return store


def test_networks_come_kind_by_kind_and_the_narrowest_first(store):
    assert list(networks_by_width("layerwise", store)) == NAMES
    assert networks_by_width("global", store) == {}


def test_only_networks_with_all_methods_are_compared(store):
    tables = shared_tables(networks_by_width("layerwise", store), "layerwise", 0.5)
    assert list(tables) == NAMES[:3]
    assert all(set(table["way"]) == {SPLINE, *COMPARED} for table in tables.values())
    assert shared_tables(networks_by_width("layerwise", store), "layerwise", 0.7) == {}


def test_losses_and_standings_by_hand(store):
    networks = networks_by_width("layerwise", store)
    tables = shared_tables(networks, "layerwise", 0.5)
    for row in losses_by_width(tables).to_dict("records"):
        assert (row["n"], row["dense"]) == (2, pytest.approx(90))
        lost = {name: round(row[name], 6) for name in (way.label for way in (SPLINE, *COMPARED))}
        assert lost == {way.label: 15 - (way.method == "slimming") for way in (SPLINE, *COMPARED)}
    differences = judgements_by_width(tables)[NAMES[0]].set_index("against")["difference"]
    assert {way.method: round(differences[way], 6) for way in COMPARED} == {
        **{way.method: 0.0 for way in COMPARED},
        "slimming": -0.01,
    }
    standings = standings_by_width(networks, "layerwise", (0.5,))
    assert list(standings["network"]) == NAMES[:3]
    assert set(standings[["better", "at least on par", "open", "worse"]].sum(axis=1)) == {len(COMPARED)}
    assert list(standings)[-1] == "against these"  # the claim is about more methods
