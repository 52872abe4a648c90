"""Model Folding: clusters of units become one unit each. A baseline; needs scikit-learn, and no data.

Wang et al., "Forget the Data and Fine-Tuning! Just Fold the Network to Compress", ICLR 2025. Seen on the partition it
clusters hyperplanes: where :func:`splinelib.pruning.merge_units` keeps one of two close boundaries as it is, folding
puts one boundary in the middle of many.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.checks import Seed, checked
from splinelib.errors import UnsupportedModuleError
from splinelib.hooks import duplicate
from splinelib.layers.channel_selection import ChannelSelection
from splinelib.layers.hyperplanes import folded
from splinelib.layers.kinds import axis_of, set_weight
from splinelib.layers.layer import Layer
from splinelib.layers.network import read_layers
from splinelib.pruning.merging import read_twins, untouched
from splinelib.pruning.selection import check_ratio
from splinelib.pruning.surgery import remove_units


@checked
def fold_units(model: nn.Module, example_inputs: Tensor, ratio: float, seed: Seed = 0) -> nn.Module:
    """Cluster every layer's units by k-means and merge each cluster; returns a smaller copy.

    Units are clustered by their folded hyperplanes (w, b), ``units − round(ratio · units)`` clusters a layer [ours: the
    same share from each]. A cluster's unit has the mean of its members' parameters and batch-norm statistics, and its
    readers the sum of the weights with which they read the members. Follow with
    :func:`splinelib.pruning.reestimate_norms`, since means shrink the variance that batch norms expect.

    Args:
        model: the dense network; left as it is.
        example_inputs: batch [N, ...] to trace it with.
        ratio: share of the units to remove, strictly between 0 and 1.
        seed: of k-means.

    Raises what :func:`splinelib.remove_units` raises.

    >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> fold_units(model, torch.zeros(1, 2), ratio=0.5)[0].out_features
    2
    """
    check_ratio(ratio)
    layers = read_layers(model, example_inputs)
    merged = duplicate(model)
    selection = {}
    with torch.no_grad():
        for layer in layers:
            weight, bias = folded(merged, layer)
            member = _clusters(torch.cat([weight, bias[:, None]], dim=1), layer, ratio, int(seed))
            clusters = [
                (member == number).nonzero().flatten().tolist() for number in range(int(member.max()) + 1)
            ]
            _merge(merged, layer, clusters)
            if lost := sorted(unit for cluster in clusters for unit in cluster[1:]):
                selection[layer.name] = lost
    return remove_units(merged, example_inputs, selection, layers)


def _clusters(rows: Tensor, layer: Layer, ratio: float, seed: int) -> Tensor:
    """Number of the cluster that each unit belongs to; no cluster joins units of two groups of channels."""
    from sklearn.cluster import KMeans

    size = layer.units // layer.groups
    kept = size - min(round(ratio * size), size - 1)
    parts = []
    for group, part in enumerate(rows.cpu().chunk(layer.groups)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that duplicates leave clusters empty
            found = KMeans(kept, n_init=4, random_state=seed).fit_predict(part.numpy())
        _, number = torch.as_tensor(found).unique(return_inverse=True)
        parts.append(number + group * kept)
    return torch.cat(parts)


def _merge(model: nn.Module, layer: Layer, clusters: list[list[int]]) -> None:
    """Give the first of each cluster the mean of what writes its members and the sum of what reads them, in place."""
    modules = dict(model.named_modules())
    done: set[int] = set()
    for part in layer.parts:
        module: Any = modules.get(part.module)
        places = part.by_unit(layer.units)
        selects = isinstance(module, ChannelSelection)
        if part.writes and (selects or (part.affine and (places is None or _in_groups(module)))):
            raise UnsupportedModuleError(
                f"{part.module!r} ({type(module).__name__}) writes units of layer {layer.name!r} as it selects them, "
                "in groups, or in other numbers for some than for others: no mean of such can be taken, use "
                "another method"
            )
        if part.writes and module is not None and places is not None:
            with _weight_of(module) as weight:
                for name, values in _by_output(module, weight).items():
                    for members in clusters if untouched(module, name, done) else ():
                        values[places[members[0]]] = values[places[members]].mean(0)
    pairs = torch.tensor([(other, first) for first, *others in clusters for other in others]).view(-1, 2)
    read_twins(model, layer, pairs[:, 0], pairs[:, 1], torch.ones(len(pairs)))


def _in_groups(module: Any) -> bool:
    return isinstance(module, nn.modules.conv._ConvTransposeNd) and module.groups > 1


@contextmanager
def _weight_of(module: Any) -> Iterator[Any]:
    """A copy of the module's weight, which it gets at the end; None where it has none."""
    weight = None if module.weight is None else module.weight.detach().clone()
    yield weight
    if weight is not None:
        set_weight(module, weight)


def _by_output(module: Any, weight: Tensor | None) -> dict[str, Tensor]:
    """The weight, and views of the module's other values, by name; the first axis is the output channel."""
    held: dict[str, Any] = {
        name: getattr(module, name, None) for name in ("bias", "running_mean", "running_var")
    }
    axes = {name: axis_of(module, name, True) for name, value in held.items() if value is not None}
    found = {name: held[name].detach().movedim(axis, 0) for name, axis in axes.items() if axis is not None}
    if weight is not None and (axis := axis_of(module, "weight", True)) is not None:
        found["weight"] = weight.movedim(axis, 0)
    return found
