"""How the exact partition of the toy settles, beside what canvases of points say of it."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from splinelib.early_bird.codes import sign_codes
from splinelib.early_bird.distances import code_distance
from splinelib.partition.engine.layout import Floats
from splinelib.partition.overlay import area_distance
from splinelib.partition.slices import Slice2D
from splinestudy.analysis.toy import DOMAIN, ToySettings, new_nets, train_nets, x_problem


def toy_distances(
    settings: ToySettings, epochs: Sequence[int], sides: Sequence[int]
) -> tuple[Floats, NDArray[np.float64]]:
    """Distances of the toy's partition between consecutive ``epochs`` of its training.

    Returns:
        The exact area distance, ``[runs, len(epochs) - 1]``; and its estimates on square grids of ``sides`` points a
        side, cell by cell in the middle, ``[sides, runs, len(epochs) - 1]``.
    """
    points, _ = x_problem(settings)
    _, kept = train_nets(new_nets(settings), points, settings, keep=epochs)
    domain = Slice2D.axis_aligned(DOMAIN)
    models = [[kept[epoch].model(run) for epoch in epochs] for run in range(settings.runs)]
    exact = [[area_distance(a, b, domain).mean() for a, b in pairwise(moments)] for moments in models]
    sampled = [
        [[_sampled(a, b, _grid(side)) for a, b in pairwise(moments)] for moments in models] for side in sides
    ]
    return np.array(exact), np.array(sampled)


def _sampled(first: nn.Module, second: nn.Module, grid: torch.Tensor) -> float:
    codes = (sign_codes(model, grid, bits=2**24) for model in (first, second))
    return float(code_distance(*codes).mean())


def _grid(side: int) -> torch.Tensor:
    """Midpoints of ``side * side`` equal cells of the domain."""
    (low, high), _ = DOMAIN
    middles = low + (high - low) * (torch.arange(side, dtype=torch.float64) + 0.5) / side
    return torch.cartesian_prod(middles, middles)
