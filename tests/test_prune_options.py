"""What ``prune`` can be asked for beside a ratio, and what comes with what it gives."""

import copy

import numpy as np
import pytest
import torch
from test_saving import IMAGES, plain
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import splinelib
from splinelib.criteria import FilterNorm
from splinelib.errors import SettingError
from splinelib.layers import first_images
from splinelib.pruning import (
    carry_optimizer,
    carry_schedule,
    cost,
    cut_of,
    measure_latency,
    reestimate_norms,
    report,
    report_of,
    select_units,
)

PLAIN = FilterNorm(1)


def mlp(*widths):
    torch.manual_seed(0)
    pairs = zip(widths, widths[1:], strict=False)
    return nn.Sequential(*(module for pair in pairs for module in (nn.Linear(*pair), nn.ReLU())))[:-1]


def widths(model):
    return [module.out_features for module in model if isinstance(module, nn.Linear)]


X = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))


def test_ratios_go_by_the_first_pattern_that_fits():
    model = mlp(5, 20, 20, 20, 3)
    ratio = {"2": 0.25, "[24]": 0.5}
    assert widths(splinelib.prune(model, X, ratio, criterion=PLAIN)) == [20, 15, 10, 3]
    assert widths(splinelib.prune(model, X, {**ratio, "*": 0.1}, criterion=PLAIN)) == [18, 15, 10, 3]
    assert widths(splinelib.prune(model, X, {"*": 0.1, **ratio}, criterion=PLAIN)) == [18, 18, 18, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": {"7": 0.5}}, "ratio names '7', which no layer's name fits"),
        ({"ratio": {"0": 1.5}}, "ratio is 1.5"),
        ({"ratio": {"0": 0.5}, "scope": "global"}, "use layerwise scope"),
        ({"ratio": {"0": 0.5}, "ratio_of": "flops"}, "give one number"),
        ({"ratio": 0.1, "round_to": 64}, "no whole unit"),
        ({"ratio": 0.9, "min_units": 20}, "no whole unit"),
        ({"ratio": 0.5, "compensate": "least_squares", "data": [{"x": 1}]}, "other things than tensors"),
        ({"ratio": 0.5, "compensate": "least_squares", "data": iter([])}, "is not given"),
        ({"ratio": 0.5, "compensate": "least_squares", "data": [X, X[:, :2]]}, "do not fit together"),
    ],
)
def test_what_does_not_go_together_is_named(options, message):
    with pytest.raises(SettingError, match=message):
        splinelib.prune(mlp(5, 20, 20, 3), X, criterion=PLAIN, **options)


@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_widths_are_rounded_to_the_nearest_multiple_that_there_is(scope):
    model = mlp(5, 40, 22, 6, 3)
    layers = splinelib.read_layers(model, X)
    scores = PLAIN(model, layers)
    for ratio in np.linspace(0.05, 0.95, 10):
        plain_, rounded = (select_units(layers, scores, ratio, scope, to) for to in (1, 8))
        for layer in layers:
            kept, wanted = (layer.units - len(chosen.get(layer.name, [])) for chosen in (rounded, plain_))
            allowed = [*range(8, layer.units, 8), layer.units]
            assert kept in allowed
            assert abs(kept - wanted) <= 4 or kept in (min(allowed), layer.units)
            assert set(rounded.get(layer.name, [])) ^ set(plain_.get(layer.name, [])) <= set(
                range(layer.units)
            )


def test_channels_are_rounded_not_units_of_several_channels():
    class Heads(nn.Module):  # a gate: two channels go with each unit
        def __init__(self):
            super().__init__()
            self.both, self.last = nn.Linear(5, 40), nn.Linear(20, 2)

        def forward(self, x):
            one, other = self.both(x).chunk(2, dim=1)
            return self.last(one * other.sigmoid())

    pruned = splinelib.prune(Heads(), X, 0.4, criterion=splinelib.criteria.Random(0), round_to=8)
    assert (pruned.both.out_features, pruned.last.in_features) == (24, 12)


