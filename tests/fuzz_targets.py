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
from matplotlib.figure import Figure
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
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)
    ).eval()


def common():
    model = net()
    return {
        "model": model, "example_inputs": X[:2], "images": X, "labels": Y, "inputs": X, "data": X, "canvas": X,
        "layers": layers.read_layers(model, X[:2]), "layer": layers.read_layers(model, X[:2])[0],
        "selection": {"0": [1]}, "ratio": 0.5,
        "scores": [torch.rand(4), torch.rand(5)], "clusters": {"0": [[0, 1]]},
        "weight": torch.randn(4, 2), "bias": torch.randn(4), "distance": torch.rand(3, 3).fill_diagonal_(0),
        "norm": torch.rand(3), "seed": 0, "count": 4, "first": torch.rand(1, 4), "second": torch.rand(1, 4),
        "order": 1, "importance": __import__("torch_pruning").importance.LAMPImportance(),
    }  # fmt: skip


def with_defaults(function, **more):
    """The function with sound values for all its arguments: defaults, :func:`common` ones, or ``more``."""

    def arguments():
        known = common()
        found = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if name in more:
                found[name] = more[name]()
            elif name in known:
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


def cut(**settings):
    return partition.compute_partition(net(), partition.Slice2D.axis_aligned(), **settings)


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


def training(model, dataset, seed, stop, first, **settings):
    return train(
        model, dataset, dataclasses.replace(SETTINGS, epochs=1, **settings), seed=seed, stop=stop, first=first,
        progress=False,
    )  # fmt: skip


NOT_CALLED = (
    "Partition", "SegmentPartition", "DecisionBoundary", "Polyline", "Topology", "Trace", "Change", "UnitLayer",
    "warm_up", "supported_modules", "load_partition",
)  # fmt: skip
AXES = Figure().add_subplot()
PARTITION = {
    "slice": partition.Slice2D.axis_aligned, "other": partition.Slice2D.axis_aligned,
    "partition": lambda: cut(boundary=True), "boundary": lambda: cut(boundary=True).boundary,
    "topology": lambda: partition.topology(cut()), "before": cut, "after": cut,
    "segment": lambda: partition.Segment(torch.zeros(2), torch.ones(2)), "axes": lambda: AXES,
    "polygon": lambda: [[0, 0], [1, 0], [0, 1]], "path": lambda: FOLDER / "written",
    "points": lambda: torch.rand(3, 2), "inputs": lambda: torch.rand(3, 2),
    **dict.fromkeys(("origin", "x0", "start"), lambda: torch.tensor([1.0, 2.0])),
    **dict.fromkeys(("first", "x1", "end"), lambda: torch.tensor([1.0, 0.0])),
    **dict.fromkeys(("second", "x2"), lambda: torch.tensor([0.0, 1.0])),
    **dict.fromkeys(("region", "unit", "layer"), lambda: 0),
    **dict.fromkeys(("width", "height", "grid"), lambda: 5),
    "share": lambda: 0.5,
}  # fmt: skip


def in_partition(name, function):
    """A public function or method of ``splinelib.partition`` with sound arguments."""
    own = {
        "area_distance": {"first": net, "second": net},
        "raster_distance": dict.fromkeys(("first", "second"), lambda: cut(codes=True)),
        "compute_partition": {"boundary": lambda: True},
        "axis_aligned": {"axes": lambda: (0, 1)},
    }
    return with_defaults(function, **PARTITION | own.get(name, {}))


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
            "select_flops",
        )
    },
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
    **{
        f"partition.{name}": in_partition(name, function)
        for name, function in vars(partition).items()
        if callable(function) and name not in NOT_CALLED
    },
    **{
        f"partition.Slice2D.{name}": in_partition(name, getattr(partition.Slice2D.axis_aligned(), name))
        for name in ("axis_aligned", "through", "canvas", "at", "coordinates", "same_as", "within", "zoomed")
    },
    **{
        f"partition.Partition.{name}": in_partition(name, getattr(cut(), name))
        for name in ("polygon", "locate", "unit_name")
    },
    "partition.Segment.at": (
        partition.Segment(torch.zeros(2), torch.ones(2)).at,
        lambda: {"positions": [0.0, 0.5]},
    ),
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
