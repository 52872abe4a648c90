"""Command line: ``python -m splinelib.imagenet``, or ``torchrun --nproc-per-node=N -m splinelib.imagenet``."""

import argparse
import dataclasses
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from splinelib.artifacts import atomic_path, cache_dir
from splinelib.data.imagefolder import DEFAULT_SIZE
from splinelib.errors import SettingError, SplineError
from splinelib.imagenet.finetuning import SAVE_STEPS, check_batch
from splinelib.imagenet.folders import Folder, open_folder
from splinelib.imagenet.networks import check_weights
from splinelib.imagenet.processes import processes
from splinelib.imagenet.run import run_imagenet
from splinelib.imagenet.settings import FineTune, ImageNetRun
from splinelib.methods import CRITERIA
from splinelib.pruning import COMPENSATIONS
from splinelib.records import RecordStore
from splinelib.surgery import Scope

_LOG = logging.getLogger(__name__)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m splinelib.imagenet", description="Prune on ImageNet.")
    parser.add_argument("--data", required=True, help="folder with train/<class>/* and val/<class>/*")
    parser.add_argument("--arch", default="resnet50", help="a torchvision classification network")
    parser.add_argument("--weights", help="torchvision weights such as IMAGENET1K_V1, or a file; else random")
    parser.add_argument("--ratio", type=float, required=True, help="share of the units to remove")
    parser.add_argument("--scope", choices=get_args(Scope), default="layerwise")
    parser.add_argument("--criterion", choices=CRITERIA, default="spline", metavar="NAME")
    parser.add_argument("--compensate", choices=COMPENSATIONS, default="none")
    parser.add_argument("--calibration", type=int, default=500, help="training images to compensate with")
    parser.add_argument("--image-size", type=int, default=DEFAULT_SIZE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=FineTune.epochs, help="of fine-tuning; 0 for none")
    parser.add_argument("--batch-size", type=int, default=FineTune.batch_size, help="of all processes")
    parser.add_argument("--lr", type=float, default=FineTune.lr)
    parser.add_argument("--schedule", choices=("step", "cosine"), default=FineTune.schedule)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="default bfloat16 on a GPU")
    parser.add_argument("--workers", type=int, default=8, help="processes that decode, for each GPU")
    parser.add_argument("--save-steps", type=int, default=SAVE_STEPS, help="steps between two checkpoints")
    parser.add_argument("--store", type=Path, help="folder of records, weights and checkpoints")
    parser.add_argument("--out", type=Path, help="copy of the record")
    return parser


def _prepared(options: argparse.Namespace) -> tuple[ImageNetRun, Folder]:
    """All inputs, checked."""
    for name, least in (("workers", 0), ("save_steps", 1)):
        if getattr(options, name) < least:
            raise SettingError(f"{name} is {getattr(options, name)}: it must be at least {least}")
    if options.out is not None and options.out.is_dir():
        raise SettingError(f"out is the folder {options.out}: give a file such as {options.out}/record.json")
    precision: Any = options.precision or ("bfloat16" if torch.cuda.is_available() else "float32")
    tune = FineTune(options.epochs, options.batch_size, options.lr, options.schedule, precision=precision)
    names = ("ratio", "scope", "compensate", "criterion", "calibration", "image_size", "seed")
    # Settings are checked before the folder is listed, which takes a while for ImageNet.
    run = ImageNetRun(
        "", options.arch, None, **{name: getattr(options, name) for name in names}, finetune=tune
    )
    folder = open_folder(options.data, options.image_size)
    check_batch(folder, tune, int(os.environ.get("WORLD_SIZE", 1)))
    weights = check_weights(options.arch, options.weights, len(folder.classes))
    return dataclasses.replace(run, dataset=folder.name, weights=weights), folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit status is 0 on success, 2 on an error that names its remedy."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = _parser().parse_args(arguments)
    first = os.environ.get("RANK", "0") == "0"
    logging.getLogger().setLevel(logging.INFO if first else logging.WARNING)
    store = RecordStore(options.store or cache_dir("SPLINELIB_STORE", "runs"))
    try:
        run, folder = _prepared(options)
        with processes() as device:
            record = run_imagenet(
                run, folder, options.weights, store, device, options.workers, options.save_steps
            )
    except SplineError as error:
        if first:
            print(f"error: {error}", file=sys.stderr)
        return 2
    if record is not None:
        if options.out is not None:
            with atomic_path(options.out) as path:
                shutil.copyfile(store.path(run), path)
        _LOG.info("record %s", store.path(run))
        for name in ("dense", "pruned", "compensated", "tuned"):
            _LOG.info("%s: %s", name, record.results[name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
