"""How far a channel's mean activation differs between classes, and whether the batch-norm scale tells (claim C8)."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from splinelib.errors import SettingError
from splinelib.layers.layer import Layer
from splinestudy.analysis.intervals import CONFIDENCE
from splinestudy.analysis.pre_activations import channel_values, pre_activations, tap_of_layer

_BATCH = 250  # inputs in one forward pass


def class_means(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    taps: Sequence[int],
    rectified: bool = True,
) -> list[Tensor]:
    """Mean activation of every channel for every class, ``[classes, units]`` float64 for each of ``taps``.

    Args:
        inputs: ``[N, *input]`` on the model's device, with classes ``labels [N]``.
        taps: numbers of non-linearities, see :func:`splinestudy.analysis.pre_activations.tap_of_layer`.
        rectified: take activations ``max(z, 0)``; else pre-activations z. Both are averaged over positions and inputs.

    Raises:
        SettingError: a class between 0 and the largest label has no input.
    """
    classes = int(labels.max()) + 1
    counts = torch.bincount(labels, minlength=classes)
    if int(counts.min()) == 0:
        raise SettingError(f"counts of the classes are {counts.tolist()}: give inputs of every class")
    sums: dict[int, Tensor] = {}
    for part, classes_here in zip(inputs.split(_BATCH), labels.split(_BATCH), strict=True):
        values = pre_activations(model, part)
        for tap in taps:
            z = channel_values(values[tap]).double()
            mean = (z.clamp_min(0) if rectified else z).mean(2)
            empty = torch.zeros(classes, mean.shape[1], dtype=mean.dtype, device=mean.device)
            sums.setdefault(tap, empty).index_add_(0, classes_here, mean)
    return [sums[tap] / counts[:, None] for tap in taps]


def separation(means: Tensor) -> Tensor:
    """``Σ_{a<b} |m_a − m_b|`` over every two classes, ``[units]``, from class means ``[classes, units]`` [code]."""
    first, second = torch.triu_indices(len(means), len(means), offset=1, device=means.device)
    return (means[first] - means[second]).abs().sum(0)


def class_separation(
    model: nn.Module, layers: Sequence[Layer], inputs: Tensor, labels: Tensor, rectified: bool = True
) -> list[Tensor]:
    """Class separation of each layer's units ``[units]``: the released code's channel experiment.

    Arguments as for :func:`class_means`; errors as there and for
    :func:`splinestudy.analysis.pre_activations.tap_of_layer`.
    """
    taps = tap_of_layer(model, layers, inputs)
    return [separation(means) for means in class_means(model, inputs, labels, taps, rectified)]


def rank_correlation(
    first: np.ndarray, second: np.ndarray, seed: int = 0, resamples: int = 1000
) -> tuple[float, float, float]:
    """Spearman's rank correlation of two lists ``[n]`` and its 95 % confidence interval by the bootstrap over pairs.

    NaN where one of the lists is constant or shorter than 3.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape or first.ndim != 1:
        raise SettingError(f"lists of shapes {first.shape} and {second.shape}: give two of one length")
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan"), float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(len(first), size=(resamples, len(first)))
    with np.errstate(invalid="ignore", divide="ignore"):
        ranks = [_ranks_of_draws(values, picks) for values in (first, second)]
        centred = [rank - rank.mean(axis=1, keepdims=True) for rank in ranks]
        norms = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
        found = (centred[0] * centred[1]).sum(1) / norms
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(found, [tail, 1 - tail])
    return float(stats.spearmanr(first, second).statistic), float(low), float(high)


def _ranks_of_draws(values: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """Mean ranks of ``values[picks]`` [draws, n] within each draw: counted, since sorting takes longer."""
    places = np.unique(values, return_inverse=True)[1]
    drawn, width = places[picks], int(places.max()) + 1
    rows = width * np.arange(len(picks))[:, None]
    counts = np.bincount((drawn + rows).ravel(), minlength=width * len(picks)).reshape(len(picks), width)
    middle = counts.cumsum(axis=1) - (counts - 1) / 2
    return np.take_along_axis(middle, drawn, axis=1)


def rank_within(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Rank of each value in its group, from 0 (least) to 1 (largest), so that groups of different scale compare."""
    ranks = np.empty(len(values))
    for group in np.unique(groups):
        chosen = groups == group
        ranks[chosen] = (stats.rankdata(values[chosen]) - 1) / max(1, chosen.sum() - 1)
    return ranks