@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_widths_are_those_that_backends_like(scope):
    model = mlp(5, 200, 150, 60, 20, 3)
    exact, liked = (
        splinelib.prune(model, X, 0.3, scope, PLAIN, **options) for options in ({"round_to": 1}, {})
    )
    for before, after in zip(widths(exact)[:-1], widths(liked)[:-1], strict=True):
        step = 16 if before >= 64 else 8 if before >= 32 else 1
        assert after % step == 0
        assert abs(after - before) <= step / 2


@pytest.mark.parametrize(("groups", "size"), [(7, 8), (3, 24), (5, 15), (2, 40)])
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8])
def test_widths_of_groups_move_by_an_eighth_at_most(groups, size, ratio):
    width = groups * size
    model = nn.Sequential(nn.Conv2d(3, width, 1), nn.ReLU(), nn.Conv2d(width, 2 * groups, 1, groups=groups))
    model = model.extend([nn.ReLU(), nn.Conv2d(2 * groups, 2, 1)])
    kept = splinelib.prune(model, IMAGES, {"0": ratio}, criterion=PLAIN)[0].out_channels
    wanted = size - round(round(ratio * width) / groups)
    assert kept % groups == 0
    assert abs(kept / groups - wanted) <= wanted / 8


@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_so_many_units_stay(scope):
    model = mlp(5, 40, 22, 6, 3)
    assert min(widths(splinelib.prune(model, X, 0.8, scope, PLAIN, min_units=5))[:-1]) == 5
    groups = nn.Sequential(nn.Conv2d(3, 12, 1), nn.GroupNorm(4, 12), nn.ReLU(), nn.Conv2d(12, 2, 1))
    assert splinelib.prune(groups, IMAGES, 0.9, scope, PLAIN, min_units=5)[0].out_channels == 8
    several = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 3))
    assert widths(splinelib.prune(several, X, 0.5, scope, PLAIN, min_units=9))[0] == 8


@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_a_budget_of_parameters_is_met_with_the_fewest_units(scope):
    model = mlp(5, 20, 30, 3)
    pruned = splinelib.prune(model, X, 0.4, scope, PLAIN, ratio_of="parameters")
    assert cost(pruned, X).parameters <= 0.6 * cost(model, X).parameters
    layers = splinelib.read_layers(model, X)
    gone = sum(map(len, cut_of(pruned).selection.values()))
    for count in range(1, gone):
        chosen = select_units(layers, PLAIN(model, layers), count / 50, scope)
        if sum(map(len, chosen.values())) < gone:
            larger = splinelib.remove_units(model, X, chosen)
            assert cost(larger, X).parameters > 0.6 * cost(model, X).parameters


def test_a_budget_of_time_is_measured(monkeypatch):
    seen = []

    def measured(models, inputs):
        seen.append(inputs)
        return [float(cost(model, inputs).flops) ** 0.5 for model in models]

    monkeypatch.setattr("splinelib.pruning.selection.measure_latency", measured)
    model = mlp(5, 20, 30, 3)
    by_time = splinelib.prune(model, X, 0.2, criterion=PLAIN, ratio_of="latency")
    by_flops = splinelib.prune(model, X, 0.36, criterion=PLAIN, ratio_of="flops")  # 0.8² = 0.64
    assert cut_of(by_time) == cut_of(by_flops)
    assert all(inputs is X for inputs in seen)


def test_the_least_time_counts_of_each_network_in_turn(monkeypatch):
    clock = iter(np.cumsum([0, 9, 0, 9, 0, 3, 0, 1]).tolist())
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert measure_latency([mlp(5, 2), mlp(5, 2)], X, rounds=1) == [3, 1]


def test_steps_score_what_the_last_one_left_and_end_at_the_same_width():
    seen = []

    def criterion(model, layers):
        seen.append([layer.units for layer in layers])
        return PLAIN(model, layers)

    model = mlp(5, 20, 40, 3)
    tuned = []
    pruned = splinelib.prune(model, X, 0.5, criterion=criterion, steps=4, finetune=tuned.append)
    assert widths(pruned) == [10, 20, 3]
    assert seen == [[20, 40], [18, 35], [15, 30], [12, 25]]
    assert [widths(network)[1] for network in tuned] == [35, 30, 25, 20]
    assert tuned[-1] is pruned
    assert report_of(pruned).units == {"0": (20, 10), "2": (40, 20)}
    assert widths(splinelib.prune(mlp(5, 16, 16, 3), X, 0.5, criterion=PLAIN, steps=5, round_to=8)) == [
        8,
        8,
        3,
    ]


