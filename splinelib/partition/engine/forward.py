"""Compiled forward pass: the units of one point's region, and all lanes' affine functions there."""

import numpy as np
from numba import njit

from splinelib.partition.engine.geometry import INLINED, OPTIONS
from splinelib.partition.engine.kernel import CANCELLATION, RELATIVE
from splinelib.partition.engine.layout import LINEAR, MAX


@njit(**INLINED)
def _spread(p, c, peak, lane, head, slope):  # type: ignore[no-untyped-def]
    """Add ``slope`` times a lane's affine function to all that it feeds."""
    own = p.lane_cell[lane]
    stride = p.cell_width[own]
    at = p.cell_address[own] + lane - p.cell_lane[own]
    fa, fb, fc = slope * c[at], slope * c[at + stride], slope * c[at + 2 * stride]
    size = abs(fa) + abs(fb) + abs(fc)
    for entry in range(p.out_start[head], p.out_start[head + 1]):
        cell, first = p.entry_cell[entry], p.entry_weight[entry]
        start, width = p.cell_address[cell], p.cell_width[cell]
        peak[cell] = max(peak[cell], size)
        if p.entry_lane[entry] >= 0:
            place = start + p.entry_lane[entry]
            c[place] += p.weights[first] * fa
            c[place + width] += p.weights[first] * fb
            c[place + 2 * width] += p.weights[first] * fc
            continue
        w = p.weights[first : first + width]
        ta, tb, tc = c[start : start + width], c[start + width : start + 2 * width], c[start + 2 * width :]
        for i in range(width):
            ta[i] += w[i] * fa
        for i in range(width):
            tb[i] += w[i] * fb
        for i in range(width):
            tc[i] += w[i] * fc


@njit(**INLINED)
def _winner(p, c, cell, x, y):  # type: ignore[no-untyped-def]
    """Place of the largest of a max cell's functions at a point."""
    start, width = p.cell_address[cell], p.cell_width[cell]
    best, found = -np.inf, 0
    for i in range(p.cell_used[cell]):
        v = c[start + i] * x + c[start + width + i] * y + c[start + 2 * width + i]
        if v > best:
            best, found = v, i
    return found


@njit(**OPTIONS)
def evaluate(p, c, active, noise, peak, decide, x, y):  # type: ignore[no-untyped-def]
    """All lanes' affine functions into ``c``; returns the region's key.

    With ``decide`` the units are read off at (x, y) and noted in ``active``, else they are taken from there.
    ``noise`` receives what rounding may leave of each lane.
    """
    for i in range(len(c)):
        c[i] = p.coefficients[i]
    peak[:] = 0.0
    key = np.uint64(0)
    for cell in range(len(p.cell_kind)):
        first, start, width = p.cell_lane[cell], p.cell_address[cell], p.cell_width[cell]
        kind = p.cell_kind[cell]
        for i in range(width):
            noise[first + i] = CANCELLATION * peak[cell] * (1.0 if kind == MAX else p.weight_sum[first + i])
        if kind == MAX:
            if decide:
                won = _winner(p, c, cell, x, y)
                for i in range(width):
                    active[first + i] = i == won
            for i in range(width):
                if active[first + i]:
                    key ^= p.key[first + i]
                    _spread(p, c, peak, first + i, first, 1.0)
            continue
        for i in range(width):
            lane = first + i
            if kind == LINEAR:
                active[lane] = False
            elif decide:
                a, b, d = c[start + i], c[start + width + i], c[start + 2 * width + i]
                active[lane] = a * x + b * y + d > RELATIVE * (abs(a) + abs(b) + abs(d)) + noise[lane]
            if active[lane]:
                key ^= p.key[lane]
            slope = 1.0 if active[lane] else p.slope[lane]
            if slope != 0.0:
                _spread(p, c, peak, lane, lane, slope)
    return key


@njit(**OPTIONS)
def scan(p, c, active, noise, peak, points, classes, on, off):  # type: ignore[no-untyped-def]
    """The class at each point, and which lanes are active (``on``) and which are not (``off``) at any of them."""
    for k in range(len(points)):
        evaluate(p, c, active, noise, peak, True, points[k, 0], points[k, 1])
        best = -np.inf
        for i in range(len(p.output_address)):
            at, stride = p.output_address[i], p.output_stride[i]
            v = c[at] * points[k, 0] + c[at + stride] * points[k, 1] + c[at + 2 * stride]
            if v > best:
                best, classes[k] = v, i
        for lane in range(len(active)):
            on[lane] |= active[lane]
            off[lane] |= not active[lane]
