import pytest
import torch
from tiny_nets import Net
from torch import nn

from splinelib.errors import SettingError
from splinelib.pruning.flops import Cost, cost, count_flops, count_parameters, counted_flops, training_flops
from splinestudy.models import build_model, mlp


@pytest.fixture
def grouped():
    """9×9 images; convolution output 5×5, then 3×3 per channel on 5×5, then a linear layer."""
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 2 * 2, 3),
    )


# Multiply-adds of the three layers of ``grouped``: outputs times values read by each.
FIRST, DEPTHWISE, LAST = 8 * 25 * (2 * 9), 8 * 25 * 9, 3 * 32


def test_convolutions_with_stride_padding_and_groups(grouped):
    parameters = (8 * 2 * 9 + 8) + (8 + 8) + 8 * 9 + (32 * 3 + 3)
    assert cost(grouped, torch.zeros(1, 4, 9, 9)) == Cost(parameters, 2 * (FIRST + DEPTHWISE + LAST))


def test_mlp():
    model = mlp((5, 7, 3), seed=0)
    assert count_parameters(model) == 5 * 7 + 7 + 7 * 3 + 3
    assert count_flops(model, torch.zeros(4, 5)) == 2 * (5 * 7 + 7 * 3)


def test_vgg16():
    model = build_model("vgg16_bn", num_classes=10, seed=0)
    expected, channels = 512 * 10, 3
    for side, stage in zip(
        (32, 16, 8, 4, 2), ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3), strict=True
    ):
        for count in stage:
            expected += side * side * 9 * channels * count
            channels = count
    assert count_flops(model, torch.zeros(2, 3, 32, 32)) == 2 * expected


def test_training_adds_one_pass_per_gradient_but_the_inputs(grouped):
    # Forward and weights: all layers. Inputs: all layers but the first.
    model = mlp((5, 7, 3), seed=0)
    assert training_flops(model, torch.zeros(4, 5)) == 2 * (2 * (5 * 7 + 7 * 3) + 7 * 3)
    layers = FIRST + DEPTHWISE + LAST
    assert training_flops(grouped, torch.zeros(2, 4, 9, 9)) == 2 * (2 * layers + DEPTHWISE + LAST)


def test_frozen_parameters_cost_no_gradient(grouped):
    grouped[:4].requires_grad_(False)
    layers = FIRST + DEPTHWISE + LAST
    assert training_flops(grouped, torch.zeros(2, 4, 9, 9)) == 2 * (layers + LAST)


@pytest.mark.parametrize("count", [count_flops, training_flops])
def test_batch_size_and_values_do_not_matter(grouped, count):
    assert count(grouped, torch.zeros(1, 4, 9, 9)) == count(grouped, torch.randn(6, 4, 9, 9))


def test_a_shared_parameter_counts_once():
    layer = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(layer, nn.ReLU(), layer)) == 12


def state_of(model):
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    return tensors, hooks, [module.training for module in model.modules()]


@pytest.mark.parametrize(("count", "error"), [(count_flops, SettingError), (training_flops, RuntimeError)])
@pytest.mark.parametrize("size", [9, 3])  # 3×3 images do not fit the linear layer
def test_model_and_rng_are_left_alone(grouped, count, error, size):
    grouped.train()
    grouped[1].eval()
    grouped.append(nn.Dropout(0.5))
    tensors, hooks, flags = state_of(grouped)
    rng = torch.get_rng_state()
    inputs = torch.ones(2, 4, size, size)
    if size == 9:
        count(grouped, inputs)
    else:
        with pytest.raises(error):
            count(grouped, inputs)
    after, hooks_after, flags_after = state_of(grouped)
    assert (hooks_after, flags_after) == (hooks, flags)
    assert flags[:3] == [True, True, False]
    for name, tensor in tensors.items():
        assert torch.equal(after[name], tensor)
        assert after[name].device.type == "cpu"
    assert all(parameter.grad is None for parameter in grouped.parameters())
    assert torch.equal(torch.get_rng_state(), rng)


def test_training_counts_outputs_of_any_form():
    model = Net(lambda s, x: s.b(s.a(x)), a=nn.Linear(4, 3), b=nn.Linear(3, 2))
    heads = Net(lambda s, x: {"b": s.b(s.a(x)), "size": len(x)}, a=model.a, b=model.b)
    images = torch.zeros(5, 4)
    assert training_flops(heads, images) == training_flops(model, images)


def test_everything_inside_a_block_is_counted():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.Flatten(), nn.Linear(8, 3, bias=False))
    images = torch.randn(5, 1, 4, 4)
    with counted_flops() as flops:
        model(images)
        torch.autograd.grad(model(images).sum(), list(model.parameters()))
    # A forward pass, then one with its backward pass.
    assert flops() == 5 * (count_flops(model, images) + training_flops(model, images))


