import itertools

import pytest
import torch
from tiny_nets import tiny_cnn
from torch import nn

from splinelib import read_layers
from splinelib.criteria import ReconstructionCost, ThiNet
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.pruning import reconstruct
from splinestudy.data.samples import Calibration
from splinestudy.runs.methods import choices, make_criterion
from splinestudy.runs.shrinking import Choice, check_method, shrink

RIDGE = 0.01


def mlp(generator, units=6):
    model = nn.Sequential(nn.Linear(4, units), nn.ReLU(), nn.Linear(units, 3))
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator)
    return model.double(), torch.randn(200, 4, generator=generator, dtype=torch.float64)


def problem(model, data):
    """Centred inputs of the reader, their covariance and the reader's weights."""
    hidden = model[1](model[0](data)).detach()
    centred = hidden - hidden.mean(0)
    return hidden, centred.T @ centred / len(data), model[2].weight.detach().T


def cost_without(gone, covariance, weight):
    """Least mean squared error with ridge, over all weights that are 0 for the units ``gone``."""
    pulled = covariance + RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance)).double()
    kept = [unit for unit in range(len(weight)) if unit not in gone]
    change = torch.zeros_like(weight)
    change[gone] = -weight[gone]
    change[kept] = torch.linalg.solve(pulled[kept][:, kept], pulled[kept][:, gone] @ weight[gone])
    return float((change * (pulled @ change)).sum())


def test_elimination_is_that_of_brute_force(generator):
    model, data = mlp(generator)
    (layer,) = read_layers(model, data)
    _, covariance, weight = problem(model, data)
    energy = float((weight * (covariance @ weight)).sum())
    gone, before, expected = [], 0.0, {}
    while len(gone) < 5:
        left = [unit for unit in range(6) if unit not in gone]
        costs = {unit: cost_without([*gone, unit], covariance, weight) for unit in left}
        unit = min(costs, key=costs.get)
        gone.append(unit)
        expected[unit] = max((costs[unit] - before) / energy, max(expected.values(), default=0.0))
        before = costs[unit]
    (score,) = ReconstructionCost(data, ridge=RIDGE)(model, [layer])
    assert score.argsort().tolist()[:5] == gone
    for unit, value in expected.items():
        assert score[unit].item() == pytest.approx(value, rel=1e-6)


def test_thinet_is_that_of_brute_force(generator):
    model, data = mlp(generator)
    (layer,) = read_layers(model, data)
    hidden, _, weight = problem(model, data)
    whole = (hidden @ weight).square().mean(0).sum()
    gone = []
    for _ in range(5):
        left = [unit for unit in range(6) if unit not in gone]
        error = {u: float((hidden[:, [*gone, u]] @ weight[[*gone, u]]).square().mean(0).sum()) for u in left}
        gone.append(min(error, key=error.get))
    (score,) = ThiNet(data)(model, [layer])
    assert score.argsort().tolist()[:5] == gone
    last = (hidden[:, gone] @ weight[gone]).square().mean(0).sum() / whole
    assert score[gone[-1]].item() == pytest.approx(float(last), rel=1e-6)


def test_a_unit_that_its_twin_can_replace_falls_first(generator):
    model, data = mlp(generator)
    for tensor in (model[0].weight, model[0].bias):
        tensor.data[4] = 2 * tensor.data[1]
    (layer,) = read_layers(model, data)
    (score,) = ReconstructionCost(data, ridge=1e-9)(model, [layer])
    assert score.argmin().item() in (1, 4)
    assert score.min() < 1e-6 < score.sort().values[1]


@pytest.mark.parametrize("criterion", [ReconstructionCost, ThiNet])
def test_scores_follow_a_permutation_of_units(criterion, generator):
    model, data = tiny_cnn(generator), torch.randn(60, 2, 6, 6, generator=generator)
    layers = read_layers(model, data)
    before = criterion(data)(model, layers)[0]
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    norm = model[1]
    for tensor in (model[0].weight, norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.data.copy_(tensor.data[order].clone())
    model[3].weight.data.copy_(model[3].weight.data[:, order].clone())
    torch.testing.assert_close(criterion(data)(model, layers)[0], before[order], rtol=1e-4, atol=1e-7)


def test_greedy_units_are_the_better_ones_to_remove(generator):
    model, data = mlp(generator, units=10)
    (layer,) = read_layers(model, data)
    (score,) = ReconstructionCost(data)(model, [layer])
    chosen = tuple(sorted(score.argsort()[:4].tolist()))
    errors = {
        units: (reconstruct(model, {"0": list(units)}, data)(data) - model(data)).square().mean().item()
        for units in [*itertools.islice(itertools.combinations(range(10), 4), 0, 210, 15), chosen]
    }
    assert errors[chosen] <= sorted(errors.values())[1]


def grouped_net(generator):
    """Six units that a convolution of two groups reads, and images [80, 2, 4, 4]."""
    model = nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 3, groups=2), nn.Conv2d(4, 2, 1))
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator)
    return model, torch.randn(80, 2, 4, 4, generator=generator)


@pytest.mark.parametrize("criterion", [ReconstructionCost, ThiNet])
def test_groups_of_a_reader_are_readers_of_their_own(criterion, generator):
    """Units of a group fall in the order in which they do where the group is all there is."""
    model, data = grouped_net(generator)
    (score,) = criterion(data)(model, read_layers(model, data)[:1])
    for group in (0, 1):
        alone = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 3))
        units, filters = slice(3 * group, 3 * group + 3), slice(2 * group, 2 * group + 2)
        alone[0].weight.data, alone[0].bias.data = model[0].weight.data[units], model[0].bias.data[units]
        alone[2].weight.data, alone[2].bias.data = model[2].weight.data[filters], model[2].bias.data[filters]
        (expected,) = criterion(data)(alone, read_layers(alone, data))
        assert score[units].argsort().tolist() == expected.argsort().tolist()


