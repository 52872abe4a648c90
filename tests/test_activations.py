import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles_scores import seen, slow_angles, slow_code_distances
from tiny_nets import images, small_network, tiny_cnn
from torch import nn

from splinelib import Spline, read_layers
from splinelib.criteria import rank_units
from splinelib.criteria.activations import CodeDistance, OutputAngle, observe_moments
from splinelib.errors import SettingError, TrainingError, UnsupportedModuleError
from splinelib.hooks import watched


def columns(values):
    """[n, units] from what a convolution or linear module reads or writes."""
    return values.flatten(2).transpose(1, 2).flatten(0, 1) if values.ndim > 2 else values


def one_layer(weight, bias):
    """A hidden layer of given units on inputs of its own dimension, its prunable layers."""
    weight, bias = torch.tensor(weight), torch.tensor(bias)
    model = nn.Sequential(nn.Linear(weight.shape[1], len(weight)), nn.ReLU(), nn.Linear(len(weight), 2))
    model[0].weight.data, model[0].bias.data = weight, bias
    return model, read_layers(model, torch.zeros(2, weight.shape[1]))


def test_codes_by_hand():
    # On the points -2, -1, 1, 2 of a line the units are active at {1, 2}, {2}, {-2, -1} and nowhere.
    model, layers = one_layer([[1.0], [1.0], [-1.0], [1.0]], [0.0, -1.5, 0.0, -9.0])
    points = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
    (distance,) = CodeDistance(points).distances(model, layers)
    wanted = [[0, 0.25, 0, 0.5], [0.25, 0, 0.25, 0.25], [0, 0.25, 0, 0.5], [0.5, 0.25, 0.5, 0]]
    assert distance.tolist() == wanted
    # 0 and 2 cut the points in the same place, so 2, of equal norm and higher index, falls first.
    assert CodeDistance(points)(model, layers)[0].argmin().item() == 2


def test_angles_by_hand():
    # Outputs (0, 0, 1, 2), (0, 0, 2, 4) and (2, 1, 0, 0): the second is twice the first, the third orthogonal to both.
    model, layers = one_layer([[1.0], [2.0], [-1.0]], [0.0, 0.0, 0.0])
    points = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
    (plain,) = OutputAngle(points, centred=False).distances(model, layers)
    torch.testing.assert_close(
        plain, torch.tensor([[0, 0, 1], [0, 0, 1], [1, 1, 0]]).double(), rtol=0, atol=1e-15
    )
    # Centred, (-3, -3, 1, 5)/4 and (5, 1, -3, -3)/4 have product -36/16 and squares 44/16 each.
    (centred,) = OutputAngle(points).distances(model, layers)
    assert centred[0, 2].item() == pytest.approx(1 - 36 / 44)
    assert (
        OutputAngle(points)(model, layers)[0].argmin().item() == 0
    )  # the smaller of the two that are multiples


def test_a_unit_that_says_nothing_is_redundant():
    model, layers = one_layer([[1.0], [0.0], [0.0], [1.0]], [0.5, -1.0, 3.3, -0.2])
    points = torch.linspace(-1, 1, 50)[:, None]
    (plain,) = OutputAngle(points, centred=False).distances(model, layers)
    (centred,) = OutputAngle(points).distances(model, layers)
    assert torch.equal(plain[1], torch.zeros(4, dtype=torch.float64))
    assert plain[2, 0] > 0.01
    assert torch.equal(centred[1:3], torch.zeros(2, 4, dtype=torch.float64))
    assert set(OutputAngle(points)(model, layers)[0].argsort()[:2].tolist()) == {1, 2}


@pytest.fixture
def cnn(generator):
    model = tiny_cnn(generator)
    batch = torch.randn(9, 2, 6, 6, generator=generator)
    return model, read_layers(model, batch[:2]), batch


