"""Folding keeps the function of duplicates, whatever writes and reads them."""

import pytest
import torch
from tiny_nets import Net, batch, double, images, scatter, sharing_weights, small_network
from torch import nn

from splinelib.errors import UnsupportedModuleError
from splinelib.pruning import fold_units


def embedded():
    """A stream that an embedding and a block write."""
    return Net(
        lambda s, x: s.h((y := s.e(x)) + s.b(s.a(y).relu())).mean(1),
        e=nn.Embedding(7, 6),
        a=nn.Linear(6, 4),
        b=nn.Linear(4, 6),
        h=nn.Linear(6, 3),
    )


def recurrent():
    return Net(
        lambda s, x: s.r(s.a(s.e(x)).relu())[0],
        e=nn.Embedding(7, 5),
        a=nn.Linear(5, 6),
        r=nn.LSTM(6, 3, batch_first=True),
    )


@pytest.mark.parametrize("build", [embedded, recurrent, sharing_weights])
def test_folding_duplicates_changes_nothing_whatever_writes_and_reads_them(build, generator):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().eval()
    data = (
        torch.randn(9, 5, generator=generator)
        if build is sharing_weights
        else torch.arange(14).view(2, 7) % 7
    )
    with torch.no_grad():
        for module in {model.a, getattr(model, "b", model.a)}:
            for tensor in module.parameters():
                tensor[len(tensor) // 2 :] = tensor[: len(tensor) // 2]
        if build is embedded:
            model.e.weight[:, 3:] = model.e.weight[:, :3]
    merged = fold_units(model, data, 0.5)
    torch.testing.assert_close(merged(data), model(data), rtol=1e-4, atol=1e-5)


def test_folding_takes_the_mean_of_a_shared_weight_once(generator):
    model, data = scatter(sharing_weights(), generator), torch.randn(9, 5, generator=generator)
    with torch.no_grad():
        model.a.weight[3:] = model.a.weight[:3] + 0.01 * torch.randn(3, 5, generator=generator)
        model.a.bias[3:], model.b.bias[3:] = model.a.bias[:3].clone(), model.b.bias[:3].clone()
    weight = fold_units(model, data, 0.5).a.weight
    torch.testing.assert_close(weight, model.a.weight.unflatten(0, (2, 3)).mean(0))


def test_units_that_have_no_mean_are_named(generator):
    grouped = nn.Sequential(nn.ConvTranspose2d(2, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 2, 1))
    for model, data, named in (
        (grouped, torch.zeros(2, 2, 5, 5), r"'0' \(ConvTranspose2d\) writes units of layer '0'"),
        (
            small_network("preresnet20", generator),
            images("preresnet20", generator, count=2),
            "ChannelSelection",
        ),
    ):
        with pytest.raises(UnsupportedModuleError, match=named):
            fold_units(model, data, 0.5)


@pytest.mark.parametrize("computed", [False, True])
def test_folding_duplicates_changes_nothing(computed, generator):
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3))
    model, data = scatter(model, generator).eval(), batch(generator)
    for unit in range(3):
        double(model, 0, 1, unit, unit + 3)
    if computed:  # weights that a forward pass makes from others
        for place in (0, 4):
            nn.utils.parametrizations.weight_norm(model[place])
    merged = fold_units(model, data[:2], 0.5)
    assert merged[0].out_channels == 3
    torch.testing.assert_close(merged(data), model(data), rtol=1e-4, atol=1e-4)


def test_folding_takes_means_and_sums(generator):
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    model[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, 5.0], [1.2, 0.0]])
    model[0].bias.data = torch.tensor([0.0, 1.0, 0.2])
    model[2].weight.data = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    merged = fold_units(model, torch.zeros(2, 2), 0.4)
    torch.testing.assert_close(merged[0].weight, torch.tensor([[1.1, 0.0], [0.0, 5.0]]))
    torch.testing.assert_close(merged[0].bias, torch.tensor([0.1, 1.0]))
    torch.testing.assert_close(merged[2].weight, torch.tensor([[4.0, 2.0], [10.0, 5.0]]))
