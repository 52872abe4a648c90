"""Early-bird detectors: at which epoch has the partition, or the pruning mask, settled?

Both detectors are used alike::

    detector = SplineEarlyBird(canvas)
    for epoch in range(epochs):
        train_one_epoch(model)
        if detector.update(model):
            break

Epochs are counted from 0, as in the released code: ``detector.epoch`` is the index of the update that drew the
ticket.

Nothing ties an update to an epoch. To look more often, which pays in the first epochs, call ``update`` after every n
optimiser steps instead; call t then sees the network after ``(t + 1) * n`` steps. The rule's ``window`` counts calls,
not epochs: the same window spans a shorter stretch of training, over which a network moves less, so a ticket is drawn
more easily, and threshold and window should be set for the interval in use. Every call keeps a code of at most
``bits / 8`` bytes a layer and compares it with the ``window`` before. The places of the sampled entries take as much
as 32 codes, once. The distances of all calls are computed when they are asked for.
"""

import zlib
from abc import ABC, abstractmethod
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.checks import Count, Share, Whole, Within, check, check_finite, checked, shown
from splinelib.early_bird.codes import Places, sign_codes
from splinelib.early_bird.distances import PackedCode, pack_bits, pairwise_distances
from splinelib.errors import RecordError, SettingError, TrainingError, UnsupportedModuleError

Threshold = Annotated[float, Within("(0, 1]")]
"""A distance, which lies in [0, 1]."""

RELEASED_THRESHOLD = 0.16
"""Below this distance to the updates before the authors' released detector draws."""


class _Detector(ABC):
    """Keeps the code of every update."""

    @checked
    def __init__(self, threshold: Threshold, window: Count) -> None:
        self.threshold = threshold
        self.window = window
        self.epoch: int | None = None
        self._history: list[PackedCode] = []
        self._distances = np.zeros((0, 0, 0))

    @abstractmethod
    def _observe(self, model: nn.Module) -> PackedCode:
        """The code of ``model`` as it is now."""

    @abstractmethod
    def _settled(self, recent: np.ndarray) -> bool:
        """Whether the rule holds, from the distances of the latest update and at most ``window`` before it."""

    def _settings(self) -> dict[str, Any]:
        """What a state is made with, and must be restored with."""
        return {"threshold": float(self.threshold), "window": int(self.window)}

    def update(self, model: nn.Module) -> bool:
        """Look at ``model`` after one more epoch; True once the ticket is drawn (then and ever after).

        The model is left as it was: mode of every module, gradients and parameters.
        """
        code = self._observe(model)
        recent = pairwise_distances([*self._history[-self.window :], code]).mean(axis=2)
        self._history.append(code)
        if self.epoch is None and self._settled(recent):
            self.epoch = len(self._history) - 1
        return self.epoch is not None

    @property
    def codes(self) -> tuple[PackedCode, ...]:
        """The code seen at every update so far, for :func:`.settled_share` and its neighbours."""
        return tuple(self._history)

    @property
    def layer_distances(self) -> np.ndarray:
        """Distance of every two updates, layer by layer: float64 array [updates, updates, layers], symmetric.

        Computed when asked for, anew after each update.
        """
        if len(self._distances) != len(self._history):
            self._distances = pairwise_distances(self._history)
        return self._distances.copy()

    @property
    def distances(self) -> np.ndarray:
        """Distance of every two updates, the mean over layers: float64 array [updates, updates] in [0, 1]."""
        matrix = self.layer_distances
        return matrix.mean(axis=2) if matrix.size else matrix.sum(axis=2)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a restored detector needs to go on, as tensors, numbers and strings (safe to load)."""
        return {
            "epoch": self.epoch,
            "codes": [[torch.from_numpy(layer.copy()) for layer in code.layers] for code in self._history],
            "bits": [list(code.bits) for code in self._history],
            "settings": self._settings(),
        }

    @checked
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state made by :meth:`state_dict` of a detector with the same canvas and settings.

        Raises :class:`RecordError` if entries are missing or settings differ: codes of two canvases cannot be compared,
        and an epoch drawn by one rule is not that of another.
        """
        if missing := {"epoch", "codes", "bits", "settings"} - state.keys():
            raise RecordError(f"detector state lacks {sorted(missing)}: it was not made by state_dict()")
        check("the state's epoch", state["epoch"], Whole | None)
        check("the state's settings", state["settings"], dict)
        theirs, mine = state["settings"], self._settings()
        if differing := [name for name in mine if theirs.get(name) != mine[name]]:
            pairs = ", ".join(f"{name} {theirs.get(name)} and not {mine[name]}" for name in differing)
            raise RecordError(f"detector state was made with {pairs}: build the detector as it was then")
        try:
            history = [
                PackedCode(tuple(layer.cpu().numpy() for layer in layers), tuple(bits))
                for layers, bits in zip(state["codes"], state["bits"], strict=True)
            ]
        except (AttributeError, TypeError, ValueError) as error:
            raise RecordError(
                f"detector state is damaged ({error}): it was not made by state_dict()"
            ) from error
        if state["epoch"] is not None and state["epoch"] >= len(history):
            raise RecordError(
                f"detector state is damaged: it was drawn at update {state['epoch']} of {len(history)}"
            )
        self.epoch, self._history = state["epoch"], history
        self._distances = np.zeros((0, 0, 0))