@pytest.mark.parametrize("steps", [3, 7, 40])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_however_many_steps_there_are_as_much_goes_as_in_one(scope, ratio, steps):
    options = {"scope": scope, "criterion": PLAIN, "round_to": 1}
    model = mlp(5, 16, 24, 3)
    once, often = (splinelib.prune(model, X, ratio, steps=count, **options) for count in (1, steps))
    if scope == "layerwise":
        assert widths(often) == widths(once)
    else:
        assert sum(widths(often)) == sum(widths(once))


def test_modules_to_ignore_stay_whole_in_all_steps():
    model = mlp(5, 20, 20, 3)
    assert widths(splinelib.prune(model, X, 0.5, criterion=PLAIN, steps=3, ignore=[model[2]])) == [10, 20, 3]


@pytest.mark.filterwarnings("ignore:left whole")
def test_grouped_convolutions_stay_such_in_steps():
    dense = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 12, 3, groups=4), nn.Conv2d(12, 2, 1))
    images = torch.randn(2, 3, 8, 8)
    pruned = splinelib.prune(dense, images, {"2": 0.85}, criterion=PLAIN, steps=4, round_to=1)
    assert pruned[2].groups == pruned[2].in_channels == pruned[2].out_channels == 4
    torch.testing.assert_close(splinelib.pruning.cut_of(pruned).apply_to(dense)(images), pruned(images))


def test_modules_of_other_networks_cannot_be_ignored():
    with pytest.raises(SettingError, match="ignore holds a Linear that is no module of this Sequential"):
        splinelib.prune(mlp(5, 20, 20, 3), X, 0.5, ignore=[mlp(5, 20, 20, 3)[2]])


def test_data_may_come_in_batches():
    model = mlp(5, 20, 20, 3)
    loader = DataLoader(TensorDataset(X, torch.zeros(16)), batch_size=5)
    options = {"ratio": 0.5, "criterion": PLAIN, "compensate": "least_squares"}
    whole = splinelib.prune(model, X, data=X, **options)
    for data in (loader, [X[:7], X[7:]], iter([{"x": X}])):
        found = splinelib.prune(model, X, data=data, **options)
        torch.testing.assert_close(found(X), whole(X))
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
    torch.testing.assert_close(reestimate_norms(net, loader)[1].running_mean, net[0](X).mean(0))


