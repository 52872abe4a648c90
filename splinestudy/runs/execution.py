"""What each kind of run computes and measures."""

import dataclasses
import time
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.errors import RecordError
from splinelib.files import atomic_path
from splinelib.layers.network import read_layers
from splinelib.pruning.flops import cost, counted_flops
from splinelib.pruning.least_squares import reestimate_norms
from splinelib.pruning.surgery import remove_units
from splinestudy.analysis.neighbours import norm_ranks
from splinestudy.data import Dataset
from splinestudy.runs.detection import DetectionWatch
from splinestudy.runs.methods import FRESH, Calibration, SoftPruning, choose_units, shrink
from splinestudy.runs.records import Record, RecordStore
from splinestudy.runs.runs import (
    EARLY,
    FRESH_SEED,
    DenseRun,
    OneShotRun,
    PruneRun,
    Run,
    SensitivityRun,
    SettlingRun,
    calibration,
    dense_settings,
    example_inputs,
    load_run_data,
    new_model,
    partly_trained,
    trained_model,
)
from splinestudy.runs.settling import SettlingWatch
from splinestudy.training.loop import evaluate, train
from splinestudy.training.starts import boundaries_through_data, greedy_layerwise, lsuv

INITIALISING = 256
"""Training images that data-dependent starts look at."""


def execute(run: Run, store: RecordStore, device: torch.device, progress: bool = True) -> dict[str, Any]:
    """Compute ``run`` and return its results as JSON values; weights and checkpoints go to ``store``.

    ``progress`` says whether training shows a bar.
    """
    data = load_run_data(dense_settings(run), device)
    if isinstance(run, DenseRun):
        return _execute_dense(run, data, store, device, progress)
    if isinstance(run, SettlingRun):
        return _execute_settling(run, data, store, device, progress)
    if isinstance(run, OneShotRun):
        return _execute_one_shot(run, data, store, device)
    if isinstance(run, SensitivityRun):
        return _execute_sensitivity(run, data, store, device)
    return _execute_prune(run, data, store, device, progress)


def _execute_dense(
    run: DenseRun, data: Dataset, store: RecordStore, device: torch.device, progress: bool
) -> dict[str, Any]:
    model = new_model(run, data, device)
    watch = DetectionWatch(run, data, model)
    rows = train(
        model,
        data,
        run.train,
        seed=run.seed,
        callbacks=[watch],
        checkpoint=store.checkpoint_path(run),
        keep=lambda epochs: store.moment_path(run, epochs) if watch.drew(epochs - 1) else None,
        progress=progress,
    )
    with atomic_path(store.weights_path(run)) as path:
        torch.save(model.state_dict(), path)
    return {"epochs": rows, "cost": dataclasses.asdict(cost(model, example_inputs(data))), **watch.results()}


def _execute_settling(
    run: SettlingRun, data: Dataset, store: RecordStore, device: torch.device, progress: bool
) -> dict[str, Any]:
    model = new_model(run.training, data, device)
    watch = SettlingWatch(run, data)
    rows = train(
        model,
        data,
        run.training.train,
        seed=run.training.seed,
        callbacks=[watch],
        checkpoint=store.checkpoint_path(run),
        progress=progress,
    )
    return {"epochs": rows, **watch.results()}


def _dense_record(run: PruneRun | OneShotRun | SensitivityRun, store: RecordStore) -> Record:
    """What is known of the dense run that a run starts from."""
    record = store.load(run.dense)
    if record is None:
        raise RecordError(f"store {store.root} has no record of {run.dense}: run it first, as a sweep does")
    return record


def _measured(dense: nn.Module, pruned: nn.Module, data: Dataset, images: Tensor) -> dict[str, Any]:
    """A pruned network before any training: accuracy as it is and with batch norms re-estimated; cost and widths."""
    example = images[:2]
    return {
        "pruned_accuracy": evaluate(pruned, data),
        "reestimated_accuracy": evaluate(reestimate_norms(pruned, images), data),
        "dense_cost": dataclasses.asdict(cost(dense, example)),
        "cost": dataclasses.asdict(cost(pruned, example)),
        "widths": {layer.name: layer.units for layer in read_layers(pruned, example)},
        "dense_widths": {layer.name: layer.units for layer in read_layers(dense, example)},
    }


def _execute_one_shot(
    run: OneShotRun, data: Dataset, store: RecordStore, device: torch.device
) -> dict[str, Any]:
    dense_accuracy = _dense_record(run, store).results["epochs"][-1]["accuracy"]
    dense = trained_model(run.dense, data, store, device)
    known = calibration(data, run.dense.seed, run.images)
    started = time.monotonic()
    pruned = shrink(
        dense, run.criterion, run.ratio, run.scope, run.compensate, run.dense.seed, known, run.ratio_of
    )
    seconds = time.monotonic() - started
    measured = _measured(dense, pruned, data, known.images)
    return {"dense_accuracy": dense_accuracy, "seconds": seconds, **measured}


