"""Networks, data sets and numbers as people write them."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from splinestudy.runs.committed import owners
from splinestudy.runs.records import Record

_ARCHS = {
    "vgg16_bn": "VGG-16",
    "simple_cnn": "SimpleCNN",
    "alexnet": "AlexNet",
    "preresnet": "PreResNet-",
    "resnet": "ResNet-",
    "mobilenet_v2": "MobileNetV2",
}
_DATA = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "fashion_mnist": "Fashion-MNIST",
    "mnist": "MNIST",
    "imagenet": "ImageNet",
}
_NETWORK = ("dataset", "images", "arch", "width")


def network_name(record: Record) -> str:
    """The network behind a record of any kind of run, and its data, as ``VGG-16 ×1/4, CIFAR-10, 10,000 images``.

    The images are counted where they are not all there are.
    """
    dense = dense_settings(record)
    images = "" if dense["images"] is None else f", {dense['images']:,} images"
    return f"{arch_name(dense['arch'], dense['width'])}, {data_name(dense['dataset'])}{images}"


def arch_name(arch: str, width: float) -> str:
    """A network's name and width.

    >>> arch_name("preresnet20", 0.5)
    'PreResNet-20 ×1/2'
    """
    name = next((arch.replace(known, shown) for known, shown in _ARCHS.items() if known in arch), arch)
    return f"{name} ×{Fraction(width).limit_denominator(64)}"


def data_name(dataset: str) -> str:
    """A data set's name.

    >>> data_name("fashion_mnist")
    'Fashion-MNIST'
    """
    return _DATA.get(dataset, dataset)


def profile_of(record: Record) -> str:
    """The profile whose settings a committed record has, with the network or data that its study sets otherwise.

    Of other records what they say themselves. A profile may have changed since a record was made.
    """
    owned = owners().get(record.key)
    if owned is None:
        return str(record.provenance["profile"])
    study, _ = owned
    other = [f"{name} {value}" for name, value in study.overrides.items() if name in _NETWORK]
    return ", ".join([study.profile, *other])


def dense_settings(record: Record) -> Mapping[str, Any]:
    """The settings of data, network and dense training behind a record of any kind of run."""
    settings = record.settings
    return settings.get("dense") or settings.get("training") or settings


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign, as people write it.

    >>> signed(-0.31), signed(2, 2)
    ('−0.3', '+2.00')
    """
    return f"{value:+.{digits}f}".replace("-", "−")


def three_figures(value: float) -> str:
    """Three significant figures, without an exponent.

    >>> three_figures(0.01234), three_figures(12345)
    ('0.0123', '12,345')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