def test_no_more_batches_are_drawn_than_needed():
    drawn = []

    def batches():
        for start in range(0, 16, 4):
            drawn.append(start)
            yield X[start : start + 4], torch.arange(start, start + 4)

    images, labels = first_images(batches(), 6)
    assert drawn == [0, 4]
    assert torch.equal(images, X[:6])
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_the_report_counts_what_is_there():
    dense = plain()
    pruned = splinelib.prune(dense, IMAGES, 0.5, criterion=PLAIN)
    found = report_of(pruned)
    assert found == report(dense, pruned, IMAGES)
    assert found.units == {"3": (8, 4), "4": (12, 6), "9": (10, 5)}
    assert found.parameters == tuple(sum(p.numel() for p in net.parameters()) for net in (dense, pruned))
    # Multiply-adds of 30² and 28² positions, twice 28² for what follows, and of 4 · 12 features.
    macs = 30**2 * 8 * 27 + 28**2 * 8 * 9 + 26**2 * 12 * 4 * 9 + 48 * 10 + 10 * 4
    assert found.flops[0] == 2 * macs
    lines = str(report(dense, pruned, IMAGES, latency=True)).splitlines()
    assert [line.split()[:2] for line in (lines[0], lines[-1])] == [["units", "of"], ["latency,", "ms"]]
    assert lines[1].split() == ["3", "8", "4", "50%"]
    again = splinelib.prune(pruned, IMAGES, 0.5, criterion=PLAIN)
    assert report_of(again).units == {"3": (4, 2), "4": (6, 2), "9": (5, 3)}
    with pytest.raises(SettingError, match="no report comes with"):
        report_of(splinelib.remove_units(dense, IMAGES, {"9": [0]}))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_an_optimiser_goes_on_as_if_units_that_are_gone_had_never_counted(kind):
    """With the lost units' readers silenced, the dense network's training is that of the smaller one."""
    options = {"momentum": 0.9} if kind is not torch.optim.AdamW else {"amsgrad": True}
    dense = mlp(5, 6, 4, 3).double()
    x, y = X.double(), torch.arange(16) % 3
    selection = {"0": [1, 4], "2": [0]}
    with torch.no_grad():
        dense[2].weight[:, [1, 4]] = 0
        dense[4].weight[:, [0]] = 0
    keep = copy.deepcopy(dense)
    others = [*dense[2].parameters(), *dense[4].parameters()]
    groups = [{"params": dense[0].parameters(), "lr": 0.01}, {"params": others}]
    optimizer = kind(groups, lr=0.02, **options)

    def train(net, optimizer, times):
        for _ in range(times):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x), y).backward()
            if net is dense:
                dense[2].weight.grad[:, [1, 4]] = 0
                dense[4].weight.grad[:, [0]] = 0
            optimizer.step()

    train(dense, optimizer, 3)
    before = copy.deepcopy(optimizer.state_dict())
    smaller = splinelib.remove_units(dense, x, selection)
    moved = carry_optimizer(optimizer, dense, smaller)
    train(smaller, moved, 3)
    assert str(optimizer.state_dict()) == str(before)
    train(dense, optimizer, 3)
    torch.testing.assert_close(smaller(x), dense(x))
    assert moved.param_groups[0]["lr"] == 0.01
    further = splinelib.remove_units(smaller, x, {"0": [0]})
    again = carry_optimizer(moved, smaller, further)
    assert again.state[further[0].weight].keys() == optimizer.state[dense[0].weight].keys()
    train(further, again, 1)
    with pytest.raises(SettingError, match="none of this Sequential"):
        carry_optimizer(optimizer, keep, smaller)


def test_momenta_of_a_weight_norm_lose_what_it_loses(generator):
    norm = torch.nn.utils.parametrizations.weight_norm
    dense = nn.Sequential(norm(nn.Linear(4, 6)), nn.ReLU(), norm(nn.Linear(6, 5)), nn.ReLU(), nn.Linear(5, 2))
    adam = torch.optim.Adam(dense.parameters())
    optimizer = torch.optim.SGD(dense.parameters(), lr=0.1, momentum=0.9)
    dense(torch.randn(8, 4, generator=generator)).square().sum().backward()
    adam.step()
    optimizer.step()
    smaller = splinelib.remove_units(dense, torch.zeros(1, 4), {"0": [1, 4], "2": [0]})
    assert carry_optimizer(adam, dense, smaller).state.keys() == set(smaller.parameters())
    moved = carry_optimizer(optimizer, dense, smaller)
    rows, columns = torch.tensor([1, 2, 3, 4]), torch.tensor([0, 2, 3, 5])
    for place, kept in (("0", columns), ("2", rows)):
        for name, cut in (
            ("original0", lambda v: v),
            ("original1", lambda v: v if v.shape[1] == 4 else v[:, columns]),
        ):
            parameters = [net.get_submodule(place).parametrizations.weight for net in (dense, smaller)]
            before, after = (getattr(one, name) for one in parameters)
            expected = cut(optimizer.state[before]["momentum_buffer"][kept])
            assert torch.equal(moved.state[after]["momentum_buffer"], expected)


def test_factored_moments_are_cut_and_what_cannot_be_is_named():
    dense = mlp(5, 6, 4, 3)

    def stepped(kind):
        optimizer = kind(dense.parameters())
        optimizer.zero_grad()
        dense(X).square().sum().backward()
        optimizer.step(lambda: dense(X).square().sum())
        return optimizer

    smaller = splinelib.remove_units(dense, X, {"0": [1, 4]})
    optimizer = stepped(torch.optim.Adafactor)
    moved = carry_optimizer(optimizer, dense, smaller)
    for name, kept in (("row_var", [0, 2, 3, 5]), ("col_var", [0])):
        before, after = (o.state[n[0].weight][name] for o, n in ((optimizer, dense), (moved, smaller)))
        torch.testing.assert_close(after, before[kept])
    torch.testing.assert_close(
        moved.state[smaller[2].weight]["col_var"],
        optimizer.state[dense[2].weight]["col_var"][:, [0, 2, 3, 5]],
    )
    smaller(X).sum().backward()
    moved.step()
    with pytest.raises(SettingError, match="LBFGS keeps of '0.weight' .*: make a new optimiser"):
        carry_optimizer(stepped(torch.optim.LBFGS), dense, smaller)
    with pytest.raises(SettingError, match="nothing was cut from this Sequential"):
        carry_optimizer(torch.optim.SGD(smaller.parameters(), lr=0.1), smaller, dense)


