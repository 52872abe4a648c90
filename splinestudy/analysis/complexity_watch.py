"""Local complexity and regions while a network trains: a callback for :func:`splinestudy.training.loop.train`."""

from typing import Any

import torch
from torch import Tensor, nn

from splinelib.errors import SettingError
from splinelib.partition import Slice2D, compute_partition
from splinestudy.analysis.boundary_share import window_around
from splinestudy.analysis.local_complexity import local_complexity, random_directions
from splinestudy.analysis.overlap import region_summary
from splinestudy.data import Dataset, normalize


def probe_points(data: Dataset, count: int, seed: int, noise: float = 0.0) -> dict[str, Tensor]:
    """``count`` training images, test images and random images (uniform pixels), normalised, drawn with the seed.

    Normal noise of standard deviation ``noise`` is added to training and test images.
    """
    if not 1 <= count <= min(len(data.train), len(data.test)):
        raise SettingError(
            f"count is {count}: there are {len(data.train)} training and {len(data.test)} test images"
        )
    generator = torch.Generator().manual_seed(seed)
    images = {
        name: split.images[torch.randperm(len(split), generator=generator)[:count]]
        for name, split in (("training", data.train), ("test", data.test))
    }
    shape = images["test"].shape
    images["random"] = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    points = {name: normalize(pictures, data) for name, pictures in images.items()}
    for name in ("training", "test") if noise else ():
        points[name] = points[name] + noise * torch.randn(shape, generator=generator)
    return points


class ProgressWatch:
    """Measures a network after every epoch of training, and as it is when :meth:`measure` is called.

    Around training, test and random points: :func:`local_complexity`, summed over layers, mean over points. In one
    fixed window around a point of each kind: :func:`region_summary`, and the distance from that point to the nearest
    boundary. The windows are laid when first needed, so that each holds about ``regions`` regions then.

    Args:
        points: from :func:`probe_points`.
        directions: number of random directions of the cross-polytopes.
        radius: theirs, as a share of the mean norm of the test points.
        regions: wanted in each window at first; 0 for no windows.
    """

    def __init__(
        self, points: dict[str, Tensor], directions: int, radius: float, regions: int, seed: int
    ) -> None:
        shape = points["test"].shape[1:]
        self.points = points
        self.directions = random_directions(shape, directions, seed)
        self.radius = radius * float(points["test"].flatten(1).norm(dim=1).mean())
        self.regions = regions
        self.windows: dict[str, Slice2D] = {}
        self.rows: list[dict[str, Any]] = []

    def measure(self, model: nn.Module, epoch: int) -> None:
        """Append a row for each kind of point: epoch, kind, complexity, and what the windows show."""
        training = {module: module.training for module in model.modules()}
        model.eval()
        for kind, points in self.points.items():
            counts = local_complexity(model, points, self.directions, self.radius).sum(1).double()
            row: dict[str, Any] = {"epoch": epoch, "kind": kind, "complexity": float(counts.mean())}
            self.rows.append(row | (self._window(model, kind) if self.regions else {}))
        for module, mode in training.items():
            module.training = mode

    def _window(self, model: nn.Module, kind: str) -> dict[str, float]:
        if kind not in self.windows:
            first, second = random_directions(self.directions.shape[1:], 2, seed=1)
            self.windows[kind] = window_around(model, self.points[kind][0], first, second, self.regions)
        partition = compute_partition(model, self.windows[kind], max_regions=200 * self.regions, threads=1)
        found = region_summary(partition, self.windows[kind].coordinates(self.points[kind][:1]))
        return found | {"nearest": found["nearest"] if found["nearest"] < float("inf") else float("nan")}

    def after_epoch(self, model: nn.Module, epoch: int) -> dict[str, Any]:
        """The training loop's call; epochs are counted from 0."""
        self.measure(model, epoch)
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Rows and windows so far."""
        windows = {
            kind: {
                "origin": w.origin,
                "first": w.first,
                "second": w.second,
                "polygon": torch.from_numpy(w.polygon),
            }
            for kind, w in self.windows.items()
        }
        return {"rows": self.rows, "windows": windows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them over."""
        self.rows = state["rows"]
        self.windows = {
            kind: Slice2D(w["origin"], w["first"], w["second"], w["polygon"].numpy())
            for kind, w in state["windows"].items()
        }
