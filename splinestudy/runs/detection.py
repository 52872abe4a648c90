"""What a dense run watches while it trains: the detectors of early-bird tickets."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from splinelib.early_bird.detectors import MaskEarlyBird, SplineEarlyBird


class DetectionWatch:
    """Training callback with one spline detector and one mask detector for each ratio."""

    def __init__(self, canvas: Tensor, mask_ratios: Sequence[float], model: nn.Module) -> None:
        self.spline = SplineEarlyBird(canvas)
        # A network without batch norm has no such mask; the spline detector needs none.
        has_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
        self.masks = {ratio: MaskEarlyBird(ratio) for ratio in mask_ratios if has_norm}

    def after_epoch(self, model: nn.Module, epoch: int) -> dict[str, Any]:
        """Show the network to all detectors; no columns for the training's rows."""
        for detector in (self.spline, *self.masks.values()):
            detector.update(model)
        return {}

    def drew(self, epoch: int) -> bool:
        """Whether a detector drew its ticket after this epoch."""
        return epoch in (self.spline.epoch, *(mask.epoch for mask in self.masks.values()))

    def state_dict(self) -> dict[str, Any]:
        """The detectors' states, for a checkpoint."""
        return {
            "spline": self.spline.state_dict(),
            "masks": [mask.state_dict() for mask in self.masks.values()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.spline.load_state_dict(state["spline"])
        for mask, saved in zip(self.masks.values(), state["masks"], strict=True):
            mask.load_state_dict(saved)

    def results(self) -> dict[str, Any]:
        """What every detector saw, and after which epoch it drew, as JSON values."""
        consecutive = [
            self.spline.layer_distances[t, t - 1].round(6).tolist()
            for t in range(1, len(self.spline.distances))
        ]
        return {
            "spline": {
                "epoch": self.spline.epoch,
                "threshold": self.spline.threshold,
                "window": self.spline.window,
                "distances": self.spline.distances.round(6).tolist(),
                "consecutive_by_layer": consecutive,
            },
            "masks": [
                {"ratio": ratio, "epoch": mask.epoch, "distances": mask.distances.round(6).tolist()}
                for ratio, mask in self.masks.items()
            ],
        }