class SplineEarlyBird(_Detector):
    """Spline early bird [released code]: the sign codes on a fixed canvas have stopped changing.

    Drawn at the first update whose largest distance to the ``window`` updates before it is below ``threshold``.
    ``canvas`` is a batch of inputs [points, ...]; ``bits`` is explained at :func:`splinelib.sign_codes`.
    Works with and without batch norm, since it reads the input of every non-linearity. The attribute ``canvas`` may be
    moved to another device or dtype; a state names the canvas that the detector was made with.

    >>> detector = SplineEarlyBird(canvas=torch.rand(16, 2), window=3)
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> [detector.update(model) for _ in range(5)], detector.epoch  # a network that stands still
    ([False, False, False, True, True], 3)
    """

    @checked
    def __init__(
        self,
        canvas: Tensor,
        threshold: Threshold = RELEASED_THRESHOLD,
        window: Count = 3,
        bits: Count = 2**17,
    ) -> None:
        check_finite("canvas", canvas)
        super().__init__(threshold, window)
        self.canvas = canvas
        self.bits = bits
        self._made_with = _fingerprint(canvas)
        self._places: Places = {}

    def _observe(self, model: nn.Module) -> PackedCode:
        return sign_codes(model, self.canvas, self.bits, self._places)

    def _settled(self, recent: np.ndarray) -> bool:
        return len(recent) > self.window and bool(recent[-1, :-1].max() < self.threshold)

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "bits": int(self.bits), "canvas": self._made_with}


def _fingerprint(canvas: Tensor) -> str:
    """Shape, dtype and a checksum of the values, on whatever device they are."""
    content = canvas.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return f"{canvas.dtype} of shape {tuple(canvas.shape)} with CRC-32 {zlib.crc32(content.tobytes()):08x}"


@checked
def first_settled(
    distances: np.ndarray, threshold: Threshold = RELEASED_THRESHOLD, window: Count = 3
) -> int | None:
    """The epoch at which :class:`SplineEarlyBird` would have drawn, from the distances [updates, updates] of a run.

    So one training serves for every threshold and window. None if the rule never holds.
    """
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or distances.dtype.kind not in "fiu":
        raise SettingError(f"distances are {shown(distances)}: give numbers [updates, updates]")
    check_finite("distances", distances)
    for epoch in range(window, len(distances)):
        if distances[epoch, epoch - window : epoch].max() < threshold:
            return epoch
    return None


class MaskEarlyBird(_Detector):
    """EB Train (You et al., 2020): the batch-norm mask at one pruning ratio has stopped changing.

    The mask keeps the channels whose ``|γ|`` exceeds the ``ratio``-quantile over all batch norms. Drawn when the
    last ``window`` masks lie pairwise within ``threshold``. All batch norms together count as one layer.

    >>> detector = MaskEarlyBird(ratio=0.5, window=3)
    >>> model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))
    >>> [detector.update(model) for _ in range(4)], detector.epoch  # a network that stands still
    ([False, False, True, True], 2)
    """

    @checked
    def __init__(self, ratio: Share, threshold: Threshold = 0.1, window: Count = 5) -> None:
        super().__init__(threshold, window)
        self.ratio = ratio

    def _observe(self, model: nn.Module) -> PackedCode:
        check("model", model, nn.Module)
        scales = [
            module.weight.detach().abs().flatten().cpu().double()
            for module in model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None
        ]
        if not scales:
            raise UnsupportedModuleError(
                f"{type(model).__name__} has no batch norm with scales: use SplineEarlyBird, which needs none"
            )
        scale = torch.cat(scales)
        if not bool(scale.isfinite().all()):
            raise TrainingError(
                "batch-norm scales are NaN or infinite: the network has diverged, lower its lr"
            )
        kept = torch.ones_like(scale, dtype=torch.bool)
        gone = int(round(self.ratio * len(scale), 9))  # 0.29 · 100 is 28.99… here
        kept[scale.argsort(stable=True)[:gone]] = False
        return PackedCode((pack_bits(kept),), (len(scale),))

    def _settled(self, recent: np.ndarray) -> bool:
        pairs = recent[-self.window :, -self.window :]
        return len(pairs) == self.window and bool(pairs.max() <= self.threshold)

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "ratio": float(self.ratio)}
