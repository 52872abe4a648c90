"""Following the decision boundary where scores are large beside their differences, and where they are equal."""

import numpy as np
import pytest
import torch
from test_partition import PLANE, mlp
from torch import nn

from splinelib.errors import SettingError
from splinelib.partition import compute_partition, trace_boundary


@pytest.mark.parametrize("common", [-4e6, 3e7, 2e8, -7e8])
@pytest.mark.parametrize("seed", [4, 5])
def test_the_boundary_of_scores_that_have_much_in_common_is_followed(common, seed):
    model = mlp(2, 12, 8, 4, seed=seed)
    with torch.no_grad():
        model[-1].bias -= model(PLANE.at(np.random.default_rng(0).uniform(-1, 1, (99, 2)))).mean(dim=0)
        expected = compute_partition(model, PLANE, boundary=True).boundary.length
        model[-1].bias += common
    assert expected > 1
    assert trace_boundary(model, PLANE).boundary.length == pytest.approx(expected, rel=1e-4)


def test_a_boundary_that_is_lost_in_rounding_is_not_passed_over():
    model = mlp(2, 12, 8, 4, seed=4)
    with torch.no_grad():
        model[-1].bias -= model(PLANE.at(np.random.default_rng(0).uniform(-1, 1, (99, 2)))).mean(dim=0)
        model[-1].bias += 4e11
    with pytest.raises(SettingError, match=r"scores of about 4e\+11 are too large"):
        trace_boundary(model, PLANE)


def test_scores_that_are_equal_on_an_area_are_no_error():
    model = nn.Sequential(mlp(2, 10, 3, seed=2), nn.ReLU(), nn.Linear(3, 3, bias=False)).double()
    with torch.no_grad():  # all scores are 0 on an area, and two are equal up to rounding on all of the slice
        model[-1].weight.copy_(torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.3, 0.2, 0.1 + 1e-17]]))
    partition, trace = compute_partition(model, PLANE, boundary=True), trace_boundary(model, PLANE)
    assert trace.boundary.length == pytest.approx(partition.boundary.length)
