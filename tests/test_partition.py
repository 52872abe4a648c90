"""The exact partition against slow oracles, on every kind of network that it supports."""

import numpy as np
import oracles_partition as oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from splinelib.partition import Slice2D, compute_partition, count_regions, region_map, topology
from splinestudy.models import build_model


def randomise(model, seed):
    """He-normal weights, uniform biases, lively batch norms; eval mode, float64."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.5, 0.5, generator=generator)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            nn.init.normal_(module.weight, generator=generator)
            nn.init.normal_(module.bias, 0.0, 0.3, generator=generator)
    return model.eval().double()


def mlp(*widths, seed=0, activation=nn.ReLU):
    layers = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return randomise(nn.Sequential(*layers[:-1]), seed)


class Residual(nn.Module):
    """Skips, a grouped convolution, in-place activations, channel selection and adaptive pooling."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=2)
        self.shortcut = nn.Conv2d(4, 6, 1, stride=2)
        self.relu3 = nn.ReLU(inplace=True)
        self.register_buffer("kept", torch.tensor([0, 2, 3, 5]))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.conv1(self.relu1(self.norm(x)))
        x = self.relu2(x)
        x = self.relu3(self.conv2(x) + self.shortcut(x))
        return self.head(torch.flatten(self.pool(x[:, self.kept]), 1))


def image_nets():
    conv, relu, flat = nn.Conv2d, nn.ReLU, nn.Flatten
    return {
        "strided": nn.Sequential(
            conv(2, 4, 3, padding=1), relu(), conv(4, 6, 3, stride=2), nn.BatchNorm2d(6), relu(), flat(),
            nn.Linear(24, 3),
        ),
        "max_pool": nn.Sequential(
            conv(2, 3, 3, padding=1), nn.MaxPool2d(2), conv(3, 4, 2), nn.LeakyReLU(0.2), nn.AvgPool2d(2), flat(),
            nn.Linear(4, 3),
        ),
        "relu_then_pool": nn.Sequential(
            conv(2, 4, 3, padding=1), relu(), nn.MaxPool2d(2), conv(4, 3, 2, padding=1), nn.PReLU(3), flat(),
            nn.Linear(48, 3),
        ),
        "overlapping_pools": nn.Sequential(
            conv(2, 3, 3, padding=1), relu(), nn.MaxPool2d(3, 1), conv(3, 4, 3), relu(), flat(), nn.Linear(16, 3)
        ),
        "dilated_depthwise": nn.Sequential(
            conv(2, 4, 3, dilation=2, padding="same"), relu(), conv(4, 8, 3, groups=4), relu(), flat(),
            nn.Linear(128, 3),
        ),
        "residual": Residual(),
    }  # fmt: skip


def image_slice(seed, margin=0.2):
    inputs = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Slice2D.through(*inputs, margin=margin)


PLANE = Slice2D.axis_aligned(((-1, 1), (-1, 1)))
CASES = {f"mlp-{'-'.join(map(str, w))}": (mlp(*w, seed=i), PLANE) for i, w in enumerate([
    (2, 1, 2), (2, 24, 3), (2, 16, 16, 3), (2, 12, 12, 12, 12, 3), (2, *[6] * 40, 2), (2, 512, 3),
])} | {name: (randomise(net, 5), image_slice(1)) for name, net in image_nets().items()}  # fmt: skip


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request):
    model, where = CASES[request.param]
    return model, compute_partition(model, where, codes=True, outputs=True, boundary=True, threads=2)


def test_areas_add_up_to_the_slice(case):
    _, partition = case
    assert partition.area.min() > 0
    assert abs(partition.area.sum() / partition.slice.area - 1) < 1e-12


def test_codes_are_those_of_the_network_at_every_centroid(case):
    model, partition = case
    expected = oracles.unit_signs(model, partition.slice.at(partition.centroids()))
    np.testing.assert_array_equal(partition.code_bits(), expected)


def test_codes_and_keys_name_regions_uniquely(case):
    _, partition = case
    assert len(np.unique(partition.key)) == len(partition)
    assert len(np.unique(partition.codes, axis=0)) == len(partition)


def test_random_points_have_the_code_of_the_polygon_they_lie_in(case):
    model, partition = case
    generator = np.random.default_rng(0)
    low, high = partition.slice.polygon.min(axis=0), partition.slice.polygon.max(axis=0)
    points = generator.uniform(low, high, (4000, 2))
    expected = oracles.unit_signs(model, partition.slice.at(points))
    hit, bits = np.zeros(len(points), dtype=int), partition.code_bits()
    for region in generator.permutation(len(partition))[:300]:
        here = oracles.inside(partition.polygon(region), points, 1e-9)
        hit += here
        assert (expected[here] == bits[region]).all()
    assert hit.max() == 1


def test_outputs_are_the_networks_affine_maps(case):
    model, partition = case
    for region in np.linspace(0, len(partition) - 1, 12).astype(int):
        centre = partition.centroids()[region]
        matrix, value = oracles.jacobian(model, partition.slice.at(centre)[0])
        basis = torch.stack([partition.slice.first.flatten(), partition.slice.second.flatten()], dim=1)
        slopes = matrix.flatten(1) @ basis
        torch.testing.assert_close(
            torch.from_numpy(partition.outputs[region, :, :2]), slopes, rtol=1e-10, atol=1e-10
        )
        at_centre = partition.outputs[region] @ [*centre, 1.0]
        torch.testing.assert_close(torch.from_numpy(at_centre), value, rtol=1e-10, atol=1e-10)
        full, bias = region_map(model, partition, region)
        torch.testing.assert_close(full, matrix, rtol=1e-10, atol=1e-10)
        inputs = partition.slice.at(centre)[0]
        torch.testing.assert_close(full.flatten(1) @ inputs.flatten() + bias, value, rtol=1e-10, atol=1e-10)


