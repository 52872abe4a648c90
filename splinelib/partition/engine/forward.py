"""Compiled forward pass: the units of one point's region, and all lanes' affine functions there."""

from typing import NamedTuple

import numpy as np
from numba import njit

from splinelib.partition.engine.geometry import INNER, OPTIONS, add_row
from splinelib.partition.engine.layout import LINEAR, MAX, Floats
from splinelib.partition.engine.pointers import view_of
from splinelib.partition.engine.program import Program, view_program
from splinelib.partition.engine.rounding import RELATIVE, UNIT


class Errors(NamedTuple):
    """Error bounds of a forward pass, as :mod:`splinelib.partition.engine.rounding` defines them.

    ``noise`` is the bound of each lane; ``size`` and ``square`` are what it is summed from, ``peak`` and ``rough`` the
    largest size and error of each cell's inputs.
    """

    noise: Floats
    size: Floats
    square: Floats
    peak: Floats
    rough: Floats


_view_errors = view_of(Errors)


def new_errors(program: Program) -> Errors:
    """Room for the error bounds of all lanes."""
    lanes, cells = len(program.slope), len(program.cell_kind)
    return Errors(*(np.zeros(size) for size in (lanes, lanes, lanes, cells, cells)))


@njit(**INNER)
def _spread(p, c, e, lane, head, slope, sharp):  # type: ignore[no-untyped-def]
    """Add ``slope`` times a lane's affine function to all that it feeds, and what it adds to their errors."""
    own = p.lane_cell[lane]
    stride = p.cell_width[own]
    at = p.cell_address[own] + lane - p.cell_lane[own]
    fa, fb, fc = slope * c[at], slope * c[at + stride], slope * c[at + 2 * stride]
    size, error = abs(fa) + abs(fb) + abs(fc), abs(slope) * e.noise[lane]
    for entry in range(p.out_start[head], p.out_start[head + 1]):
        cell, at = p.entry_cell[entry], p.entry_weight[entry]
        start, width, first = p.cell_address[cell], p.cell_width[cell], p.cell_lane[cell]
        e.peak[cell], e.rough[cell] = max(e.peak[cell], size), max(e.rough[cell], error)
        if p.entry_lane[entry] >= 0:
            w, i = p.weights[at], p.entry_lane[entry]
            c[start + i] += w * fa
            c[start + i + width] += w * fb
            c[start + i + 2 * width] += w * fc
            if sharp:
                e.size[first + i] += abs(w) * size
                e.square[first + i] += (w * error) ** 2
            continue
        weights = p.weights[at : at + width]
        add_row(c[start:], weights, fa, fb, fc)
        if sharp:
            sizes, squares = e.size[first : first + width], e.square[first : first + width]
            for i in range(width):
                sizes[i] += abs(weights[i]) * size
            for i in range(width):
                squares[i] += (weights[i] * error) ** 2


@njit(**INNER)
def _bound(p, c, e, cell, sharp):  # type: ignore[no-untyped-def]
    """Error bounds of a cell whose sums are complete; what is rounding alone becomes zero. Whether that is in doubt."""
    first, start, width = p.cell_lane[cell], p.cell_address[cell], p.cell_width[cell]
    doubtful = False
    for i in range(width):
        lane = first + i
        if sharp:
            error = p.rounding[lane] + UNIT * e.size[lane] + np.sqrt(e.square[lane])
        else:
            b = p.bounds
            error = b[0, cell] + b[1, cell] * e.peak[cell] + b[2, cell] * e.rough[cell]
        e.noise[lane] = error
        if p.cell_kind[cell] == MAX:
            continue
        total = abs(c[start + i]) + abs(c[start + width + i]) + abs(c[start + 2 * width + i])
        if total > error or total == 0.0:
            continue
        if sharp:
            c[start + i] = c[start + width + i] = c[start + 2 * width + i] = e.noise[lane] = 0.0
        doubtful = True
    return doubtful


@njit(**INNER)
def _winner(p, c, cell, x, y):  # type: ignore[no-untyped-def]
    """Place of the largest of a max cell's functions at a point."""
    start, width = p.cell_address[cell], p.cell_width[cell]
    best, found = -np.inf, 0
    for i in range(p.cell_used[cell]):
        v = c[start + i] * x + c[start + width + i] * y + c[start + 2 * width + i]
        if v > best:
            best, found = v, i
    return found


@njit(**INNER)
def _pass(p, c, active, e, decide, sharp, x, y):  # type: ignore[no-untyped-def]
    """One forward pass; returns the region's key and whether it hangs on errors that only sharp bounds can tell."""
    for i in range(len(c)):
        c[i] = p.coefficients[i]
    e.peak[:] = 0.0
    e.rough[:] = 0.0
    if sharp:
        e.size[:] = 0.0
        e.square[:] = 0.0
    key, doubtful = np.uint64(0), False
    for cell in range(len(p.cell_kind)):
        first, start, width = np.int64(p.cell_lane[cell]), p.cell_address[cell], np.int64(p.cell_width[cell])
        kind = p.cell_kind[cell]
        doubtful = _bound(p, c, e, cell, sharp) or doubtful
        if kind == MAX:
            if decide:
                won = _winner(p, c, cell, x, y)
                for i in range(width):
                    active[first + i] = i == won
            for i in range(width):
                if active[first + i]:
                    key ^= p.key[first + i]
                    _spread(p, c, e, first + i, first, 1.0, sharp)
            continue
        for i in range(width):
            lane = first + i
            if kind == LINEAR:
                active[lane] = False
            elif decide:
                a, b, d = c[start + i], c[start + width + i], c[start + 2 * width + i]
                value, tolerance = a * x + b * y + d, RELATIVE * (abs(a) + abs(b) + abs(d)) + e.noise[lane]
                active[lane] = value > tolerance
                doubtful = doubtful or (value != 0.0 and abs(value) <= tolerance)
            if active[lane]:
                key ^= p.key[lane]
            slope = 1.0 if active[lane] else p.slope[lane]
            if slope != 0.0:
                _spread(p, c, e, lane, lane, slope, sharp)
    return key, doubtful


@njit(**OPTIONS)
def evaluate(program, c, active, errors, decide, x, y):  # type: ignore[no-untyped-def]
    """All lanes' affine functions into ``c``, and sharp error bounds into ``e.noise``; returns the region's key.

    With ``decide`` the units are read off at (x, y) and noted in ``active``, else they are taken from there.
    """
    key, _ = _pass(view_program(program), c, active, _view_errors(errors), decide, len(c) > 0, x, y)
    return key


@njit(**OPTIONS)
def scan(program, c, active, errors, points, classes, on, off):  # type: ignore[no-untyped-def]
    """The class at each point, and which lanes are active (``on``) and which are not (``off``) at any of them."""
    p, e = view_program(program), _view_errors(errors)
    for k in range(len(points)):
        # Sharp bounds only where the cheap ones do not do.
        sharp = k < 0
        while _pass(p, c, active, e, k >= 0, sharp, points[k, 0], points[k, 1])[1] and not sharp:
            sharp = True
        best = -np.inf
        for i in range(len(p.output_address)):
            at, stride = p.output_address[i], p.output_stride[i]
            v = c[at] * points[k, 0] + c[at + stride] * points[k, 1] + c[at + 2 * stride]
            if v > best:
                best, classes[k] = v, i
        for lane in range(len(active)):
            on[lane] |= active[lane]
            off[lane] |= not active[lane]
