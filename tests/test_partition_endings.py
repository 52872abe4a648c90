"""Last steps that are left out: classes are those of the network, or it is refused."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_partition import PLANE, mlp
from test_partition_steps import Ending
from torch import nn

from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.partition import (
    Segment,
    Slice3D,
    compute_partition,
    compute_segment,
    compute_solid,
    count_regions,
    level_set,
    load_partition,
    region_map,
    save_partition,
    trace_boundary,
)

POINTS = np.random.default_rng(5).uniform(-1, 1, (300, 2))
MASK = torch.tensor([True, False, True, True])

ANOTHER_ORDER = {
    "padded": lambda y: F.pad(torch.sigmoid(y), (0, 1), value=0.4),
    "chosen": lambda y: torch.where(MASK, torch.tanh(y), torch.tensor(0.1, dtype=y.dtype)),
    "chosen by a constant of the size of a score": lambda y: y.log_softmax(1).masked_fill(~MASK, -1.0),
    "two kinds": lambda y: torch.cat([F.logsigmoid(y[:, :1]), y[:, 1:].tanh()], 1),
    "two heads": lambda y: torch.cat([y[:, 2:].softmax(1), y[:, :2].softmax(1)], 1),
    "stacked heads": lambda y: torch.stack([F.softmax(y, 1), F.softmax(-y, 1)], 1).flatten(1),
    "rows": lambda y: torch.softmax(y.reshape(-1, 2, 2), 2).flatten(1),
    "the batch": lambda y: torch.log_softmax(y, 0),
    "an axis of one": lambda y: y.unsqueeze(2).softmax(2).squeeze(2),
    "activations beside": lambda y: torch.cat([F.relu(y[:, :2]), torch.sigmoid(y)], 1),
    "scores beside": lambda y: torch.cat([y, torch.sigmoid(y)], 1),
    "one of several": lambda y: torch.narrow(y.softmax(1), 1, 2, 1),
    "twice": lambda y: y.sigmoid().reshape(-1, 2, 2).softmax(1).flatten(1),
    "largest of the batch": lambda y: y.argmax(0),
    "largest of an axis of one": lambda y: y.unsqueeze(1).argmax(1),
}
THE_SAME_ORDER = {
    "turned round": lambda y: torch.sigmoid(y).flip(1),
    "a part": lambda y: torch.narrow(y.softmax(1), 1, 1, 3),
    "column": lambda y: y.unsqueeze(2).softmax(1).squeeze(2),
    "one after another": lambda y: torch.tanh(y.log_softmax(1)).roll(1, 1),
    "repeated": lambda y: F.logsigmoid(y).repeat(1, 2),
    "rows": lambda y: y.reshape(-1, 2, 2).sigmoid().transpose(1, 2).flatten(1),
}


def ended(end, outputs=4, seed=3):
    model = Ending(mlp(2, 14, 10, outputs, seed=seed), end).double().eval()
    with torch.no_grad():  # so that every class is the largest somewhere
        model.body[-1].bias -= model.body(PLANE.at(POINTS)).mean(dim=0)
    return model


def one_by_one(model, points):
    """The model's output at each point, each a batch of its own."""
    with torch.no_grad():
        return torch.cat([model(x[None]) for x in PLANE.at(points)]).numpy()


@pytest.mark.parametrize("name", ANOTHER_ORDER)
def test_where_the_order_of_scores_is_lost_only_regions_are_given(name):
    model = ended(ANOTHER_ORDER[name])
    assert count_regions(model, PLANE) >= count_regions(model.body, PLANE) > 20
    for ask in (
        lambda: compute_partition(model, PLANE, boundary=True),
        lambda: compute_partition(model, PLANE, outputs=True),
        lambda: trace_boundary(model, PLANE),
        lambda: compute_segment(model, Segment(torch.zeros(2), torch.ones(2)), outputs=True),
        lambda: region_map(model, compute_partition(model, PLANE), 0),
    ):
        with pytest.raises(
            UnsupportedModuleError, match="the largest output is not that of the largest score"
        ):
            ask()


def test_a_solid_of_two_heads_has_no_outputs():
    box, model = Slice3D.axis_aligned(), Ending(mlp(3, 6, 4), ANOTHER_ORDER["two heads"]).eval()
    assert len(compute_solid(model, box)) == len(compute_solid(model.body, box))
    with pytest.raises(UnsupportedModuleError, match="for method 'softmax' at 'softmax_1' stands beside"):
        compute_solid(model, box, outputs=True)


@pytest.mark.parametrize("name", THE_SAME_ORDER)
def test_where_scores_keep_their_order_classes_are_those_of_the_network(name):
    model = ended(THE_SAME_ORDER[name])
    partition = compute_partition(model, PLANE, outputs=True, boundary=True)
    regions = partition.locate(POINTS)
    mine = np.einsum("pkc,pc->pk", partition.outputs[regions], np.c_[POINTS, np.ones(len(POINTS))])
    theirs = one_by_one(model, POINTS)
    np.testing.assert_array_equal(mine.argmax(axis=1), theirs.argmax(axis=1))
    assert len(np.unique(theirs.argmax(axis=1))) > 1
    matrix, bias = region_map(model, partition, int(regions[0]))
    found = torch.cat([matrix, bias[:, None]], 1)
    torch.testing.assert_close(found, torch.from_numpy(partition.outputs[regions[0]]))


@pytest.mark.parametrize(
    "end", [lambda y: y.argmax(1, keepdim=True).squeeze(1), lambda y: y.softmax(1).flip(1).argmax(1)]
)
def test_the_number_of_a_class_may_be_moved(end):
    model = ended(end)
    partition = compute_partition(model, PLANE, outputs=True)
    plain = compute_partition(model.body, PLANE, outputs=True)
    np.testing.assert_array_equal(partition.outputs, plain.outputs)


def test_a_gate_is_not_taken_for_a_last_step():
    gate = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)
    model = ended(lambda y: torch.softmax(y * torch.sigmoid(gate), 1))
    plain = ended(lambda y: y * torch.sigmoid(gate))
    found, expected = (compute_partition(m, PLANE, outputs=True) for m in (model, plain))
    np.testing.assert_allclose(found.outputs, expected.outputs, atol=1e-12)
    for mine, theirs in zip(region_map(model, found, 0), region_map(plain, expected, 0), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("end", [nn.Sigmoid(), nn.LogSoftmax(1)])
def test_a_hook_behind_the_scores_is_seen(end):
    model = nn.Sequential(mlp(2, 9, 3), end)
    count_regions(model, PLANE)
    end.register_forward_hook(lambda module, inputs, output: output * torch.tensor([1.0, 2.0, 1.0]))
    with pytest.raises(UnsupportedModuleError, match="forward hooks"):
        count_regions(model, PLANE)
    end._forward_hooks.clear()


def test_there_is_no_level_set_of_an_output_that_is_not_kept(tmp_path):
    body = mlp(2, 9, 1)
    partition = compute_partition(nn.Sequential(body, nn.Tanh()), PLANE, outputs=True)
    save_partition(partition, tmp_path / "tanh.npz")
    for found in (partition, load_partition(tmp_path / "tanh.npz")):
        assert found.left_out == "Tanh at '1'"
        with pytest.raises(SettingError, match="without the network's last step"):
            level_set(found, level=0.3)
    plain = compute_partition(body, PLANE, outputs=True)
    save_partition(plain, tmp_path / "plain.npz")
    for expected, found in zip(
        level_set(plain), level_set(load_partition(tmp_path / "plain.npz")), strict=True
    ):
        np.testing.assert_array_equal(expected, found)
