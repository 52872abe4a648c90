import copy

import pytest
import torch
import torch_pruning
from oracles_scores import hessian_times_gradient, path_sums, plain_gradients, slow_fpgm
from tiny_nets import Net, images, small_network, tiny_cnn
from torch import nn
from torch.nn.utils import parametrizations

from splinelib import Spline, read_layers
from splinelib.criteria.activations import CodeDistance, OutputAngle
from splinelib.criteria.gradients import SNIP, GraSP, SynFlow, Taylor, TorchPruningScore
from splinelib.criteria.unit_sums import unit_sums
from splinelib.criteria.weights import FPGM, BatchNormScale, FilterNorm
from splinelib.errors import SettingError, TrainingError, UnsupportedModuleError
from splinelib.layers.hyperplanes import raw_rows
from splinelib.pruning import select_units
from splinelib.pruning.surgery import remove_units
from splinestudy.models import ChannelSelection

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 2, 0])
COUPLED = ("preresnet20", "mobilenet_v2", "mlp")


def taylor_of_torch_pruning(x, y):
    return TorchPruningScore(torch_pruning.importance.TaylorImportance(normalizer=None), x, y)


CRITERIA = {
    "spline": lambda x, y: Spline(),
    "norm": lambda x, y: FilterNorm(),
    "fpgm": lambda x, y: FPGM(),
    "taylor": Taylor,
    "taylor_1": lambda x, y: Taylor(x, y, power=1, batch_size=3),
    "snip": SNIP,
    "grasp": GraSP,
    "synflow": lambda x, y: SynFlow(x),
    "torch_pruning": taylor_of_torch_pruning,
    "code": lambda x, y: CodeDistance(x),
    "angle": lambda x, y: OutputAngle(x),
    "angle_uncentred": lambda x, y: OutputAngle(x, centred=False),
}

VARIANTS = ("spline", "norm", "taylor_1", "angle_uncentred")  # differ from others by a formula only


@pytest.fixture
def cnn(generator):
    """A network in float64, its prunable layers "0", "3" and "7", and a batch."""
    model = tiny_cnn(generator).double()
    model[9].bias.data.zero_()
    batch = torch.randn(8, 2, 6, 6, generator=generator).double()
    return model, read_layers(model, batch[:2]), batch


def by_unit(values, *names):
    """Sum over each unit of the named parameters' values."""
    return sum(values[name].flatten(1).sum(1) if values[name].ndim > 1 else values[name] for name in names)


def test_fpgm_by_hand_and_by_double_loop(cnn):
    # Filters at 0, 3 and 4 on a line: sums 3 + 4, 3 + 1 and 4 + 1. The geometric median falls first.
    line = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 2))
    line[0].weight.data = torch.tensor([[0.0], [3.0], [4.0]])
    (score,) = FPGM()(line, read_layers(line, torch.zeros(2, 1)))
    assert score.tolist() == [7, 4, 5]
    model, layers, _ = cnn
    for layer, score in zip(layers, FPGM()(model, layers), strict=True):
        wanted = torch.tensor(slow_fpgm(raw_rows(model, layer)), dtype=torch.float64)
        torch.testing.assert_close(score, wanted, rtol=1e-7, atol=0)


def test_fpgm_of_torch_pruning_is_another_score_where_weights_are_negative(cnn):
    model, layers, batch = cnn
    theirs = TorchPruningScore(
        torch_pruning.importance.FPGMImportance(p=1, group_reduction="first", normalizer=None), batch
    )
    assert not torch.allclose(FPGM()(model, layers)[0], theirs(model, layers)[0])
    for parameter in model.parameters():
        parameter.data.abs_()
    for ours, other in zip(FPGM()(model, layers), theirs(model, layers), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=0)


def test_taylor_is_the_mean_over_minibatches_of_all_a_units_parameters(cnn):
    model, layers, batch = cnn
    parts = [(slice(0, 3), 3 / 8), (slice(3, 6), 3 / 8), (slice(6, 8), 2 / 8)]
    for power in (1, 2):
        total = {}
        for part, share in parts:
            for name, slope in plain_gradients(model, batch[part], LABELS[part]).items():
                value = (slope * model.get_parameter(name).detach()).abs() ** power
                total[name] = total.get(name, 0) + share * value
        scores = Taylor(batch, LABELS, power=power, batch_size=3)(model, layers)
        torch.testing.assert_close(scores[0], by_unit(total, "0.weight", "1.weight", "1.bias"))
        torch.testing.assert_close(scores[1], by_unit(total, "3.weight", "3.bias", "4.weight", "4.bias"))
        torch.testing.assert_close(scores[2], by_unit(total, "7.weight", "7.bias"))


