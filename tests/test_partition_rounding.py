"""No region is lost or invented: counts against fractions, wherever sizes differ or terms cancel."""

import numpy as np
import oracles_partition as oracles
import pytest
import torch
import torch.nn.functional as F
from oracles_exact import exact_regions, rounded
from test_partition import PLANE, mlp
from torch import nn

from splinelib.partition import Slice2D, compute_partition, count_regions, topology, trace_boundary
from splinelib.partition.engine.job import Job, Wanted
from splinelib.partition.engine.kernel import PAUSED
from splinelib.partition.engine.pointers import table_of
from splinelib.partition.engine.program import compile_network
from splinelib.partition.engine.state import GROWABLE, grown, new_chunk, new_state


def real(values):
    return torch.tensor(values, dtype=torch.float64)


def exact_codes(model, where):
    """How often each code occurs, and the area of its region."""
    areas = {}
    for corners, _, code in exact_regions(model, where.polygon):
        x, y = (np.array([float(point[axis] - corners[0][axis]) for point in corners]) for axis in (0, 1))
        areas[code] = areas.get(code, 0.0) + 0.5 * float(
            np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))
        )
    return areas


def agrees(model, where=PLANE, rel=1e-6):
    partition = compute_partition(model, where, codes=True, threads=1)
    expected = exact_codes(model, where)
    found = dict(zip(map(tuple, partition.code_bits().tolist()), partition.area.tolist(), strict=True))
    assert len(partition) == len(found)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=rel, abs=1e-9 * where.area)
    assert topology(partition).euler == 1
    return partition


def small(seed, widths=(2, 5, 4)):
    layers = [step for a, b in zip(widths, widths[1:], strict=False) for step in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return rounded(model, 8)


@pytest.mark.parametrize("seed", range(20))
def test_small_networks_have_the_regions_of_fractions(seed):
    agrees(small(seed, (2, 4, 4, 3)))


@pytest.mark.parametrize("offset", [2.0**10, 2.0**20, 2.0**26, 2.0**30])
@pytest.mark.parametrize("seed", range(4))
def test_a_shifted_network_has_the_same_regions(seed, offset):
    model = small(seed)
    here = len(agrees(model))
    with torch.no_grad():
        model[0].bias -= model[0].weight.sum(1) * offset
    where = Slice2D.axis_aligned(((offset - 1, offset + 1),) * 2)
    assert len(agrees(model, where)) == here
    partition = compute_partition(model, where)
    assert (partition.locate(where.polygon) >= 0).all()


@pytest.mark.parametrize("power", [20, 40, 60, 200])
@pytest.mark.parametrize("seed", range(4))
def test_a_large_unit_that_nobody_reads_changes_nothing(seed, power):
    model = small(seed)
    with torch.no_grad():
        model[2].weight[:, 0] = 0
    before = agrees(model)
    with torch.no_grad():
        model[0].weight[0] *= 2.0**power
        model[0].bias[0] *= 2.0**power
    after = agrees(model)
    np.testing.assert_array_equal(np.sort(before.area), np.sort(after.area))


@pytest.mark.parametrize("seed", range(4))
def test_sizes_that_differ_from_unit_to_unit_change_nothing(seed):
    """Positive factors of a unit, undone by who reads it: ReLU networks do not see them."""
    model = small(seed, (2, 5, 5, 4))
    before = agrees(model)
    factors = 2.0 ** torch.arange(-40, 41, 20, dtype=torch.float64)
    with torch.no_grad():
        for first, second in ((0, 2), (2, 4)):
            model[first].weight *= factors[:, None]
            model[first].bias *= factors
            model[second].weight /= factors
    assert len(agrees(model)) == len(before)


def test_a_large_unit_that_is_off_does_not_hide_what_is_on():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU()).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(real([[2.0**45, 0.0], [0.0, 1.0]]))
        model[0].bias.copy_(real([0.0, 1.5]))
        model[2].weight.copy_(real([[1.0, 1.0]]))
        model[2].bias.fill_(-1.0)
    # Left of x = 0 the second unit's boundary is y = -0.5; right of it the sum is positive but for a sliver.
    partition = compute_partition(model, PLANE, threads=1)
    assert sorted(partition.area)[-2:] == pytest.approx([1.5, 2.0], abs=1e-9)


