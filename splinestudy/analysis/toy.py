"""The paper's two-dimensional toy: an X-shaped problem and many small networks trained side by side."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import nn

from splinelib.checks import Count, Positive, Within, check_fields
from splinelib.errors import SettingError
from splinelib.partition.engine.layout import Floats
from splinelib.partition.partition import Partition, compute_partition
from splinelib.partition.slices import Slice2D

DOMAIN = ((-5.0, 5.0), (-5.0, 5.0))
INITS = ("rewind", "xavier", "normal 0.1", "normal 1")
KINDS = ("node", "weight")


@dataclass(frozen=True)
class ToySettings:
    """Settings of the toy; the defaults are those of the released code, where ``runs`` is 10."""

    runs: Count = 10
    hidden: Count = 20
    epochs: Count = 400
    ratios: tuple[Annotated[float, Within("[0, 1)")], ...] = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
    points: Annotated[int, Within("[10, inf)")] = 2000
    lr: Positive = 0.01
    batch: Count = 256

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.ratios:
            raise SettingError("ratios is (): give shares in [0, 1)")


SIZES = MappingProxyType(
    {
        "smoke": ToySettings(runs=2, epochs=20, ratios=(0.2, 0.8)),
        "quick": ToySettings(runs=4, epochs=400, ratios=(0.2, 0.6, 0.9)),
        "reference": ToySettings(),
    }
)


def toy_settings(size: str, **overrides: object) -> ToySettings:
    """The settings of one of :data:`SIZES`, with those overrides that are not None.

    Raises:
        SettingError: no such size, or a value that cannot be used.
    """
    if size not in SIZES:
        raise SettingError(f"size is {size!r}: choose one of {', '.join(SIZES)}")
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in overrides.items() if v is not None}
    return dataclasses.replace(SIZES[size], **given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Points:
    """Points ``[N, 2]`` in [-5, 5]² and their classes ``[N]``: 1 above both diagonals or below both."""

    inputs: Floats
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Nets:
    """N networks 2-h-2 with ReLU, stacked: ``weight1 [N, h, 2]``, ``bias1 [N, h]``, ``weight2 [N, 2, h]``,
    ``bias2 [N, 2]``.

    ``mask [N, h, 2]`` is 0 at pruned weights of the first layer, which are zeros; a unit without weights is dead, its
    bias and its weights in the second layer are zeros too.
    """

    weight1: Floats
    bias1: Floats
    weight2: Floats
    bias2: Floats
    mask: Floats

    def __len__(self) -> int:
        """Number of networks."""
        return len(self.weight1)

    def scores(self, inputs: Floats) -> Floats:
        """Scores ``[N, B, 2]`` for inputs ``[B, 2]``."""
        hidden = inputs @ self.weight1.transpose(0, 2, 1) + self.bias1[:, None]
        return np.maximum(hidden, 0) @ self.weight2.transpose(0, 2, 1) + self.bias2[:, None]

    def model(self, number: int) -> nn.Sequential:
        """One of the networks as a module, float64, eval mode."""
        first, second = (
            nn.Linear(2, self.weight1.shape[1]).double(),
            nn.Linear(self.weight1.shape[1], 2).double(),
        )
        with torch.no_grad():
            for layer, weight, bias in (
                (first, self.weight1, self.bias1),
                (second, self.weight2, self.bias2),
            ):
                layer.weight.copy_(torch.from_numpy(weight[number]))
                layer.bias.copy_(torch.from_numpy(bias[number]))
        return nn.Sequential(first, nn.ReLU(), second).eval()

    def masked(self, mask: Floats) -> "Nets":
        """The same networks with zeros where ``mask [N, h, 2]`` says so."""
        alive = mask.max(axis=2)
        return Nets(self.weight1 * mask, self.bias1 * alive, self.weight2 * alive[:, None], self.bias2, mask)


def x_problem(settings: ToySettings, seed: int = 0) -> tuple[Points, Points]:
    """Training and test points, 80/20."""
    inputs = np.random.default_rng(seed).uniform(-5, 5, (settings.points, 2))
    x, y = inputs.T
    labels = (((y > x) & (y > -x)) | ((y < x) & (y < -x))).astype(np.int64)
    cut = settings.points * 4 // 5
    return Points(inputs[:cut], labels[:cut]), Points(inputs[cut:], labels[cut:])


def new_nets(settings: ToySettings, init: str = "default", seed: int = 0) -> Nets:
    """Fresh networks, one for each run: ``default`` (torch's uniform), ``xavier``, ``normal 0.1`` or ``normal 1``."""
    generator = np.random.default_rng((1, seed))
    weights, biases = [], []
    for fan_in, fan_out in ((2, settings.hidden), (settings.hidden, 2)):
        shape = (settings.runs, fan_out, fan_in)
        xavier = (6 / (fan_in + fan_out)) ** 0.5
        choices = {
            "default": generator.uniform(-(fan_in**-0.5), fan_in**-0.5, shape),
            "xavier": generator.uniform(-xavier, xavier, shape),
            "normal 0.1": generator.normal(0, 0.1, shape),
            "normal 1": generator.normal(0, 1, shape),
        }
        if init not in choices:
            raise SettingError(f"init {init!r} does not exist; choose one of {', '.join(choices)}")
        weights.append(choices[init])
        bias = generator.uniform(-(fan_in**-0.5), fan_in**-0.5, shape[:2])
        biases.append(bias if init == "default" else np.zeros_like(bias))
    return Nets(weights[0], biases[0], weights[1], biases[1], np.ones((settings.runs, settings.hidden, 2)))


def train_nets(
    nets: Nets, points: Points, settings: ToySettings, seed: int = 0, keep: Sequence[int] = ()
) -> tuple[Nets, dict[int, Nets]]:
    """Train every network by plain SGD on the cross-entropy, each with its own order of the points.

    Returns the trained networks and those after each epoch in ``keep`` (0: before training). Pruned weights stay zero.
    """
    now = Nets(*(getattr(nets, field.name).copy() for field in dataclasses.fields(nets)))
    kept = {0: nets} if 0 in keep else {}
    generator = np.random.default_rng((2, seed))
    for epoch in range(1, settings.epochs + 1):
        for i in range(len(nets)):
            order = generator.permutation(len(points.labels))
            unit = (now.weight1[i], now.bias1[i], now.weight2[i], now.bias2[i], now.mask[i])
            _epoch(*unit, points.inputs, points.labels, order, settings.lr, settings.batch)
        if epoch in keep:
            kept[epoch] = Nets(*(getattr(now, field.name).copy() for field in dataclasses.fields(now)))
    return now, kept


@njit(cache=True, nogil=True, error_model="numpy")
def _epoch(w1, b1, w2, b2, mask, inputs, labels, order, lr, batch):  # type: ignore[no-untyped-def]
    """One epoch of SGD on one network, in place."""
    hidden = len(b1)
    g1, gb1, g2, gb2 = np.zeros_like(w1), np.zeros_like(b1), np.zeros_like(w2), np.zeros_like(b2)
    active = np.zeros(hidden)
    for start in range(0, len(order), batch):
        stop = min(start + batch, len(order))
        g1[:], gb1[:], g2[:], gb2[:] = 0.0, 0.0, 0.0, 0.0
        for k in order[start:stop]:
            x, y = inputs[k, 0], inputs[k, 1]
            margin = b2[1] - b2[0]
            for j in range(hidden):
                active[j] = max(w1[j, 0] * x + w1[j, 1] * y + b1[j], 0.0)
                margin += (w2[1, j] - w2[0, j]) * active[j]
            # Softmax of two scores: the derivative of the loss by score 1, minus that by score 0.
            slope = 1.0 / (1.0 + np.exp(-margin)) - labels[k]
            gb2[1] += slope
            gb2[0] -= slope
            for j in range(hidden):
                g2[1, j] += slope * active[j]
                g2[0, j] -= slope * active[j]
                back = slope * (w2[1, j] - w2[0, j]) if active[j] > 0 else 0.0
                g1[j, 0] += back * x
                g1[j, 1] += back * y
                gb1[j] += back
        step = lr / (stop - start)
        for j in range(hidden):
            alive = max(mask[j, 0], mask[j, 1])
            w1[j, 0] -= step * g1[j, 0] * mask[j, 0]
            w1[j, 1] -= step * g1[j, 1] * mask[j, 1]
            b1[j] -= step * gb1[j] * alive
            w2[0, j] -= step * g2[0, j] * alive
            w2[1, j] -= step * g2[1, j] * alive
        b2[0] -= step * gb2[0]
        b2[1] -= step * gb2[1]


def accuracy(nets: Nets, points: Points) -> Floats:
    """Share of right answers of each network, ``[N]``."""
    return (nets.scores(points.inputs).argmax(axis=2) == points.labels).mean(axis=1)


def pruned(nets: Nets, kind: str, ratio: float) -> Nets:
    """``node`` drops the rows of the first layer with the smallest norm, ``weight`` its smallest weights.

    At least one row or weight is kept.
    """
    if kind not in KINDS:
        raise SettingError(f"kind {kind!r} does not exist; choose one of {', '.join(KINDS)}")
    rows = kind == "node"
    size = np.linalg.norm(nets.weight1, axis=2) if rows else np.abs(nets.weight1).reshape(len(nets), -1)
    drop = min(round(ratio * size.shape[1]), size.shape[1] - 1)
    keep = (size.argsort(axis=1).argsort(axis=1) >= drop).astype(float)
    return nets.masked(np.repeat(keep[:, :, None], 2, axis=2) if rows else keep.reshape(nets.weight1.shape))


def reinitialised(nets: Nets, init: str, original: Nets, settings: ToySettings) -> Nets:
    """The masks of ``nets`` on other weights: ``rewind`` to ``original`` (the lottery ticket), or fresh ones."""
    source = original if init == "rewind" else new_nets(settings, init, seed=1)
    return source.masked(nets.mask)


def toy_partition(nets: Nets, number: int) -> Partition:
    """The exact partition of one network on [-5, 5]², with codes and decision boundary."""
    return compute_partition(
        nets.model(number), Slice2D.axis_aligned(DOMAIN), codes=True, boundary=True, threads=1
    )
