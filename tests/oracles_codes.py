"""Slow and obvious versions of what splinelib computes from sequences of codes, on lists of bits."""

from oracles import slow_code_distance


def slow_pairwise(codes):
    """``[s][t][layer]``: share of differing bits of every two moments; ``codes[moment][layer]`` are lists of bits."""
    return [[slow_code_distance(first, second) for second in codes] for first in codes]


def slow_settled_share(codes):
    """``[moment][layer]``: share of bits with the value of that moment at every later one."""
    shares = []
    for moment, layers in enumerate(codes):
        row = []
        for layer, bits in enumerate(layers):
            stays = [
                all(later[layer][place] == bit for later in codes[moment:]) for place, bit in enumerate(bits)
            ]
            row.append(sum(stays) / len(bits))
        shares.append(row)
    return shares


def slow_per_rate(codes, lrs):
    """``[moment - 1][layer]``: distance to the moment before, divided by the learning rate in between."""
    return [
        [gap / lrs[moment] for gap in slow_code_distance(codes[moment], codes[moment - 1])]
        for moment in range(1, len(codes))
    ]
