"""Whatever compensates: duplicates and constants vanish without a trace, the model stays as it was."""

import copy

import pytest
import torch
from tiny_nets import INPUT, batch, double, scatter, sharing_weights, tiny_cnn
from torch import nn

from splinelib import Spline, prune, read_layers, remove_units
from splinelib.errors import SettingError
from splinelib.pruning import fold_units, merge_units, reconstruct
from splinelib.pruning.least_squares import reestimate_norms
from splinelib.pruning.pipeline import remove_compensated


@pytest.mark.parametrize("compensate", ["merge", "least_squares"])
@pytest.mark.parametrize(("place", "unit", "twin"), [((0, 1), 4, 1), ((3, 4), 0, 3)])
def test_exact_duplicates_vanish_without_a_trace(compensate, place, unit, twin, generator):
    model, data = tiny_cnn(generator), batch(generator)
    double(model, *place, unit, twin, scale=2.5)
    selection = {str(place[0]): [twin]}
    smaller = remove_compensated(model, data[:2], read_layers(model, data[:2]), selection, compensate, data)
    torch.testing.assert_close(smaller(data), model(data), rtol=1e-5, atol=1e-5)
    plain = remove_units(model, data[:2], selection)
    assert not torch.allclose(plain(data), model(data), rtol=1e-2, atol=1e-2)


def paired_cnn(generator):
    """Every layer's second half of units doubles the first half; the norms' statistics are not those of images."""
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(72, 10),
        nn.ReLU(),
        nn.Linear(10, 3),
    )
    model = scatter(model, generator).eval()
    for convolution, norm, half in ((0, 1, 3), (3, 4, 4)):
        for unit in range(half):
            double(model, convolution, norm, unit, unit + half, scale=0.5)
    for tensor in (model[8].weight, model[8].bias):
        tensor.data[5:] = 2 * tensor.data[:5]
    return model


def test_one_call_takes_duplicates_out_of_every_layer_without_a_trace(generator):
    model, data = paired_cnn(generator), batch(generator)
    smaller = prune(model, data[:2], 0.5, "layerwise", Spline(offset="geometric"), "least_squares", data)
    assert [smaller[place].weight.shape[0] for place in (0, 3, 8)] == [3, 4, 5]
    torch.testing.assert_close(smaller(data), model(data), rtol=1e-5, atol=1e-5)
    other = torch.randn(20, *INPUT, generator=generator) + 1.0  # nor on images that were not looked at
    torch.testing.assert_close(smaller(other), model(other), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("padding", "bias"), [(0, True), (0, False), (1, True)])
def test_a_constant_moves_into_the_bias_or_norm_of_its_reader(padding, bias, generator):
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.Conv2d(6, 5, 3, padding=padding, bias=bias),
        nn.BatchNorm2d(5),
    )
    model = scatter(model.extend([nn.ReLU(), nn.Conv2d(5, 2, 1)]), generator).eval()
    model[1].weight.data[[1, 4]] = 0.0
    model[1].bias.data[[1, 4]] = torch.tensor([0.7, 9.0])
    data = batch(generator)
    merged, removed = (f(model, data[:2], {"0": [1, 4]}) for f in (merge_units, remove_units))
    inside = slice(padding, -padding or None)
    wanted = model(data)[..., inside, inside]
    torch.testing.assert_close(merged(data)[..., inside, inside], wanted, rtol=1e-4, atol=1e-5)
    assert (removed(data)[..., inside, inside] - wanted).abs().mean() > 0.1


def test_constants_behind_a_flattening_move_into_the_bias(generator):
    model, data = tiny_cnn(generator), batch(generator)
    model[4].weight.data[2], model[4].bias.data[2] = 0.0, 0.7
    merged = merge_units(model, data[:2], {"3": [2]})
    torch.testing.assert_close(merged(data), model(data), rtol=1e-4, atol=1e-5)


