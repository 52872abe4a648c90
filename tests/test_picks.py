"""What picks one of several channels reads them all, also where a single vector shows one winner only."""

import pytest
import torch
import torch.nn.functional as F
from tiny_nets import Net
from torch import nn

from splinelib import read_layers, remove_units
from splinelib.errors import UnsupportedModuleError

OVER_CHANNELS = {
    "max": lambda y: y.max(1, keepdim=True).values,
    "max of a named axis": lambda y: torch.max(y, dim=1, keepdim=True)[0],
    "max of everything": lambda y: y.max().view(1, 1).expand(len(y), 1),
    "amax": lambda y: y.amax(1, keepdim=True),
    "amax of several axes": lambda y: y.unflatten(1, (4, 2)).amax(dim=(1, 2)).unsqueeze(1),
    "amax of a named input": lambda y: torch.amax(input=y, dim=-1, keepdim=True),
    "aminmax": lambda y: torch.aminmax(y, dim=1, keepdim=True).max,
    "min": lambda y: y.min(axis=1, keepdim=True).values,
    "median": lambda y: y.median(1, keepdim=True).values,
    "quantile": lambda y: y.quantile(0.3, dim=1, keepdim=True, interpolation="nearest"),
    "three quantiles": lambda y: y.quantile(torch.tensor([0.1, 0.5, 0.9]), dim=1).sum(0).unsqueeze(1),
    "kthvalue": lambda y: y.kthvalue(2, 1, keepdim=True).values,
    "topk": lambda y: y.topk(1).values,
    "sort": lambda y: y.sort(descending=True)[0][:, :1],
    "msort": lambda y: y.T.msort()[:1].T,
    "cummax": lambda y: y.cummax(1).values[:, -1:],
    "max_pool": lambda y: F.max_pool1d(y.unsqueeze(1), y.shape[1]).squeeze(1),
    "max_pool with places": lambda y: F.max_pool1d(y.unsqueeze(1), y.shape[1], return_indices=True)[0].squeeze(1),
    "adaptive_max_pool": lambda y: F.adaptive_max_pool1d(y.unsqueeze(1), 1).squeeze(1),
}  # fmt: skip
OF_TWO = {
    "maximum": torch.maximum,
    "max of two": torch.max,
    "fmin of a named one": lambda one, two: torch.fmin(one, other=two),
    "amax of a stack": lambda one, two: torch.stack([one, two]).amax(0),
    "max_pool of a stack": lambda one, two: F.max_pool1d(torch.stack([one, two], 2), 2).squeeze(2),
    "max_pool2d of a stack": lambda one, two: F.max_pool2d(torch.stack([one, two], 2)[:, None], (1, 2))[:, 0, :, 0],
}  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", OVER_CHANNELS)
def test_a_pick_among_channels_reads_them_all(name, batch):
    pick = OVER_CHANNELS[name]
    model = Net(
        lambda net, x: net.o(torch.cat([y := net.a(x), pick(y)], 1)), a=nn.Linear(5, 8), o=nn.Linear(9, 3)
    )
    with (
        pytest.warns(UserWarning, match="'a': each channel depends on all others behind 'a'"),
        pytest.raises(UnsupportedModuleError, match="no layer"),
    ):
        read_layers(model, torch.randn(batch, 5))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", OF_TWO)
def test_channels_that_compete_in_pairs_go_in_pairs(name, batch):
    modules = {"a": nn.Linear(5, 8), "b": nn.Linear(5, 8), "o": nn.Linear(8, 3)}
    model = Net(lambda net, x: net.o(OF_TWO[name](net.a(x), net.b(x))), **modules)
    x = torch.randn(batch, 5)
    (layer,) = read_layers(model, x)
    smaller = remove_units(model, x, {layer.name: [1, 6]})
    for module in (model.a, model.b):
        for tensor in module.parameters():
            tensor.data[[1, 6]] = 0
    assert [smaller.a.out_features, smaller.b.out_features, smaller.o.in_features] == [6, 6, 6]
    torch.testing.assert_close(smaller(x), model(x))


GRID = torch.linspace(0, 1, 5)
CHOICES = {
    "argmax": lambda one, two: torch.cat([two, one.gather(1, one.argmax(1, keepdim=True))], 1),
    "argmin": lambda one, two: torch.cat([two, one[torch.arange(len(one)), one.argmin(dim=1)][:, None]], 1),
    "argsort": lambda one, two: torch.cat([two, one.gather(1, torch.argsort(one)[:, :1])], 1),
    "bucketize": lambda one, two: torch.cat([two, torch.bucketize(one, GRID).sum(1, keepdim=True)], 1),
}  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", CHOICES)
def test_what_decides_on_a_place_stays(name, batch):
    """The choice has no gradient, and with a single vector one channel is chosen."""
    modules = {"a": nn.Linear(5, 8), "b": nn.Linear(5, 8), "o": nn.Linear(9, 3)}
    model = Net(lambda net, x: net.o(CHOICES[name](net.a(x), net.b(x))), **modules)
    with pytest.warns(UserWarning, match=f"'a'.*: {name} chooses by them"):
        assert "a" not in [layer.name for layer in read_layers(model, torch.randn(batch, 5))]


@pytest.mark.filterwarnings("ignore:left whole. '[qk]'. each channel depends on all others")
def test_what_a_mask_leaves_out_is_no_rival():
    """A softmax by hand takes the largest score away, and minus infinity is among the scores."""

    def attend(net, x):
        queries, keys = net.q(x), net.k(x)
        scores = (queries @ keys.mT).masked_fill(torch.ones(4, 4, dtype=torch.bool).triu(1), -torch.inf)
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        return net.o(weights / weights.sum(-1, keepdim=True) @ net.v(x).relu())

    model = Net(attend, **{name: nn.Linear(5, 6) for name in "qkv"}, o=nn.Linear(6, 3))
    x = torch.randn(2, 4, 5)
    assert "v" in [layer.name for layer in read_layers(model, x)]
    smaller = remove_units(model, x, {"v": [1, 4]})
    for tensor in model.v.parameters():
        tensor.data[[1, 4]] = 0
    torch.testing.assert_close(smaller(x), model(x))
