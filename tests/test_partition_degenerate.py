"""Partitions where lines coincide, meet in one point, vanish, or miss each other by very little."""

import numpy as np
import oracles_partition as oracles
import pytest
import torch
from torch import nn

from splinelib.partition import Slice2D, boundary_length, compute_partition, topology

PLANE = Slice2D.axis_aligned(((-1, 1), (-1, 1)))


def net(weight, bias, *rest):
    """One layer of units with the given rows, then ``rest``."""
    first = nn.Linear(2, len(weight)).double()
    with torch.no_grad():
        first.weight.copy_(torch.tensor(weight, dtype=torch.float64))
        first.bias.copy_(torch.tensor(bias, dtype=torch.float64))
    return nn.Sequential(first, nn.ReLU(), *rest).double().eval()


def checked(model, where=PLANE, **options):
    """The partition, after the checks that hold in every case."""
    partition = compute_partition(model, where, codes=True, threads=1, **options)
    assert abs(partition.area.sum() / where.area - 1) < 1e-12
    assert partition.area.min() > 0
    assert len(np.unique(partition.key)) == len(np.unique(partition.codes, axis=0)) == len(partition)
    assert topology(partition).euler == 1
    expected = oracles.unit_signs(model, where.at(partition.centroids()))
    np.testing.assert_array_equal(partition.code_bits(), expected)
    return partition


def random_layer(fan_in, fan_out, seed):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(fan_in, fan_out).double()
    nn.init.kaiming_normal_(layer.weight, generator=generator)
    nn.init.uniform_(layer.bias, -0.5, 0.5, generator=generator)
    return layer


def test_dead_units_add_nothing():
    model = net(
        [[1.0, 0.5], [0.0, 0.0], [0.0, 0.0], [0.1, 0.1]], [0.1, -1.0, 0.0, 5.0], random_layer(4, 3, 0)
    )
    partition = checked(model)
    assert len(partition) == 2
    assert (boundary_length(partition) > 0).tolist() == [True, False, False, False]


def test_zero_batch_norm_scale_kills_its_channels():
    model = nn.Sequential(
        random_layer(2, 6, 1), nn.BatchNorm1d(6).double(), nn.ReLU(), random_layer(6, 4, 2), nn.ReLU()
    )
    with torch.no_grad():
        model[1].weight[:4] = 0
        model[1].bias[:4] = torch.tensor([0.0, 1.0, -1.0, 0.0])
        model[1].bias[4:] = 0.1
    lengths = boundary_length(checked(model.eval()))
    assert (lengths[:4] == 0).all()
    assert (lengths[4:6] > 0).all()


def test_duplicated_and_opposite_hyperplanes_cut_once():
    rows = [[1.0, 0.3], [1.0, 0.3], [-1.0, -0.3], [2.0, 0.6], [0.2, -1.0]]
    model = net(rows, [0.1, 0.1, -0.1, 0.2, 0.0], random_layer(5, 8, 3), nn.ReLU())
    assert len(checked(net(rows, [0.1, 0.1, -0.1, 0.2, 0.0]))) == 4
    checked(model)


def test_concurrent_lines_and_zero_biases():
    angles = torch.arange(9, dtype=torch.float64) * torch.pi / 9
    rows = torch.stack([angles.cos(), angles.sin()], dim=1).tolist()
    assert len(checked(net(rows, [0.0] * 9))) == 18
    deep = net(rows, [0.0] * 9, random_layer(9, 9, 4), nn.ReLU(), random_layer(9, 9, 5), nn.ReLU())
    with torch.no_grad():
        deep[2].bias.zero_()
        deep[4].bias.zero_()
    checked(deep)


