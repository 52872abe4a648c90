"""Slow and obvious versions of what splinelib.winning and splinelib.reading compute fast."""

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
