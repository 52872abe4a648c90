"""What ``fuzz.py`` calls: public functions of the library, what a user of the study calls, with sound arguments.

A target is a function and what makes its arguments anew for each call.
"""

import contextlib
import dataclasses
import inspect
import io
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from tiny_runs import SETTINGS, tiny_dataset, tiny_network
from torch import nn

import splinelib.early_bird.distances as distances
from splinelib import criteria, early_bird, layers, partition, pruning
from splinelib.criteria.grouping import SplineGroups
from splinelib.early_bird import detectors
from splinelib.errors import SettingError
from splinelib.files import load_tensors, save_tensors
from splinelib.regression import ridge_regression
from splinestudy import notebook
from splinestudy.__main__ import main
from splinestudy.data import batches, evaluation_batches, load_dataset, normalize, subset
from splinestudy.data.arrays import read_arrays
from splinestudy.data.samples import calibration, canvas_pair
from splinestudy.models import build_model
from splinestudy.runs.dense import DenseRun
from splinestudy.runs.plans import plan
from splinestudy.runs.profiles import Profile, get_profile
from splinestudy.runs.prune import PruneRun
from splinestudy.runs.records import read_record
from splinestudy.training.loop import evaluate, train
from splinestudy.training.starts import boundaries_through_data, lsuv
from splinestudy.training.trainer import TrainSettings

FOLDER = Path(tempfile.mkdtemp())
X = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 2
DATA = tiny_dataset()


def net():
    return nn.Sequential(
        nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)
    ).eval()


SMALLER = pruning.prune(net(), X[:2], 0.5)


def common():
    model = net()
    return {
        "model": model, "example_inputs": X[:2], "images": X, "labels": Y, "inputs": X, "data": X, "canvas": X,
        "layers": layers.read_layers(model, X[:2]), "layer": layers.read_layers(model, X[:2])[0],
        "selection": {"0": [1]}, "ratio": 0.5,
        "scores": [torch.rand(4), torch.rand(5)], "clusters": {"0": [[0, 1]]},
        "weight": torch.randn(4, 2), "bias": torch.randn(4), "distance": torch.rand(3, 3).fill_diagonal_(0),
        "norm": torch.rand(3), "seed": 0, "count": 4, "first": torch.rand(1, 4), "second": torch.rand(1, 4),
        "order": 1, "pruned": SMALLER, "dense": model, "models": [model],
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "importance": __import__("torch_pruning").importance.LAMPImportance(),
    }  # fmt: skip


def with_defaults(function, **more):
    """The function with sound values for all its arguments: defaults, :func:`common` ones, or ``more``."""

    def arguments():
        known = {**common(), **{name: make() for name, make in more.items()}}
        found = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if name in known:
                found[name] = known[name]
            elif parameter.default is not inspect.Parameter.empty:
                found[name] = parameter.default
        return found

    return function, arguments


def scoring(criterion):
    def score(model=None, layers=None, **settings):
        return criterion(**settings)(model, layers)

    _, settings = with_defaults(criterion)
    return score, lambda: {**settings(), **{name: common()[name] for name in ("model", "layers")}}


def updating(detector):
    def update(model, **settings):
        return detector(**settings).update(model)

    _, settings = with_defaults(detector)
    return update, lambda: {**settings(), "model": net()}


def packed():
    return [early_bird.sign_codes(net(), X) for _ in range(3)]


def cut():
    return partition.compute_partition(net(), partition.Slice2D.axis_aligned())


def written(name, content):
    path = FOLDER / name
    path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    return path


def command(**options):
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(["sweep", "early_bird", "--list", *words])
        except SystemExit as end:  # of argparse, which has said why
            status = end.code
    refused(status)


def refused(status):
    """What a command's status says, as an exception."""
    if status == 2:
        raise SettingError("said on standard error")
    if status:
        raise AssertionError(f"status {status}")


def slurm(**options):
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(
                ["slurm", "smoke", "toy", *(f"--{name}={value}" for name, value in options.items())]
            )
        except SystemExit as end:
            status = end.code
    refused(status)


def profile_fields():
    return {field.name: None for field in dataclasses.fields(Profile)}


def parameters(**values):
    notebook.checked_profile({"profile": "smoke", "store": None, "records": None, **values})


def damaged(read, make):
    """Read a file of which a byte, or the length, is what was drawn."""

    def call(path=None, byte=None, place=None):
        whole = make()
        if isinstance(path, Path) and path.parent == FOLDER:
            content = bytearray(whole)
            if isinstance(place, int) and isinstance(byte, int):
                content[place % len(content)] = byte % 256
            written(path.name, bytes(content))
        with contextlib.suppress(FileNotFoundError):  # which is what it is
            read(path if isinstance(path, Path) else FOLDER / "absent")

    return call, lambda: {"path": FOLDER / "file.bin", "byte": 0, "place": 0}


