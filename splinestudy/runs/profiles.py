"""The profiles: how large an experiment is, from seconds to the paper's own size. All in one readable place."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from splinelib.checks import Seed, check, checked
from splinelib.errors import SettingError
from splinestudy.data import DATASETS
from splinestudy.models import ARCHITECTURES
from splinestudy.runs import methods


@dataclass(frozen=True)
class Profile:
    """One size of the experiments.

    Attributes:
        dataset: name of the data set.
        images: training images, class-balanced; None for all.
        arch: architecture.
        width: its width factor.
        seeds: one dense run for each.
        epochs: of the dense runs.
        finetune_epochs: after pruning.
        lr: learning rate of the dense runs at the start.
        finetune_lr: that of fine-tuning.
        batch_size: images a step.
        precision: ``"float32"`` or ``"bfloat16"``.
        recipe: one of :data:`RECIPES`, of the dense runs and of fine-tuning.
        ratios: pruning ratios.
        criteria: pruning criteria.
        canvas_side: points a side of the two-image canvas.
        canvas_sides: those of further ones, to see how much the canvas matters.
        curve: pruning ratios at which networks are measured without any training.
        test_images: at most so many test images, class-balanced and the same for every seed; None for all.
        size: ``"smoke"``, ``"quick"`` or ``"reference"``: how large the runs without a sweep of networks are (the toy,
            k-means, fits of one variable, slices, readings).
    """

    dataset: str
    images: int | None
    arch: str
    width: float
    seeds: tuple[int, ...]
    epochs: int
    finetune_epochs: int
    ratios: tuple[float, ...] = (0.3, 0.5, 0.7)
    criteria: tuple[str, ...] = ("spline", "l1", "bn_scale", "random")
    lr: float = 0.1
    finetune_lr: float = 0.02
    batch_size: int = 128
    precision: str = "float32"
    recipe: str = "steps"
    canvas_side: int = 32
    canvas_sides: tuple[int, ...] = (4, 8, 16, 100)
    curve: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    test_images: int | None = None
    size: str = "reference"


RECIPES: dict[str, dict[str, Any]] = {
    "steps": {},  # the paper's [code, eb]
    "thirds": {"milestones": (1 / 3, 2 / 3)},  # its on ImageNet [eb]
    "short": {
        "milestones": (),
        "linear": True,
        "warmup": 0.2,
        "nesterov": True,
        "weight_decay": 5e-4,
    },
}
"""How the learning rate goes, and what goes with it: settings of :class:`.TrainSettings` beside those of a profile."""

# The paper's settings [code, eb] on one GPU.
_PAPER = Profile(
    dataset="cifar10",
    images=None,
    arch="vgg16_bn",
    width=1.0,
    seeds=(0, 1, 2),
    epochs=160,
    finetune_epochs=160,
    finetune_lr=0.1,
    precision="bfloat16",
    canvas_side=100,
    canvas_sides=(8, 16, 32, 64),
)
_STUDIED = Profile(
    dataset="cifar10",
    images=None,
    arch="vgg16_bn",
    width=1 / 2,
    seeds=(0, 1, 2, 3, 4),
    epochs=20,
    finetune_epochs=8,
    lr=0.1,
    finetune_lr=0.025,
    recipe="short",
    precision="bfloat16",
)

PROFILES = {
    # Seconds, without a download: does everything run?
    "smoke": Profile(
        dataset="digits",
        images=256,
        arch="simple_cnn",
        width=1 / 4,
        seeds=(0, 1),
        epochs=4,
        finetune_epochs=1,
        ratios=(0.5,),
        batch_size=64,
        canvas_side=8,
        canvas_sides=(2, 4),
        curve=(0.5,),
        test_images=120,
        size="smoke",
    ),
    # Minutes on 2 cores, real CIFAR-10: do the shapes of the curves show?
    "quick": Profile(
        dataset="cifar10",
        images=5_000,
        arch="vgg16_bn",
        width=1 / 8,
        seeds=(0, 1),
        epochs=8,
        finetune_epochs=1,
        batch_size=64,
        ratios=(0.3, 0.7),
        precision="bfloat16",
        canvas_side=24,
        canvas_sides=(4, 8, 16, 50),
        curve=(0.3,),
        test_images=2_000,
        size="quick",
    ),
    # Hours on 2 cores, all of CIFAR-10: what the committed records hold.
    "reference": Profile(
        dataset="cifar10",
        images=None,
        arch="vgg16_bn",
        width=1 / 4,
        seeds=(0, 1, 2),
        epochs=16,
        finetune_epochs=4,
        criteria=("spline", "l1", "bn_scale", "fpgm", "random", "reconstruction"),
        precision="bfloat16",
    ),
    # The same for every method on a smaller network: the committed study.
    "study": Profile(
        dataset="cifar10",
        images=None,
        arch="vgg16_bn",
        width=1 / 8,
        seeds=(0, 1, 2),
        epochs=16,
        finetune_epochs=2,
        criteria=methods.names_of("score"),
        precision="bfloat16",
    ),
    # And on a residual network, for the methods of the paper's own comparison.
    "residual": Profile(
        dataset="cifar10",
        images=None,
        arch="preresnet20",
        width=1 / 2,
        seeds=(0, 1, 2),
        epochs=16,
        finetune_epochs=2,
        criteria=("spline", "l1", "fpgm", "random", "reconstruction"),
        precision="bfloat16",
    ),
    # And on grey pictures with the small network of the authors' code (--dataset mnist for the other data set).
    "breadth": Profile(
        dataset="fashion_mnist",
        images=None,
        arch="simple_cnn",
        width=1.0,
        seeds=(0, 1, 2, 3, 4),
        epochs=16,
        finetune_epochs=2,
        criteria=methods.names_of("score"),
        precision="bfloat16",
    ),
    # The study (book/protocol.md): few networks, trained to the end; and the pilot that its recipe comes from, with
    # seeds that no study uses.
    "grey": dataclasses.replace(
        _STUDIED, dataset="fashion_mnist", arch="simple_cnn", width=1.0, seeds=tuple(range(10))
    ),
    "half": _STUDIED,
    "full": dataclasses.replace(_STUDIED, width=1.0),
    "full_residual": dataclasses.replace(_STUDIED, arch="preresnet20", width=1.0),
    "pilot": dataclasses.replace(_STUDIED, width=1 / 4, seeds=(100, 101), ratios=(0.5,)),
    "paper": _PAPER,
    # And on ImageNet [eb], for several GPUs (torchrun); a canvas of 224 pixels takes 0.6 MB a point.
    "imagenet": dataclasses.replace(
        _PAPER,
        dataset="imagenet",
        arch="resnet50",
        epochs=90,
        finetune_epochs=90,
        batch_size=256,
        recipe="thirds",
        canvas_side=32,
        canvas_sides=(8, 16),
    ),
}
_CHOICES = {
    "dataset": DATASETS,
    "arch": ARCHITECTURES,
    "criteria": methods.choices(),
    "precision": ("float32", "bfloat16"),
    "recipe": RECIPES,
    "size": ("smoke", "quick", "reference"),
}


@checked
def get_profile(name: str, **overrides: Any) -> Profile:
    """The profile of that name with some fields replaced; an override of None leaves the field as it is.

    Lists are taken for tuples and whole numbers for floats, as notebook parameters and command lines give them.
    ``images=0`` means all images.

    Raises:
        SettingError: for an unknown profile, field or choice, or a value of the wrong type, before any work.
    """
    if name not in PROFILES:
        raise SettingError(f"profile is {name!r}: choose one of {', '.join(PROFILES)}")
    hints = get_type_hints(Profile)
    changes = {}
    for field, value in overrides.items():
        if field not in hints:
            raise SettingError(f"a profile has no field {field!r}: it has {', '.join(hints)}")
        if value is not None:
            changes[field] = _coerced(field, value, hints[field])
    if changes.get("images") == 0:
        changes["images"] = None
    return _checked(dataclasses.replace(PROFILES[name], **changes))


def _coerced(field: str, value: Any, hint: Any) -> Any:
    """``value`` as the type ``hint``, or an error."""
    if isinstance(value, np.generic):
        value = value.item()
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or not value:
            raise SettingError(f"{field} is {value!r}: give a non-empty list")
        return tuple(_coerced(field, item, get_args(hint)[0]) for item in value)
    allowed = get_args(hint) or (hint,)
    if float in allowed and type(value) is int:
        return float(value)
    if type(value) not in allowed:
        names = " or ".join(kind.__name__ for kind in allowed)
        raise SettingError(f"{field} is {value!r}, of type {type(value).__name__}: give {names}")
    return value


def _checked(profile: Profile) -> Profile:
    for field, choices in _CHOICES.items():
        value = getattr(profile, field)
        for item in value if isinstance(value, tuple) else (value,):
            if item not in choices:
                raise SettingError(f"{field} is {item!r}: choose from {', '.join(choices)}")
    for field in ("seeds", "ratios", "curve", "criteria"):
        values = getattr(profile, field)
        if len(set(values)) < len(values):
            raise SettingError(f"{field} are {values}: name each once")
        if field in ("ratios", "curve") and not all(0 < ratio < 1 for ratio in values):
            raise SettingError(f"{field} are {values}: each must lie strictly between 0 and 1")
    for field, least in (
        ("epochs", 1),
        ("finetune_epochs", 1),
        ("batch_size", 2),
        ("canvas_side", 2),
        ("images", 1),
        ("test_images", 1),
    ):
        value = getattr(profile, field)
        if value is not None and value < least:
            raise SettingError(f"{field} is {value}: it must be at least {least}")
    check("seeds", profile.seeds, tuple[Seed, ...])
    for field in ("width", "lr", "finetune_lr"):
        value = getattr(profile, field)
        if not 0 < value < math.inf:
            raise SettingError(f"{field} is {value}: it must be positive and finite")
    if profile.arch == "mlp" and "bn_scale" in profile.criteria:
        raise SettingError("arch is 'mlp', which has no batch norm for 'bn_scale': name criteria without it")
    if profile.arch == "resnet18" and profile.width != 1:
        raise SettingError(
            f"arch is 'resnet18' and width {profile.width:g}: its basic blocks come in width 1 only; set width=1 as "
            "well (in a notebook `-p width 1`), or choose another architecture"
        )
    return profile
