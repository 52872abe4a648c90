"""The part of a slice around a point that has so many regions, with a word beforehand on what it takes."""

import math
import time

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from splinelib.checks import Count, checked
from splinelib.errors import SettingError
from splinelib.partition.engine.forward import evaluate, new_errors
from splinelib.partition.engine.job import Wanted, working_bytes
from splinelib.partition.engine.layout import MAX, PIECE, Floats
from splinelib.partition.engine.pointers import table_of
from splinelib.partition.engine.points import as_numbers
from splinelib.partition.engine.program import Network, Program, compile_network
from splinelib.partition.engine.search import search
from splinelib.partition.locate import locate
from splinelib.partition.partition import Threads, thread_count
from splinelib.partition.slices import Slice2D

# Zooming gives up at this share of the slice, and does not tell sizes closer than this ratio apart.
_LEAST_SHARE, _CLOSE = 1e-11, 1.01
_LINES = 1000  # as many are looked at for the guess, and all their crossings
_AIM = 0.75  # the share of the regions asked for that a guess is meant to have


@checked
def zoom_to(
    model: nn.Module,
    slice: Slice2D,
    point: ArrayLike,
    regions: Count = 1000,
    threads: Threads | None = None,
    *,
    max_bytes: Count = 2 * 1024**3,
    progress: bool = False,
) -> Slice2D:
    """The part of a slice around ``point (s, t)`` with at most ``regions`` regions, at least half as many if it can.

    The polygon is shrunk towards the point. It is the answer where a whole slice has more regions than could be held:
    the network is read once, its units' lines in the point's region tell how large the part may be, and one look or a
    few, none beyond so many regions, make sure. A region takes at most about one pass through
    the network; ``progress`` says beforehand what that comes to.

    Args:
        max_bytes: limit on the working memory, checked before the first look.
        progress: show for each look a bar, which begins with the seconds and the memory that it will take at most.

    Raises:
        SettingError: the point does not lie within the slice, or more regions meet in it.
        LimitError: the search of one thread takes more memory than ``max_bytes``.
        UnsupportedModuleError: as :func:`compute_partition`.

    >>> import torch
    >>> from splinelib.partition import count_regions
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU())
    >>> part = zoom_to(model, Slice2D.axis_aligned(), (0.1, 0.2), regions=50)
    >>> count_regions(model, part) <= 50
    True
    """
    place = as_numbers("point", point, 2)
    if (locate(slice.polygon, np.array([0, len(slice.polygon)]), place[None]) < 0).any():
        raise SettingError(
            f"point {place.tolist()} does not lie within the slice; give one of its points (s, t)"
        )
    network = compile_network(model, slice.plane, False)
    gauges, seconds = _gauges(network, (place - network.centre) / network.radius, slice.polygon, regions)
    wanted = Wanted(
        False, max_regions=regions, max_bytes=max_bytes, threads=thread_count(threads), partial=True
    )
    memory = working_bytes(network, slice.polygon, wanted) / 1e9
    title = f"zoom (at most {seconds * regions:.0f} s, {memory:.1f} GB)" if progress else ""

    def part(share: float) -> Floats:
        return place + share * (slice.polygon - place)

    aim = min(int(_AIM * regions), len(gauges) - 2)
    guess = min(float(gauges[aim : aim + 2].mean()), 1.0)
    if guess < _LEAST_SHARE:  # as many lines meet in the point; their crossings may be one corner
        guess = min(float(gauges[gauges >= _LEAST_SHARE].min(initial=1.0)), 1.0)
    low, found, high = 0.0, 0, math.inf
    while 2 * found < regions and low < 1 and high > _CLOSE * low and guess >= _LEAST_SHARE:
        seen = sum(piece.regions for piece in search(network, part(guess), wanted, title))
        if seen <= regions:
            low, found = guess, seen
            # Regions grow with the area; where that is known to be too much, the middle will do.
            guess = min(low * math.sqrt(_AIM * regions / found), 1.0)
            guess = guess if guess < high else math.sqrt(low * high)
        else:
            high = guess
            guess = math.sqrt(low * high) if found else high / 4
    if not found:
        raise SettingError(
            f"more than {regions} regions meet in the point {place.tolist()}; raise the number"
        )
    return slice.within(part(low))


def _gauges(network: Network, place: Floats, polygon: Floats, regions: int) -> tuple[Floats, float]:
    """Shares of the slice at which the part around a point gains a region, ascending, if the lines went on straight.

    The point is in the program's coordinates. Before the shares stands 0, after them that of the first line that was
    not looked at; with them come the seconds that one pass through the network takes.
    """
    p = network.program
    coefficients, active, errors = np.zeros(len(p.coefficients)), np.zeros(len(p.slope), bool), new_errors(p)
    for _ in range(2):  # the first time memory is new, and code may be compiled
        begun = time.perf_counter()
        evaluate(table_of(p), coefficients, active, table_of(errors), True, place[0], place[1])
    seconds = time.perf_counter() - begun
    corners = (polygon - network.centre) / network.radius - place
    a, b, c = _lines(p, coefficients, active)
    with np.errstate(divide="ignore", invalid="ignore"):
        here = c + a * place[0] + b * place[1]
        side = np.where(here < 0, -1.0, 1.0)
        gauge = np.abs(here) / np.max([-side * (a * x + b * y) for x, y in corners], axis=0)
        gauge[~(gauge >= 0)] = math.inf  # not zero in any direction, or no line at all
        order = np.argsort(gauge)[: min(regions, _LINES) + 1]
        end = gauge[order[-1]] if len(order) > min(regions, _LINES) else math.inf
        near = order[gauge[order] < end]
        crossing = _crossings(a[near], b[near], here[near], corners)
    found = np.concatenate([gauge[near], crossing[crossing >= 0]])
    return np.concatenate([[0.0], np.sort(found[found < end]), [end]]), seconds


def _crossings(a: Floats, b: Floats, c: Floats, corners: Floats) -> Floats:
    """Shares at which the crossings of lines ``a x + b y + c = 0`` come in; seen from the point, as the corners."""
    i, j = np.triu_indices(len(a), 1)
    across = np.stack([b[i] * c[j] - b[j] * c[i], c[i] * a[j] - c[j] * a[i]]) / (a[i] * b[j] - a[j] * b[i])
    (x, y), (step_x, step_y) = corners.T, (np.roll(corners, -1, axis=0) - corners).T
    outward = np.stack([step_y, -step_x], axis=1) / (x * step_y - y * step_x)[:, None]
    return np.fmax.reduce(outward @ across)


def _lines(p: Program, coefficients: Floats, active: NDArray[np.bool_]) -> Floats:
    """The functions ``[3, n]`` that are zero where a unit bends: its own, or what its winner leads another piece by."""
    own = p.lane_cell
    place = np.arange(len(own)) - p.cell_lane[own]
    functions = coefficients[p.cell_address[own] + place + np.arange(3)[:, None] * p.cell_width[own]]
    piece, largest = p.cell_kind[own] == PIECE, np.flatnonzero(p.cell_kind[own] == MAX)
    winner = np.repeat(largest[active[largest]], p.cell_width[p.cell_kind == MAX])
    rivals = place[largest] < p.cell_used[own[largest]]
    leads = functions[:, winner[rivals]] - functions[:, largest[rivals]]
    return np.concatenate([functions[:, piece], leads], axis=1)