def test_constants_move_to_readers_that_share_a_weight(generator):
    model, data = scatter(sharing_weights(), generator), torch.randn(9, 5, generator=generator)
    with torch.no_grad():
        model.a.weight[2] = 0
        model.a.bias[2], model.b.bias[2] = 0.7, 1.5
    torch.testing.assert_close(merge_units(model, data, {"b": [2]})(data), model(data), rtol=1e-4, atol=1e-5)


def test_recurrent_readers_take_over_twins(generator):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.r = nn.Linear(5, 6), nn.LSTM(6, 4, batch_first=True, bidirectional=True)

        def forward(self, x):
            return self.r(self.a(x).relu())[0]

    model, x = Recurrent(), torch.randn(3, 7, 5, generator=generator)
    with torch.no_grad():
        for tensor in model.a.parameters():
            tensor[4] = 2 * tensor[1]
    torch.testing.assert_close(merge_units(model, x, {"a": [4]})(x), model(x))


def test_norms_of_modules_that_run_twice_are_folded(generator):
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))

        def forward(self, x, y):
            return self.body(x) - self.body(y)

    model, inputs = Siamese().eval(), torch.randn(2, 4, 5, generator=generator).unbind()
    (layer,) = read_layers(model, inputs)
    assert layer.writers[0].norm == "body.1"
    with torch.no_grad():
        for tensor in [*model.body[:2].parameters(), model.body[1].running_mean]:
            tensor[4] = tensor[1]
    torch.testing.assert_close(merge_units(model, inputs, {"body.0": [4]})(*inputs), model(*inputs))


def test_nothing_of_the_model_changes(generator):
    model, data = tiny_cnn(generator), batch(generator)
    before = copy.deepcopy(model.state_dict())
    model.train()
    for smaller in (
        merge_units(model, data[:2], {"0": [1]}),
        reconstruct(model, {"0": [1]}, data),
        reestimate_norms(model, data),
        fold_units(model, data[:2], 0.5),
    ):
        assert smaller is not model
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"compensate": "magic"}, "compensate is 'magic'"),
        ({"compensate": "least_squares"}, "calibration batch is not given"),
        ({"compensate": "least_squares", "data": torch.zeros(1, *INPUT)}, r"shape \(1, 2, 6, 6\)"),
        ({"compensate": "least_squares", "data": torch.zeros(9, 5, 6, 6)}, r"\(9, 5, 6, 6\) and the example"),
        ({"compensate": "least_squares", "data": torch.zeros(9, 2, 7, 7)}, r"\(9, 2, 7, 7\) and the example"),
        ({"compensate": "least_squares", "data": torch.ones(2, 6, 6)}, r"\(2, 6, 6\) and the example"),
        ({"compensate": "least_squares", "data": torch.zeros(9, *INPUT).double()}, r"does not take images"),
        ({"compensate": "least_squares", "data": {"x": torch.zeros(9, *INPUT)}}, "a batch is a str of other"),
        ({"compensate": "least_squares", "data": torch.full((9, *INPUT), torch.inf)}, "not finite"),
        ({"compensate": "least_squares", "data": torch.ones(9, *INPUT)}, "9 times the same image"),
        ({"ratio": 1.5}, "ratio is 1.5"),
        ({"ratio": "a"}, "ratio is 'a'"),
        ({"scope": "local"}, "scope is 'local'"),
        ({"criterion": "spline"}, "criterion is 'spline': give Callable"),
        ({"criterion": Spline}, r"criterion is <class .*Spline'>: give an object"),
    ],
)
def test_what_makes_no_sense_is_named_before_any_work(settings, named, monkeypatch, generator):
    model = tiny_cnn(generator)
    monkeypatch.setattr("splinelib.pruning.pipeline.read_layers", lambda *_: pytest.fail("this is work"))
    with pytest.raises(SettingError, match=named):
        prune(model, torch.zeros(2, *INPUT), **({"ratio": 0.5} | settings))


@pytest.mark.parametrize("compensate", ["none", "merge", "least_squares"])
@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_one_call_prunes_and_compensates(compensate, scope, generator):
    model, data = tiny_cnn(generator), batch(generator)
    smaller = prune(model, data[:2], 0.5, scope, compensate=compensate, data=data)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    assert smaller(data).shape == (40, 3)
