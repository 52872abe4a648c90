"""What the chapter on ImageNet shows: the runs its parameters plan, what is missing, tables."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from splinelib.artifacts import cache_dir
from splinelib.errors import SettingError
from splinelib.imagenet.finetuning import check_batch
from splinelib.imagenet.folders import Folder, open_folder
from splinelib.imagenet.networks import check_weights
from splinelib.imagenet.run import run_imagenet
from splinelib.imagenet.settings import FineTune, ImageNetRun
from splinelib.profiles import get_profile
from splinelib.records import Record, RecordStore

STAGES = ("dense", "pruned", "compensated", "tuned")


def planned(parameters: Mapping[str, Any]) -> tuple[list[ImageNetRun], Folder | None]:
    """The runs that the notebook's parameters ask for, all checked, and their images (None without ``data``)."""
    get_profile(parameters["profile"])
    ratios = parameters["ratios"]
    if not isinstance(ratios, list | tuple) or not ratios:
        raise SettingError(f"ratios is {ratios!r}: give a non-empty list such as [0.3]")
    precision: Any = "bfloat16" if torch.cuda.is_available() else "float32"
    tune = FineTune(parameters["epochs"], parameters["batch_size"], precision=precision)
    names = ("arch", "scope", "compensate", "criterion", "calibration", "image_size", "seed")
    shared = {name: parameters[name] for name in names}
    runs = [ImageNetRun("", weights=None, ratio=ratio, finetune=tune, **shared) for ratio in ratios]
    if parameters["data"] is None:
        return runs, None
    folder = open_folder(parameters["data"], parameters["image_size"])
    check_batch(folder, tune, 1)
    weights = check_weights(parameters["arch"], parameters["weights"], len(folder.classes))
    return [dataclasses.replace(run, dataset=folder.name, weights=weights) for run in runs], folder


def needed(parameters: Mapping[str, Any]) -> str:
    """What the part with data needs, and how to start it, as Markdown."""
    settings = (
        f"--arch {parameters['arch']} --weights {parameters['weights'] or 'IMAGENET1K_V1'} "
        f"--ratio {parameters['ratios'][0]} --scope {parameters['scope']} "
        f"--compensate {parameters['compensate']} --criterion {parameters['criterion']} "
        f"--calibration {parameters['calibration']} --image-size {parameters['image_size']} "
        f"--epochs {parameters['epochs']} --batch-size {parameters['batch_size']} --seed {parameters['seed']}"
    )
    return f"""**Not run: `data` names no folder**, so nothing in this chapter is an accuracy. What is needed:

1. ImageNet (ILSVRC 2012) as `train/<class>/*.JPEG` and `val/<class>/*.JPEG` below one folder, about 150 GB;
   or any other images in that layout, with weights that know their classes.
2. Weights: a torchvision name (downloaded by torchvision at the first use), or a file.
3. For fine-tuning, a GPU. Evaluation and compensation alone (`--epochs 0`) run on a CPU too, slowly.

On one machine with four GPUs (a plain `python -m splinelib.imagenet` uses one device):

```bash
torchrun --nproc-per-node=4 -m splinelib.imagenet --data /data/imagenet --store runs \\
    {settings}
```

In this notebook, which then finds that run's record instead of computing it if the settings agree:

```bash
papermill notebooks/08_imagenet.ipynb out.ipynb -p data /data/imagenet -p weights IMAGENET1K_V1 -p store runs
```
"""


def announced(runs: Sequence[ImageNetRun], folder: Folder) -> str:
    """What is about to run, as Markdown."""
    weights = (
        runs[0].weights
        or "none: random weights, so the accuracies below are those of chance before fine-tuning"
    )
    return (
        f"{len(folder.train):,} training and {len(folder.val):,} validation images of {len(folder.classes)} classes; "
        f"{runs[0].arch}, weights {weights}."
    )


def run_all(
    runs: Sequence[ImageNetRun], folder: Folder | None, parameters: Mapping[str, Any]
) -> list[Record]:
    """Records of the runs, found in the store or computed now on one device; none without a folder."""
    if folder is None:
        return []
    store = RecordStore(parameters["store"] or cache_dir("SPLINELIB_STORE", "runs"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    workers = 8 if device.type == "cuda" else 0
    records = [run_imagenet(run, folder, parameters["weights"], store, device, workers) for run in runs]
    return [record for record in records if record is not None]


def accuracy_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row for each network that was measured: arch, ratio, network, top1, top5, parameters, flops."""
    rows = []
    for record in records:
        for stage in STAGES:
            if measured := record.results[stage]:
                spent = record.results["dense_cost" if stage == "dense" else "cost"]
                named = {"arch": record.settings["arch"], "ratio": record.settings["ratio"], "network": stage}
                rows.append(named | measured | spent)
    return rows
