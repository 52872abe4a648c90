"""Small networks that several test files share, with statistics that no two channels have in common."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from splinestudy.models import build_model

WIDTHS = {
    "vgg16_bn": 1 / 16,
    "preresnet20": 1 / 4,
    "preresnet101": 1 / 8,
    "alexnet": 1 / 32,
    "simple_cnn": 1 / 2,
    "mlp": 1 / 10,
    "resnet18": 1.0,
    "resnet50": 1 / 16,
    "mobilenet_v2": 1 / 4,
}


class Net(nn.Module):
    """``Net(forward, name=module, …)``."""

    def __init__(self, forward, **modules):
        super().__init__()
        self._forward = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *args, **kwargs):
        return self._forward(self, *args, **kwargs)


def built(make, shape):
    """What ``make`` makes, in float64 and eval mode, and inputs of a shape; the same whenever it is called."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return make().double().eval(), torch.randn(shape, dtype=torch.float64)


def normed(module, dim=0):
    """The module with its weights as directions and lengths."""
    return nn.utils.parametrizations.weight_norm(module, dim=dim)


def sharing_weights():
    """Two modules that write with one weight, and two that read with one."""
    model = Net(
        lambda s, x: s.p(y := s.a(x).relu() + s.b(x).sigmoid()) * s.q(y.flip(0)),
        **{name: nn.Linear(5, 6) for name in "ab"},
        **{name: nn.Linear(6, 3) for name in "pq"},
    )
    model.b.weight, model.q.weight = model.a.weight, model.p.weight
    return model


def scatter(model, generator):
    """Give every parameter without structure, and every batch-norm statistic, random values; return the model."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
        elif getattr(module, "bias", None) is not None:
            module.bias.data.normal_(std=0.1, generator=generator)
    return model


def small_network(arch, generator):
    """The architecture for images of ``side(arch)`` pixels, small and in eval mode."""
    model = build_model(arch, num_classes=4, width=WIDTHS[arch], image_size=side(arch), seed=0)
    return scatter(model, generator).eval()


def side(arch):
    """Image side that keeps the architecture cheap."""
    return 26 if arch == "simple_cnn" else 16


def images(arch, generator, count=2):
    """Random images [count, 3, side, side]."""
    return torch.randn(count, 3, side(arch), side(arch), generator=generator)


def tiny_cnn(generator):
    """6×6 images of 2 channels: two convolutions with batch norm, a hidden linear layer, three outputs."""
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )
    for parameter in model.parameters():
        parameter.data.normal_(std=0.5, generator=generator)
    return scatter(model, generator).eval()


INPUT = (2, 6, 6)
"""What :func:`tiny_cnn` takes."""


def batch(generator, count=40):
    """Random images for :func:`tiny_cnn`."""
    return torch.randn(count, *INPUT, generator=generator)


def double(model, convolution, norm, unit, twin, scale=1.0):
    """Make ``twin`` the same unit as ``unit`` up to a positive factor, by its batch norm."""
    conv, norm = model[convolution], model[norm]
    norm.bias.data[unit] = 1.0  # so that it is active
    for tensor in (conv.weight, conv.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var):
        if tensor is not None:
            tensor.data[twin] = tensor.data[unit]
    norm.weight.data[twin] *= scale
    norm.bias.data[twin] *= scale
