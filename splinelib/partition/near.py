"""How a neighbourhood of a point, a disc or a normal distribution, falls onto the regions."""

import itertools
import math

import numpy as np
from numpy.typing import ArrayLike

from splinelib.checks import Positive, checked
from splinelib.errors import SettingError
from splinelib.partition.engine.layout import Floats
from splinelib.partition.engine.points import as_numbers
from splinelib.partition.partition import Partition

# Gauss's points along each piece of an edge, and the longest piece in arcsinh of standard deviations: enough for 1e-12.
_POINTS, _PIECE = 64, 7.0
# Corners are rounded to some 1e-16 of their distance: in a smaller neighbourhood that would show in the shares.
_LEAST = 1e-9


@checked
def disc_shares(partition: Partition, centre: ArrayLike, radius: Positive) -> Floats:
    """The share of a disc's area that each region takes, ``[R]``; exact. Zero where the region does not meet the disc.

    Args:
        centre: ``(s, t)`` in the slice's coordinates, as ``radius``. What lies outside of the slice is in no region.

    Raises:
        SettingError: if ``radius`` is so small (1e-9 of the way to the farthest corner) that rounded corners count.

    >>> import torch
    >>> from splinelib.partition import Slice2D, compute_partition
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU())
    >>> partition = compute_partition(model, Slice2D.axis_aligned())
    >>> shares = disc_shares(partition, (0.0, 0.0), 0.5)
    >>> round(float(shares.sum()), 9)
    1.0
    """
    begin, end, along, height = _edges(partition, centre, "radius", radius)
    low, high = ((corners * along).sum(axis=1) for corners in (begin, end))
    foot = height[:, None] * np.stack([along[:, 1], -along[:, 0]], axis=1)
    # Where an edge enters and leaves the unit disc, seen from its point next to the centre.
    half = np.sqrt(np.maximum((1 - height) * (1 + height), 0.0))
    enter, leave = (
        # A corner within is met exactly: far below the radius its rounding would count.
        np.where(
            (at <= low)[:, None], begin, np.where((at >= high)[:, None], end, foot + at[:, None] * along)
        )
        for at in (-half, half)
    )
    sectors = _angle(begin, enter) + _angle(leave, end)
    return _of_regions(partition, (sectors + _cross(enter, leave)) / (2 * np.pi))


@checked
def gaussian_shares(partition: Partition, centre: ArrayLike, sigma: Positive) -> Floats:
    """The probability of each region under a round normal distribution about ``centre``, ``[R]``, to 1e-10.

    Args:
        centre: ``(s, t)`` in the slice's coordinates, as the standard deviation ``sigma`` along each axis.

    Raises:
        SettingError: if ``sigma`` is so small (1e-9 of the way to the farthest corner) that rounded corners count.

    >>> import torch
    >>> from splinelib.partition import Slice2D, compute_partition
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU())
    >>> partition = compute_partition(model, Slice2D.axis_aligned())
    >>> round(float(gaussian_shares(partition, (0.0, 0.0), 0.1).sum()), 9)
    1.0
    """
    begin, end, along, height = _edges(partition, centre, "sigma", sigma)
    low, high = (np.arcsinh((corners * along).sum(axis=1)) for corners in (begin, end))
    total = np.zeros(len(height))
    pieces = max(1, math.ceil(float((high - low).max()) / _PIECE))
    # The triangle of an edge and the centre: the integral of (1 - exp(-r²/2)) / 2π over the angle, along the edge.
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    for place, node in itertools.product(range(pieces), range(_POINTS)):
        t = low + (place + (1 + nodes[node]) / 2) * (high - low) / pieces
        half = (height**2 + np.sinh(t) ** 2) / 2
        density = np.where(half > 0, -np.expm1(-half) / np.where(half > 0, half, 1.0), 1.0) / 2
        total += weights[node] * density * np.cosh(t)
    return _of_regions(partition, height * total * (high - low) / (4 * np.pi * pieces))


def _edges(
    partition: Partition, centre: ArrayLike, name: str, unit: float
) -> tuple[Floats, Floats, Floats, Floats]:
    """Both ends of every edge, its direction and its line's signed distance, seen from the centre in that unit."""
    begin = partition.vertices - as_numbers("centre", centre, 2)
    least = _LEAST * float(np.abs(begin).max())
    if unit < least:
        raise SettingError(
            f"{name} is {unit:g}: below {least:g} the rounding of corners shows; give more, or a smaller slice"
        )
    begin = begin / unit
    end = begin[partition.edge_end]
    length = np.linalg.norm(end - begin, axis=1)
    return begin, end, (end - begin) / length[:, None], _cross(begin, end) / length


def _of_regions(partition: Partition, by_edge: Floats) -> Floats:
    """Sums over the edges of each region, without what rounding leaves where they cancel."""
    total = np.add.reduceat(by_edge, partition.offsets[:-1])
    size = np.add.reduceat(np.abs(by_edge), partition.offsets[:-1])
    return np.where(total > 1e-13 * size, total, 0.0)


def _cross(a: Floats, b: Floats) -> Floats:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _angle(a: Floats, b: Floats) -> Floats:
    return np.arctan2(_cross(a, b), (a * b).sum(axis=1))
