"""What a module is to do after a cut: write, or norm, what it did in the dense network; solved by least squares."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.errors import SettingError
from splinelib.layers.kinds import BATCH_NORM, complement, set_weight
from splinelib.layers.patches import (
    by_group,
    group_weights,
    output_positions,
    outputs_at,
    patches,
    places,
)
from splinelib.layers.visits import CHUNK, Rows, watch_first
from splinelib.regression import Equations, ridge_regression

_ROUNDING = 1e-10  # share of its squared mean up to which a variance counts as zero; float32 leaves 1e-14


def _channels(module: Any) -> int:
    """How many channels a convolution or linear module writes, or a batch norm passes on."""
    return module.num_features if isinstance(module, BATCH_NORM) else len(module.weight)


class NormMoments:
    """Mean and variance of what a batch norm reads over all images and positions, in float64."""

    def __init__(self) -> None:
        self._total: Any = 0.0
        self._square: Any = 0.0
        self._count = 0

    def add(self, values: Tensor) -> None:
        """Count ``values`` [N, channels, ...] in."""
        values = values.transpose(0, 1).flatten(1).double()
        self._total = self._total + values.sum(1)
        self._square = self._square + values.square().sum(1)
        self._count += values.shape[1]

    def of(self, chunks: Iterable[Tensor] = ()) -> tuple[Tensor, Tensor]:
        """Mean and variance [channels] of all that was added, ``chunks`` included."""
        for values in chunks:
            self.add(values)
        mean = self._total / self._count
        return mean, (self._square / self._count - mean.square()).clamp_min(0)


class Goals:
    """What modules of the smaller network are to do: write what they write, or norm what they read, in the dense one.

    ``lost`` are output channels that are gone, by module.
    """

    def __init__(
        self,
        dense: nn.Module,
        smaller: nn.Module,
        names: Sequence[str],
        lost: dict[str, list[int]],
        images: Tensor,
        seed: int,
        rows: Mapping[str, Rows],
    ) -> None:
        self._dense, self._modules = dense, {name: smaller.get_submodule(name) for name in names}
        self._images, self._seed = len(images), seed
        self._kept = {
            name: complement(lost.get(name, []), _channels(dense.get_submodule(name))).to(images.device)
            for name in names
        }
        norms = [name for name in names if isinstance(self._modules[name], BATCH_NORM)]
        self._moments = {name: NormMoments() for name in norms}
        self._places: dict[str, list[Tensor]] = {}
        self._outputs: dict[str, list[Tensor]] = {name: [] for name in names if name not in norms}
        for chunk in images.split(CHUNK):
            read = {name: moments.add for name, moments in self._moments.items()}
            watch_first(dense, read, {name: partial(self._note, name) for name in self._outputs}, chunk, rows)

    def _note(self, name: str, outputs: Tensor) -> None:
        """Keep what the dense module writes for one more chunk of images, at some positions."""
        module = self._modules[name]
        if name not in self._places:
            positions = output_positions(module, outputs)
            self._places[name] = places(module, positions, self._images, self._seed)
        held = self._outputs[name]
        held.append(outputs_at(module, outputs, self._places[name][len(held)])[:, self._kept[name]])

    def reach(self, name: str, inputs: Iterable[Tensor], ridge: float) -> None:
        """Let a module of the smaller network, given its inputs, come as close to the dense one as it can."""
        if name in self._moments:
            self._shift(name, inputs)
        else:
            self._solve(name, inputs, ridge)

    def _shift(self, name: str, inputs: Iterable[Tensor]) -> None:
        """Let the running statistics of a batch norm follow how its input differs from that in the dense network.

        The dense network's running statistics come from other, augmented images: those of its input on the calibration
        images would change the function even where no unit is gone. A channel that is constant on the images, in either
        network, keeps its variance.
        """
        norm: Any = self._modules[name]
        if norm.running_mean is None:
            return
        whole: Any = self._dense.get_submodule(name)
        kept = self._kept[name]
        before, spread_before = (values[kept] for values in self._moments[name].of())
        now, spread = NormMoments().of(inputs)
        varies = _varies(before, spread_before) & _varies(now, spread)
        factor = torch.where(varies, spread / spread_before, 1.0)
        norm.running_mean.copy_(whole.running_mean[kept] + (now - before))
        norm.running_var.copy_(whole.running_var[kept] * factor)

    def _solve(self, name: str, inputs: Iterable[Tensor], ridge: float) -> None:
        """Set weight and bias of a module to the ridge solution."""
        module: Any = self._modules[name]
        weight = group_weights(module)

        def misses() -> Equations:
            """What the module meets, and by how much its output misses the dense network's."""
            for chunk, where, wanted in zip(inputs, self._places[name], self._outputs[name], strict=True):
                rows = patches(module, chunk, where)
                error = by_group(wanted, module) - rows @ weight
                yield (
                    rows,
                    error if module.bias is None else error - module.bias.detach().view(len(error), 1, -1),
                )

        try:
            change, shift = ridge_regression(misses(), ridge, unknowns=weight.shape[1])
        except torch.linalg.LinAlgError as error:
            raise SettingError(
                f"{name!r} cannot be re-solved with ridge {ridge:g}: what it reads on the {self._images} images is "
                "constant, not finite, or too little; give more and different images, or a larger ridge"
            ) from error
        set_weight(module, module.weight + change.mT.reshape(module.weight.shape))
        if module.bias is not None:
            module.bias.data.add_(shift.flatten())


def _varies(mean: Tensor, variance: Tensor) -> Tensor:
    """Whether a variance is more than what rounding leaves of a constant."""
    return variance > _ROUNDING * mean.square()
