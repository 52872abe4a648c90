"""Regression in one dimension by one-hidden-layer ReLU networks: many networks trained side by side."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from splinelib.criteria.spline import Spline
from splinelib.errors import SettingError

# Knots and values of the two continuous piecewise linear targets on [-1, 1].
_KINKED = ((-1.0, -0.7, -0.55, 0.0, 0.1, 0.4, 1.0), (0.0, 1.0, -0.5, 0.2, 1.0, -1.0, 0.5))
_TEETH = 4
# Share of the largest eigenvalue of a Gram matrix that is added to its diagonal: units that are active nowhere
# have zero rows, and float64 carries 1e-16.
_RIDGE = 1e-10
# Exponent that spreads the knots of a free-knot linear spline best in the mean square: 1 / (order + 1/2), order 2
# (de Boor, "Good approximation by splines with variable knots", 1973).
CURVATURE_POWER = 0.4


def _runge(x: Tensor) -> Tensor:
    return 1 / (1 + 25 * x**2)


def _kinked(x: Tensor) -> Tensor:
    knots, values = _KINKED
    return torch.from_numpy(np.interp(x.double().numpy(), knots, values)).to(x.dtype)


def _sawtooth(x: Tensor) -> Tensor:
    phase = (x + 1) / 2 * _TEETH
    return 1 - 4 * (phase - (phase + 0.5).floor()).abs()


TARGETS: MappingProxyType[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"smooth": _runge, "kinked": _kinked, "sawtooth": _sawtooth}
)
"""Functions on [-1, 1]: Runge's ``1 / (1 + 25 x²)``, one with five kinks of different strength, four equal teeth."""


@dataclass(frozen=True, eq=False)
class Nets:
    """N networks ``f(x) = Σ_j out_j · max(weight_j x + bias_j, 0) + shift``; ``[N, h]`` each, ``shift [N]``.

    Unit j bends the function at its knot ``-bias_j / weight_j``, where the slope changes by ``out_j |weight_j|``.
    """

    weight: Tensor
    bias: Tensor
    out: Tensor
    shift: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Values ``[N, P]`` at ``x [P]``."""
        active = (self.weight[:, :, None] * x + self.bias[:, :, None]).clamp_min(0)
        return torch.bmm(self.out[:, None], active)[:, 0] + self.shift[:, None]

    @property
    def knots(self) -> Tensor:
        """Where each unit bends, ``[N, h]``; outside [-1, 1] a unit does not bend the function that is fitted."""
        return -self.bias / self.weight

    def model(self, number: int) -> nn.Sequential:
        """One of the networks as a module, float64, eval mode."""
        first, second = (
            nn.Linear(1, self.weight.shape[1]).double(),
            nn.Linear(self.weight.shape[1], 1).double(),
        )
        with torch.no_grad():
            first.weight.copy_(self.weight[number, :, None])
            first.bias.copy_(self.bias[number])
            second.weight.copy_(self.out[number, None])
            second.bias.copy_(self.shift[number, None])
        return nn.Sequential(first, nn.ReLU(), second).eval()

    def units(self, index: Tensor) -> "Nets":
        """The networks with the units ``index [N, k]`` alone."""
        weight, bias, out = (part.gather(1, index) for part in (self.weight, self.bias, self.out))
        return Nets(weight, bias, out, self.shift)


def random_nets(count: int, width: int, generator: torch.Generator) -> Nets:
    """PyTorch's default: weights and biases of the hidden layer uniform in ±1, of the output in ±1/√width."""

    def uniform(reach: float, *shape: int) -> Tensor:
        return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * reach

    reach = 1 / math.sqrt(width)
    return Nets(
        uniform(1, count, width),
        uniform(1, count, width),
        uniform(reach, count, width),
        uniform(reach, count),
    )


def curvature_knots(x: Tensor, y: Tensor, width: int) -> Tensor:
    """``width`` knots at the quantiles of ``|f''|`` to the power :data:`CURVATURE_POWER`, estimated from samples.

    Args:
        x: equally spaced, ascending, ``[P]``.
        y: values ``[N, P]`` of N functions.

    Returns:
        ``[N, width]``, ascending. The first knot lies at ``x[0]`` and carries the slope there; the others are the
        quantiles (i + 1/2) / (width - 1).
    """
    if width < 2:
        raise SettingError(f"width is {width}: knots at quantiles need at least 2 units")
    # A second difference of rounding alone would attract knots to straight pieces.
    second = (y[:, 2:] - 2 * y[:, 1:-1] + y[:, :-2]).abs()
    second = torch.where(second > 1e-9 * second.amax(1, keepdim=True), second, torch.zeros_like(second))
    step = (x[-1] - x[0]) / (len(x) - 1)
    mass = torch.cat([torch.zeros_like(y[:, :1]), (second**CURVATURE_POWER).cumsum(1)], dim=1)
    share = (torch.arange(width - 1, dtype=x.dtype) + 0.5) / (width - 1)
    wanted = share * mass[:, -1:]
    right = torch.searchsorted(mass, wanted).clamp(1, mass.shape[1] - 1)
    low, high = mass.gather(1, right - 1), mass.gather(1, right)
    # The mass of the second difference at x[i] is spread over x[i] ± step / 2.
    inner = x[0] + step * (right - 0.5 + (wanted - low) / (high - low).clamp_min(1e-300))
    return torch.cat([x[:1].expand(len(y), 1), inner], dim=1)


