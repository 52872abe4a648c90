"""Slow and obvious answers that the exact partition is checked against."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def unit_signs(model, inputs):
    """Code bits [N, bits] of every activation and max pool module, by forward hooks, in order of execution."""
    found = []

    def bends(module, args, output):
        found.append((args[0] > 0).flatten(1))

    def pools(module, args, output):
        x = args[0]
        kernel = module.kernel_size if isinstance(module.kernel_size, tuple) else (module.kernel_size,) * 2
        windows = F.unfold(x, kernel, stride=module.stride)
        windows = windows.reshape(len(x), x.shape[1], kernel[0] * kernel[1], -1)
        best = F.one_hot(windows.argmax(dim=2), kernel[0] * kernel[1])
        found.append(best.bool().flatten(1))

    kinds = (nn.ReLU, nn.LeakyReLU, nn.PReLU)
    hooks = [m.register_forward_hook(bends) for m in model.modules() if isinstance(m, kinds)]
    hooks += [m.register_forward_hook(pools) for m in model.modules() if isinstance(m, nn.MaxPool2d)]
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(found, dim=1).numpy()


def inside(polygon, points, tolerance=0.0):
    """Which points [N, 2] lie in a counter-clockwise convex polygon [n, 2], at least ``tolerance`` from its edges."""
    result = np.ones(len(points), dtype=bool)
    for here, there in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        edge = there - here
        offset = points - here
        result &= edge[0] * offset[:, 1] - edge[1] * offset[:, 0] > tolerance * np.linalg.norm(edge)
    return result


def line_arrangement_regions(lines, low, high):
    """Regions of lines a x + b y + c = 0 in general position in a box: 1 + crossing lines + inner intersections."""
    corners = np.array(list(itertools.product((low, high), repeat=2)))
    values = corners @ lines[:, :2].T + lines[:, 2]
    lines = lines[(values.min(axis=0) < 0) & (values.max(axis=0) > 0)]
    count = 1 + len(lines)
    for first, second in itertools.combinations(lines, 2):
        point = np.linalg.solve(np.stack([first[:2], second[:2]]), -np.array([first[2], second[2]]))
        count += bool(np.all(point > low) and np.all(point < high))
    return count


def jacobian(model, point):
    """Jacobian of one output vector at one input [*input], and the value there."""
    value = model(point[None])[0].detach()
    matrix = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], point)
    return matrix, value


def distance_to_kinks(partition, points, units):
    """Distance of each point to the nearest edge of its unit."""
    start, end, names = partition.vertices, partition.vertices[partition.edge_end], partition.edge_unit
    result = []
    for point, unit in zip(points, units, strict=True):
        a, b = start[names == unit], end[names == unit]
        t = np.clip(((point - a) * (b - a)).sum(1) / ((b - a) ** 2).sum(1), 0, 1)
        result.append(np.linalg.norm(a + t[:, None] * (b - a) - point, axis=1).min())
    return np.array(result)


def crossings(segments, here, there):
    """How many segments [S, 2, 2] the straight way between two points crosses."""

    def side(p, q, r):
        return (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (
            r[..., 0] - p[..., 0]
        )

    a, b = segments[:, 0], segments[:, 1]
    return int(
        ((side(a, b, here) * side(a, b, there) < 0) & (side(here, there, a) * side(here, there, b) < 0)).sum()
    )


def region_of_points(partition, points):
    """The region of each point by trying every polygon, -1 outside; points on edges are not for this."""
    found = np.full(len(points), -1)
    for region in range(len(partition)):
        found[inside(partition.polygon(region), points)] = region
    return found
