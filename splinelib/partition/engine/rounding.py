"""What rounding may leave of each lane's affine function: a cheap bound for all, a sharp one where it matters.

A lane's function is a sum of products, so its error is at most the rounding of that sum, UNIT times the sum of the
terms' sizes, and what its inputs bring along. The errors of different inputs are independent and add as squares
(Higham and Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 2019; added in full
they would grow so fast that deep networks had no units left). The cheap bound takes the largest input of a cell for
all of its inputs and the largest weights for all of its lanes: two numbers for each cell are kept up to date by the
search. Where a decision hangs on it, the sharp bound is computed from the weights, for that cell and the cells before
it, and kept until these change.
"""

import numpy as np
from numba import njit

from splinelib.partition.engine.geometry import INNER
from splinelib.partition.engine.layout import Floats, Node
from splinelib.partition.engine.pointers import part

# Values within this share of |a| + |b| + |c| of zero count as zero, hence inactive: well above rounding, below
# any offset between parallel units that should still be told apart (1e-12).
RELATIVE = 1e-13
# The error of a sum of products as a share of the sum of the terms' sizes: nine roundings, for sums of any length,
# since rounding errors mostly cancel (they grow with the root of the number of terms).
UNIT = 1e-15


def error_bounds(node: Node) -> Floats:
    """For each lane ``[3, lanes]`` what its error is made of: see :func:`.cheap_error`."""
    rounding = UNIT * np.stack([node.const_sizes(), node.weight_sums()])
    return np.stack([*rounding, np.sqrt(node.weight_sums(2))])


@njit(**INNER)
def cheap_error(p, s, cell):  # type: ignore[no-untyped-def]
    """A bound on the error of a cell's lanes from the largest of its inputs."""
    b = p.bounds
    return b[0, cell] + b[1, cell] * s.peak[cell] + b[2, cell] * s.noise[cell]


@njit(**INNER)
def _first_open(p, s, cell):  # type: ignore[no-untyped-def]
    """A cell that feeds this one and has no sharp bounds yet, or -1."""
    for k in range(p.in_start[cell], p.in_start[cell + 1]):
        head = p.in_head[k]
        if s.gain[head] != 0.0 and not s.sharp[p.lane_cell[head]]:
            return p.lane_cell[head]
    return -1


@njit(**INNER)
def _sharpen_one(p, s, cell):  # type: ignore[no-untyped-def]
    """Sharp bounds of one cell, all of its inputs having theirs."""
    c, width, first = s.coefficients, p.cell_width[cell], p.cell_lane[cell]
    size, square = part(s.sizes, 0, width), part(s.squares, 0, width)
    for i in range(width):
        size[i], square[i] = 0.0, 0.0
    for k in range(p.in_start[cell], p.in_start[cell + 1]):
        head, entry = p.in_head[k], p.in_entry[k]
        gain, lane = abs(s.gain[head]), s.decided[head]
        if gain == 0.0:
            continue
        own = p.lane_cell[lane]
        at, stride = p.cell_address[own] + lane - p.cell_lane[own], p.cell_width[own]
        term = gain * (abs(c[at]) + abs(c[at + stride]) + abs(c[at + 2 * stride]))
        error, start = gain * s.error[lane], p.entry_weight[entry]
        if p.entry_lane[entry] >= 0:
            i = p.entry_lane[entry]
            size[i] += abs(p.weights[start]) * term
            square[i] += (p.weights[start] * error) ** 2
            continue
        w = part(p.weights, start, width)
        for i in range(width):
            size[i] += abs(w[i]) * term
        for i in range(width):
            square[i] += (w[i] * error) ** 2
    for i in range(width):
        s.error[first + i] = p.rounding[first + i] + UNIT * size[i] + np.sqrt(square[i])
    s.sharp[cell] = True


@njit(**INNER)
def sharpen(p, s, cell):  # type: ignore[no-untyped-def]
    """Fill ``s.error`` for a cell whose inputs are all decided, and for all cells before it that it hangs on."""
    if s.sharp[cell]:
        return
    n = 1
    s.pending[0] = cell
    while n > 0:
        top = s.pending[n - 1]
        before = _first_open(p, s, top)
        if before >= 0:
            s.pending[n] = before
            n += 1
        else:
            _sharpen_one(p, s, top)
            n -= 1


@njit(**INNER)
def sharp_tolerance(p, s, k):  # type: ignore[no-untyped-def]
    """What counts as zero for a chord, as closely as can be said."""
    sharpen(p, s, p.lane_cell[s.chord_lane[k]])
    size = abs(s.chord_a[k]) + abs(s.chord_b[k]) + abs(s.chord_c[k])
    return RELATIVE * size + s.error[s.chord_lane[k]]