def knot_nets(knots: Tensor) -> Nets:
    """Networks ``Σ_j out_j · max(x - knot_j, 0)`` with zero outer weights, from ``knots [N, h]``."""
    return Nets(torch.ones_like(knots), -knots, torch.zeros_like(knots), torch.zeros_like(knots[:, 0]))


def fit_outer(nets: Nets, x: Tensor, y: Tensor) -> Nets:
    """The networks with the outer weights of least squares on ``x [P]``, ``y [N, P]``; knots stay."""
    gram, moment = _normal_equations(nets, x, y)
    outer = torch.linalg.solve(gram, moment[:, :, None])[:, :, 0]
    return Nets(nets.weight, nets.bias, outer[:, :-1], outer[:, -1])


def _normal_equations(nets: Nets, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Gram matrix ``[N, h + 1, h + 1]`` of the units' activations and the constant, and their products with ``y``."""
    active = (nets.weight[:, :, None] * x + nets.bias[:, :, None]).clamp_min(0)
    active = torch.cat([active, torch.ones_like(active[:, :1])], dim=1)
    gram = active @ active.mT
    ridge = _RIDGE * gram.diagonal(dim1=1, dim2=2).amax(1)
    return gram + ridge[:, None, None] * torch.eye(gram.shape[1], dtype=gram.dtype), (active @ y[:, :, None])[
        ..., 0
    ]


def cheapest_units(nets: Nets, x: Tensor, y: Tensor, keep: int) -> Tensor:
    """Backward elimination: again and again without the unit whose removal, outer weights refitted, costs least.

    Removing unit j from a least-squares fit with outer weights v raises the summed squared error by
    ``v_j² / (G⁻¹)_jj``, G the Gram matrix. Returns the units kept, ascending, ``[N, keep]``.
    """
    count, width = nets.weight.shape
    if not 1 <= keep <= width:
        raise SettingError(f"keep is {keep} of {width} units: give 1 to {width}")
    gram, moment = _normal_equations(nets, x, y)
    inverse = torch.linalg.inv(gram)
    outer = (inverse @ moment[:, :, None])[:, :, 0]
    present = torch.ones(count, width, dtype=torch.bool)
    rows = torch.arange(count)
    for _ in range(width - keep):
        diagonal = inverse.diagonal(dim1=1, dim2=2)[:, :-1]
        cost = outer[:, :-1] ** 2 / diagonal.clamp_min(1e-300)
        fall = cost.masked_fill(~present, math.inf).argmin(1)
        present[rows, fall] = False
        column, pivot = inverse[rows, :, fall], inverse[rows, fall, fall]
        outer = outer - column * (outer[rows, fall] / pivot)[:, None]
        inverse = inverse - column[:, :, None] * column[:, None] / pivot[:, None, None]
    return present.nonzero()[:, 1].reshape(count, keep)


def spline_units(nets: Nets, keep: int) -> Tensor:
    """The units ``[N, keep]`` that the spline criterion with geometric offset keeps: of two near knots one falls.

    In one dimension all normals are parallel, so the distance of two units is that of their knots alone.
    """
    criterion = Spline(offset="geometric")
    kept = []
    for weight, bias in zip(nets.weight, nets.bias, strict=True):
        score = criterion.layer_score(weight[:, None], bias)
        kept.append(score.argsort(descending=True, stable=True)[:keep].sort().values)
    return torch.stack(kept)


def train_nets(nets: Nets, x: Tensor, y: Tensor, steps: int, lr: float) -> Nets:
    """Adam on the mean squared error over all of ``x [P]``, ``y [N, P]``; the rate falls to 0 along a cosine.

    All networks train in one computation, in float32. On each piece a network is affine, so all gradients follow
    from two sums over the points where a unit is active: of the residual, and of the residual times x.
    """
    parts = [part.float().clone() for part in (nets.weight, nets.bias, nets.out, nets.shift)]
    for part in parts:
        part.grad = torch.zeros_like(part)
    weight, bias, out, shift = parts
    optimiser = torch.optim.Adam(parts, lr=lr)
    points, values = x.float(), y.float()
    basis = torch.stack([points, torch.ones_like(points)])
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        active = (weight[:, :, None] * points > -bias[:, :, None]).float()
        lines = torch.stack([out * weight, out * bias], dim=1) @ active
        residual = (lines * basis).sum(1) + shift[:, None] - values
        sums = active @ torch.stack([residual * points, residual], dim=2)
        scale = 2 / len(points)
        _set(weight, scale * out * sums[:, :, 0])
        _set(bias, scale * out * sums[:, :, 1])
        _set(out, scale * (weight * sums[:, :, 0] + bias * sums[:, :, 1]))
        _set(shift, scale * residual.sum(1))
        optimiser.step()
    return Nets(*(part.detach().double() for part in parts))


def _set(parameter: Tensor, gradient: Tensor) -> None:
    if parameter.grad is not None:
        parameter.grad.copy_(gradient)


def relative_error(nets: Nets, targets: list[str]) -> Tensor:
    """Root mean square error of each network ``[N]`` on a fine grid, divided by its target's standard deviation."""
    x = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    y = torch.stack([TARGETS[name](x) for name in targets])
    return (nets(x) - y).square().mean(1).sqrt() / y.std(1, correction=0)
