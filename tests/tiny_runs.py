"""Runs of well under a second, in this process or, called as a script, in one that a test may kill.

``python tiny_runs.py train FOLDER`` and ``python tiny_runs.py sweep FOLDER`` do slowly what the tests do fast.
"""

import dataclasses
import hashlib
import sys
import time
from pathlib import Path

import torch
from torch import nn

from splinelib import SplineEarlyBird
from splinestudy.data import Dataset, Split
from splinestudy.runs import dense, prune
from splinestudy.runs import sweep as sweeps
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.records import run_key
from splinestudy.runs.store import RecordStore
from splinestudy.training.loop import train
from splinestudy.training.settings import TrainSettings
from splinestudy.training.trainer import Trainer

CPU = torch.device("cpu")
# The L1 term is on so that every part of a step takes part.
SETTINGS = TrainSettings(epochs=3, batch_size=8, lr=0.05, norm_l1=1e-3)


def tiny_dataset(train_count=48, test_count=24):
    """Three classes of 1×8×8 noise, told apart by the image's brightest third."""
    generator = torch.Generator().manual_seed(0)

    def split(count):
        labels = torch.arange(count) % 3
        images = torch.randint(100, (count, 1, 8, 8), generator=generator)
        for image, label in zip(images, labels.tolist(), strict=True):
            image[:, 3 * label : 3 * label + 2] += 150
        return Split(images.to(torch.uint8), labels)

    names = ("top", "middle", "bottom")
    return Dataset("tiny", split(train_count), split(test_count), 3, (0.3,), (0.3,), True, names)


def tiny_network(seed=0):
    """Convolution, batch norm, dropout: everything whose state a checkpoint has to hold."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Conv2d(4, 6, 3, stride=2),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(54, 3),
        )


class Watch:
    """Training callback with state: a spline detector and the epochs it has seen."""

    def __init__(self):
        canvas = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        self.detector, self.epochs = SplineEarlyBird(canvas), []

    def after_epoch(self, model, epoch):
        self.epochs.append(epoch)
        self.detector.update(model)
        return {"moved": self.detector.distances[epoch].round(6).tolist()}

    def state_dict(self):
        return {"detector": self.detector.state_dict(), "epochs": list(self.epochs)}

    def load_state_dict(self, state):
        self.detector.load_state_dict(state["detector"])
        self.epochs = list(state["epochs"])


def train_tiny(checkpoint=None, **changes):
    """Train the tiny network: (rows without the clock, digest of all its tensors, its callback)."""
    model, watch = tiny_network(), Watch()
    settings = dataclasses.replace(SETTINGS, **changes)
    rows = train(
        model,
        tiny_dataset(),
        settings,
        seed=3,
        callbacks=[watch],
        checkpoint=checkpoint,
        checkpoint_every=0.0,
        progress=False,
    )
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows], digest(model), watch


def digest(model):
    """SHA-256 of every parameter and buffer, bit by bit."""
    content = b"".join(tensor.contiguous().numpy().tobytes() for tensor in model.state_dict().values())
    return hashlib.sha256(content).hexdigest()


def tiny_plan(seeds=(0, 1), ratios=(0.5,), criteria=("spline", "l1")):
    """Dense runs, then their pruned ones, as ``profiles.plan`` orders them."""
    dense = [DenseRun("tiny", 48, "alexnet", 1 / 32, seed, SETTINGS, 4, (0.5,)) for seed in seeds]
    finetune = dataclasses.replace(SETTINGS, epochs=1)
    pruned = [
        PruneRun(run, criterion, "layerwise", ratio, finetune)
        for run in dense
        for ratio in ratios
        for criterion in criteria
    ]
    return [*dense, *pruned]


def sweep_tiny(folder, plan=None, **settings):
    """Sweep the tiny plan over the store in ``folder``; ``load_dataset`` must give the tiny data set by now."""
    settings = {"profile": "tiny", "device": CPU, "progress": False, **settings}
    return sweeps.sweep(tiny_plan() if plan is None else plan, RecordStore(folder), **settings)


def without_clock(results):
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in results["epochs"]]
    clocks = ("scoring_seconds", "dense_seconds")
    kept = {name: value for name, value in results.items() if name not in clocks}
    return {**kept, "epochs": rows}


def _slowly(function, seconds):
    def slow(*arguments, **settings):
        time.sleep(seconds)
        return function(*arguments, **settings)

    return slow


def main(what, folder):
    folder = Path(folder)
    if what == "train":
        Trainer._step = _slowly(Trainer._step, 0.05)
        train_tiny(folder / "checkpoint.pt")
    elif what == "sweep":
        dense.load_dataset = lambda name: tiny_dataset()
        Trainer._step = _slowly(Trainer._step, 0.05)
        # Without this the run under way would save nothing in its first minute.
        dense.train = prune.train = lambda *given, **settings: train(*given, checkpoint_every=0.0, **settings)
        sweep_tiny(folder)
    elif what == "share":
        share(folder, "child")
    else:
        raise SystemExit(f"no such thing: {what}")


def share(folder, name):
    """Sweep with a stand-in for the computation that notes who did which run."""

    def execute(run, store, device, progress):
        with open(folder / "log", "a") as log:
            log.write(f"{name} {run_key(run)}\n")
        time.sleep(0.05)
        store.weights_path(run).parent.mkdir(parents=True, exist_ok=True)
        store.weights_path(run).touch()
        return {"by": name}

    DenseRun.compute = PruneRun.compute = execute
    sweeps._WAIT = 0.05
    (folder / f"{name}.ready").touch()
    while not all((folder / f"{other}.ready").exists() for other in ("parent", "child")):
        time.sleep(0.01)
    return sweep_tiny(folder / "store", tiny_plan(seeds=range(4)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