class Counting(torch.optim.SGD):
    """An optimiser with a number of its own."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.1)
        self.count = 0

    def step(self, closure=None):
        self.count += 1
        return super().step(closure)


def test_an_optimiser_of_ones_own_keeps_its_attributes():
    dense = mlp(5, 6, 3)
    optimizer = Counting(dense.parameters())
    optimizer.step()
    smaller = splinelib.remove_units(dense, X, {"0": [1]})
    moved = carry_optimizer(optimizer, dense, smaller)
    moved.step()
    assert (moved.count, optimizer.count) == (2, 1)


def test_a_learning_rate_in_a_tensor_is_not_shared():
    dense = mlp(5, 6, 3)
    optimizer = torch.optim.Adam(dense.parameters(), lr=torch.tensor(0.1))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    scheduler.step()
    scheduler.optimizer = moved = carry_optimizer(
        optimizer, dense, splinelib.remove_units(dense, X, {"0": [1]})
    )
    moved.step()
    scheduler.step()
    assert (float(moved.param_groups[0]["lr"]), float(optimizer.param_groups[0]["lr"])) == pytest.approx(
        (0.025, 0.05)
    )


def scheduled(kind, optimizer):
    rates = torch.optim.lr_scheduler
    warm, cosine = rates.LinearLR(optimizer, 0.1, total_iters=2), rates.CosineAnnealingLR(optimizer, 10)
    if kind == "sequence":
        return rates.SequentialLR(optimizer, [warm, cosine], [2])
    return rates.ChainedScheduler([warm, rates.ExponentialLR(optimizer, 0.9)], optimizer)


@pytest.mark.parametrize("kind", ["sequence", "chain"])
def test_schedules_that_are_made_of_others_go_on(kind):
    rates = []
    for cut in (False, True):
        model = mlp(5, 6, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        schedule = scheduled(kind, optimizer)
        for epoch in range(8):
            if cut and epoch in (2, 5):
                smaller = splinelib.remove_units(model, X, {"0": [1]})
                optimizer, model = carry_optimizer(optimizer, model, smaller), smaller
                carry_schedule(schedule, optimizer)
            optimizer.step()
            schedule.step()
            rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:8] == rates[8:]
    assert len(set(rates[2:8])) == 6


@pytest.mark.parametrize("ratio", [{"0": 0.5}, {"*": 0.5}, {"[02]": 0.75}])
def test_steps_go_on_where_a_layer_has_nothing_left_to_lose(ratio):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1, groups=4), nn.ReLU(), nn.Conv2d(8, 2, 1)
    )
    images = torch.zeros(1, 3, 8, 8)
    at_once, stepwise = (splinelib.prune(model, images, ratio, round_to=1, steps=n) for n in (1, 3))
    assert [p.shape for p in at_once.parameters()] == [p.shape for p in stepwise.parameters()]
    with pytest.raises(SettingError, match="ratio names 'nosuch'"):
        splinelib.prune(model, images, ratio | {"nosuch": 0.5}, steps=3)


def test_factored_moments_of_lengths_are_carried():
    """Those of a weight norm's lengths have one number along the axis that is cut."""
    weight_norm = nn.utils.parametrizations.weight_norm
    dense = nn.Sequential(weight_norm(nn.Linear(5, 6)), nn.ReLU(), nn.Linear(6, 3))
    optimizer = torch.optim.Adafactor(dense.parameters())
    dense(X).square().sum().backward()
    optimizer.step()
    smaller = splinelib.remove_units(dense, X, {"0": [1, 4]})
    moved = carry_optimizer(optimizer, dense, smaller)
    smaller(X).sum().backward()
    moved.step()
    lengths = smaller[0].parametrizations.weight.original0
    assert len(moved.state[lengths]["row_var"]) == len(lengths) == 4