def tensors_file():
    save_tensors(FOLDER / "file.bin", {"x": torch.zeros(3)})
    return (FOLDER / "file.bin").read_bytes()


def partition_file():
    partition.save_partition(cut(), FOLDER / "p.npz")
    return (FOLDER / "p.npz").read_bytes()


def pruned_file():
    pruning.save(SMALLER, FOLDER / "pruned")
    return (FOLDER / "pruned").read_bytes()


def load_pruned(into):
    pruned_file()
    pruning.load(FOLDER / "pruned", into=into)


def training(model, dataset, seed, stop, first, **settings):
    return train(
        model, dataset, dataclasses.replace(SETTINGS, epochs=1, **settings), seed=seed, stop=stop, first=first,
        progress=False,
    )  # fmt: skip


TARGETS = {
    **{
        f"pruning.{name}": with_defaults(getattr(pruning, name))
        for name in (
            "cost",
            "fold_units",
            "merge_units",
            "prune",
            "reconstruct",
            "reestimate_norms",
            "remove_units",
            "mask_units",
            "select_units",
            "select_budget",
            "carry_optimizer",
            "cut_of",
            "fuse_norms",
            "measure_latency",
            "report",
            "report_of",
        )
    },
    "pruning.load": damaged(lambda path: pruning.load(path, into=net()), pruned_file),
    "pruning.save": (lambda model: pruning.save(model, FOLDER / "x"), lambda: {"model": SMALLER}),
    "pruning.load into": (load_pruned, lambda: {"into": net()}),
    "layers.first_images": with_defaults(layers.first_images, batches=lambda: [(X, Y)]),
    "layers.read_layers": with_defaults(layers.read_layers),
    "layers.folded": with_defaults(layers.folded),
    **{
        f"criteria.{name}": scoring(getattr(criteria, name))
        for name in (
            "BatchNormScale",
            "CodeDistance",
            "FPGM",
            "FilterNorm",
            "GraSP",
            "OutputAngle",
            "Random",
            "ReconstructionCost",
            "SNIP",
            "Spline",
            "SynFlow",
            "Taylor",
            "ThiNet",
            "TorchPruningScore",
        )
    },
    "criteria.SplineGroups": scoring(SplineGroups),
    "criteria.spline_distance": with_defaults(criteria.spline_distance),
    "criteria.rank_units": with_defaults(criteria.rank_units),
    "early_bird.SplineEarlyBird": updating(early_bird.SplineEarlyBird),
    "early_bird.MaskEarlyBird": updating(early_bird.MaskEarlyBird),
    "early_bird.two_image_canvas": with_defaults(early_bird.two_image_canvas),
    "early_bird.noise_canvas": with_defaults(early_bird.noise_canvas),
    "early_bird.sign_codes": with_defaults(early_bird.sign_codes),
    "early_bird.code_distance": (
        early_bird.code_distance,
        lambda: dict(zip(("first", "second"), packed()[:2], strict=True)),
    ),
    **{
        f"distances.{name}": (getattr(distances, name), lambda: {"codes": packed()})
        for name in ("pairwise_distances", "distances_to_final", "settled_share")
    },
    "distances.distance_per_rate": (
        distances.distance_per_rate,
        lambda: {"distances": np.zeros((3, 3)), "lrs": [1.0, 1.0, 1.0]},
    ),
    "distances.pack_bits": (distances.pack_bits, lambda: {"bits": torch.ones(9, dtype=torch.bool)}),
    "early_bird.PackedCode": (
        early_bird.PackedCode,
        lambda: {"layers": (np.zeros(1, np.uint8),), "bits": (4,)},
    ),
    "detectors.first_settled": with_defaults(detectors.first_settled, distances=lambda: np.zeros((5, 5))),
    "regression.ridge_regression": (
        ridge_regression,
        lambda: {
            "equations": iter([(torch.randn(1, 5, 2), torch.randn(1, 5, 1))]),
            "ridge": 0.1,
            "unknowns": 2,
        },
    ),
    "partition.compute_partition": with_defaults(
        partition.compute_partition, slice=partition.Slice2D.axis_aligned
    ),
    "partition.count_regions": with_defaults(partition.count_regions, slice=partition.Slice2D.axis_aligned),
    "partition.Slice2D.axis_aligned": with_defaults(partition.Slice2D.axis_aligned),
    "partition.compute_segment": with_defaults(
        partition.compute_segment, segment=lambda: partition.Segment(torch.zeros(2), torch.ones(2))
    ),
    "partition.Segment": (partition.Segment, lambda: {"start": torch.zeros(2), "end": torch.ones(2)}),
    "partition.raster": (partition.raster, lambda: {"partition": cut(), "width": 5, "height": 5}),
    "partition.compare": (partition.compare, lambda: {"before": cut(), "after": cut()}),
    "partition.locate": (lambda points: cut().locate(points), lambda: {"points": np.zeros((2, 2))}),
    "partition.load_partition": damaged(partition.load_partition, partition_file),
    "files.load_tensors": damaged(load_tensors, tensors_file),
    "records.read_record": damaged(read_record, lambda: b'{"schema": 1, "kind": "x"}'),
    "arrays.read_arrays": damaged(read_arrays, lambda: b'\x20\0\0\0\0\0\0\0{"a": 1}' + b" " * 30),
    "profiles.get_profile": (get_profile, lambda: {"name": "smoke", **profile_fields()}),
    "plans.plan": (plan, lambda: {"sweep": "layerwise", "profile": get_profile("smoke")}),
    "notebook.checked_profile": (
        parameters,
        lambda: {"profile": "smoke", "store": None, "records": None, **profile_fields()},
    ),
    "command.sweep": (
        command,
        lambda: {
            "profile": "smoke",
            "store": "x",
            "jobs": 1,
            "images": 10,
            "epochs": 1,
            "width": 0.1,
            "seeds": 0,
            "ratios": 0.5,
            "criteria": "l1",
            "budget": "1m",
            "shard": "1/2",
            "dataset": "digits",
            "arch": "vgg16_bn",
            "finetune_epochs": 1,
        },
    ),
    "command.slurm": (slurm, lambda: {"store": "x", "workers": 2, "hours": 1, "gpus": 0}),
    "data.load_dataset": (load_dataset, lambda: {"name": "imagefolder", "root": FOLDER}),
    "data.subset": (subset, lambda: {"split": DATA.train, "count": 5, "seed": 0}),
    "data.normalize": (normalize, lambda: {"images": DATA.train.images, "dataset": DATA}),
    "data.batches": (
        lambda **given: list(batches(**given)),
        lambda: {
            "split": DATA.train,
            "dataset": DATA,
            "batch_size": 4,
            "generator": torch.Generator(),
            "augment": True,
            "skip": 0,
        },
    ),
    "data.evaluation_batches": (
        lambda **given: list(evaluation_batches(**given)),
        lambda: {"split": DATA.train, "dataset": DATA, "batch_size": 4},
    ),
    "data.calibration": (calibration, lambda: {"data": DATA, "seed": 0, "images": 4}),
    "data.canvas_pair": (canvas_pair, lambda: {"data": DATA, "seed": 0}),
    "models.build_model": (
        build_model,
        lambda: {
            "arch": "mlp",
            "num_classes": 3,
            "in_channels": 1,
            "width": 0.1,
            "image_size": 32,
            "seed": 0,
        },
    ),
    "runs.TrainSettings": with_defaults(TrainSettings, epochs=lambda: 2),
    "runs.DenseRun": (
        DenseRun,
        lambda: {
            "dataset": "digits",
            "images": 10,
            "arch": "mlp",
            "width": 0.1,
            "seed": 0,
            "train": SETTINGS,
            "canvas_side": 4,
            "mask_ratios": (0.5,),
            "test_images": None,
        },
    ),
    "runs.PruneRun": with_defaults(
        PruneRun,
        dense=lambda: DenseRun("digits", 10, "vgg16_bn", 0.1, 0, SETTINGS, 4, (0.5,)),
        criterion=lambda: "l1",
        scope=lambda: "layerwise",
        finetune=lambda: SETTINGS,
    ),
    "training.train": (
        training,
        lambda: {
            "model": tiny_network(),
            "dataset": DATA,
            "seed": 0,
            "stop": 1,
            "first": 0,
            "lr": 0.1,
            "batch_size": 24,
        },
    ),
    "training.evaluate": (evaluate, lambda: {"model": tiny_network(), "dataset": DATA}),
    "starts.lsuv": with_defaults(lsuv),
    "starts.boundaries_through_data": with_defaults(boundaries_through_data),
}


def is_bad_by_itself(kind, place, value):
    """Whether no argument of that name can take the value, so that a call that goes through has not looked at it."""
    if place in ("places", "example_inputs", "byte", "place", "path"):
        return False
    if isinstance(value, float):
        return not math.isfinite(value)
    return kind in ("NaN tensor", "NaN array", "object", "complex")