def _execute_sensitivity(
    run: SensitivityRun, data: Dataset, store: RecordStore, device: torch.device
) -> dict[str, Any]:
    """Test accuracy with one layer cut, and the mean rank of the cut units by folded norm: by criterion and layer."""
    dense_accuracy = _dense_record(run, store).results["epochs"][-1]["accuracy"]
    dense = trained_model(run.dense, data, store, device)
    known = calibration(data, run.dense.seed)
    layers = read_layers(dense, known.images[:2])
    results: dict[str, Any] = {"dense_accuracy": dense_accuracy, "accuracy": {}, "norm_rank": {}}
    for name in run.criteria:
        chosen = choose_units(dense, name, run.ratio, "layerwise", run.dense.seed, known)
        cuts = {layer.name: {layer.name: chosen[layer.name]} for layer in layers if chosen.get(layer.name)}
        results["accuracy"][name] = {
            layer: evaluate(remove_units(dense, known.images[:2], cut), data) for layer, cut in cuts.items()
        }
        ranks = norm_ranks(dense, [layer for layer in layers if layer.name in cuts], chosen)
        results["norm_rank"][name] = dict(zip(cuts, ranks, strict=True))
    return results


def _execute_prune(
    run: PruneRun, data: Dataset, store: RecordStore, device: torch.device, progress: bool
) -> dict[str, Any]:
    record = _dense_record(run, store)
    epochs, drawn = dense_epochs(run, record)
    dense = _network_at(run.dense, epochs, data, store, device)
    known = calibration(data, run.dense.seed)
    pruned, scoring = _pruned(run, dense, data, known, store, device)
    before = record.results["epochs"][epochs - 1] if epochs else {"seconds": 0.0, "joules": 0.0}
    results = {
        "dense_accuracy": record.results["epochs"][-1]["accuracy"],
        "dense_seconds": before["seconds"],
        "dense_joules": before.get("joules"),
        "training_images": len(data.train),
        "dense_epochs": epochs,
        "drawn": drawn,
        **scoring,
        **_measured(dense, pruned, data, known.images),
    }
    soft = run.criterion == "sfp"  # which is trained at full width, and cut at the end
    rows = train(
        dense if soft else pruned,
        data,
        run.finetune,
        seed=run.dense.seed + 1,
        callbacks=[SoftPruning(run.ratio, known)] if soft else [],
        checkpoint=store.checkpoint_path(run),
        first=epochs if run.onward else 0,
        progress=progress,
    )
    if soft:
        cut = shrink(dense, "sfp", run.ratio, run.scope, "none", run.dense.seed, known)
        accuracy = evaluate(reestimate_norms(cut, known.images), data)
    else:  # no row where a detector never drew, and nothing is left of the schedule
        accuracy = rows[-1]["accuracy"] if rows else results["reestimated_accuracy"]
    return {**results, "accuracy": accuracy, "epochs": rows}


def dense_epochs(run: PruneRun, dense: Record) -> tuple[int, bool]:
    """Epochs of dense training before the units are chosen, and whether a detector (where one is asked) drew at all.

    A detector that never drew leaves the dense run to its end.
    """
    if isinstance(run.draw, int):
        return run.draw, True
    total = run.dense.train.epochs
    if run.draw == "end":
        return total, True
    if run.draw == "spline":
        epoch = dense.results["spline"]["epoch"]
    else:
        found = {mask["ratio"]: mask["epoch"] for mask in dense.results["masks"]}
        epoch = found.get(run.ratio)  # a network without batch norm has no masks
    return (total, False) if epoch is None else (epoch + 1, True)


def _network_at(
    run: DenseRun, epochs: int, data: Dataset, store: RecordStore, device: torch.device
) -> nn.Module:
    """The dense run's network after so many epochs; its end was kept when it was trained."""
    if epochs == run.train.epochs:
        return trained_model(run, data, store, device)
    return partly_trained(run, epochs, data, store, device)


def _pruned(
    run: PruneRun,
    dense: nn.Module,
    data: Dataset,
    known: Calibration,
    store: RecordStore,
    device: torch.device,
) -> tuple[nn.Module, dict[str, float]]:
    """The small network as its training starts, and what it took to choose its units, to compensate, to initialise."""
    seed, started = run.dense.seed, time.monotonic()
    with counted_flops() as flops:
        if run.start == "trained":
            network = shrink(
                dense, run.criterion, run.ratio, run.scope, run.compensate, seed, known, run.ratio_of
            )
        else:
            selection = choose_units(dense, run.criterion, run.ratio, run.scope, seed, known, run.ratio_of)
    scoring = {"scoring_seconds": time.monotonic() - started, "scoring_flops": flops()}
    if run.start == "trained":
        return network, scoring
    if run.start == "early":
        source = partly_trained(run.dense, EARLY, data, store, device)
    else:
        fresh = run.start in FRESH
        own = dataclasses.replace(run.dense, seed=seed + FRESH_SEED) if fresh else run.dense
        source = new_model(own, data, device)
    small = remove_units(source, known.images[:2], selection)
    started = time.monotonic()
    with counted_flops() as flops:
        small = _initialised(run, small, data, known)
    spent = {"scoring_seconds": time.monotonic() - started, "scoring_flops": flops()}
    return small, {name: scoring[name] + spent[name] for name in scoring}


def _initialised(run: PruneRun, model: nn.Module, data: Dataset, known: Calibration) -> nn.Module:
    """A small network with new weights, after the clever start that the run asks for, if any."""
    seed, inputs = run.dense.seed + FRESH_SEED, known.images[:INITIALISING]
    if run.start == "lsuv":
        return lsuv(model, inputs, seed)
    if run.start == "through_data":
        return boundaries_through_data(model, inputs, seed)
    if run.start == "layerwise":
        one_epoch = dataclasses.replace(run.finetune, epochs=1, milestones=())
        return greedy_layerwise(model, data, one_epoch, seed)[0]
    return model
