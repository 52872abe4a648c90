"""Slices, models and settings that once ended in other libraries' errors."""

import math

import numpy as np
import pytest
import torch
from test_partition import PLANE, mlp
from torch import nn
from torch.nn.utils import prune

from splinelib.errors import LimitError, SettingError, UnsupportedModuleError
from splinelib.partition import (
    Slice2D,
    compare,
    compute_partition,
    count_regions,
    raster_distance,
    region_map,
    topology,
    trace_boundary,
    zoom_to,
)


@pytest.mark.parametrize("corners", [100, 4096, 6000])
@pytest.mark.parametrize("threads", [1, 2])
def test_slices_may_have_many_corners(corners, threads):
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    disc = PLANE.within(np.c_[np.cos(angle), np.sin(angle)])
    partition = compute_partition(mlp(2, 8, 8, 2), disc, boundary=True, threads=threads)
    assert partition.area.sum() == pytest.approx(disc.area, rel=1e-12)
    nothing = mlp(2, 1, 2)
    with torch.no_grad():
        nothing[0].bias.fill_(100.0)
    assert len(compute_partition(nothing, disc, threads=threads).polygon(0)) == corners


def pruned_by_a_mask():
    model = mlp(2, 8, 8, 2)
    for layer in (0, 2):
        prune.l1_unstructured(model[layer], "weight", 0.5)
    return model, (0, 2)


def with_weight_norm():
    model = mlp(2, 8, 8, 2)
    with pytest.warns(FutureWarning):
        model[2] = nn.utils.weight_norm(model[2])
    return model, (2,)


@pytest.mark.parametrize("build", [pruned_by_a_mask, with_weight_norm])
def test_weights_that_are_computed_before_each_pass_are_read(build):
    model, layers = build()
    partition = compute_partition(model, PLANE, outputs=True, boundary=True)
    plain = mlp(2, 8, 8, 2)
    with torch.no_grad():
        for layer in layers:
            plain[layer].weight.copy_(model[layer].weight)
    expected = compute_partition(plain, PLANE, outputs=True, boundary=True)
    np.testing.assert_allclose(partition.vertices, expected.vertices, atol=1e-12)
    np.testing.assert_allclose(partition.outputs, expected.outputs, atol=1e-12)
    assert trace_boundary(model, PLANE).boundary.length == pytest.approx(expected.boundary.length)
    matrix, bias = region_map(model, partition, 0)
    torch.testing.assert_close(
        matrix, torch.from_numpy(expected.outputs[0, :, :2].copy()), rtol=1e-9, atol=1e-12
    )
    assert all(parameter.requires_grad for parameter in model.parameters())


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x, y):
        return torch.relu(self.layer(x) + y)


def test_a_model_with_two_inputs_is_named_and_nothing_is_printed(capfd):
    with pytest.raises(UnsupportedModuleError, match=r"takes 2 inputs \(x, y\); wrap it"):
        count_regions(Two().eval(), PLANE)
    assert capfd.readouterr() == ("", "")


def test_a_batch_axis_on_the_slice_is_named(capfd):
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).double().eval()
    images = torch.randn(3, 1, 2, 6, 6, dtype=torch.float64)
    with pytest.raises(SettingError, match=r"without the batch axis, \(2, 6, 6\)"):
        count_regions(model, Slice2D.through(*images))
    assert capfd.readouterr() == ("", "")
    assert count_regions(model, Slice2D.through(*images[:, 0])) > 10


def test_partitions_of_different_slices_are_not_compared():
    model = mlp(2, 8, 2)
    here = compute_partition(model, PLANE, codes=True)
    same = compute_partition(model, Slice2D.axis_aligned(), codes=True)
    assert compare(here, same).length_kept == 1
    assert raster_distance(here, same) == 0
    for other in (PLANE.zoomed(0.5), Slice2D(PLANE.origin + 0.1, PLANE.first, PLANE.second, PLANE.polygon)):
        there = compute_partition(model, other, codes=True)
        for function in (compare, raster_distance):
            with pytest.raises(SettingError, match="different slices; compute both on one Slice2D"):
                function(here, there)


def test_many_threads_fit_into_the_memory_of_one():
    model = mlp(2, 200, 200, 2)
    where = PLANE.zoomed(0.1)
    one = compute_partition(model, where, threads=1)
    limit = 3_000_000
    many = compute_partition(model, where, threads=64, max_bytes=limit)
    np.testing.assert_array_equal(one.vertices, many.vertices)
    with pytest.raises(LimitError, match="max_bytes=100000"):
        compute_partition(model, where, threads=64, max_bytes=100_000)