def test_layers_of_a_compiled_network_are_said_to_be_those_of_the_one_inside():
    compiled = torch.compile(mlp(5, 6, 3), backend="eager")
    layers = splinelib.read_layers(compiled, X)
    with pytest.raises(SettingError, match="compiled, and its layers are those of the Sequential inside"):
        splinelib.Spline()(compiled, layers)
    assert len(splinelib.Spline()(compiled._orig_mod, layers)[0]) == 6


def test_weights_of_one_length_are_carried():
    weight_norm = nn.utils.parametrizations.weight_norm
    dense = nn.Sequential(weight_norm(nn.Linear(5, 6), dim=None), nn.ReLU(), nn.Linear(6, 3))
    optimizer = torch.optim.Adam(dense.parameters())
    dense(X).square().sum().backward()
    optimizer.step()
    smaller = splinelib.remove_units(dense, X, {"0": [1]})
    moved = carry_optimizer(optimizer, dense, smaller)
    smaller(X).sum().backward()
    moved.step()


def test_batches_with_names_are_read_by_the_first_argument_or_by_shape(generator):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    rows = torch.randn(60, 4, generator=generator)
    wanted = splinelib.prune(model, rows[:2], 0.5, compensate="least_squares", data=rows)
    labels = torch.arange(60) % 2
    for batch in (
        {"labels": labels, "input": rows},
        {"labels": labels, "pixels": rows},
        {"input": rows, "x": rows},
    ):
        found = splinelib.prune(model, rows[:2], 0.5, compensate="least_squares", data=[batch])
        torch.testing.assert_close(found(rows), wanted(rows))
    batch = {"goals": rows + 1, "pixels": rows}
    with pytest.raises(SettingError, match="a dict of 'goals', 'pixels', of which none is called 'input'"):
        splinelib.prune(model, rows[:2], 0.5, compensate="least_squares", data=[batch])


@pytest.mark.parametrize("ratio_of", ["flops", "parameters"])
@pytest.mark.parametrize("steps", [3, 10])
def test_as_much_of_a_budget_goes_in_steps_as_in_one(ratio_of, steps):
    model = mlp(5, 24, 24, 24, 3)
    once = splinelib.prune(model, X, 0.4, criterion=PLAIN, ratio_of=ratio_of, round_to=1)
    several = splinelib.prune(model, X, 0.4, criterion=PLAIN, ratio_of=ratio_of, round_to=1, steps=steps)
    one, other = (getattr(cost(network, X), ratio_of) for network in (once, several))
    assert other == pytest.approx(one, rel=0.05)


def test_what_no_step_can_reach_is_said_before_anything_is_trained():
    trained = []
    with pytest.raises(SettingError, match="more than 0.01 of them are left"):
        splinelib.prune(mlp(5, 8, 3), X, 0.99, ratio_of="flops", steps=3, finetune=trained.append)
    assert trained == []


@pytest.mark.parametrize("least", [1, 4, 8])
def test_as_many_units_go_globally_however_many_must_stay_in_a_layer(least):
    model = mlp(5, 16, 16, 16, 16, 3)
    with torch.no_grad():
        for place in (0, 2):
            model[place].weight *= 100  # the other two would go first
    layers = splinelib.read_layers(model, X)
    scores = [score.clone() for score in PLAIN(model, layers)]
    selection = select_units(layers, scores, 0.5, "global", 1, least, normalize="none")
    assert sum(map(len, selection.values())) == 32
    assert min(16 - len(units) for units in selection.values()) == least


def test_the_optimiser_of_a_compiled_network_is_carried():
    compiled = torch.compile(mlp(5, 8, 3), backend="eager")
    optimizer = torch.optim.Adam(compiled.parameters())
    smaller = splinelib.prune(compiled, X, 0.5, criterion=PLAIN)
    moved = carry_optimizer(optimizer, compiled, smaller)
    assert [id(one) for one in moved.param_groups[0]["params"]] == [id(one) for one in smaller.parameters()]
