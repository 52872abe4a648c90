"""Whether images are what a network takes, and fit to calibrate it: asked before any work is done."""

from typing import Any

from torch import Tensor, nn

from splinelib.errors import SettingError
from splinelib.hooks import Inputs, duplicate, evaluating, run


def check_images(model: nn.Module, images: Tensor | None, example: Tensor | None = None) -> None:
    """Raise :class:`SettingError` unless ``images`` can calibrate ``model``: two or more finite inputs, not all alike.

    They must be what ``model`` takes, each of the shape of one of ``example`` [N, ...] where that is given.
    """
    if images is None or images.ndim < 2 or len(images) < 2:
        shape = None if images is None else tuple(images.shape)
        raise SettingError(
            f"the calibration batch has shape {shape}: give some hundred training images [N, ...] as `data`"
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


def check_inputs(model: nn.Module, example_inputs: Inputs) -> None:
    """Raise :class:`SettingError` unless ``model``, which stays as it is, runs on the example inputs."""
    copy = duplicate(model)
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
    except (RuntimeError, ValueError, IndexError) as error:
        raise SettingError(
            f"{type(model).__name__} does not take images of shape {tuple(images.shape)} ({error}): give a batch "
            "[N, ...] on its device and of its dtype"
        ) from error
