"""The spline criterion by groups, against groups found by walking from unit to unit."""

import pytest
import torch
from torch import nn

from splinelib.criteria import Spline, SplineGroups, spline_distance
from splinelib.layers import read_layers


def kept_by_walking(distance, norm, threshold):
    """The strongest unit of every group: of all units that a walk in steps of at most ``threshold`` reaches."""
    left, kept = set(range(len(norm))), set()
    while left:
        group, edge = set(), [left.pop()]
        while edge:
            unit = edge.pop()
            group.add(unit)
            near = {other for other in left if distance[unit][other] <= threshold}
            left -= near
            edge += near
        kept.add(max(group, key=lambda unit: (norm[unit], -unit)))
    return kept


@pytest.mark.parametrize("offset", ["raw", "geometric"])
@pytest.mark.parametrize("units", [1, 2, 9, 30])
def test_at_every_threshold_the_strongest_of_each_group_stays(units, offset, generator):
    weight = torch.randn(units, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(units, generator=generator, dtype=torch.float64)
    score = SplineGroups(offset=offset).layer_score(weight, bias)
    distance, norm = spline_distance(weight, bias, offset=offset).tolist(), weight.norm(dim=1).tolist()
    for threshold in sorted({value for row in distance for value in row}):
        stays = {unit for unit in range(units) if score[unit] > threshold * (1 + 1e-12)}
        assert stays == kept_by_walking(distance, norm, threshold)


def test_a_chain_is_one_group_where_pairs_are_not():
    # Directions 0, 10, ..., 50 degrees: neighbours are close, the ends are not; the strongest stands at one end.
    angles = torch.arange(6, dtype=torch.float64) * torch.pi / 18
    length = torch.tensor([6.0, 1, 2, 3, 4, 5], dtype=torch.float64)
    weight = torch.stack([angles.cos(), angles.sin()], dim=1) * length[:, None]
    groups, pairs = (kind().layer_score(weight, torch.zeros(6)) for kind in (SplineGroups, Spline))
    step = 1 - float(torch.cos(torch.tensor(torch.pi / 18, dtype=torch.float64)))
    assert groups[1:].tolist() == pytest.approx([step] * 5)  # all five fall at once
    assert groups.argmax() == 0
    assert int((pairs > 1.5 * step).sum()) > 1  # what is left thins out, and the rest lies further apart


def test_layers_of_a_network_are_scored_and_permuted_with_their_units(generator):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)
    ).eval()
    model[0].weight.data = torch.randn(8, 3, 3, 3, generator=generator)
    layers = read_layers(model, torch.zeros(1, 3, 3, 3))
    (score,) = SplineGroups()(model, layers)
    assert score.dtype == torch.float64
    order = torch.randperm(8, generator=generator)
    model[0].weight.data, model[0].bias.data = model[0].weight.data[order], model[0].bias.data[order]
    (permuted,) = SplineGroups()(model, layers)
    torch.testing.assert_close(permuted, score[order], rtol=1e-12, atol=1e-12)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="rho is -1"):
        SplineGroups(rho=-1).layer_score(torch.eye(2), torch.zeros(2))
