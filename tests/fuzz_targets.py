"""What ``fuzz.py`` calls of the library: all that its packages' faces offer, with sound arguments.

A target is a function and what makes its arguments anew for each call.
"""

import contextlib
import functools
import inspect
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch_pruning
from matplotlib.figure import Figure
from tiny_runs import tiny_dataset
from torch import nn

import splinelib.early_bird.distances as distances
from splinelib import criteria, early_bird, layers, partition, pruning
from splinelib.early_bird import detectors, lightning
from splinelib.files import load_tensors, save_tensors
from splinelib.regression import ridge_regression

FOLDER = Path(tempfile.mkdtemp())
X = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 2
DATA = tiny_dataset()
FACES = (criteria, early_bird, layers, partition, pruning)
# What functions return; nobody makes one by hand. A protocol cannot be made at all.
RETURNED = {"Layer", "Writer", "Cost", "Cut", "Report", "Ranking", "Criterion", "Selection"} | {
    "Change", "DecisionBoundary", "LevelSet", "Partition", "SolidPartition",
    "Polyline", "SegmentPartition", "Topology", "Trace", "UnitLayer"
}  # fmt: skip


def public(face):
    """Functions and classes that a package's face has to offer."""
    root = face.__name__.split(".")[0]
    return {
        f"{face.__name__.split('.')[-1]}.{name}": value
        for name, value in vars(face).items()
        if name in getattr(face, "__all__", vars(face))
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith(root)
        if not name.startswith("_") and name not in RETURNED
    }


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)
    ).eval()


def net3():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()


SMALLER = pruning.prune(net(), X[:2], 0.5)


def packed():
    return [early_bird.sign_codes(net(), X) for _ in range(3)]


@functools.cache
def read():
    return layers.read_layers(net(), X[:2])


@functools.cache
def cut(**settings):
    return partition.compute_partition(net(), partition.Slice2D.axis_aligned(), **settings)


def common():
    """Sound values by the names of arguments."""
    model = net()
    return {
        "model": model, "example_inputs": X[:2], "images": X, "labels": Y, "inputs": X, "data": X, "canvas": X,
        "layers": list(read()), "layer": read()[0],
        "selection": {"0": [1]}, "ratio": 0.5, "scores": [torch.rand(4), torch.rand(5)],
        "clusters": {"0": [[0, 1]]}, "weight": torch.randn(4, 2), "bias": torch.randn(4),
        "distance": torch.rand(3, 3).fill_diagonal_(0), "norm": torch.rand(3), "seed": 0, "count": 4, "channels": 3,
        "order": 1, "pruned": SMALLER, "dense": model, "models": [model], "batches": [(X, Y)],
        "optimizer": (optimizer := torch.optim.SGD(model.parameters(), lr=0.1)),
        "schedule": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
        "importance": torch_pruning.importance.LAMPImportance(),
    }  # fmt: skip


def common_of_partitions():
    """The same for exact partitions, where some names are others' too."""
    slice, axes = partition.Slice2D.axis_aligned(), Figure().subplots()
    whole = cut(boundary=True, codes=True)
    return {
        "model": net(), "slice": slice, "partition": whole, "before": whole, "after": cut(), "first": whole,
        "second": cut(codes=True), "axes": axes, "boundary": whole.boundary, "topology": partition.topology(whole),
        "unit": 0, "region": 0, "width": 5, "height": 5, "path": FOLDER / "written",
        "points": [torch.zeros(2), torch.ones(2)], "segment": partition.Segment(torch.zeros(2), torch.ones(2)),
        "start": torch.zeros(2), "end": torch.ones(2), "other": slice, "share": 0.5,
        "inputs": torch.rand(3, 2), "centre": [0.0, 0.0],
        "radius": 0.5, "sigma": 0.5, "point": [0.1, 0.2], "polygon": [[0, 0], [1, 0], [0, 1]],
        "selection": {"0": [1]}, "x0": torch.tensor([0, 0.5]), "x1": torch.tensor([1.0, 0]),
        "x2": torch.tensor([0, 1.0]),
    }  # fmt: skip


def with_defaults(function, values=common, **more):
    """The function with sound values for all its arguments: ``more``, ``values``, or their defaults."""

    def arguments():
        known = {**values(), **{name: make() for name, make in more.items()}}
        parameters = inspect.signature(function).parameters
        defaults = {
            name: given.default for name, given in parameters.items() if given.default is not given.empty
        }
        return defaults | {name: known[name] for name in parameters if name in known}

    return function, arguments


def scoring(criterion):
    def score(model=None, layers=None, **settings):
        return criterion(**settings)(model, layers)

    _, settings = with_defaults(criterion)
    return score, lambda: {**settings(), "model": net(), "layers": list(read())}


def updating(detector):
    def update(model, **settings):
        return detector(**settings).update(model)

    _, settings = with_defaults(detector)
    return update, lambda: {**settings(), "model": net()}


def restoring(detector):
    """``load_state_dict`` of a state whose entries may be wrong, and what is asked of a detector afterwards."""

    def restore(**state):
        restored = detector()
        restored.load_state_dict(state)
        restored.update(net())
        return restored.distances

    def arguments():
        watcher = detector()
        watcher.update(net())
        return watcher.state_dict()

    return restore, arguments


