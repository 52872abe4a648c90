"""The whole run: prune, compensate, fine-tune, measured at each stage."""

import copy
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from splinelib.artifacts import atomic_path, load_tensors
from splinelib.checks import check_images
from splinelib.cost import cost
from splinelib.data.imagefolder import DEFAULT_SIZE
from splinelib.imagenet.finetuning import SAVE_STEPS, evaluate, finetune
from splinelib.imagenet.folders import Folder, calibration_batch
from splinelib.imagenet.networks import build_network, widths
from splinelib.imagenet.processes import agree, place, told
from splinelib.imagenet.settings import ImageNetRun
from splinelib.methods import Calibration, choose_units
from splinelib.pruning import remove_compensated
from splinelib.records import Record, RecordStore, provenance
from splinelib.surgery import Selection, remove_units


def run_imagenet(
    run: ImageNetRun,
    folder: Folder,
    weights: str | None,
    store: RecordStore,
    device: torch.device,
    workers: int = 0,
    save_steps: int = SAVE_STEPS,
) -> Record | None:
    """Compute ``run`` unless ``store`` has its record, and return that (in the first process; None in the others).

    The record's results: top1 and top5 of the network ``dense``, ``pruned`` (units removed, no more), ``compensated``
    (None without compensation) and ``tuned`` (None without epochs); dense_cost, cost; dense_widths, widths;
    prune_seconds; epochs (rows of :func:`finetune`); processes. The last weights are kept in the store together with
    the units removed: :func:`load_pruned` reads them. All processes must see the same store.
    """
    if told((record := store.load(run)) is not None, device):
        return record if place()[0] == 0 else None
    started, clock = datetime.now(UTC), time.monotonic()
    model, results = _pruned(run, folder, weights, store, device, workers)
    rows = finetune(
        model,
        folder,
        run.finetune,
        seed=run.seed,
        device=device,
        workers=workers,
        checkpoint=store.checkpoint_path(run),
        save_steps=save_steps,
    )
    if place()[0] != 0:
        return None
    results |= {"tuned": {name: rows[-1][name] for name in ("top1", "top5")} if rows else None}
    results |= {"epochs": rows, "processes": place()[1]}
    stage = load_tensors(_stage(store, run))
    with atomic_path(store.weights_path(run)) as path:
        torch.save({"selection": stage["selection"], "model": model.state_dict()}, path)
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    begun, spent = started.isoformat(timespec="seconds"), time.monotonic() - clock
    record = store.save(run, results, provenance("imagenet", device, begun, ended, spent))
    for path in (store.checkpoint_path(run), _stage(store, run)):
        path.unlink(missing_ok=True)
    return record


def load_pruned(path: Path | str, arch: str, num_classes: int, size: int = DEFAULT_SIZE) -> nn.Module:
    """The smaller network that a run left in its store's folder ``weights``, in eval mode on the CPU."""
    content, example = load_tensors(Path(path)), torch.zeros(2, 3, size, size)
    model = remove_units(build_network(arch, None, num_classes), example, content["selection"])
    model.load_state_dict(content["model"])
    return model.eval()


def _stage(store: RecordStore, run: ImageNetRun) -> Path:
    """What a run keeps between pruning and the end of fine-tuning."""
    return store.checkpoint_path(run).with_suffix(".pruned.pt")


def _pruned(
    run: ImageNetRun,
    folder: Folder,
    weights: str | None,
    store: RecordStore,
    device: torch.device,
    workers: int,
) -> tuple[nn.Module, dict[str, Any]]:
    """The pruned and compensated network, the same in all processes, and what was measured up to there."""
    first, classes = place()[0] == 0, len(folder.classes)
    stage = _stage(store, run)
    if told(stage.exists(), device):
        model = load_pruned(stage, run.arch, classes, run.image_size).to(device)
        return model, load_tensors(stage)["results"]
    dense = build_network(run.arch, weights if first else None, classes, run.seed).to(device)
    agree(dense)
    known = calibration_batch(folder, run.calibration, run.seed, workers)
    known = Calibration(known.images.to(device), known.labels.to(device))
    check_images(dense, known.images)
    example = known.images[:2]
    results: dict[str, Any] = {"dense": evaluate(dense, folder, device, workers=workers)}
    begun = time.monotonic()
    # The first process chooses and solves for all, so that they agree whatever their rounding.
    selection: Selection | None = None
    if first:
        selection = choose_units(dense, run.criterion, run.ratio, run.scope, run.seed, known)
    selection = told(selection, device)
    model = remove_units(dense, example, selection)
    plain = model
    if run.compensate != "none":
        model = copy.deepcopy(plain)
        if first:
            model = remove_compensated(dense, example, selection, run.compensate, known.images)
        agree(model)
    results["prune_seconds"] = time.monotonic() - begun
    results["pruned"] = evaluate(plain, folder, device, workers=workers)
    compensated = None if model is plain else evaluate(model, folder, device, workers=workers)
    results |= {"compensated": compensated, "dense_cost": asdict(cost(dense, example))}
    results |= {"cost": asdict(cost(model, example)), "dense_widths": widths(dense, example)}
    results["widths"] = widths(model, example)
    if first:
        with atomic_path(stage) as path:
            torch.save({"selection": selection, "model": model.state_dict(), "results": results}, path)
    return model, results