def test_snip_is_the_gradient_times_the_weight_and_that_of_torch_pruning(cnn):
    model, layers, batch = cnn
    slopes = plain_gradients(model, batch, LABELS)
    product = {name: (slope * model.get_parameter(name).detach()).abs() for name, slope in slopes.items()}
    scores = SNIP(batch, LABELS)(model, layers)
    theirs = TorchPruningScore(
        torch_pruning.importance.TaylorImportance(group_reduction="first", normalizer=None), batch, LABELS
    )(model, layers)
    for name, score, other in zip("037", scores, theirs, strict=True):
        torch.testing.assert_close(score, by_unit(product, f"{name}.weight"))
        torch.testing.assert_close(score, other, rtol=1e-5, atol=0)  # theirs is summed in float32


def test_a_batch_in_chunks_gives_what_it_gives_at_once(cnn, monkeypatch):
    model, layers, batch = cnn
    whole = [c(batch, LABELS)(model, layers) for c in (SNIP, GraSP)]
    monkeypatch.setattr("splinelib.criteria.loss_gradients._CHUNK", 3)
    for scores, criterion in zip(whole, (SNIP, GraSP), strict=True):
        for a, b in zip(scores, criterion(batch, LABELS)(model, layers), strict=True):
            torch.testing.assert_close(a, b)


def test_grasp_is_the_weight_times_the_hessian_times_the_gradient(cnn):
    model, layers, batch = cnn
    for temperature in (1.0, 200.0):
        bent = hessian_times_gradient(model, batch, LABELS, temperature)
        product = {name: bent[name] * model.get_parameter(name).detach() for name in bent}
        signed = GraSP(batch, LABELS, temperature).signed(model, layers)
        for name, score in zip("037", signed, strict=True):
            wanted = by_unit(product, f"{name}.weight")
            torch.testing.assert_close(score, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))


def test_grasp_ranks_keep_the_order_over_all_layers(cnn):
    model, layers, batch = cnn
    criterion = GraSP(batch, LABELS)
    signed, scores = torch.cat(criterion.signed(model, layers)), torch.cat(criterion(model, layers))
    assert bool((signed < 0).any())
    assert bool((signed > 0).any())
    assert torch.equal(signed.argsort(stable=True), scores.argsort(stable=True))
    distinct = len(signed.unique())
    assert distinct > 15
    assert scores.unique().tolist() == pytest.approx([(rank + 1) / distinct for rank in range(distinct)])


def test_synflow_sums_all_paths_through_a_unit(generator):
    model = nn.Sequential(
        nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False), nn.ReLU(), nn.Linear(2, 3)
    )
    model[4].bias.data.fill_(-5.0)
    weights = [model[index].weight.data.normal_(generator=generator) for index in (0, 2, 4)]
    scores = SynFlow(torch.zeros(2, 3))(model, read_layers(model, torch.zeros(2, 3)))
    for score, wanted in zip(scores, path_sums(weights), strict=True):
        torch.testing.assert_close(score.tolist(), wanted)
    # Each layer's scores add up to the whole flow, here by hand: 1·(2·4 + 3·5) with weights 2, -3 and 4, 5.
    small = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    small[0].weight.data, small[2].weight.data = torch.tensor([[2.0], [-3.0]]), torch.tensor([[4.0, 5.0]])
    (score,) = SynFlow(torch.zeros(1, 1))(small, read_layers(small, torch.zeros(2, 1)))
    assert score.tolist() == [8, 15]


def test_synflow_says_where_nothing_flows():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU6(), nn.Linear(4, 2))
    model[0].bias.data.fill_(9.0)  # saturates
    batch = torch.zeros(2, 3)
    with pytest.raises(UnsupportedModuleError, match="no synaptic flow passes layer '0'"):
        SynFlow(batch)(model, read_layers(model, batch))


def test_synflow_does_not_overflow_in_deep_networks(generator):
    model = nn.Sequential()
    for _ in range(24):
        model.extend([nn.Linear(30, 30, bias=False), nn.ReLU()])
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
    scores = SynFlow(torch.zeros(1, 30))(
        model.append(nn.Linear(30, 1)), read_layers(model, torch.zeros(2, 30))
    )
    assert float(scores[0][0]) > 1e30