class Wanting(nn.Module):
    """Runs one module under two names, keeps what it gave, and makes tensors and decisions of its own."""

    def __init__(self):
        super().__init__()
        self.first = self.again = nn.Linear(4, 4)
        self.recurrent = nn.GRU(4, 4, batch_first=True)

    def forward(self, x):
        self.kept = self.again(self.first(x)) + torch.arange(4.0)
        state = torch.zeros(1, len(x), 4)
        return self.recurrent(self.kept, state)[0] if float(x.sum()) < 1 else self.kept


def test_numbers_that_a_network_wants_are_there_and_its_own_stay():
    model = Wanting().eval()
    inputs, state = torch.zeros(2, 3, 4), state_of(model)[0]
    kept = model(inputs)
    assert count_flops(model, inputs) == 3 * 2 * (2 * 16) + count_flops(model.recurrent, inputs)
    assert count_flops(model.first, inputs) == 3 * 2 * 16
    assert model.kept.device.type == "cpu"
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name])
    torch.testing.assert_close(model(inputs), kept)


def passed(net, x):
    found = net.inner(x, x, x) if isinstance(net.inner, nn.MultiheadAttention) else net.inner(x)
    return found[0] if isinstance(found, tuple) else found


class Needy(nn.Module):
    """Wants a number of its inputs, so that it is counted as it computes."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        assert float(x.sum()) == 0
        return passed(self, x)


class Dotted(nn.Module):
    def __init__(self):
        super().__init__()
        self.vector = nn.Parameter(torch.ones(8))

    def forward(self, x):
        return x @ self.vector


class Attending(nn.Module):
    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])


@pytest.mark.parametrize(
    ("inner", "shape", "operations"),
    [
        (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8), None),
        (lambda: nn.MultiheadAttention(8, 2, batch_first=True), (2, 5, 8), None),
        (lambda: nn.LSTM(8, 6, batch_first=True), (2, 5, 8), 2 * 5 * 24 * (8 + 6)),
        (lambda: nn.GRU(8, 6, batch_first=True), (2, 5, 8), 2 * 5 * 18 * (8 + 6)),
        (Attending, (2, 5, 8), 2 * 2 * 5 * 5 * 8),
        (Dotted, (2, 5, 8), 2 * 5 * 8),
    ],
)
def test_what_libraries_do_in_one_step_is_counted(inner, shape, operations):
    torch.manual_seed(0)
    model, images = inner(), torch.zeros(shape)
    switches = (
        lambda: torch.backends.mkldnn.enabled,
        lambda: torch.backends.cudnn.enabled,
        torch.backends.mha.get_fastpath_enabled,
    )
    before = [switch() for switch in switches]
    found = count_flops(Needy(model), images)
    assert [switch() for switch in switches] == before
    if operations is None:  # by shapes alone, where the counter knows every step
        operations = count_flops(Net(passed, inner=model), images)
    assert found == operations > 0


PRODUCTS = {
    "addmv": (lambda x: torch.stack([torch.addmv(m[:, 0], m, m[0]) for m in x]), 2 * 5 * 8),
    "addbmm": (lambda x: torch.addbmm(x[0] @ x[0].mT, x, x.mT), 2 * 5 * 8 * 5 + 5 * 8 * 5),
    "bmm": (lambda x: torch.bmm(x, x.mT), 2 * 5 * 8 * 5),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_counted_however_they_are_called(name):
    function, wanted = PRODUCTS[name]
    assert count_flops(Net(lambda net, x: function(x)), torch.randn(2, 5, 8)) == wanted


def test_bilinear_layers_have_a_multiply_add_for_each_weight():
    assert count_flops(nn.Bilinear(8, 6, 3), (torch.zeros(4, 8), torch.zeros(4, 6))) == 2 * 8 * 6 * 3


def test_keywords_may_come_in_any_order():
    class Masked(nn.Linear):
        def forward(self, x, mask):
            return super().forward(x) * mask[:, :1]

    x, mask = torch.zeros(2, 5, 8), torch.ones(5, 5)
    found = [count_flops(Masked(8, 6), given) for given in ({"x": x, "mask": mask}, {"mask": mask, "x": x})]
    assert found == [2 * 5 * 8 * 6] * 2


@pytest.mark.parametrize("count", [1, 2, 6])
def test_a_list_of_pictures_is_a_batch(count):
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 4, 3)

        def forward(self, pictures):
            return [self.a(picture[None]) for picture in pictures]

    pictures = [torch.zeros(3, 8, 8) for _ in range(count)]
    assert count_flops(Detector(), (pictures,)) == count_flops(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8))


def test_grouped_products_count():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 16, 8, dtype=torch.bfloat16))

        def forward(self, x):
            ends = torch.tensor([1, 2, len(x)], dtype=torch.int32, device=x.device)
            return torch.nn.functional.grouped_mm(x, self.weight, offs=ends)

    assert count_flops(Experts(), torch.zeros(4, 16, dtype=torch.bfloat16)) == 2 * 16 * 8
