"""Whether images are what a network takes, and fit to calibrate it: asked before any work is done."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.checks import Count, checked
from splinelib.errors import SettingError
from splinelib.hooks import Inputs, duplicate, evaluating, run, tensors_in

Images = Tensor | Iterable[Any]
"""A batch of images [N, ...]; or batches, as a DataLoader gives them: their first :data:`MANY` images."""

MANY = 1000


@checked
def first_images(batches: Iterable[Any], count: Count = MANY) -> tuple[Tensor, ...]:
    """The first ``count`` images of batches, with what comes with them: ``images, labels = first_images(loader)``.

    Args:
        batches: tensors [N, ...], or tuples, lists or dicts of such, as a DataLoader gives them. No more are drawn than
            needed.
        count: of images.

    Raises :class:`SettingError` where there are none, or batches do not fit together.

    >>> loader = torch.utils.data.DataLoader([(torch.ones(3), label) for label in range(8)], batch_size=4)
    >>> [tuple(values.shape) for values in first_images(loader, 6)]
    [(6, 3), (6,)]
    """
    found: list[list[Tensor]] = []
    wanted = int(count)
    for batch in batches:
        values = batch.values() if isinstance(batch, Mapping) else batch
        found.append(
            list(values) if isinstance(values, Iterable) and not isinstance(batch, Tensor) else [batch]
        )
        if not found[-1] or not all(isinstance(value, Tensor) and value.ndim for value in found[-1]):
            raise SettingError(
                f"a batch is a {type(batch).__name__} of other things than tensors [N, ...]: give such"
            )
        wanted -= len(found[-1][0])
        if wanted <= 0:
            break
    try:
        return tuple(torch.cat(parts)[: int(count)] for parts in zip(*found, strict=True))
    except (RuntimeError, ValueError) as error:
        raise SettingError(f"the batches do not fit together ({error}): give images of one size") from error


def calibration_images(model: nn.Module, images: Images | None, example: Tensor | None = None) -> Tensor:
    """One batch [N, ...] that can calibrate ``model``: two or more finite inputs, not all alike.

    Images of several batches are taken to the model's device; of batches with names, those by the name that ``model``
    takes first, or else what alone is of the example's shape. Raises :class:`SettingError` unless they are what
    ``model`` takes, each of the shape of one of ``example`` [N, ...] where that is given.
    """
    if images is not None and not isinstance(images, Tensor):
        device = next((parameter.device for parameter in model.parameters()), "cpu")
        batches = (_named_input(model, batch, example) for batch in images)
        images = next((values.to(device) for values in first_images(batches)), None)
    if images is None or images.ndim < 2 or len(images) < 2:
        given = "not given" if images is None else f"of shape {tuple(images.shape)}"
        raise SettingError(
            f"the calibration batch is {given}: give some hundred training images [N, ...] as `data`"
        )
    if example is not None and images.shape[1:] != example.shape[1:]:
        raise SettingError(
            f"the calibration batch has shape {tuple(images.shape)} and the example inputs {tuple(example.shape)}: "
            "give both of one size"
        )
    check_fit(model, images)
    if bool((images == images[:1]).all()):
        raise SettingError(
            f"the calibration batch is {len(images)} times the same image: give some hundred different training images"
        )
    return images


def _named_input(model: nn.Module, batch: Any, example: Tensor | None) -> Any:
    """Of a batch with names what ``model`` takes: by the name of its first argument, or what alone looks like it."""
    if not isinstance(batch, Mapping) or not all(isinstance(values, Tensor) for values in batch.values()):
        return batch
    argument = next(iter(inspect.signature(model.forward).parameters), "")
    if argument in batch:
        return batch[argument]
    alike = [name for name, values in batch.items() if _is_like(values, example)]
    if len(alike) != 1:
        raise SettingError(
            f"a batch is a dict of {', '.join(map(repr, batch))}, of which none is called {argument!r} as what "
            f"{type(model).__name__} takes first: name it so, or give batches of the images alone"
        )
    return batch[alike[0]]


def _is_like(values: Tensor, example: Tensor | None) -> bool:
    """Whether values are of the shape and kind of the example; without one, numbers with places for each input."""
    if example is None:
        return values.is_floating_point() and values.ndim > 1
    kinds = values.is_floating_point(), example.is_floating_point()
    return values.shape[1:] == example.shape[1:] and kinds[0] == kinds[1]


def check_inputs(model: nn.Module, example_inputs: Inputs) -> None:
    """Raise :class:`SettingError` unless ``model``, which stays as it is, runs on the example inputs."""
    copy = duplicate(model)
    if not next((len(tensor) for tensor in tensors_in(example_inputs) if tensor.ndim), 1):
        raise SettingError("the example inputs hold no image: give a batch [N, ...]")
    try:
        with evaluating(copy):
            run(copy, example_inputs)
    except Exception as error:
        raise SettingError(
            f"{type(model).__name__} does not take the example inputs ({error}): give a batch [N, ...] on its device "
            "and of its dtype, a tuple of arguments, or a dict of keywords"
        ) from error


def check_fit(model: nn.Module, images: Tensor) -> Any:
    """What ``model`` gives for the first two images.

    Raises :class:`SettingError` unless all images [N, ...] are finite and ``model`` takes them.
    """
    if not bool(images.isfinite().all()):
        raise SettingError(
            f"images of shape {tuple(images.shape)} hold values that are not finite: leave such images out"
        )
    try:
        with evaluating(model):
            return model(images[:2])
    except Exception as error:
        raise SettingError(
            f"{type(model).__name__} does not take images of shape {tuple(images.shape)} ({error}): give a batch "
            "[N, ...] on its device and of its dtype, for a network that has this one input"
        ) from error
