"""Partitions and decision boundaries in rational numbers: slow, and right to the last digit."""

from collections import defaultdict
from fractions import Fraction
from math import hypot

import torch
from torch import nn


def fractions(tensor):
    """The numbers of a tensor as they are stored, as (nested) lists of fractions."""
    values = tensor.detach().double().tolist()
    return (
        [[Fraction(v) for v in row] for row in values] if tensor.ndim == 2 else [Fraction(v) for v in values]
    )


def at(line, point):
    return line[0] * point[0] + line[1] * point[1] + line[2]


def part(polygon, line):
    """The part of a convex polygon on which the affine function is not negative; empty where it has no area."""
    values = [at(line, point) for point in polygon]
    kept = []
    for k, (here, value) in enumerate(zip(polygon, values, strict=True)):
        there, onward = polygon[(k + 1) % len(polygon)], values[(k + 1) % len(polygon)]
        if value >= 0:
            kept.append(here)
        if value * onward < 0:
            t = value / (value - onward)
            kept.append((here[0] + t * (there[0] - here[0]), here[1] + t * (there[1] - here[1])))
    return kept if len(kept) >= 3 and max(values) > 0 else []


def combined(weights, bias, lines):
    a, b, c = (
        sum((w * line[i] for w, line in zip(weights, lines, strict=True) if w), Fraction(0)) for i in range(3)
    )
    return a, b, c + bias


def exact_regions(model, polygon):
    """Regions of an ``nn.Sequential`` of ``nn.Linear`` and ``nn.ReLU``: (corners, outputs, code), all exact.

    A unit that is zero on a whole region is inactive there.
    """
    one, zero = Fraction(1), Fraction(0)
    corners = [(Fraction(x), Fraction(y)) for x, y in polygon.tolist()]
    found = [(corners, [(one, zero, zero), (zero, one, zero)], ())]
    for module in model:
        if isinstance(module, nn.Linear):
            weight, bias = fractions(module.weight), [zero] * module.out_features
            bias = bias if module.bias is None else fractions(module.bias)
            found = [(p, [combined(w, b, lines) for w, b in zip(weight, bias, strict=True)], code)
                     for p, lines, code in found]  # fmt: skip
            continue
        assert isinstance(module, nn.ReLU)
        for unit in range(len(found[0][1])):
            found = [piece for region in found for piece in bent(*region, unit)]
    return found


def bent(polygon, lines, code, unit):
    """The two sides of one unit within a region."""
    line = lines[unit]
    dead = [*lines[:unit], (Fraction(0),) * 3, *lines[unit + 1 :]]
    sides = [(part(polygon, line), lines, True), (part(polygon, tuple(-v for v in line)), dead, False)]
    sides = sides if any(p for p, *_ in sides) else [(polygon, dead, False)]
    return [(p, new, (*code, active)) for p, new, active in sides if p]


def class_cells(regions):
    """Pieces (corners, class) on which one class is the first of those with the largest score."""
    cells = []
    for polygon, lines, _ in regions:
        for i, mine in enumerate(lines):
            rest = polygon
            for j, other in enumerate(lines):
                difference = tuple(u - v for u, v in zip(mine, other, strict=True))
                if any(difference):
                    rest = part(rest, difference) if rest else rest
                elif j < i:
                    rest = []
            if rest:
                cells.append((rest, i))
    return cells


def exact_boundary(regions):
    """Length of the decision boundary between each two classes, ``{(low, high): length}``.

    On each line that holds edges of cells the classes on its two sides are compared piece by piece.
    """
    sides = defaultdict(list)
    for polygon, winner in class_cells(regions):
        for here, there in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            if here == there:
                continue
            a, b = here[1] - there[1], there[0] - here[0]
            c = -(a * here[0] + b * here[1])
            lead = a if a else b
            a, b, c = a / lead, b / lead, c / lead
            start, end = (-b * p[0] + a * p[1] for p in (here, there))
            sides[a, b, c].append((min(start, end), max(start, end), start < end, winner))
    lengths = defaultdict(float)
    for (a, b, _), edges in sides.items():
        unit = hypot(a, b)
        cuts = sorted({cut for edge in edges for cut in edge[:2]})
        for low, high in zip(cuts, cuts[1:], strict=False):
            seen = {left: winner for start, end, left, winner in edges if start <= low and end >= high}
            if len(seen) == 2 and seen[True] != seen[False]:
                lengths[tuple(sorted(seen.values()))] += float(high - low) / unit
    return dict(lengths)


def rounded(model, bits):
    """The same network with weights of few bits, so that fractions stay short."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * 2**bits).round() / 2**bits)
    return model