@pytest.mark.parametrize(("offset", "regions"), [(1e-12, 3), (1e-14, 2)])
def test_parallel_offsets_are_told_apart_down_to_the_tolerance(offset, regions):
    partition = compute_partition(net([[1.0, 0.0], [1.0, 0.0]], [0.25, 0.25 + offset]), PLANE)
    assert len(partition) == regions
    assert abs(partition.area.sum() / 4 - 1) < 1e-12


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_the_weights_does_not_matter(scale):
    def build(factor):
        model = nn.Sequential(random_layer(2, 12, 6), nn.ReLU(), random_layer(12, 12, 7), nn.ReLU())
        with torch.no_grad():
            model[0].weight.mul_(factor)
            model[0].bias.mul_(factor)
            model[2].bias.mul_(factor)
        return model.eval()

    assert len(checked(build(scale))) == len(checked(build(1.0)))


def test_integer_lattice_weights():
    generator = torch.Generator().manual_seed(8)
    model = nn.Sequential(
        nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU()
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape, generator=generator))
    checked(model.eval(), Slice2D.axis_aligned(((-3, 3), (-3, 3))))


class Pooled(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.lift = nn.Conv2d(2, 4, 1, bias=False).double()
        with torch.no_grad():
            self.lift.weight.copy_(torch.tensor(weight).reshape(4, 2, 1, 1))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        return self.pool(self.lift(x.reshape(-1, 2, 1, 1)).reshape(-1, 1, 2, 2)).flatten(1)


def test_a_max_unit_splits_into_its_pieces_and_no_more():
    # max(x, y, -x, -y): four sectors, although the six lines between two pieces would cut the square into eight.
    where = PLANE
    partition = compute_partition(
        Pooled([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]).eval(), where, outputs=True
    )
    assert sorted(partition.area.tolist()) == [1.0] * 4
    assert topology(partition).euler == 1
    assert sorted(partition.outputs[:, 0].tolist()) == [[-1, 0, 0], [0, -1, 0], [0, 1, 0], [1, 0, 0]]


def test_ties_of_a_max_unit_go_to_the_first_piece():
    partition = compute_partition(
        Pooled([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]).eval(), PLANE, codes=True
    )
    assert len(partition) == 2
    assert {tuple(row) for row in partition.code_bits().tolist()} == {(1, 0, 0, 0), (0, 0, 1, 0)}


def test_a_slice_through_a_vertex_of_the_partition():
    model = net([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]], [0.0, 0.0, 0.0], random_layer(3, 5, 9), nn.ReLU())
    corner = Slice2D.axis_aligned(((0, 1), (0, 1)))
    checked(model, corner)
    along = Slice2D(torch.zeros(2), torch.tensor([1.0, 1.0]), torch.tensor([1.0, -1.0]), PLANE.polygon)
    checked(model, along)


def test_a_slice_inside_a_hyperplane():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU()).double().eval()
    with torch.no_grad():
        model[0].weight[0] = torch.tensor([0.0, 0.0, 1.0])
        model[0].bias[0] = 0.0
    flat = torch.eye(3, dtype=torch.float64)
    checked(model, Slice2D(torch.zeros(3), flat[0], flat[1], 3 * PLANE.polygon))


def test_a_tiny_polygon_far_from_the_origin():
    model = nn.Sequential(random_layer(2, 40, 10), nn.ReLU(), random_layer(40, 40, 11), nn.ReLU()).eval()
    coarse = compute_partition(model, PLANE)
    vertex = coarse.vertices[len(coarse.vertices) // 2]
    checked(
        model,
        Slice2D.axis_aligned(((vertex[0] - 1e-6, vertex[0] + 1e-6), (vertex[1] - 1e-6, vertex[1] + 1e-6))),
    )


def test_cancelled_units_are_dead_although_rounding_leaves_a_rest():
    # The second layer takes the difference of a unit and its copy at thrice the scale: zero but for rounding.
    model = net([[0.1, 0.7], [0.3, 2.1]], [0.3, 0.9], nn.Linear(2, 2), nn.ReLU())
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[3.0, -1.0], [-3.0, 1.0]]))
        model[2].bias.zero_()
    assert len(compute_partition(model, PLANE)) == 2
