"""What a GPU computes in some minutes: the paper's own schedule, in an order that leaves whole comparisons."""

import dataclasses
import tarfile
from pathlib import Path

from splinelib.files import atomic_path
from splinestudy.runs.dense import DenseRun, dense_runs, finetuning, slimming_runs
from splinestudy.runs.profiles import Profile
from splinestudy.runs.protocol import CORE
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.run import Run
from splinestudy.runs.store import RecordStore
from splinestudy.runs.tickets import early_birds

RATIO = 0.5
NETWORKS = ("vgg16_bn", "preresnet101")
"""In this order; the second only when the first is done."""

CHOICES = ("spline", "l1", "fpgm", "random")
"""Units chosen at the end of dense training, beside network slimming's: first those that differ most."""

REST = tuple(criterion for criterion in CORE if criterion not in CHOICES)
"""The core's others, after all seeds of the first."""

ARCHIVE = "records.tar.gz"


def gpu_runs(profile: Profile) -> list[Run]:
    """Dense networks of every seed; early birds of both detectors; then the core at the end, in two parts."""
    runs: list[Run] = []
    for arch in NETWORKS:
        sized = dataclasses.replace(profile, arch=arch)
        dense, slim = dense_runs(sized), slimming_runs(sized)
        runs += [*dense, *slim]
        runs += early_birds(dense, "spline", "spline", RATIO, "layerwise")
        runs += early_birds(slim, "mask", "bn_scale", RATIO, "layerwise")
        for plain, sparse in zip(dense, slim, strict=True):
            runs += [_pruned(sized, plain, criterion) for criterion in CHOICES]
            runs.append(_pruned(sized, sparse, "bn_scale"))
        runs += [_pruned(sized, plain, criterion) for plain in dense for criterion in REST]
    return runs


def _pruned(profile: Profile, dense: DenseRun, criterion: str) -> PruneRun:
    return PruneRun(dense, criterion, "layerwise", RATIO, finetuning(profile, dense))


def write_archive(store: RecordStore, folder: Path) -> Path:
    """All records of ``store``, without weights and checkpoints, as one file in ``folder``; its path."""
    with atomic_path(folder / ARCHIVE) as temporary, tarfile.open(temporary, "w:gz") as archive:
        for path in sorted(store.root.glob("*/[!.]*.json")):
            archive.add(path, path.relative_to(store.root))
    return folder / ARCHIVE
