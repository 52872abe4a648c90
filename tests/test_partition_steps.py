"""Every step that is read, one at a time between two bends: the maps are those of the network."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_partition import PLANE, mlp, randomise
from test_partition_reader import outputs_agree
from torch import nn
from torch.nn.utils import parametrizations

from splinelib.errors import UnsupportedModuleError
from splinelib.partition import Slice2D, compute_partition, supported_modules


def constant(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Between(nn.Module):
    """A dense layer to ``shape``, a leaky ReLU, the step, a ReLU and a dense layer to three outputs."""

    def __init__(self, step, shape):
        super().__init__()
        self.shape, self.step = shape, step
        self.first = nn.Linear(2, torch.Size(shape).numel())
        with torch.no_grad():
            flat = self.double().inner(torch.zeros(1, 2, dtype=torch.float64))
        self.last = nn.Linear(flat.shape[1], 3)

    def inner(self, x):
        x = F.leaky_relu(self.first(x).reshape(-1, *self.shape), 0.3)
        return F.relu(self.step(x)).flatten(1)

    def forward(self, x):
        return self.last(self.inner(x))


VECTOR, ROWS, IMAGE, VOLUME = (12,), (3, 8), (2, 4, 4), (2, 3, 3, 3)

MODULES = [
    (VECTOR, nn.Hardsigmoid()), (VECTOR, nn.Threshold(0.25, 0.25)), (VECTOR, nn.Softshrink(0.2)),
    (VECTOR, nn.RReLU()), (VECTOR, nn.ReLU6()), (VECTOR, nn.Unflatten(1, (3, 4))),
    (ROWS, nn.Linear(8, 3)), (ROWS, nn.Conv1d(3, 4, 3, stride=2, padding=1)), (ROWS, nn.MaxPool1d(3, 2, padding=1)),
    (ROWS, nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1)), (ROWS, nn.AvgPool1d(2)),
    (ROWS, nn.AdaptiveMaxPool1d(3)), (ROWS, nn.AdaptiveAvgPool1d(3)), (ROWS, nn.ReflectionPad1d(2)),
    (ROWS, nn.Conv1d(3, 3, 3, padding=1, padding_mode="circular")), (ROWS, nn.BatchNorm1d(3)),
    (ROWS, nn.InstanceNorm1d(3, track_running_stats=True)), (ROWS, nn.Upsample(scale_factor=2, mode="linear")),
    (IMAGE, nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")),
    (IMAGE, nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="replicate", stride=2)),
    (IMAGE, nn.Conv2d(2, 4, 3, padding="same", dilation=2, groups=2)),
    (IMAGE, nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=(1, 0))),
    (IMAGE, nn.ConvTranspose2d(2, 4, (2, 3), stride=(1, 2), dilation=2, groups=2, bias=False)),
    (IMAGE, nn.Upsample(scale_factor=2)), (IMAGE, nn.UpsamplingNearest2d(scale_factor=2)),
    (VECTOR, nn.Sequential(nn.Dropout(), nn.AlphaDropout())), (IMAGE, nn.UpsamplingBilinear2d(scale_factor=1.5)),
    (IMAGE, nn.Upsample(size=(3, 7), mode="bicubic")), (IMAGE, nn.PixelUnshuffle(2)), ((4, 2, 2), nn.PixelShuffle(2)),
    (IMAGE, nn.ChannelShuffle(2)),
    (IMAGE, nn.ZeroPad2d((1, 0, 2, -1))), (IMAGE, nn.ConstantPad2d(1, 0.5)), (IMAGE, nn.ReplicationPad2d(1)),
    (IMAGE, nn.CircularPad2d(1)), (IMAGE, nn.Unfold(2)), (IMAGE, nn.AvgPool2d(3, 2, 1, divisor_override=5)),
    (IMAGE, nn.AvgPool2d((3, 2), (2, 3), (1, 1), ceil_mode=True)), (IMAGE, nn.AdaptiveAvgPool2d((3, 2))),
    (IMAGE, nn.MaxPool2d((3, 2), (2, 1), (1, 0), ceil_mode=True)),
    (IMAGE, nn.Sequential(nn.Unfold(2), nn.Fold((4, 4), 2))),
    (VOLUME, nn.Conv3d(2, 3, 2, padding=1, stride=2)), (VOLUME, nn.ConvTranspose3d(2, 2, 2, stride=2)),
    (VOLUME, nn.MaxPool3d(2, 1)), (VOLUME, nn.AvgPool3d(2, padding=1)), (VOLUME, nn.BatchNorm3d(2)),
    (VOLUME, nn.Upsample(scale_factor=2, mode="trilinear")),
]  # fmt: skip

WEIGHT, KERNEL, MASK = constant(5, 12), constant(3, 2, 2, 2), constant(3, 8) > 0
FUNCTIONS = {
    "linear": (VECTOR, lambda x: F.linear(x, WEIGHT, WEIGHT[:, 0])),
    "matmul": (VECTOR, lambda x: x @ WEIGHT.T),
    "matmul of rows": (ROWS, lambda x: torch.matmul(x, constant(8, 3))),
    "matmul from the left": (ROWS, lambda x: constant(2, 3) @ x),
    "matmul of a batch": (ROWS, lambda x: torch.bmm(x, constant(1, 8, 3).expand(len(x), -1, -1))),
    "einsum": (ROWS, lambda x: torch.einsum("btf,tfo->bo", x, constant(3, 8, 4))),
    "cumsum": (ROWS, lambda x: x.cumsum(1)),
    "conv2d": (IMAGE, lambda x: F.conv2d(x, KERNEL, stride=(2, 1), padding=1)),
    "conv_transpose2d": (IMAGE, lambda x: F.conv_transpose2d(x, KERNEL.transpose(0, 1), stride=2)),
    "batch_norm": (IMAGE, lambda x: F.batch_norm(x, constant(2), constant(2).abs(), constant(2, seed=1))),
    "clamp": (VECTOR, lambda x: x.clamp(-0.2, 0.3)),
    "clamp from below": (VECTOR, lambda x: torch.clamp(x, min=-0.1)),
    "clamp from above": (VECTOR, lambda x: x.clamp(max=0.1)),
    "clamp by tensors": (ROWS, lambda x: torch.clip(x, constant(3, 1), constant(8, seed=1))),
    "clamp with crossed bounds": (VECTOR, lambda x: x.clamp(0.3, -0.2) + x),
    "clamp to a point in some places": (
        ROWS,
        lambda x: x.clamp(constant(3, 1), constant(3, 1).clamp(min=0)) + x,
    ),
    "clamp in place": (VECTOR, lambda x: (x + 0.1).clamp_(-0.1, 0.1)),
    "maximum": (VECTOR, lambda x: torch.maximum(x, x.flip(1) - 0.1)),
    "minimum": (VECTOR, lambda x: torch.min(x, 0.5 * x.roll(1, 1))),
    "maximum with a constant": (ROWS, lambda x: torch.maximum(constant(8), x)),
    "minimum, broadcast": (ROWS, lambda x: torch.minimum(x, x[:, :1] * 0.5)),
    "max along": (ROWS, lambda x: x.max(dim=1).values),
    "max along, unpacked": (ROWS, lambda x: torch.max(x, 2)[0]),
    "maxout": (VECTOR, lambda x: x.view(-1, 4, 3).amax(2)),
    "min along": (ROWS, lambda x: torch.min(x, dim=2, keepdim=True)[0]),
    "amin over two": (IMAGE, lambda x: x.amin((2, 3))),
    "permute": (IMAGE, lambda x: x.permute(0, 2, 3, 1) @ constant(2, 3)),
    "transpose": (ROWS, lambda x: x.transpose(1, 2).reshape(-1, 24)),
    "squeeze": (VECTOR, lambda x: x.unsqueeze(1).unsqueeze(-1).squeeze(1)),
    "stack": (VECTOR, lambda x: torch.stack([x, -x, x.flip(1)], dim=2)),
    "cat with a constant": (VECTOR, lambda x: torch.cat([x, torch.ones_like(x[:, :2])], 1)),
    "chunk": (VECTOR, lambda x: torch.cat([2 * part - i for i, part in enumerate(x.chunk(5, 1))], 1)),
    "split": (IMAGE, lambda x: (lambda a, b: a.abs() - b)(*torch.split(x, 1, dim=1))),
    "unbind": (ROWS, lambda x: sum(x.unbind(1))),
    "tensor_split": (VECTOR, lambda x: x.tensor_split(3, 1)[1]),
    "repeat": (ROWS, lambda x: x.repeat(1, 2, 1).repeat_interleave(2, dim=2)),
    "expand": (ROWS, lambda x: x[:, :, None].expand(-1, -1, 2, -1)),
    "gather": (VECTOR, lambda x: x.gather(1, torch.tensor([[3, 3, 0]]).expand(len(x), -1))),
    "where": (ROWS, lambda x: torch.where(MASK, x, 0.3)),
    "masked_fill": (ROWS, lambda x: x.masked_fill(MASK, -0.1)),
    "tril": (ROWS, lambda x: x.tril()),
    "windows": (VECTOR, lambda x: x.unfold(1, 4, 2)),
    "every other": (IMAGE, lambda x: x[..., ::2, 1:]),
    "pixel_shuffle": (VECTOR, lambda x: F.pixel_shuffle(x.view(-1, 12, 1, 1), 2)),
    "pad": (IMAGE, lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect")),
    "pad with a number": (IMAGE, lambda x: F.conv2d(F.pad(x, (1, 0), value=0.7), KERNEL)),
    "interpolate": (IMAGE, lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=True)),
    "interpolate to the nearest": (IMAGE, lambda x: F.interpolate(x, size=7)),
    "interpolate by areas": (IMAGE, lambda x: F.interpolate(x, size=(3, 2), mode="area")),
    "interpolate smoothly": (IMAGE, lambda x: F.interpolate(x, (2, 3), mode="bicubic", antialias=True)),
    "sum": (IMAGE, lambda x: x.sum(dim=(1, 3))),
    "sum along a name": (ROWS, lambda x: x.sum(axis=-1, keepdim=True)),
    "mean of channels": (IMAGE, lambda x: x - x.mean(1, keepdim=True)),
    "broadcast sum": (IMAGE, lambda x: x + x.mean((2, 3), keepdim=True) + x[:, :1]),
    "alpha": (VECTOR, lambda x: torch.add(x, x.flip(1), alpha=-2.5).sub(x, alpha=0.5).add_(1.0, alpha=0.1)),
    "rsub": (VECTOR, lambda x: torch.rsub(x, 1.5) - (1.0 - x) / 3),
    "relu6": (VECTOR, lambda x: F.relu6(8 * x)),
    "hardsigmoid": (VECTOR, lambda x: F.hardsigmoid(5 * x)),
    "softshrink": (VECTOR, lambda x: F.softshrink(x, 0.2)),
    "threshold": (VECTOR, lambda x: F.threshold(x, 0.1, 0.1)),
    "branches on shapes": (IMAGE, lambda x: x[:, :, 1:] if x.shape[-1] % 2 == 0 and x.ndim == 4 else 2 * x),
    "a count of positions": (IMAGE, lambda x: x.sum((2, 3)) / (x.size(2) * x.size(-1))),
}


# Read as their neighbours of other dimensions are.
ALIKE = ("AdaptiveAvgPool3d", "AdaptiveMaxPool3d", "CircularPad1d", "CircularPad3d", "ConstantPad1d", "ConstantPad3d",
         "Dropout1d", "Dropout2d", "Dropout3d", "InstanceNorm2d", "InstanceNorm3d", "ReflectionPad2d",
         "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad3d", "ZeroPad1d", "ZeroPad3d")  # fmt: skip


def read(step, shape, seed=0):
    """The partition, its maps compared with the network at centroids and at random points: no bend is lost."""
    model = randomise(Between(step, shape).eval(), seed)
    partition = outputs_agree(model, PLANE)
    points = np.random.default_rng(seed).uniform(-1, 1, (500, 2))
    found = partition.outputs[partition.locate(points)]
    mine = torch.from_numpy(np.einsum("pkc,pc->pk", found, np.c_[points, np.ones(len(points))]))
    torch.testing.assert_close(mine, model(PLANE.at(points)), rtol=1e-10, atol=1e-10)
    return partition


@pytest.mark.parametrize(("shape", "module"), MODULES, ids=lambda part: str(part).split("\n")[0])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_modules(shape, module):
    assert len(read(module.double().eval(), shape)) > 3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_methods(name):
    shape, function = FUNCTIONS[name]
    assert len(read(function, shape, seed=1)) > 3


def test_every_supported_module_is_read_somewhere():
    named = {type(module).__name__ for _, module in MODULES}
    elsewhere = "".join(path.read_text() for path in Path(__file__).parent.glob("test_partition*.py"))
    others = {name for name in supported_modules() if f"nn.{name}" in elsewhere}
    assert set(supported_modules()) - named - others == set(ALIKE)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda x: F.threshold(x, 0.0, 1.0), "jumps from 1.0 to 0.0"),
        (nn.Hardshrink(), "Hardshrink at 'end' is not supported"),
        (nn.Hardswish(), "Hardswish at 'end' is not supported"),
        (nn.InstanceNorm1d(3), "statistics from the input"),
        (lambda x: x.max(), "goes over the batch axis"),
        (lambda x: x.sum(0), "goes over the batch axis"),
        (lambda x: x.transpose(0, 1), "between the batch axis and the others"),
        (lambda x: x.reshape(-1, 4), "between the batch axis and the others"),
        (lambda x: x @ x.transpose(1, 2), "product of two activations"),
        (lambda x: F.conv1d(x, x), "product of two activations"),
        (lambda x: torch.einsum("btf,bsf->bts", x, x), "product of two activations"),
        (nn.MaxPool1d(2, return_indices=True), "ask for the values only"),
        (lambda x: 1 / x, "quotient of activations"),
        (lambda x: x.std(1), "method 'std'"),
        (lambda x: x * x.max(1, keepdim=True)[1], "called in a way that is not supported"),
    ],
)
def test_what_is_not_read_is_named(step, message):
    body = nn.Sequential(nn.Linear(2, 24), nn.Unflatten(1, ROWS), nn.ReLU())
    model = Ending(body, step if isinstance(step, nn.Module) else lambda x: F.relu(step(x)))
    with pytest.raises(UnsupportedModuleError, match=message):
        compute_partition(model.double().eval(), PLANE)


FINAL = {
    "softmax": nn.Softmax(1), "log_softmax": nn.LogSoftmax(dim=1), "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(),
    "functional": lambda x: F.log_softmax(x, 1), "method": lambda x: x.softmax(dim=1),
    "argmax": lambda x: x.argmax(1), "class": lambda x: torch.argmax(torch.softmax(x, 1), dim=1),
    "shaped": lambda x: torch.sigmoid(x).reshape(-1, 1, 3).squeeze(1), "in place": lambda x: x.sigmoid_(),
}  # fmt: skip


class Ending(nn.Module):
    def __init__(self, body, end):
        super().__init__()
        self.body, self.end = body, end

    def forward(self, x):
        return self.end(self.body(x))


@pytest.mark.parametrize("name", FINAL)
def test_a_last_step_that_rises_changes_nothing(name):
    body = mlp(2, 12, 3)
    plain = compute_partition(body, PLANE, outputs=True, boundary=True)
    ended = compute_partition(Ending(body, FINAL[name]).eval(), PLANE, outputs=True, boundary=True)
    for field in ("vertices", "key", "outputs"):
        np.testing.assert_array_equal(getattr(plain, field), getattr(ended, field))
    np.testing.assert_array_equal(plain.boundary.segments, ended.boundary.segments)


def test_one_sigmoid_has_its_boundary_at_a_half():
    model = nn.Sequential(*mlp(2, 12, 1), nn.Sigmoid())
    boundary = compute_partition(model, PLANE, boundary=True).boundary
    assert len(boundary.segments) > 1
    half = model(PLANE.at(boundary.segments.reshape(-1, 2)))
    torch.testing.assert_close(half, torch.full_like(half, 0.5))


@pytest.mark.parametrize("name", ["softmax", "argmax"])
def test_a_model_that_is_not_its_graph_is_seen_behind_a_last_step_too(name):
    body = mlp(2, 12, 3)
    body[0].register_forward_hook(lambda module, inputs, output: output + 1e-3)
    with pytest.raises(UnsupportedModuleError, match="forward hooks"):
        compute_partition(Ending(body, FINAL[name]).eval(), PLANE)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm,
                                  parametrizations.orthogonal])  # fmt: skip
def test_parametrised_weights_are_read(norm):
    model = mlp(2, 8, 8, 3)
    model[2] = norm(model[2])
    plain = mlp(2, 8, 8, 3).requires_grad_(False)
    plain[2].weight.copy_(model.eval()[2].weight)
    expected, found = (compute_partition(m, PLANE, outputs=True) for m in (plain, model))
    np.testing.assert_array_equal(expected.vertices, found.vertices)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_input_that_is_changed_in_place_leaves_the_slice_as_it_was():
    where = Slice2D.axis_aligned(origin=torch.ones(2, dtype=torch.float64))
    before = where.origin.clone()
    compute_partition(Ending(mlp(2, 4, 2), lambda x: x.mul_(2.0)), where)
    compute_partition(Ending(nn.Identity(), lambda x: x.add_(2.0).relu_()), where)
    assert torch.equal(where.origin, before)
