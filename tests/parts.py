"""Trains small networks in parts: ``torchrun … parts.py FOLDER``; the first process writes what came of it."""

import dataclasses
import json
import sys
from pathlib import Path

import torch
from tiny_runs import SETTINGS, tiny_dataset
from torch import nn

from splinestudy.training import distributed
from splinestudy.training.loop import train


def network(norm):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)]
        return nn.Sequential(*layers) if norm else nn.Sequential(layers[0], *layers[2:])


CASES = {  # batches of 16; with a rest of 8; of 47 images with a rest of 7, so that parts differ in size
    "plain": (False, 48, {"batch_size": 16}),
    "norm": (True, 48, {"batch_size": 16, "label_smoothing": 0.1, "nesterov": True}),
    "rest": (True, 47, {"batch_size": 20}),
}


def trained(name, checkpoint=None, stop=None):
    """Rows without the clock, and every tensor of the network."""
    norm, count, changes = CASES[name]
    model, settings = network(norm), dataclasses.replace(SETTINGS, **changes)
    rows = train(
        model, tiny_dataset(count), settings, seed=3, checkpoint=checkpoint, stop=stop, progress=False
    )
    tensors = {key: value.double().flatten().tolist() for key, value in model.state_dict().items()}
    return {"rows": [{k: v for k, v in row.items() if k != "seconds"} for row in rows], "tensors": tensors}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with distributed.joined():
        found = {name: trained(name) for name in CASES}
        trained("norm", folder / "checkpoint.pt", stop=1)
        found["resumed"] = trained("norm", folder / "checkpoint.pt")
        if distributed.part()[0] == 0:
            (folder / "found.json").write_text(json.dumps(found))
