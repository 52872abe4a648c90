"""Slow and obvious versions of what splinestudy.analysis computes fast."""

import itertools

import numpy as np
import torch

# --- winning: thinning centres and units ------------------------------------------------------------------------


def slow_error(points, centres):
    """Summed squared distance of every point to its nearest centre, point by point."""
    return sum(min(((p - c) ** 2).sum() for c in centres) for p in points)


def slow_drop(points, centres, keep):
    """Indices kept, each removal tried out in full."""
    kept = list(range(len(centres)))
    while len(kept) > keep:
        costs = [slow_error(points, [centres[i] for i in kept if i != fall]) for fall in kept]
        kept.pop(int(np.argmin(costs)))
    return kept


def least_squares_error(features, target):
    """Summed squared error of the best combination of the features [P, k] and a constant."""
    matrix = np.column_stack([features, np.ones(len(features))])
    solution = np.linalg.lstsq(matrix, target, rcond=None)[0]
    return float(((matrix @ solution - target) ** 2).sum())


def slow_elimination(features, target, keep):
    """Columns of ``features`` [P, h] kept by backward elimination, each removal tried out by least squares."""
    kept = list(range(features.shape[1]))
    while len(kept) > keep:
        costs = [least_squares_error(features[:, [i for i in kept if i != fall]], target) for fall in kept]
        kept.pop(int(np.argmin(costs)))
    return kept


def one_network(nets, number, x):
    """Values of network ``number`` at the floats ``x``, unit by unit."""
    weight, bias, out = (part[number].tolist() for part in (nets.weight, nets.bias, nets.out))
    return [
        nets.shift[number].item()
        + sum(v * max(w * t + b, 0) for w, b, v in zip(weight, bias, out, strict=True))
        for t in x
    ]


def plain_adam(nets, number, x, y, steps, lr):
    """One network trained by autograd and torch's Adam in float32; its four parameters."""
    parts = [
        part[number].float().clone().requires_grad_()
        for part in (nets.weight, nets.bias, nets.out, nets.shift)
    ]
    optimiser = torch.optim.Adam(parts, lr=lr)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = lr * 0.5 * (1 + np.cos(np.pi * step / steps))
        weight, bias, out, shift = parts
        prediction = torch.relu(x.float()[:, None] * weight + bias) @ out + shift
        optimiser.zero_grad()
        (prediction - y.float()).square().mean().backward()
        optimiser.step()
    return [part.detach().double() for part in parts]


def best_of_subsets(errors, tries):
    """Mean over all subsets of ``tries`` errors of their least."""
    return float(np.mean([min(subset) for subset in itertools.combinations(errors, tries)]))


# --- reading: signs, boundaries, classes ------------------------------------------------------------------------


def hidden_signs(model, inputs):
    """For each input the list of signs of all units before a ReLU, layer by layer, module by module."""
    rows = []
    for x in inputs:
        signs, value = [], x[None]
        for module in model:
            if isinstance(module, torch.nn.ReLU):
                signs.append((value > 0).flatten().tolist())
            value = module(value)
        rows.append(signs)
    return rows


def slow_complexity(model, point, directions, radius):
    """Units of each layer that are active at some corners of the cross-polytope and inactive at others."""
    corners = [point + sign * radius * v for v in directions for sign in (1, -1)]
    codes = hidden_signs(model, corners)
    return [
        sum(len({code[layer][unit] for code in codes}) == 2 for unit in range(len(codes[0][layer])))
        for layer in range(len(codes[0]))
    ]


def grid_complexity(model, point, first, second, radius, side=60):
    """Units that take both signs on a fine grid of the square |s| + |t| ≤ radius: a lower bound of the exact number."""
    steps = torch.linspace(-radius, radius, side, dtype=torch.float64)
    grid = [point + s * first + t * second for s in steps for t in steps if abs(s) + abs(t) <= radius]
    value, counts = torch.stack(grid), []
    for module in model:
        if isinstance(module, torch.nn.ReLU):
            active = (value > 0).flatten(1)
            counts.append(int((active.any(0) & ~active.all(0)).sum()))
        value = module(value)
    return counts


def pair_rates(codes, classes, least):
    """Mean over pairs of classes of the share of pairs of points with different bits, unit by unit, by four loops."""
    shares = []
    for pair in sorted({tuple(c) for c in classes}):
        group = [code for code, c in zip(codes, classes, strict=True) if tuple(c) == pair]
        if len(group) >= least:
            pairs = list(itertools.combinations(group, 2))
            shares.append([np.mean([a[u] != b[u] for a, b in pairs]) for u in range(len(group[0]))])
    return np.mean(shares, axis=0)


def slow_separation(activations, labels):
    """Sum over every two classes of the absolute difference of mean activations, unit by unit."""
    classes = sorted(set(labels))
    total = []
    for unit in range(activations.shape[1]):
        means = [
            np.mean([a[unit] for a, label in zip(activations, labels, strict=True) if label == c])
            for c in classes
        ]
        total.append(sum(abs(m - n) for m, n in itertools.combinations(means, 2)))
    return total


def slow_distance(point, start, end, pieces=2001):
    """Least distance from a point to the places on a segment."""
    t = np.linspace(0, 1, pieces)[:, None]
    return np.linalg.norm(start + t * (end - start) - point, axis=1).min()