@pytest.mark.parametrize("chunk", [4, 64])
def test_distances_are_those_of_the_double_loop(cnn, chunk, monkeypatch):
    monkeypatch.setattr("splinelib.criteria.activations._CHUNK", chunk)
    model, layers, batch = cnn
    model, batch = (
        model.double(),
        batch.double(),
    )  # in float32 a forward pass depends on the size of its batch
    # Pre-activations leave the batch norms "1" and "4" and the linear module "7"; the readers are "3", "7" and "9".
    for name, distance in zip("147", CodeDistance(batch).distances(model, layers), strict=True):
        wanted = slow_code_distances(columns(seen(model, batch, name, "output")))
        torch.testing.assert_close(distance, wanted, rtol=0, atol=1e-12)
    read = [columns(seen(model, batch, name, "input")) for name in "39"]
    flat = seen(model, batch, "7", "input")  # 5 units at 2 × 2 positions
    read.insert(1, torch.stack([flat[:, 4 * unit : 4 * unit + 4].flatten() for unit in range(5)], dim=1))
    for centred in (True, False):
        found = OutputAngle(batch, centred=centred).distances(model, layers)
        for values, distance in zip(read, found, strict=True):
            torch.testing.assert_close(distance, slow_angles(values, centred), rtol=0, atol=1e-9)


@given(data=st.data())
def test_codes_do_not_ask_for_orientation_or_scale(data):
    size = data.draw(st.integers(2, 6))
    numbers = st.lists(st.floats(-2, 2, width=32), min_size=size, max_size=size)
    weight = torch.tensor([data.draw(numbers), data.draw(numbers)]).T
    bias = torch.tensor(data.draw(numbers))
    scale = torch.tensor(data.draw(st.lists(st.sampled_from([-2.0, -1, 1, 4]), min_size=size, max_size=size)))
    points = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))
    model, layers = one_layer(weight.tolist(), bias.tolist())
    clear = (points @ weight.T + bias).abs().min() > 1e-4  # zero counts as inactive on both sides
    turned, _ = one_layer((weight * scale[:, None]).tolist(), (bias * scale).tolist())
    (first,), (second,) = (CodeDistance(points).distances(net, layers) for net in (model, turned))
    if clear:
        assert torch.equal(first, second)
    assert torch.equal(first, first.T)
    assert 0 <= float(first.min()) <= float(first.max()) <= 0.5


def test_scores_follow_the_greedy_ranking(cnn):
    model, layers, batch = cnn
    for criterion in (CodeDistance(batch), CodeDistance(batch, drop="closer_second")):
        for layer, score, distance in zip(
            layers, criterion(model, layers), criterion.distances(model, layers), strict=True
        ):
            norm = (
                model.get_submodule(layer.writers[0].module).weight.detach().double().flatten(1).norm(dim=1)
            )
            if layer.writers[0].norm:
                scale = model.get_submodule(layer.writers[0].norm)
                norm = norm * (scale.weight / (scale.running_var + scale.eps).sqrt()).abs().detach()
            ranking = rank_units(distance, norm, criterion.drop)
            assert score.argsort(stable=True).tolist() == ranking.order.tolist()
    norms = columns(seen(model, batch, "9", "input")).double().std(dim=0)
    order = rank_units(OutputAngle(batch).distances(model, layers)[2], norms).order
    assert OutputAngle(batch)(model, layers)[2].argsort(stable=True).tolist() == order.tolist()


def test_a_planted_twin_falls_first(cnn):
    model, layers, batch = cnn
    for index, sign in ((0, 1.0), (3, -1.0)):
        model[index + 1].running_mean.zero_()
        for tensor in (model[index].weight.data, model[index].bias, model[index + 1].weight.data):
            if tensor is not None:
                tensor.data[4] = tensor.data[1]
        for tensor in (model[index + 1].bias.data, model[index + 1].running_var):
            tensor[4] = tensor[1]
        model[index + 1].weight.data[4] *= sign
        model[index + 1].bias.data[4] *= sign
    codes = CodeDistance(batch).distances(model, layers)
    assert codes[0][1, 4] == codes[1][1, 4] == 0
    angles = OutputAngle(batch).distances(model, layers)
    assert float(angles[0][1, 4]) < 1e-12
    assert float(angles[1][1, 4]) > 0.01  # opposite units cut in the same place and say different things