@pytest.mark.parametrize("name", CRITERIA)
def test_permuting_units_permutes_scores(cnn, generator, name):
    model, layers, batch = cnn
    order = torch.randperm(6, generator=generator)
    shuffled = copy.deepcopy(model)
    shuffled[0].weight.data = model[0].weight.data[order]
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        getattr(shuffled[1], tensor).data.copy_(getattr(model[1], tensor).data[order])
    shuffled[3].weight.data = model[3].weight.data[:, order]
    criterion = CRITERIA[name](batch, LABELS)
    before, after = criterion(model, layers), criterion(shuffled, layers)
    torch.testing.assert_close(after[0], before[0][order], rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(after[1:], before[1:], rtol=1e-6, atol=1e-12)


def fingerprint(model):
    return [
        [tensor.clone() for tensor in model.state_dict().values()],
        [module.training for module in model.modules()],
        [(p.requires_grad, None if p.grad is None else p.grad.clone()) for p in model.parameters()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
    ]


@pytest.mark.parametrize("name", CRITERIA)
def test_the_model_and_the_batch_stay_as_they_are(cnn, name):
    model, layers, batch = cnn
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[3].weight.requires_grad_(False)
    model.train()
    model[1].eval()
    before, kept, state = fingerprint(model), batch.clone(), torch.get_rng_state()
    first = CRITERIA[name](batch, LABELS)(model, layers)
    again = CRITERIA[name](batch, LABELS)(model, layers)
    torch.testing.assert_close(fingerprint(model), before, rtol=0, atol=0)
    assert torch.equal(batch, kept)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) and not a.requires_grad for a, b in zip(first, again, strict=True))


def test_synaptic_flow_takes_all_outputs_and_whole_numbers():
    whole = {"e": nn.Embedding(7, 5), "a": nn.Linear(5, 6), "h": nn.Linear(6, 2)}
    model = Net(lambda s, x: {"logits": s.h(s.a(s.e(x).mean(1)).relu()), "count": len(x)}, **whole)
    tokens = torch.zeros(3, 4, dtype=torch.long)
    (score,) = SynFlow(tokens)(model, read_layers(model, tokens))
    flow = model.e.weight[1].abs() * model.a.weight.abs() * model.h.weight.abs().sum(0)[:, None]
    torch.testing.assert_close(score, flow.sum(1).double())


@pytest.mark.parametrize("name", sorted(CRITERIA.keys() - {"spline", "norm", "fpgm"}))
def test_networks_of_two_inputs_are_named(name):
    model = Net(
        lambda s, x, y: s.h((s.a(x) + s.b(y)).relu()), **{n: nn.Linear(3, 3) for n in "ab"}, h=nn.Linear(3, 2)
    )
    images, labels = torch.randn(8, 3), torch.zeros(8, dtype=torch.long)
    layers = read_layers(model, (images, images))
    with pytest.raises(
        SettingError, match="Net does not take images .*missing.* argument: 'y'.*this one input"
    ):
        CRITERIA[name](images, labels)(model, layers)


@pytest.mark.parametrize("name", sorted(CRITERIA.keys() - {"spline", "norm", "fpgm"}))
def test_the_model_stays_as_it_is_when_inputs_do_not_fit(cnn, name):
    model, layers, _ = cnn
    model.train()
    before = fingerprint(model)
    with pytest.raises(SettingError, match=r"does not take images of shape \([18], 3, 6, 6\)"):
        CRITERIA[name](torch.zeros(8, 3, 6, 6).double(), LABELS)(model, layers)
    torch.testing.assert_close(fingerprint(model), before, rtol=0, atol=0)


@pytest.fixture(scope="module", params=COUPLED)
def coupled(request):
    """Networks with coupled streams, channel selections and depthwise convolutions."""
    generator = torch.Generator().manual_seed(0)
    model = small_network(request.param, generator)
    batch = images(request.param, generator, 8)
    return model, read_layers(model, batch[:2]), batch


@pytest.mark.parametrize("name", [name for name in CRITERIA if name not in VARIANTS])
def test_every_layer_gets_scores_for_both_scopes(coupled, name):
    model, layers, batch = coupled
    scores = CRITERIA[name](batch, LABELS)(model, layers)
    assert [(len(score), score.dtype) for score in scores] == [
        (layer.units, torch.float64) for layer in layers
    ]
    assert sum(map(len, select_units(layers, scores, 0.5, "layerwise").values())) > 0
    selection = select_units(layers, scores, 0.5, "global")
    assert sum(map(len, selection.values())) == round(0.5 * sum(layer.units for layer in layers))