def test_a_twin_in_another_group_cannot_replace_a_unit(generator):
    model, data = grouped_net(generator)
    for tensor in (model[0].weight, model[0].bias):
        tensor.data[1], tensor.data[5] = 2 * tensor.data[0], tensor.data[2]
    (score,) = ReconstructionCost(data, ridge=1e-9)(model, read_layers(model, data)[:1])
    assert score.argmin().item() in (0, 1)
    assert score.min() < 1e-5 < score[[2, 5]].min()


def test_what_cannot_be_reconstructed_is_named(generator):
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ConvTranspose2d(4, 4, 3), nn.Conv2d(4, 2, 1))
    data = torch.randn(8, 2, 3, 3, generator=generator)
    with pytest.raises(UnsupportedModuleError, match=r"layer '0' is read by \['1'\], none of them"):
        ReconstructionCost(data)(model, read_layers(model, data))
    model[2].weight.data.zero_()
    with pytest.raises(SettingError, match="'2' gives a constant output on the 8 images"):
        ReconstructionCost(data)(model, read_layers(model, data)[1:])


@pytest.mark.parametrize("criterion", [ReconstructionCost, ThiNet])
@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda data: data[:, :1], r"does not take images of shape \(9, 1, 6, 6\)"),
        (lambda data: data[0], r"does not take images of shape \(2, 6, 6\)"),
        (lambda data: data[:1], r"shape \(1, 2, 6, 6\)"),
        (lambda data: data * torch.nan, "not finite"),
        (lambda data: data[:1].expand(9, -1, -1, -1), "9 times the same image"),
    ],
)
def test_images_that_do_not_fit_are_named(criterion, spoil, named, generator):
    model, data = tiny_cnn(generator), torch.randn(9, 2, 6, 6, generator=generator)
    with pytest.raises(SettingError, match=named):
        criterion(spoil(data))(model, read_layers(model, data))


def test_too_few_images_without_a_ridge_are_named(generator):
    model, data = mlp(generator)
    with pytest.raises(SettingError, match="3 images do not determine the weights of '2' with ridge 0"):
        ReconstructionCost(data[:3], ridge=0.0)(*[model, read_layers(model, data)])


@pytest.mark.parametrize("criterion", [ReconstructionCost, ThiNet])
def test_a_reader_of_very_many_inputs_is_named_before_any_work(criterion, monkeypatch, generator):
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 401, 1), nn.Flatten(), nn.Linear(401 * 25, 2))
    data = torch.randn(4, 1, 5, 5, generator=generator)
    monkeypatch.setattr(
        "splinelib.criteria.reconstruction_error.moments_read", lambda *_: pytest.fail("this is work")
    )
    with pytest.raises(
        UnsupportedModuleError, match=r"'3', which reads layer '1', has 10,025 inputs.*0\.8 GB"
    ):
        criterion(data)(model, read_layers(model, data))


# --- methods by name ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", choices())
def test_every_method_removes_its_share(method, generator):
    model = nn.Sequential(*list(tiny_cnn(generator))[:7], nn.Linear(20, 3))
    data = Calibration(torch.randn(32, 2, 6, 6, generator=generator), torch.arange(32) % 3)
    smaller = shrink(model, Choice(method, 0.5), "none", 0, data)
    assert (smaller[0].out_channels, smaller[3].out_channels) == (3, 3)
    assert smaller(data.images).shape == (32, 3)


def test_names_of_methods_are_checked():
    with pytest.raises(SettingError, match="criterion is 'magic'"):
        check_method("magic", "none", "trained", "layerwise")
    with pytest.raises(SettingError, match="'folding' is a method of its own.*'global'"):
        check_method("folding", "none", "trained", "global")
    with pytest.raises(SettingError, match="criterion is 'folding'"):
        make_criterion("folding", 0, Calibration(torch.zeros(0), torch.zeros(0)))


class Experts(nn.Module):
    """The second expert takes what is positive, which the first two inputs are not."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 6)
        self.experts = nn.ModuleList(nn.Linear(6, 2) for _ in range(2))

    def forward(self, x):
        hidden, second = torch.relu(self.a(x)), x[:, 0] > 0
        found = self.experts[0](hidden)
        return torch.where(second[:, None], self.experts[1](hidden), found) if second.any() else found


@pytest.mark.parametrize("criterion", [ThiNet, ReconstructionCost])
def test_readers_that_the_first_images_do_not_reach_are_named(criterion):
    inputs = torch.rand(60, 3)
    inputs[:2] -= 1
    model = Experts().eval()
    layers = read_layers(model, inputs)
    with pytest.raises(UnsupportedModuleError, match=r"'experts.1' .*did not run on the first two"):
        criterion(inputs)(model, layers)


@pytest.mark.parametrize("criterion", [ThiNet, ReconstructionCost])
def test_readers_of_time_in_front_score_as_those_of_images_in_front(criterion):
    class Steps(nn.Module):
        def __init__(self, in_front):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.in_front = nn.Linear(3, 8), nn.Linear(8, 2), in_front

        def forward(self, x):
            values = x.transpose(0, 1) if self.in_front else x
            return self.b(torch.relu(self.a(values))).mean(0 if self.in_front else 1)

    inputs, scores = torch.randn(120, 170, 3), []
    for in_front in (False, True):
        model = Steps(in_front).eval()
        scores += criterion(inputs)(model, read_layers(model, inputs[:2]))
    torch.testing.assert_close(scores[0], scores[1])
