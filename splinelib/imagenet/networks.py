"""torchvision's networks with their weights, and what pruning them costs."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.artifacts import sha256_of
from splinelib.cost import cost
from splinelib.errors import SettingError
from splinelib.imagenet.settings import check_arch
from splinelib.methods import Calibration, choose_units
from splinelib.models.initialise import seeded_weights
from splinelib.network import read_layers
from splinelib.pruning import Compensate, remove_compensated
from splinelib.surgery import Scope
from splinelib.taps import evaluating


def check_weights(arch: str, weights: str | None, classes: int) -> str | None:
    """The name that a record gives ``weights``; see :func:`build_network`.

    Raises:
        SettingError: if they are neither a file nor one of torchvision's for ``arch``, or not for so many classes.
    """
    from torchvision import models

    check_arch(arch)
    if weights is None:
        return None
    if Path(weights).is_file():
        return f"sha256:{sha256_of(Path(weights).read_bytes())[:16]}"
    known = models.get_model_weights(arch).__members__
    if weights not in known:
        raise SettingError(
            f"weights is {weights!r}, neither a file nor torchvision's for {arch}: give a .pt or .safetensors file, "
            f"or one of {', '.join(known)}"
        )
    if (given := len(known[weights].meta["categories"])) != classes:
        raise SettingError(
            f"weights {weights} of {arch} know {given} classes, the folder has {classes}: give ImageNet's folder, or "
            "a file with weights for these classes"
        )
    return weights


def build_network(arch: str, weights: str | None, num_classes: int = 1000, seed: int = 0) -> nn.Module:
    """A torchvision network in eval mode on the CPU.

    Args:
        arch: one of :func:`architectures`.
        weights: a file with a state dict (``.safetensors``, or by ``torch.save``; read without unpickling objects), the
            name of torchvision weights such as ``"IMAGENET1K_V1"`` (downloaded once), or None for random ones.
        num_classes: outputs.
        seed: of random weights; the global RNG is not touched.
    """
    from torchvision import models

    check_weights(arch, weights, num_classes)
    with seeded_weights(seed):
        model = models.get_model(arch, weights=None, num_classes=num_classes)
    if weights is not None:
        named = not Path(weights).is_file()
        state = (
            models.get_model_weights(arch)[weights].get_state_dict(check_hash=True)
            if named
            else _read(weights)
        )
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise SettingError(
                f"weights {weights} do not fit {arch} with {num_classes} classes ({error})"
            ) from error
    return model.eval()


def _read(path: str) -> dict[str, Tensor]:
    """A state dict, also one that stands under ``model`` or ``state_dict``, or was saved from a parallel network."""
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise SettingError(f"weights {path} need the package safetensors: pip install safetensors") from error
    except Exception as error:  # torch and safetensors raise many kinds
        raise SettingError(
            f"weights {path} cannot be read as tensors ({type(error).__name__}: {str(error)[:200]}): "
            "save them by torch.save(model.state_dict(), path)"
        ) from error
    state = content.get("model", content.get("state_dict", content))
    nn.modules.utils.consume_prefix_in_state_dict_if_present(state, "module.")
    return state


def forward_seconds(model: nn.Module, images: Tensor, repeats: int = 5) -> float:
    """Median wall time in seconds of a forward pass of ``images`` [N, ...] in eval mode, after one to warm up."""
    seconds = []
    with evaluating(model):
        for _ in range(repeats + 1):
            started = time.perf_counter()
            model(images)
            if images.is_cuda:
                torch.cuda.synchronize(images.device)
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def price_pruning(
    arch: str, ratio: float, scope: Scope, compensations: Sequence[Compensate], images: Tensor, seed: int
) -> list[dict[str, Any]]:
    """What pruning an *untrained* network costs and saves; nothing about accuracy.

    Returns:
        One row for the dense network and one for each compensation: arch, ratio, compensate, parameters, flops (for one
        image), forward_seconds (for all ``images`` [N, 3, H, W]), prune_seconds, widths (units by layer name).
    """
    dense, rows = build_network(arch, None, seed=seed), []
    known = Calibration(images, torch.zeros(len(images), dtype=torch.int64))
    for compensate in (None, *compensations):
        started, model = time.perf_counter(), dense
        if compensate is not None:
            selection = choose_units(dense, "spline", ratio, scope, seed, known)
            model = remove_compensated(dense, images[:2], selection, compensate, images)
        spent = time.perf_counter() - started
        rows.append(
            {
                "arch": arch,
                "ratio": ratio if compensate else 0.0,
                "compensate": compensate or "dense",
                **asdict(cost(model, images[:2])),
                "forward_seconds": forward_seconds(model, images),
                "prune_seconds": spent if compensate else 0.0,
                "widths": widths(model, images[:2]),
            }
        )
    return rows


def widths(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Number of units by name of the prunable layer; ``example`` is a batch of inputs."""
    return {layer.name: layer.units for layer in read_layers(model, example)}