def test_selections_that_have_lost_channels_score_what_they_kept(generator):
    model = small_network("preresnet20", generator)
    batch = images("preresnet20", generator, 8)
    layers = read_layers(model, batch[:2])
    chosen = {layer.name: [0, 3] for layer in layers if "select" in layer.name}
    smaller = remove_units(model, batch[:2], chosen)
    left = read_layers(smaller, batch[:2])
    for name, make in CRITERIA.items():
        scores = make(batch, LABELS)(smaller, left)
        for layer, score in zip(layers, scores, strict=True):
            assert len(score) == layer.units - len(chosen.get(layer.name, [])), name
    # What a selection keeps is written by the same rows as before.
    assert isinstance(model.get_submodule(layers[0].name), ChannelSelection)
    kept = [unit for unit in range(layers[0].units) if unit not in (0, 3)]
    size = {parameter: parameter.detach().abs() for parameter in smaller.parameters()}
    after = unit_sums(smaller, left, size)[0]
    torch.testing.assert_close(after, FilterNorm()(model, layers)[0][kept])


def test_the_sum_of_absolute_weights_is_the_filter_norm(coupled):
    model, layers, _ = coupled
    size = {parameter: parameter.detach().abs() for parameter in model.parameters()}
    torch.testing.assert_close(unit_sums(model, layers, size), FilterNorm()(model, layers))


def test_several_writers_count_together(generator):
    model = small_network("resnet50", generator)
    batch = images("resnet50", generator, 8)
    layers = read_layers(model, batch[:2])
    index = next(index for index, layer in enumerate(layers) if len(layer.writers) > 2)
    slopes = plain_gradients(model, batch, LABELS)
    wanted = sum(
        (slopes[f"{w.module}.weight"] * model.get_submodule(w.module).weight.detach()).abs().flatten(1).sum(1)
        for w in layers[index].writers
    )
    torch.testing.assert_close(SNIP(batch, LABELS)(model, layers)[index], wanted.double(), rtol=1e-4, atol=0)


def test_transposed_convolutions_are_read_by_output_channel(generator):
    model = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, groups=2), nn.ReLU(), nn.Conv2d(6, 3, 8), nn.Flatten(), nn.Linear(3, 3)
    )
    batch = torch.randn(8, 4, 6, 6, generator=generator)
    layers = read_layers(model, batch[:2])
    weight = plain_gradients(model, batch, LABELS)["0.weight"] * model[0].weight.detach()
    wanted = [float(weight[2 * (unit // 3) : 2 * (unit // 3) + 2, unit % 3].abs().sum()) for unit in range(6)]
    torch.testing.assert_close(SNIP(batch, LABELS)(model, layers)[0].tolist(), wanted, rtol=1e-4, atol=0)


def test_what_a_score_lacks_is_named(cnn):
    model, layers, batch = cnn
    bare = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3))
    with pytest.raises(UnsupportedModuleError, match="outputs have shape"):
        SNIP(batch.float(), LABELS)(bare, read_layers(bare, batch[:2].float()))
    with pytest.raises(SettingError, match="give TorchPruningScore labels as well"):
        TorchPruningScore(torch_pruning.importance.TaylorImportance(), batch)(model, layers)
    dead = copy.deepcopy(model)
    dead[9].weight.data.zero_()
    with pytest.raises(SettingError, match="scores of layer '0' are not finite.*normalizer=None"):
        TorchPruningScore(torch_pruning.importance.TaylorImportance(), batch, LABELS)(dead, layers)
    with pytest.raises(UnsupportedModuleError, match="gives layer '0' no score"):
        TorchPruningScore(lambda group: None, batch)(model, layers)
    with pytest.raises(SettingError, match="labels go from 0 to 3, but the model has 3 outputs"):
        SNIP(batch, LABELS + (LABELS == 2))(model, layers)
    normed = copy.deepcopy(model)
    parametrizations.weight_norm(normed[0])
    with pytest.raises(UnsupportedModuleError, match="'0' computes its weight from other parameters"):
        SNIP(batch, LABELS)(normed, layers)
    model[7].weight.data[0, 0] = torch.nan
    with pytest.raises(TrainingError, match="layer '0' are not finite"):
        SNIP(batch, LABELS)(model, layers)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda x, y: Taylor(x, y[:-1]), r"labels have shape \(7,\).*for 8 images"),
        (lambda x, y: SNIP(x, y.float()), "dtype torch.float32"),
        (lambda x, y: GraSP(x, y[:, None]), r"labels have shape \(8, 1\)"),
        (lambda x, y: SNIP(x[:0], y[:0]), "images have shape"),
        (lambda x, y: GraSP(x, y, temperature=0), "temperature is 0"),
        (lambda x, y: Taylor(x, y, power=3), "power is 3"),
        (lambda x, y: Taylor(x, y, batch_size=0), "batch_size is 0"),
        (lambda x, y: TorchPruningScore(len, x, y[:2]), r"labels have shape \(2,\)"),
        (lambda x, y: CodeDistance(x[:0]), "images have shape"),
        (lambda x, y: OutputAngle(x, positions=0), "positions is 0"),
    ],
)
def test_batches_and_settings_that_cannot_be_used_are_named(call, named):
    with pytest.raises(SettingError, match=named):
        call(torch.zeros(8, 2, 6, 6), LABELS)


