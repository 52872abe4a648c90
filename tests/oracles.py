"""Slow and obvious versions of what splinelib computes fast. Nothing here is shared with the library."""

import itertools
import math

import torch
from torch import nn

# --- criterion: distances and ranking -------------------------------------------------------------------------


def slow_spline_distance(weight, bias, rho, offset):
    """Distance of every two units, one pair after the other, in Python floats."""
    rows, offsets = weight.tolist(), bias.tolist()
    return torch.tensor(
        [
            [
                0.0 if first == second else _pair_distance(rows, offsets, first, second, rho, offset)
                for second in range(len(rows))
            ]
            for first in range(len(rows))
        ],
        dtype=torch.float64,
    )


def _pair_distance(rows, offsets, first, second, rho, offset):
    norms = [math.sqrt(sum(x * x for x in rows[unit])) for unit in (first, second)]
    gap = abs(offsets[first] - offsets[second])
    if 0 in norms:
        return rho * gap if offset == "raw" else 0.0
    cosine = sum(x * y for x, y in zip(rows[first], rows[second], strict=True)) / (norms[0] * norms[1])
    if offset == "geometric":
        sign = -1 if cosine < 0 else 1
        gap = abs(offsets[first] / norms[0] - sign * offsets[second] / norms[1])
    return 1 - abs(cosine) + rho * gap


def slow_ranking(distance, norm, drop):
    """Greedy ranking that looks at all remaining pairs in every step: (order, distance at which each fell)."""
    left, order, fell = list(range(len(distance))), [], []
    while len(left) > 1:
        gap, low, high = min((float(distance[a, b]), a, b) for a, b in itertools.combinations(left, 2))
        key = {unit: norm[unit] for unit in (low, high)}
        if drop == "closer_second":
            others = [unit for unit in left if unit not in (low, high)]
            key = {
                u: (min((float(distance[u, o]) for o in others), default=math.inf), norm[u])
                for u in (low, high)
            }
        fall = low if key[low] < key[high] else high
        left.remove(fall)
        order.append(fall)
        fell.append(gap)
    return order + left, fell + [math.inf] * len(left)


# --- pruning: selection ---------------------------------------------------------------------------------------


def brute_force_selection(scores, ratio, scope):
    """Of all admissible choices the one with the smallest sum of (for "global": normalised) scores.

    ``scores`` are lists of distinct positive numbers; the result is a list of sets of units.
    """
    if scope == "layerwise":
        return [
            set(
                min(
                    itertools.combinations(range(len(layer)), _count(layer, ratio)),
                    key=lambda c, s=layer: _sum(s, c),
                )
            )
            for layer in scores
        ]
    units = [(layer, unit) for layer, values in enumerate(scores) for unit in range(len(values))]
    scaled = {(a, b): scores[a][b] * len(scores[a]) / sum(scores[a]) for a, b in units}
    count = min(round(ratio * len(units)), len(units) - len(scores))
    choices = itertools.combinations(units, count)
    admissible = (
        c for c in choices if all(sum(a == layer for a, _ in c) < len(scores[layer]) for layer, _ in c)
    )
    best = min(admissible, key=lambda c: sum(scaled[unit] for unit in c))
    return [{unit for layer, unit in best if layer == wanted} for wanted in range(len(scores))]


def _count(layer, ratio):
    return min(round(ratio * len(layer)), len(layer) - 1)


def _sum(values, units):
    return sum(values[unit] for unit in units)


# --- codes and detectors --------------------------------------------------------------------------------------


def unpacked_codes(model, canvas):
    """Signs in front of every ReLU module: one bool tensor [points, ...] for each, from plain forward hooks."""
    signs = []
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: signs.append(inputs[0] > 0))
        for module in model.modules()
        if isinstance(module, nn.ReLU | nn.ReLU6)
    ]
    with torch.no_grad():
        model.eval()(canvas)
    for hook in hooks:
        hook.remove()
    return signs


def slow_code_distance(first, second):
    """Fraction of differing entries of two lists of bool tensors (or lists), layer by layer."""
    result = []
    for a, b in zip(first, second, strict=True):
        a, b = torch.as_tensor(a).flatten().tolist(), torch.as_tensor(b).flatten().tolist()
        result.append(sum(x != y for x, y in zip(a, b, strict=True)) / len(a))
    return result


def slow_spline_epoch(codes, threshold, window):
    """Epoch at which the spline early-bird rule first holds, or None; ``codes[epoch][layer]`` are lists of bits."""
    for epoch in range(window, len(codes)):
        gaps = []
        for back in range(1, window + 1):
            layers = slow_code_distance(codes[epoch], codes[epoch - back])
            gaps.append(sum(layers) / len(layers))
        if max(gaps) < threshold:
            return epoch
    return None


def slow_mask_epoch(masks, threshold, window):
    """Epoch at which the last ``window`` masks first lie pairwise within ``threshold``, or None."""
    for epoch in range(window - 1, len(masks)):
        recent = masks[epoch - window + 1 : epoch + 1]
        if all(slow_code_distance([a], [b])[0] <= threshold for a, b in itertools.combinations(recent, 2)):
            return epoch
    return None