def target(face, thing):
    if face is partition:
        return with_defaults(thing, common_of_partitions)
    if face is criteria and inspect.isclass(thing):
        return scoring(thing)
    if isinstance(thing, type) and issubclass(thing, detectors._Detector):
        return updating(thing)
    return with_defaults(thing)


def damaged(read, make):
    """Read a file of which a byte, or the length, is what was drawn."""

    def call(path=None, byte=None, place=None):
        whole = make()
        if isinstance(path, Path) and path.parent == FOLDER:
            content = bytearray(whole)
            if isinstance(place, int) and isinstance(byte, int):
                content[place % len(content)] = byte % 256
            path.write_bytes(bytes(content))
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


TARGETS = {
    **{name: target(face, thing) for face in FACES for name, thing in public(face).items()},
    "criteria.TorchPruningScore": scoring(criteria.TorchPruningScore),
    "early_bird.two_image_canvas": with_defaults(
        early_bird.two_image_canvas, first=lambda: X[0], second=lambda: X[1]
    ),
    "early_bird.code_distance": (
        early_bird.code_distance, lambda: dict(zip(("first", "second"), packed()[:2], strict=True))
    ),
    "early_bird.PackedCode": (
        early_bird.PackedCode, lambda: {"layers": (np.zeros(1, np.uint8),), "bits": (4,)}
    ),
    "early_bird.SplineEarlyBird.load_state_dict": restoring(lambda: early_bird.SplineEarlyBird(X)),
    "early_bird.MaskEarlyBird.load_state_dict": restoring(lambda: early_bird.MaskEarlyBird(0.5)),
    "early_bird.SplineEarlyBirdCallback": with_defaults(lightning.SplineEarlyBirdCallback),
    **{
        f"distances.{name}": (getattr(distances, name), lambda: {"codes": packed()})
        for name in ("pairwise_distances", "distances_to_final", "settled_share")
    },
    "distances.distance_per_rate": (
        distances.distance_per_rate, lambda: {"distances": np.zeros((3, 3)), "lrs": [1.0, 1.0, 1.0]}
    ),
    "distances.pack_bits": (distances.pack_bits, lambda: {"bits": torch.ones(9, dtype=torch.bool)}),
    "detectors.first_settled": with_defaults(detectors.first_settled, distances=lambda: np.zeros((5, 5))),
    "regression.ridge_regression": (
        ridge_regression,
        lambda: {"equations": iter([(torch.randn(1, 5, 2), torch.randn(1, 5, 1))]), "ridge": 0.1, "unknowns": 2},
    ),
    "partition.Slice2D": with_defaults(
        partition.Slice2D,
        lambda: {
            "origin": torch.zeros(2), "first": torch.tensor([1.0, 0]), "second": torch.tensor([0, 1.0]),
            "polygon": np.array([[0.0, 0], [1, 0], [0, 1]]),
        },
    ),
    "partition.Slice3D": (
        partition.Slice3D,
        lambda: {"origin": torch.zeros(3), "directions": torch.eye(3), "bounds": np.array([[-1.0, 1]] * 3)},
    ),
    "partition.AffinePieces": (
        partition.AffinePieces,
        lambda: {"breaks": torch.tensor([0.0, 1]), "slopes": torch.tensor([0.0, 1, 0]), "height": 0.0},
    ),
    "partition.compute_partition": with_defaults(
        partition.compute_partition, common_of_partitions, boundary=lambda: True
    ),
    "partition.with_affine_pieces": with_defaults(
        partition.with_affine_pieces, model=lambda: nn.Sequential(nn.Linear(2, 3), nn.GELU(), nn.Linear(3, 2))
    ),
    "pruning.cut_of": (pruning.cut_of, lambda: {"model": SMALLER}),
    "partition.compute_solid": with_defaults(partition.compute_solid, model=net3, slice=partition.Slice3D.axis_aligned),
    "partition.face_areas": with_defaults(
        partition.face_areas, partition=lambda: partition.compute_solid(net3(), partition.Slice3D.axis_aligned())
    ),
    "partition.level_set": with_defaults(partition.level_set, partition=lambda: cut(outputs=True)),
    "partition.area_distance": with_defaults(partition.area_distance, common_of_partitions, first=net, second=net),
    "partition.Slice2D.axis_aligned": with_defaults(partition.Slice2D.axis_aligned),
    **{
        f"partition.Slice2D.{name}": with_defaults(getattr(slice, name), common_of_partitions)
        for slice in (partition.Slice2D.axis_aligned(),)
        for name in ("through", "canvas", "at", "coordinates", "same_as", "within", "zoomed")
    },
    **{
        f"partition.Partition.{name}": with_defaults(getattr(cut(), name), common_of_partitions)
        for name in ("polygon", "locate", "unit_name")
    },
    "partition.Segment.at": (
        partition.Segment(torch.zeros(2), torch.ones(2)).at, lambda: {"positions": [0.0, 0.5]}
    ),
    "partition.load_partition": damaged(partition.load_partition, partition_file),
    "pruning.load": damaged(lambda path: pruning.load(path, into=net()), pruned_file),
    "pruning.save": (lambda model: pruning.save(model, FOLDER / "x"), lambda: {"model": SMALLER}),
    "pruning.load into": (load_pruned, lambda: {"into": net()}),
    "files.load_tensors": damaged(load_tensors, tensors_file),
}  # fmt: skip