@pytest.mark.parametrize(
    "criterion",
    [
        lambda x: Taylor(x, LABELS),
        lambda x: SNIP(x, LABELS),
        lambda x: GraSP(x, LABELS),
        lambda x: TorchPruningScore(len, x),
        SynFlow,
    ],
)
def test_images_that_do_not_fit_are_named(criterion, generator):
    model = tiny_cnn(generator)
    layers = read_layers(model, torch.zeros(2, 2, 6, 6))
    with pytest.raises(SettingError, match=r"does not take images of shape \([18], 2, 7, 7\)"):
        criterion(torch.zeros(8, 2, 7, 7))(model, layers)


def test_batch_norm_scale_serves_beside_them(coupled):
    model, layers, _ = coupled
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        assert len(BatchNormScale()(model, layers)) == len(layers)


@pytest.mark.parametrize("criterion", [Taylor, SNIP, lambda x, y, **k: GraSP(x, y, 1.0, **k)])
def test_a_loss_of_ones_own_takes_the_place_of_the_cross_entropy(cnn, criterion):
    model, layers, batch = cnn
    own = nn.CrossEntropyLoss()
    for given in (LABELS, LABELS.tolist()):
        found = criterion(batch, given, loss=lambda outputs, y: own(outputs, torch.as_tensor(y)))(
            model, layers
        )
        for score, wanted in zip(found, criterion(batch, LABELS)(model, layers), strict=True):
            torch.testing.assert_close(score, wanted)


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 2, 1)

    def forward(self, x):
        return {"out": self.last(self.first(x).relu())}


def test_a_network_that_labels_every_pixel_is_scored_by_its_own_loss():
    model, x = Segmenter(), torch.randn(3, 3, 6, 6)
    masks = (x[:, 0] > 0).long()

    def loss(outputs, wanted):
        return nn.functional.cross_entropy(outputs["out"], wanted)

    layers = read_layers(model, x)
    (score,) = SNIP(x, masks, loss=loss)(model, layers)
    loss(model(x), masks).backward()
    weight = model.first.weight
    torch.testing.assert_close(score, (weight.grad * weight).abs().double().flatten(1).sum(1).detach())
    with pytest.raises(UnsupportedModuleError, match="outputs have shape dict.*or a loss of your own"):
        SNIP(x, torch.zeros(3, dtype=torch.int64))(model, layers)


@pytest.mark.parametrize(
    ("loss", "labels", "message"),
    [
        (lambda outputs, y: outputs, LABELS, "the loss is Tensor.*return the mean"),
        (lambda outputs, y: 1.0, LABELS, "the loss is 1.0"),
        (lambda outputs, y: outputs.sum().detach(), LABELS, "a scalar with a gradient"),
        (nn.CrossEntropyLoss(), LABELS[:3], "for 8 images: give as many"),
        (None, LABELS.tolist(), "or a loss that takes them"),
        ("mse", LABELS, "loss is 'mse'"),
    ],
)
def test_losses_that_are_none_are_named(cnn, loss, labels, message):
    model, layers, batch = cnn
    with pytest.raises(SettingError, match=message):
        SNIP(batch, labels, loss=loss)(model, layers)


def test_taylor_s_squares_do_not_vanish_in_half_precision(generator):
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        model[0].weight *= 1e-3
    inputs, labels = torch.randn(8, 4, generator=generator), torch.arange(8) % 3
    (wanted,) = Taylor(inputs, labels)(model, read_layers(model, inputs))
    half = copy.deepcopy(model).half()
    (found,) = Taylor(inputs.half(), labels)(half, read_layers(half, inputs.half()))
    torch.testing.assert_close(found, wanted, rtol=0.1, atol=0)