def with_weight(tensor):
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    model[0].weight = nn.Parameter(tensor, requires_grad=False)
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.LazyLinear(3), nn.ReLU()), "'0.weight' .* holds no values yet"),
        (nn.Sequential(nn.Linear(2, 3, device="meta"), nn.ReLU()), "'0.weight' .* holds no values yet"),
        (
            nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, device="meta")),
            "'1.weight' .* holds no values yet",
        ),
        (with_weight(torch.eye(4, 2).to_sparse()), "'0.weight' .* is sparse"),
        (with_weight(torch.ones(4, 2, dtype=torch.int64)), "'0.weight' is of torch.int64"),
        (with_weight(torch.ones(4, 2, dtype=torch.complex64)), "'0.weight' is of torch.complex64"),
    ],
)
def test_weights_that_are_no_real_numbers_are_named(model, said):
    for reads in (compute_partition, trace_boundary, count_regions):
        with pytest.raises(SettingError, match=said):
            reads(model.eval(), Slice2D.axis_aligned())


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_layers_without_units_are_named():
    for model in (nn.Sequential(nn.Linear(2, 0)), nn.Sequential(nn.Linear(2, 0), nn.ReLU(), nn.Linear(0, 2))):
        with pytest.raises(SettingError, match="the step '0' returns a tensor without elements"):
            compute_partition(model, Slice2D.axis_aligned())


class FirstOf(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, x):
        return torch.relu(x)[:, : self.count]


def test_an_output_without_elements_is_named():
    with pytest.raises(UnsupportedModuleError, match="the model returns a tensor without elements"):
        compute_partition(FirstOf(0), Slice2D.axis_aligned())
    assert len(compute_partition(FirstOf(1), Slice2D.axis_aligned())) == 4


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated", "ignore::DeprecationWarning")
def test_what_a_compiled_model_holds_is_read_and_a_scripted_one_named():
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    where = Slice2D.axis_aligned()
    assert len(compute_partition(torch.compile(model), where)) == len(compute_partition(model, where))
    with pytest.raises(UnsupportedModuleError, match="is scripted, .* give the model that it was made of"):
        compute_partition(torch.jit.script(model), where)


def long_slice(ratio, angle):
    """A rectangle so many times as long as wide, turned, and a network whose bends are spread along it as it is."""
    model = mlp(2, 18, 12, 3, seed=8)
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64
    )
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight / torch.tensor([ratio, 1.0]) @ turn.T)
    corners = np.array([[-ratio, -1.0], [ratio, -1.0], [ratio, 1.0], [-ratio, 1.0]])
    return model, turn, corners @ turn.numpy().T


@pytest.mark.parametrize("angle", [0.0, 1.1, math.pi / 2])
@pytest.mark.parametrize("ratio", [30.0, 6e4])
def test_a_long_slice_has_the_regions_of_a_square(ratio, angle):
    square = compute_partition(long_slice(1.0, 0.0)[0], PLANE)
    model, _, polygon = long_slice(ratio, angle)
    long = compute_partition(model, PLANE.within(polygon), boundary=True)
    assert len(long) == len(square)
    assert topology(long).euler == 1
    np.testing.assert_allclose(np.sort(long.area) / ratio, np.sort(square.area), atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1.1])
@pytest.mark.parametrize("ask", [compute_partition, count_regions, trace_boundary, zoom_to])
def test_a_slice_far_too_long_is_refused_and_taken_in_other_coordinates(ask, angle):
    model, turn, polygon = long_slice(3e10, angle)
    more = ((0.0, 0.0),) if ask is zoom_to else ()
    with pytest.raises(SettingError, match=r"polygon is about 3e\+10 times as long as wide"):
        ask(model, PLANE.within(polygon), *more)
    first, second = 3e10 * turn[:, 0], turn[:, 1]
    ask(model, Slice2D(torch.zeros(2), first, second, PLANE.polygon), *more)


def test_a_sliver_of_a_triangle_is_refused():
    where = PLANE.within([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5 + 1e-7]])
    with pytest.raises(SettingError, match="times as long as wide"):
        count_regions(mlp(2, 5, 3), where)