def test_a_sample_of_positions_is_the_same_for_every_image_and_follows_its_seed(generator):
    model = nn.Sequential(nn.Conv2d(1, 5, 1), nn.ReLU(), nn.Conv2d(5, 2, 1))
    batch = torch.randn(20, 1, 12, 12, generator=generator)
    layers = read_layers(model, batch[:2])
    few = [observe_moments(model, layers, batch, positions=10, seed=seed)[0] for seed in (0, 0, 1)]
    assert [moments.count for moments in few] == [200, 200, 200]
    assert torch.equal(few[0].gram, few[1].gram)
    assert not torch.equal(few[0].gram, few[2].gram)
    assert observe_moments(model, layers, batch, positions=144)[0].count == 20 * 144
    whole = OutputAngle(batch, positions=144).distances(model, layers)[0]
    for seed in range(3):
        part = OutputAngle(batch, positions=40, seed=seed).distances(model, layers)[0]
        torch.testing.assert_close(part, whole, rtol=0, atol=0.2)


def test_coupled_units_are_seen_at_all_readers(generator):
    model = small_network("resnet50", generator)
    batch = images("resnet50", generator, 4)
    layers = read_layers(model, batch[:2])
    index = next(index for index, layer in enumerate(layers) if len(layer.writers) > 2)
    readers = layers[index].readers
    assert len(readers) > 1
    values = torch.cat([columns(seen(model, batch, name, "input")) for name in readers])[:, :12]
    codes = CodeDistance(batch, positions=10**6).distances(model, layers)[index]
    torch.testing.assert_close(codes[:12, :12], slow_code_distances(values), rtol=0, atol=1e-12)


def test_selections_are_seen_behind_their_batch_norm(generator):
    model = small_network("preresnet20", generator)
    batch = images("preresnet20", generator, 3)
    layers = read_layers(model, batch[:2])
    index = next(index for index, layer in enumerate(layers) if layer.name == "stage2.1.select")
    before = slow_code_distances(columns(seen(model, batch, "stage2.1.bn1", "output")))
    codes = CodeDistance(batch, positions=10**6).distances(model, layers)[index]
    torch.testing.assert_close(codes, before, rtol=0, atol=1e-12)
    after = columns(seen(model, batch, "stage2.1.conv1", "input"))
    angles = OutputAngle(batch, positions=10**6).distances(model, layers)[index]
    torch.testing.assert_close(angles, slow_angles(after, True), rtol=0, atol=1e-6)


class Concatenation(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 4, 1), nn.Conv2d(7, 2, 1)

    def forward(self, x):
        return self.head(torch.cat([self.left(x).relu(), self.right(x).relu()], dim=1))


def test_what_cannot_be_seen_is_named(cnn):
    model = Concatenation()
    batch = torch.zeros(4, 2, 5, 5)
    layers = read_layers(model, batch[:2])
    with pytest.raises(UnsupportedModuleError, match="'head' reads units of several layers"):
        OutputAngle(batch)(model, layers)
    with pytest.raises(UnsupportedModuleError, match="'head' reads 7 channels, not the 3 units"):
        OutputAngle(batch)(model, layers[:1])
    assert not model.head._forward_pre_hooks
    assert len(CodeDistance(batch)(model, layers)) == 2  # pre-activations are each its own
    model, layers, batch = cnn
    lost = copy.deepcopy(model)
    lost[0].weight.data[0] = torch.nan
    with pytest.raises(TrainingError, match="'3' meets values that are not finite"):
        OutputAngle(batch)(lost, layers)


@pytest.mark.parametrize("criterion", [CodeDistance, OutputAngle])
def test_images_that_do_not_fit_are_named(cnn, criterion):
    model, layers, batch = cnn
    with pytest.raises(SettingError, match=r"does not take images of shape \(9, 2, 7, 7\)"):
        criterion(torch.zeros(9, 2, 7, 7))(model, layers)
    with pytest.raises(SettingError, match=r"does not take images of shape \(2, 6, 6\)"):
        criterion(batch[0])(model, layers)
    with pytest.raises(SettingError, match=r"images of shape \(9, 2, 6, 6\) hold values that are not finite"):
        criterion(batch / 0)(model, layers)


