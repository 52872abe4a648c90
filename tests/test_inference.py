import copy

import pytest
import torch
from test_saving import IMAGES, plain, streams
from torch import nn

import splinelib
from splinelib.criteria import FilterNorm
from splinelib.layers import ChannelSelection
from splinelib.pruning import cost, fuse_norms


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def alive(model):
    """Batch norms with scales, shifts and statistics that count."""
    for norm in norms(model):
        for values in (norm.weight.data, norm.running_var):
            values.uniform_(0.5, 2)
        for values in (norm.bias.data, norm.running_mean):
            values.normal_()
    return model.double().eval()


class Apart(nn.Module):
    """Norms that must stay: of sums, of outputs, of what is read elsewhere too, without statistics."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(6))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3, track_running_stats=n != 4) for n in range(6))
        self.last = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        one, two, three, four, five, six = (conv(x) for conv in self.convs)
        out = self.norms[0](one + 1) + self.norms[1](two) + two.sigmoid() + self.norms[2](three)
        out = out + self.norms[3](four.relu()) + self.norms[4](five)
        return self.last(out * self.norms[5](six)), three


@pytest.mark.parametrize(("build", "left"), [(plain, 0), (streams, 7)])
def test_fused_networks_compute_the_same(build, left):
    pruned = alive(splinelib.prune(build(), IMAGES, 0.5, criterion=FilterNorm(1)))
    x = IMAGES.double()
    before = copy.deepcopy(pruned.state_dict())
    fused = fuse_norms(pruned.train(), x)
    torch.testing.assert_close(fused(x), pruned.eval()(x))
    assert all(torch.equal(values, before[name]) for name, values in pruned.state_dict().items())
    assert len(norms(fused)) == left < len(norms(pruned))
    assert cost(fused, x).flops == cost(pruned, x).flops
    kept = [len(module.indexes) for module in fused.modules() if isinstance(module, ChannelSelection)]
    assert [norm.num_features for norm in norms(fused)] == kept


def test_norms_that_are_read_or_written_elsewhere_stay():
    model = alive_apart = Apart()
    for norm in norms(model):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    x = IMAGES[:, :, :5, :5].double()
    model.double().eval()
    fused = fuse_norms(model, x)
    for found, wanted in zip(fused(x), alive_apart(x), strict=True):
        torch.testing.assert_close(found, wanted)
    assert [isinstance(norm, nn.BatchNorm2d) for norm in fused.norms] == [True, True, True, True, True, False]


def test_a_norm_of_two_modules_stays():
    norm = nn.BatchNorm1d(4)
    nn.init.uniform_(norm.weight, 0.5, 2)
    model = nn.Sequential(
        nn.Linear(3, 4), norm, nn.ReLU(), nn.Linear(4, 4), norm, nn.ReLU(), nn.Linear(4, 2)
    ).eval()
    fused = fuse_norms(model, torch.zeros(2, 3))
    assert len(norms(fused)) == 1
    torch.testing.assert_close(fused(torch.ones(2, 3)), model(torch.ones(2, 3)))
