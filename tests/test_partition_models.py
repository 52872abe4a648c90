"""Models in single precision, wrapped, cast and compiled, as they come out of research code."""

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_partition import PLANE, mlp
from torch import nn
from torch.nn.utils import prune

from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.partition import Slice2D, area_distance, compute_partition, count_regions, region_map


class Net(nn.Module):
    """A small network whose forward is the function given."""

    def __init__(self, forward):
        super().__init__()
        self.body = mlp(2, 8, 6, 3).float()
        self.wide, self.kept = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), []
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


class Settings(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp(2, 8, 3).float()

    def forward(self, x, scale=2.0, *more, mask=None, **other):
        return self.body(x) * scale if mask is None else self.body(x) * mask


def computed(change):
    """Weights that a hook computes; they changed since it last did."""
    model = mlp(2, 8, 6, 3).float()
    change(model[2])
    model.train()(torch.randn(4, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return model.eval()


def keeping_activations():
    model = Net(lambda net, x: net.kept.append(net.body(x)) or net.kept[-1])
    model(torch.zeros(1, 2))
    return model


MODELS = {
    "arguments with defaults": Settings,
    "parallel": lambda: nn.DataParallel(mlp(2, 8, 3).float()),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(mlp(2, 8, 3).float()),
    "synchronised norm": lambda: nn.SyncBatchNorm.convert_sync_batchnorm(
        nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    ).eval(),
    "cast by name": lambda: Net(lambda net, x: net.body(x.float())),
    "cast by type": lambda: Net(lambda net, x: net.body(x.to(torch.float32)).type(torch.float32)),
    "a weight that is no parameter": lambda: Net(lambda net, x: F.linear(net.body(x).relu(), net.wide)),
    "a weight that is made on the way": lambda: Net(lambda net, x: F.linear(net.body(x), torch.ones(2, 3))),
    "activations kept": keeping_activations,
    "masks": lambda: computed(lambda m: prune.l1_unstructured(m, "weight", 0.5)),
    "weight norm": lambda: computed(nn.utils.weight_norm),
    "spectral norm": lambda: computed(nn.utils.spectral_norm),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils:FutureWarning")
@pytest.mark.parametrize("name", MODELS)
def test_the_maps_are_those_of_the_model(name):
    model = MODELS[name]()
    partition = compute_partition(model, PLANE, outputs=True)
    assert len(partition) > 3
    points = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    found = partition.outputs[partition.locate(points)]
    mine = torch.from_numpy(np.einsum("pkc,pc->pk", found, np.c_[points, np.ones(len(points))]))
    with torch.no_grad():
        theirs = torch.cat([model(x[None]) for x in PLANE.at(points).float()])
    torch.testing.assert_close(mine.float(), theirs, rtol=1e-4, atol=1e-4)


def test_a_compiled_part_is_read_as_what_it_was_made_of():
    model = Net(lambda net, x: torch.relu(net.body(x)))
    expected = compute_partition(model, PLANE)
    model.body = torch.compile(model.body)
    np.testing.assert_array_equal(compute_partition(model, PLANE).vertices, expected.vertices)


def test_what_cannot_be_copied_or_rounds_is_named():
    model = Net(lambda net, x: net.body(x))
    model.lock = threading.Lock()
    with pytest.raises(SettingError, match="Net cannot be copied .*keep locks"):
        count_regions(model, PLANE)
    with pytest.raises(UnsupportedModuleError, match="rounds to whole numbers"):
        count_regions(Net(lambda net, x: net.body(x.to(torch.int64).double())), PLANE)


def test_several_threads_may_ask_at_once():
    models = [Settings() for _ in range(6)]
    expected = [count_regions(model, PLANE) for model in models]
    found = {}

    def ask(number):
        for _ in range(5):
            found[number] = count_regions(models[number], PLANE, threads=1)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found.get(number) for number in range(6)] == expected


def test_the_map_of_a_region_is_that_of_the_scores_before_a_softmax():
    model = nn.Sequential(mlp(2, 8, 3), nn.Softmax(dim=1))
    partition = compute_partition(model, PLANE, outputs=True)
    matrix, bias = region_map(model, partition, 0)
    torch.testing.assert_close(torch.cat([matrix, bias[:, None]], 1), torch.from_numpy(partition.outputs[0]))


def test_a_slice_stays_as_it_was_given():
    inputs = torch.eye(3, dtype=torch.float64)
    where = Slice2D.through(*inputs)
    before = where.at([[0.5, 0.25]])
    inputs.zero_()
    torch.testing.assert_close(where.at([[0.5, 0.25]]), before)


def test_the_distance_of_networks_that_change_their_input():
    def network(inplace):
        return nn.Sequential(nn.ReLU(inplace), mlp(2, 5, 2), nn.Softmax(dim=1))

    second = mlp(2, 5, 2, seed=1)
    found = [
        area_distance(network(inplace), nn.Sequential(nn.LeakyReLU(), second), PLANE)
        for inplace in (True, False)
    ]
    np.testing.assert_array_equal(*found)
