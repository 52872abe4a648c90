"""Remove the boundary, keep the function: a removed unit's twin takes over its outgoing weights. Needs no data.

Removing one of two units whose boundaries coincide changes the function although no boundary is lost: the readers lose
what the unit handed on. Related: data-free parameter pruning (Srinivas & Babu, BMVC 2015) and Neuron Merging (Kim et
al., NeurIPS 2020). With data, :mod:`splinelib.reconstruction` does better.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.criterion import spline_distance
from splinelib.groups import grouped, reading_columns, removal_group
from splinelib.network import Layer, dependency_graph, folded, graph_layers
from splinelib.surgery import Selection, remove_units


def merge_units(
    model: nn.Module, example_inputs: Tensor, selection: Selection, rho: float = 0.05
) -> nn.Module:
    """Remove units and add their outgoing weights to those of their twins; returns a smaller copy. Needs no data.

    The twin of a unit k is the unit j, among those kept whose normals point the same way (cos > 0), with the closest
    boundary (:func:`splinelib.spline_distance` with the geometric offset). Every reader's weights for j grow by
    α·(its weights for k) with ``α = cos · ‖w_k‖ / ‖w_j‖`` of the folded hyperplanes: exact for coinciding boundaries
    if what lies between unit and reader is positively homogeneous (ReLU, leaky ReLU, pooling). A unit without such a
    twin, and one that is normalised again before it is read, is removed without compensation.

    Args:
        model: the dense network; left as it is.
        example_inputs: batch [N, ...] to trace it with.
        selection: units to remove by layer name.
        rho: weight of the offset in the distance.

    Raises what :func:`splinelib.remove_units` raises.
    """
    merged = copy.deepcopy(model)
    graph = dependency_graph(merged, example_inputs)
    layers = {layer.name: layer for layer in graph_layers(graph)}
    with torch.no_grad():
        for name in selection.keys() & layers.keys():  # remove_units names those that are not there
            layer = layers[name]
            if _normalised_again(graph, layer):
                continue
            lost = torch.tensor(selection[name])
            twin, alpha = _twins(*folded(model, layer), lost, layer.groups, rho)
            for module, columns in reading_columns(graph, name, layer.units):
                for unit, other, factor in zip(lost.tolist(), twin.tolist(), alpha.tolist(), strict=True):
                    for source, target in zip(columns[unit].tolist(), columns[other].tolist(), strict=True):
                        column(module, target).add_(column(module, source), alpha=factor)
    return remove_units(merged, example_inputs, selection)


def _normalised_again(graph: Any, layer: Layer) -> bool:
    """Whether a batch norm other than the units' own stands between them and a reader."""
    own = {layer.norm, *(writer.norm for writer in layer.writers)}
    targets = [
        dependency.target.module for dependency, _ in removal_group(graph, layer.name, range(layer.units))
    ]
    norms = [module for module in targets if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return any(graph._module2name[norm] not in own for norm in norms)


def _twins(weight: Tensor, bias: Tensor, lost: Tensor, groups: int, rho: float) -> tuple[Tensor, Tensor]:
    """For each lost unit its twin among those kept and the factor α, 0 where there is none."""
    norm = weight.norm(dim=1)
    safe = norm.clamp_min(torch.finfo(norm.dtype).tiny)
    cosine = (weight / safe[:, None]) @ (weight / safe[:, None]).T
    distance = spline_distance(weight, bias, rho, "geometric")
    group = torch.arange(len(weight), device=weight.device) // (len(weight) // groups)
    distance[(cosine <= 0) | (group[:, None] != group)] = torch.inf
    distance[:, lost] = torch.inf
    nearest, twin = distance[lost].min(dim=1)
    alpha = cosine[lost, twin] * norm[lost] / safe[twin]
    return twin, alpha.masked_fill(nearest.isinf(), 0.0)


def column(module: Any, channel: int) -> Tensor:
    """A view of the weights with which ``module`` reads one of its input channels."""
    weight = module.weight.detach()
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return weight[channel]
    if grouped(module):
        group, place = divmod(channel, weight.shape[1])
        return weight.chunk(module.groups)[group][:, place]
    return weight[:, channel]