def combined_then_read(first, scale):
    """Units 3 h and h of the first layer, then their difference (zero) at a scale, read through one more layer."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 3), nn.ReLU()).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(real([[0.1, 0.7], [0.3, 2.1], [0.4, -0.2]]) * first)
        model[0].bias.copy_(real([0.3, 0.9, 0.1]) * first)
        model[1].weight.copy_(real([[3.0, -1.0, 0.0], [0.0, 0.0, scale]]))
        model[1].bias.zero_()
        model[2].weight.copy_(real([[1.0, 0.0], [-7.0, 0.0], [0.0, 1.0]]))
        model[2].bias.zero_()
    return model


@pytest.mark.parametrize("first", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("scale", [1e-6, 1.0])
def test_what_cancels_stays_zero_through_further_layers(first, scale):
    assert count_regions(combined_then_read(first, scale), PLANE, threads=1) == 2


class Cancelling(nn.Module):
    """0.3 a - 0.1 a - 0.2 a, which is rounding alone, and what a test makes of it."""

    def __init__(self, last):
        super().__init__()
        self.c, self.d = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 1, bias=False)
        self.norm, self.last = nn.BatchNorm2d(3), last

    def forward(self, x):
        a = F.relu(self.c(x))
        return self.last(self, a * 0.3 - a * 0.1 - a * 0.2, a).flatten(1)


LAST = {
    "nothing": lambda net, z, a: z,
    "relu": lambda net, z, a: F.relu(z),
    "convolution": lambda net, z, a: F.relu(net.d(z)),
    "two convolutions": lambda net, z, a: F.relu(net.d(F.leaky_relu(net.d(z), 0.3))),
    "average": lambda net, z, a: F.relu(F.avg_pool2d(z, 2)),
    "two averages": lambda net, z, a: F.relu(F.avg_pool2d(F.avg_pool2d(z, 2), 2)),
    "maximum": lambda net, z, a: F.max_pool2d(z, 2),
    "norm": lambda net, z, a: F.max_pool2d(F.leaky_relu(net.norm(z), 0.1), 2),
    "sum": lambda net, z, a: F.leaky_relu(z + net.d(z), 0.1) - z,
}


@pytest.mark.parametrize("name", LAST)
@pytest.mark.parametrize("seed", range(3))
def test_rounding_is_no_boundary(name, seed):
    torch.manual_seed(seed)
    model = Cancelling(lambda net, z, a: a).double().eval()
    where = Slice2D.through(*torch.randn(3, 2, 4, 4, dtype=torch.float64))
    before = count_regions(model, where)
    model.last = LAST[name]
    partition = compute_partition(model, where)
    assert len(partition) == before > 50
    assert topology(partition).euler == 1


def test_a_norm_that_takes_a_large_mean_away_keeps_its_error():
    """Copies of a unit whose constants, 1e8 before the norm, differ by rounding once the mean is taken off."""
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU()).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(real([[0.1, 0.7], [0.3, 2.1], [0.7, 4.9], [1.0, -1.0]]))
        model[0].bias.copy_(real([0.01, 0.03, 0.07, 0.0]) + 1e8)
        model[1].running_mean.fill_(1e8)
        model[1].running_var.copy_(real([1.0, 3.0, 0.7, 2.0]))
    assert count_regions(model, PLANE) == 4


@pytest.mark.parametrize("depth", [10, 40])
def test_deep_networks_keep_their_units(depth):
    model = mlp(2, *[16] * depth, 2, seed=depth)
    where = PLANE.zoomed(0.2)
    partition = compute_partition(model, where, codes=True, threads=1)
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (3000, 2))
    expected = oracles.unit_signs(model, where.at(points))
    np.testing.assert_array_equal(partition.code_bits()[partition.locate(points)], expected)


@pytest.mark.parametrize("power", [0, 40, 60])
def test_traces_see_past_a_large_unit_too(power):
    model = mlp(2, 8, 8, 2, seed=5)
    with torch.no_grad():
        model[2].weight[:, 0] = 0
    expected = compute_partition(model, PLANE, boundary=True).boundary.length
    with torch.no_grad():
        model[0].weight[0] *= 2.0**power
        model[0].bias[0] *= 2.0**power
    assert trace_boundary(model, PLANE).boundary.length == pytest.approx(expected, rel=1e-9)
    assert compute_partition(model, PLANE, boundary=True).boundary.length == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("factor", [1e-3, 1e4])
def test_the_cheap_bound_on_errors_knows_the_largest_input_of_every_cell(factor):
    """Node by node of the search, in a network whose units feed several cells each."""
    torch.manual_seed(
        9
    )  # in whose network a unit comes late, and some of the cells that it feeds have nothing yet
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(32, 3),
    ).double()  # fmt: skip
    with torch.no_grad():
        model[0].weight *= factor
        model[0].bias *= factor
    where = Slice2D.through(*torch.randn(3, 1, 4, 4))
    network = compile_network(model, where, True)
    job = Job.of(network, where.polygon, Wanted(outputs=True))
    state = new_state(network, job.polygon, job.claims)
    for what in GROWABLE:
        for _ in range(4):
            state = grown(state, what)
    chunk = new_chunk(network, 1024, False, True, len(job.polygon))
    tables = [table_of(arrays) for arrays in (network.program, state, chunk)]
    job._advance(tables, 0, 0)
    seen = steps = 0
    while job._advance(tables, 0, 1) == PAUSED and (steps := steps + 1) < 400:
        for cell, largest in largest_inputs(network.program, state):
            assert state.peak[cell] == pytest.approx(largest, rel=1e-9)
            seen += largest > 0
    assert seen > 500


def largest_inputs(program, state):
    """Of every cell whose inputs are all decided, the largest |a| + |b| + |c| of the functions that it reads."""
    for cell in np.flatnonzero(state.waiting == 0)[1:]:
        sizes = [0.0]
        for head in program.in_head[program.in_start[cell] : program.in_start[cell + 1]]:
            lane = state.decided[head]
            own = program.lane_cell[lane]
            place = program.cell_address[own] + lane - program.cell_lane[own]
            terms = state.coefficients[place + program.cell_width[own] * np.arange(3)]
            sizes.append(abs(state.gain[head]) * abs(terms).sum())
        yield cell, max(sizes)