def test_euler_formula_and_neighbours_differ(case):
    _, partition = case
    shape = topology(partition)
    assert shape.euler == 1
    inner = shape.twin >= 0
    np.testing.assert_array_equal(shape.twin[shape.twin[inner]], np.flatnonzero(inner))
    here, there = partition.edge_region[inner], shape.neighbour[inner]
    assert (partition.codes[here] != partition.codes[there]).any(axis=1).all()


def test_an_edge_lies_where_its_unit_is_at_its_kink(case):
    model, partition = case
    shape = topology(partition)
    bits, names = partition.code_bits(), partition.edge_unit
    bit_unit = np.concatenate(
        [layer.first + np.repeat(np.arange(layer.units), layer.pieces) for layer in partition.layers]
    )
    for edge in np.flatnonzero(shape.twin >= 0)[:: max(1, len(names) // 500)]:
        flipped = bit_unit[bits[partition.edge_region[edge]] != bits[shape.neighbour[edge]]]
        assert names[edge] in flipped


def test_every_grid_code_belongs_to_a_region(case):
    model, partition = case
    low, high = partition.slice.polygon.min(axis=0), partition.slice.polygon.max(axis=0)
    steps = (np.arange(40) + 0.5) / 40
    grid = np.stack(
        np.meshgrid(*(lo + steps * (hi - lo) for lo, hi in zip(low, high, strict=True))), -1
    ).reshape(-1, 2)
    seen = {row.tobytes() for row in oracles.unit_signs(model, partition.slice.at(grid))}
    assert seen <= {row.tobytes() for row in partition.code_bits()}


@pytest.mark.parametrize("units", [1, 5, 40])
def test_one_hidden_layer_has_the_regions_of_its_line_arrangement(units):
    model = mlp(2, units, 2, seed=units)
    lines = torch.cat([model[0].weight, model[0].bias[:, None]], dim=1).detach().numpy()
    assert count_regions(model, PLANE, threads=1) == oracles.line_arrangement_regions(lines, -1.0, 1.0)


def test_a_network_whose_answer_is_known():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        model[2].bias.copy_(torch.tensor([-0.25, -0.25]))
    partition = compute_partition(model, PLANE, boundary=True, threads=1)
    # Four quadrants; both scores are equal along the diagonal of the first one and all over the third.
    assert sorted(partition.area.tolist()) == [1.0, 1.0, 1.0, 1.0]
    assert partition.boundary.touching.tolist() in ([0], [1], [0, 1])
    diagonal = (
        np.abs(partition.boundary.segments[:, :, 0] - partition.boundary.segments[:, :, 1]).max(axis=1) == 0
    )
    assert diagonal.sum() == 1


@pytest.mark.parametrize("name", ["mlp-2-16-16-3", "overlapping_pools", "residual"])
def test_the_number_of_threads_changes_nothing(name):
    model, where = CASES[name]
    one = compute_partition(model, where, codes=True, boundary=True, threads=1)
    three = compute_partition(model, where, codes=True, boundary=True, threads=3)
    for field in ("vertices", "offsets", "area", "key", "codes", "edge_lane", "edge_other"):
        np.testing.assert_array_equal(getattr(one, field), getattr(three, field))
    for field in ("segments", "classes", "region", "units"):
        np.testing.assert_array_equal(getattr(one.boundary, field), getattr(three.boundary, field))
    assert count_regions(model, where, threads=2) == len(one)


@pytest.mark.parametrize(
    ("arch", "width", "size", "share"),
    [
        ("vgg16_bn", 0.0625, 16, 3e-3),
        ("preresnet20", 0.125, 8, 3e-3),
        ("mobilenet_v2", 0.25, 8, 3e-3),
        ("simple_cnn", 0.25, 25, 0.3),
        ("alexnet", 0.0625, 16, 3e-3),
    ],
)
def test_the_networks_of_the_experiments(arch, width, size, share):
    model = randomise(build_model(arch, num_classes=4, width=width, image_size=size, seed=1), 3)
    inputs = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    where = Slice2D.through(*inputs)
    middle = where.polygon.mean(axis=0)
    partition = compute_partition(
        model, where.within(middle + share * (where.polygon - middle)), outputs=True
    )
    assert len(partition) > 5
    assert abs(partition.area.sum() / partition.slice.area - 1) < 1e-12
    assert topology(partition).euler == 1
    centres = partition.centroids()[:200]
    mine = np.einsum("rkc,rc->rk", partition.outputs[:200], np.c_[centres, np.ones(len(centres))])
    with torch.no_grad():
        expected = model(where.at(centres))
    torch.testing.assert_close(torch.from_numpy(mine), expected, rtol=1e-10, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
    activation=st.sampled_from([nn.ReLU, nn.LeakyReLU, nn.PReLU]),
    lattice=st.booleans(),
)
def test_random_architectures(widths, seed, activation, lattice):
    model = mlp(2, *widths, 2, seed=seed, activation=activation)
    if lattice:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2 or len(parameter) > 1:
                    parameter.copy_((parameter * 3).round())
    partition = compute_partition(model, PLANE, codes=True, threads=1)
    assert abs(partition.area.sum() / 4 - 1) < 1e-12
    assert len(np.unique(partition.key)) == len(partition)
    expected = oracles.unit_signs(model, partition.slice.at(partition.centroids()))
    np.testing.assert_array_equal(partition.code_bits(), expected)
    assert topology(partition).euler == 1
