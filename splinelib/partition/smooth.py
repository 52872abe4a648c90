"""Smooth activations by affine pieces, within a bound that the caller sets."""

import math
from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from splinelib.checks import Within, check_finite, checked, shown
from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import duplicate

# For each module the largest absolute second derivative (apart from zero, which is always a break), and the straight
# lines ``(slope, offset)`` that it approaches on the left and on the right.
_ZERO, _ONE, _IDENTITY = (0.0, 0.0), (0.0, 1.0), (1.0, 0.0)
_SMOOTH: dict[type, Callable[[Any], tuple[float, tuple[float, float], tuple[float, float]]]] = {
    nn.GELU: lambda m: (0.8, _ZERO, _IDENTITY),
    nn.SiLU: lambda m: (0.5, _ZERO, _IDENTITY),
    nn.Mish: lambda m: (0.65, _ZERO, _IDENTITY),
    nn.Hardswish: lambda m: (1 / 3, _ZERO, _IDENTITY),  # with kinks at -3 and 3
    nn.Softplus: lambda m: (m.beta / 4, _ZERO, _IDENTITY),
    nn.ELU: lambda m: (abs(m.alpha), (0.0, -m.alpha), _IDENTITY),
    nn.Sigmoid: lambda m: (0.1, _ZERO, _ONE),
    nn.Tanh: lambda m: (0.77, (0.0, -1.0), _ONE),
}


class AffinePieces(nn.Module):
    """A continuous function of each element: ``slopes [n + 1]`` between ascending ``breaks [n]``, ``height`` at first.

    >>> hat = AffinePieces(torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, -1.0, 0.0]), 0.0)
    >>> hat(torch.tensor([-2.0, 0.0, 0.5, 3.0])).tolist()
    [0.0, 1.0, 0.5, 0.0]
    """

    @checked
    def __init__(self, breaks: Tensor, slopes: Tensor, height: float) -> None:
        if breaks.ndim != 1 or not len(breaks) or slopes.shape != (len(breaks) + 1,):
            raise SettingError(f"breaks are {shown(breaks)}, slopes {shown(slopes)}: give [n] and [n + 1]")
        check_finite("breaks", breaks)
        check_finite("slopes", slopes)
        super().__init__()
        self.height = height
        self.register_buffer("breaks", breaks)
        self.register_buffer("slopes", slopes)

    def forward(self, inputs: Tensor) -> Tensor:
        """The function of each element."""
        breaks, slopes = self.breaks, self.slopes
        assert isinstance(breaks, Tensor)
        assert isinstance(slopes, Tensor)
        total = self.height + slopes[0] * (inputs - breaks[0])
        for place, change in zip(breaks, slopes.diff(), strict=True):
            total = total + change * (inputs - place).relu()
        return total


@checked
def with_affine_pieces(model: nn.Module, tolerance: Annotated[float, Within("(0, 1]")] = 0.01) -> nn.Module:
    """A float64 copy of ``model`` whose smooth activation modules are piecewise affine, so that it has a partition.

    GELU, SiLU, Mish, Hardswish, Softplus, ELU, Sigmoid and Tanh (as modules) become :class:`AffinePieces` that differ
    from them by at most ``tolerance`` at every input: between breaks a distance h apart by h²/8 times the largest
    second derivative, beyond the outer ones by what the activation differs from its asymptote there. That bounds each
    activation and not the network, whose layers behind may enlarge the difference. Every break is a unit of its own:
    a GELU has 17 at 0.01 and about √10 times as many for each further digit.

    Raises:
        UnsupportedModuleError: the model holds none of these.
        SettingError: a Softplus becomes linear at a threshold where it jumps by much.

    >>> smooth = nn.Sequential(nn.Linear(2, 4), nn.GELU())
    >>> x = torch.randn(9, 2, dtype=torch.float64)
    >>> bool(((with_affine_pieces(smooth, 1e-3)(x) - smooth.double()(x)).abs() <= 1e-3).all())
    True
    """
    pieces = duplicate(model).double()
    if type(pieces) in _SMOOTH:
        return _approximated(pieces, tolerance)
    found = 0
    for parent in list(pieces.modules()):
        for name, child in list(parent._modules.items()):  # one may stand at several places
            if child is not None and type(child) in _SMOOTH:
                setattr(parent, name, _approximated(child, tolerance))
                found += 1
    if not found:
        names = ", ".join(sorted(kind.__name__ for kind in _SMOOTH))
        raise UnsupportedModuleError(
            f"{type(model).__name__} holds no module that can be approximated: {names}"
        )
    return pieces


def _check_threshold(module: nn.Softplus, tolerance: float) -> None:
    """Raise for a softplus that becomes linear where it still jumps by a twentieth of ``tolerance`` or more."""
    jump = (max(0.0, -module.threshold) + math.log1p(math.exp(-abs(module.threshold)))) / module.beta
    if jump >= tolerance / 20:
        raise SettingError(
            f"Softplus with threshold {module.threshold:g} jumps by {jump:.2g} there, too much for a tolerance of "
            f"{tolerance:g}: give it a larger threshold"
        )


def _approximated(module: nn.Module, tolerance: float) -> AffinePieces:
    curvature, left, right = _SMOOTH[type(module)](module)
    if isinstance(module, nn.Softplus):
        _check_threshold(module, tolerance)
    step = math.sqrt(8 * tolerance / curvature)
    if isinstance(module, nn.Hardswish):
        step = 3 / math.ceil(3 / step)

    def value(place: float) -> float:
        return float(module(torch.tensor(place, dtype=torch.float64)))

    def far(sign: int, line: tuple[float, float]) -> int:
        """How many steps from zero the function is within the tolerance of its asymptote, and of its slope."""
        steps = 1
        while abs(value(sign * steps * step) - line[0] * sign * steps * step - line[1]) > tolerance / 2:
            steps += 1
        return steps

    places = torch.arange(-far(-1, left), far(1, right) + 1, dtype=torch.float64) * step
    heights = torch.tensor([value(float(place)) for place in places], dtype=torch.float64)
    ends = (torch.tensor([line[0]], dtype=torch.float64) for line in (left, right))
    slopes = (heights.diff() / step,)
    return AffinePieces(places, torch.cat([next(ends), *slopes, next(ends)]), float(heights[0]))
