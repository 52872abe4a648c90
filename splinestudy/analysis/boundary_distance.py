"""How far inputs are from the nearest boundary, in the whole input space."""

import copy
import warnings

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from splinelib.errors import SettingError, UnsupportedModuleError
from splinelib.hooks import evaluating, tapped


def boundary_distance(model: nn.Module, inputs: Tensor, chunk: int = 128) -> Tensor:
    """Euclidean distance from each of ``inputs`` [N, ...] to the nearest boundary of a unit: float64 [N].

    Around an input every pre-activation is affine, z + ∇z·(x' − x), so its boundary lies |z| / ‖∇z‖ away, and the
    least of these is the distance to the edge of the input's region. The gradients of *all* units are computed exactly,
    by forward differentiation along every coordinate, ``chunk`` coordinates at a time: as many passes as the input has
    coordinates, whatever the number of units. In float64, on a copy; the model is not changed.

    Only non-linearities at zero count. A max pool also ends an affine piece; where one switches nearer than the
    result, the result is the distance in the affine continuation.

    Raises:
        SettingError: ``inputs`` are empty or not floating point.
        UnsupportedModuleError: no unit depends on the input.
    """
    if inputs.ndim < 2 or len(inputs) == 0 or not inputs.is_floating_point():
        raise SettingError(
            f"inputs is {inputs.dtype} of shape {tuple(inputs.shape)}: pass a non-empty float batch [N, ...]"
        )
    exact = copy.deepcopy(model).double()
    return torch.stack([_one(exact, point, chunk) for point in inputs.double()])


def _dual(points: Tensor, tangents: Tensor) -> Tensor:
    """``forward_ad.make_dual``, whose first call warns of a deprecated part inside torch."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        return forward_ad.make_dual(points, tangents)


def _one(model: nn.Module, point: Tensor, chunk: int) -> Tensor:
    values: dict[int, Tensor] = {}
    squares: dict[int, Tensor] = {}

    def observe(layer: int, pre_activation: Tensor) -> None:
        primal, tangent = forward_ad.unpack_dual(pre_activation)
        if tangent is not None:
            values[layer] = primal[0].flatten()
            squares[layer] = squares.get(layer, 0) + tangent.flatten(1).square().sum(0)

    axes = torch.eye(point.numel(), dtype=point.dtype, device=point.device)
    for tangents in axes.split(chunk):
        shape = (len(tangents), *point.shape)
        with evaluating(model), forward_ad.dual_level(), tapped(observe):
            model(_dual(point.expand(shape).contiguous(), tangents.reshape(shape)))
    distances = [values[layer].abs() / squares[layer].sqrt() for layer in values]
    reachable = [part[squares[layer] > 0] for layer, part in zip(values, distances, strict=True)]
    if not any(len(part) for part in reachable):
        raise UnsupportedModuleError(
            f"{type(model).__name__} has no unit that depends on the input, hence no boundary"
        )
    return torch.cat(reachable).min()