def test_watching_hands_over_inputs_and_outputs_and_ends_after_an_error(cnn):
    model, _, batch = cnn
    found = {}
    with torch.no_grad():
        with watched(
            model, {"3": lambda x: found.update(i=x.clone())}, {"3": lambda x: found.update(o=x.clone())}
        ):
            model(batch)
        torch.testing.assert_close(model[3](found["i"]), found["o"])
        found.clear()
        model(batch)
    assert not found
    with pytest.raises(AttributeError), watched(model, {"3": print, "99": print}, {}):
        pass
    with pytest.raises(ZeroDivisionError), watched(model, {"3": lambda x: 1 / 0}, {"7": print}):
        model(batch)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_spline_and_code_agree_on_units_that_coincide(generator):
    model, layers = one_layer([[1.0, 0.2], [0.3, 1.0], [2.0, 0.4], [-0.7, 0.5]], [0.1, 0.2, 0.2, -0.3])
    points = torch.randn(200, 2, generator=generator)
    firsts = {int(c(model, layers)[0].argmin()) for c in (Spline(offset="geometric"), CodeDistance(points))}
    assert firsts == {0}


@pytest.mark.parametrize("criterion", [OutputAngle, CodeDistance])
def test_the_order_in_which_maps_are_flattened_does_not_matter(criterion, generator):
    class Flat(nn.Module):
        def __init__(self, last):
            super().__init__()
            self.last, self.c, self.h = last, nn.Conv2d(3, 8, 3), nn.Linear(128, 4)

        def forward(self, x):
            z = self.c(x).relu()
            return self.h((z.permute(0, 2, 3, 1) if self.last else z).flatten(1))

    images = torch.randn(32, 3, 6, 6, generator=generator)
    first, last = Flat(False), Flat(True)
    last.c = first.c
    last.h.weight.data = first.h.weight.data.view(4, 8, 16).transpose(1, 2).reshape(4, -1).clone()
    last.h.bias = first.h.bias
    torch.testing.assert_close(last(images), first(images))
    scores = [criterion(images)(model, read_layers(model, images[:2]))[0] for model in (first, last)]
    torch.testing.assert_close(*scores)


@pytest.mark.parametrize("tokens", [False, True])
def test_the_order_of_channels_in_front_of_a_reader_does_not_matter(tokens, generator):
    class Turned(nn.Module):
        def __init__(self, turned):
            super().__init__()
            self.turned = turned
            self.c, self.h = (
                (nn.Linear(3, 8), nn.Linear(8, 4)) if tokens else (nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1))
            )

        def forward(self, x):
            z = self.c(x).relu()
            return self.h(z.flip(-1 if tokens else 1) if self.turned else z)

    images = (
        torch.randn(16, 7, 3, generator=generator)
        if tokens
        else torch.randn(16, 3, 6, 6, generator=generator)
    )
    plain, turned = Turned(False), Turned(True)
    turned.c = plain.c
    turned.h.weight.data = plain.h.weight.data.flip(1)
    scores = [OutputAngle(images)(model, read_layers(model, images[:2]))[0] for model in (plain, turned)]
    torch.testing.assert_close(*scores)


def test_features_beside_flattened_maps_are_named(generator):
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.c, self.h = nn.Conv2d(3, 8, 3), nn.Linear(136, 4)

        def forward(self, x):
            return self.h(torch.cat([x.flatten(1)[:, :8], self.c(x).relu().flatten(1)], 1))

    model, images = Beside(), torch.randn(9, 3, 6, 6, generator=generator)
    with pytest.raises(
        UnsupportedModuleError, match=r"'h' reads 136 channels, not the 8 units .*concatenation"
    ):
        OutputAngle(images)(model, read_layers(model, images[:2]))


@pytest.mark.parametrize("steps", [8, 9])
def test_units_that_a_recurrent_module_reads_are_not_taken_for_steps(steps, generator):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv1d(2, 8, 3, padding=1), nn.LSTM(8, 6, batch_first=True)
            self.c = nn.Linear(6, 4)

        def forward(self, x):
            return self.c(self.b(self.a(x).relu().transpose(1, 2))[0][:, -1])

    model, batch = Recurrent().eval(), torch.randn(32, 2, steps, generator=generator)
    with torch.no_grad():
        model.a.weight[3], model.a.bias[3] = model.a.weight[5], model.a.bias[5]
    (distances,) = OutputAngle(batch).distances(model, read_layers(model, batch))
    assert distances[3, 5] < 1e-3
