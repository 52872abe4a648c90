"""Slow and obvious versions of the scores in splinelib.criteria.weights, saliency and functional; nothing is shared."""

import copy
import itertools
import math

import torch
import torch.nn.functional as F


def slow_fpgm(rows):
    """Sum of each row's distances to all others."""
    return [sum(math.dist(a, b) for b in rows.tolist()) for a in rows.tolist()]


def plain_gradients(model, images, labels, temperature=1.0):
    """Gradient of the mean cross-entropy by ``backward()``, a dictionary by parameter name."""
    copied = copy.deepcopy(model).eval()
    copied.zero_grad()
    F.cross_entropy(copied(images) / temperature, labels).backward()
    return {name: parameter.grad.clone() for name, parameter in copied.named_parameters()}


def hessian_times_gradient(model, images, labels, temperature, step=1e-4):
    """``H g`` as a difference of gradients at ``θ ± step · g / ‖g‖``; the model should be float64."""
    slopes = plain_gradients(model, images, labels, temperature)
    length = math.sqrt(sum(float(slope.square().sum()) for slope in slopes.values()))
    ends = []
    for sign in (1, -1):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                parameter += sign * step / length * slopes[name]
        ends.append(plain_gradients(moved, images, labels, temperature))
    return {name: (ends[0][name] - ends[1][name]) * length / (2 * step) for name in slopes}


def path_sums(weights):
    """For each hidden layer of a chain of matrices, sums of the products of |weight| over paths through each unit."""
    sizes = [weights[0].shape[1], *[len(weight) for weight in weights]]
    sums = [[0.0] * size for size in sizes]
    for path in itertools.product(*map(range, sizes)):
        product = 1.0
        for weight, start, end in zip(weights, path, path[1:], strict=False):
            product *= abs(float(weight[end, start]))
        for layer, unit in enumerate(path):
            sums[layer][unit] += product
    return sums[1:-1]


def slow_code_distances(columns):
    """``min(δ, 1 − δ)`` of every two columns of pre-activations [n, units], entry by entry."""
    signs = (columns > 0).tolist()
    count, units = len(signs), len(signs[0])
    share = [[sum(row[a] != row[b] for row in signs) / count for b in range(units)] for a in range(units)]
    return torch.tensor(
        [[min(s, 1 - s) if a != b else 0.0 for b, s in enumerate(row)] for a, row in enumerate(share)],
        dtype=torch.float64,
    )


def slow_angles(columns, centred):
    """``1 − |cos|`` of every two columns of outputs [n, units], 0 beside a column without length."""
    lists = columns.double().T.tolist()
    if centred:
        lists = [[value - sum(column) / len(column) for value in column] for column in lists]
    result = torch.zeros(len(lists), len(lists), dtype=torch.float64)
    for a, b in itertools.permutations(range(len(lists)), 2):
        lengths = math.hypot(*lists[a]) * math.hypot(*lists[b])
        if lengths > 1e-9:
            product = sum(x * y for x, y in zip(lists[a], lists[b], strict=True))
            result[a, b] = 1 - abs(product) / lengths
    return result


def seen(model, images, name, side):
    """What the module ``name`` reads (``side`` "input") or writes ("output"), from a plain hook."""
    found = []
    module = model.get_submodule(name)
    hook = module.register_forward_hook(
        lambda _, inputs, output: found.append((inputs[0] if side == "input" else output).clone())
    )
    with torch.no_grad():
        model.eval()(images)
    hook.remove()
    return found[0]
