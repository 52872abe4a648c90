"""The table of how far the study is, against a store whose content is known."""

from splinestudy.results.progress import progress_report
from splinestudy.runs.committed import Study, committed, committed_store
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.store import RecordStore

SIMPLE = Study("paper_era", "grey")


def rows(store):
    """Cells by the name of the network."""
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in progress_report(store).splitlines()]
    return {row[0]: dict(zip(table[0], row, strict=True)) for row in table[2:]}


def test_each_network_of_the_protocol_has_one_row_with_all_its_runs(tmp_path):
    found = rows(RecordStore(tmp_path))
    assert list(found) == [
        "SimpleCNN ×1, Fashion-MNIST",
        "SimpleCNN ×1, MNIST",
        "VGG-16 ×1/2, CIFAR-10",
        "PreResNet-20 ×1, CIFAR-10",
        "VGG-16 ×1, CIFAR-10",
    ]
    sweeps = ("core", "core_flops", "early")
    planned = {run for sweep in sweeps for run in Study(sweep, "full_residual").runs()}
    row = found["PreResNet-20 ×1, CIFAR-10"]
    assert row["runs"] == f"0 of {len(planned)}"
    assert (row["layerwise"], row["global"], row["hours left"]) == ("0 of 15", "0 of 15", "not timed")
    assert found["SimpleCNN ×1, MNIST"]["global"] == "not planned"


def test_a_pair_is_whole_with_its_last_run_and_hours_are_of_one_core(tmp_path):
    """Every epoch of a dense network takes 18 core-seconds, of a pruned one 9: what is left is counted by hand."""
    store = RecordStore(tmp_path)
    real = {kind: committed(SIMPLE, committed_store(), kind)[0] for kind in ("dense", "prune")}
    cuts = [run for run in SIMPLE.runs() if isinstance(run, PruneRun) and run.criterion != "sfp"]
    cell = [run for run in cuts if (run.ratio, run.dense.seed) == (0.5, 0)]
    dense = list({run.dense for run in cell})

    def save(run, epochs, each):
        made = real[run.kind].provenance | {"seconds": each * epochs / 2, "threads": 2}
        store.save(run, real[run.kind].results, made)

    for run in dense:
        save(run, run.train.epochs, 18)
    for run in cell[:-1]:
        save(run, run.finetune.epochs, 9)
    assert rows(store)["SimpleCNN ×1, Fashion-MNIST"]["layerwise"] == "0 of 30"
    save(cell[-1], cell[-1].finetune.epochs, 9)
    row = rows(store)["SimpleCNN ×1, Fashion-MNIST"]
    assert row["layerwise"] == "1 of 30"
    sweeps = ("paper_era", "early", "core_flops", "like_for_like")
    left = {run for sweep in sweeps for run in Study(sweep, "grey").runs()} - {*cell, *dense}
    seconds = sum(
        18 * run.train.epochs if isinstance(run, DenseRun) else 9 * run.finetune.epochs for run in left
    )
    assert float(row["hours left"].replace(",", "")) == round(seconds / 3600, 1)
