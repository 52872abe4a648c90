"""Ridge regression on equations that come in chunks; several problems of one shape are solved together."""

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor

from splinelib.checks import Count, NonNegative, checked

Equations = Iterator[tuple[Tensor, Tensor]]
"""Chunks of rows x [problems, n, d] and of targets y [problems, n, out], n equations for each problem."""

RIDGE = 1e-3
"""Pull of least squares towards the weights as they are, relative to the mean variance of a reader's inputs."""

_PRIMAL = 10_000  # unknowns up to which their Gram matrix is formed; beyond it, that of the equations

_BLOCK = 256  # columns of a block of a Gram matrix, at least: small products are slow

_AT_ONCE = 4096  # equations of one matrix product


@checked
def ridge_regression(equations: Equations, ridge: NonNegative, unknowns: Count) -> tuple[Tensor, Tensor]:
    """Weights [problems, d, out] and intercepts [problems, out], float64, with least squared error.

    The weights are pulled to 0 with ``ridge`` times the mean variance of the inputs, over all problems; the intercepts
    are not pulled. ``unknowns`` (d) decides which of two equal forms is computed. Raises ``torch.linalg.LinAlgError``
    where the equations determine no solution.

    >>> x = torch.tensor([[[0.0], [1.0], [2.0]]])
    >>> weights, intercepts = ridge_regression(iter([(x, 2 * x + 1)]), ridge=0.0, unknowns=1)
    >>> round(weights.item(), 6), round(intercepts.item(), 6)
    (2.0, 1.0)
    """
    return _by_columns(equations, ridge) if unknowns <= _PRIMAL else _by_rows(equations, ridge)


def _by_columns(equations: Equations, ridge: float) -> tuple[Tensor, Tensor]:
    """By the normal equations."""
    gram, cross, mean, target_mean = covariances(equations)
    weights = _positive_solve(with_ridge(gram, ridge), cross)
    return weights, target_mean - _times(mean, weights)


def _by_rows(equations: Equations, ridge: float) -> tuple[Tensor, Tensor]:
    """By as many unknowns as there are equations, for problems with very many inputs."""
    rows, targets = _together(list(equations))
    mean, target_mean = rows.mean(1, keepdim=True), targets.mean(1, keepdim=True)
    rows, targets = rows - mean, targets - target_mean
    gram = (rows @ rows.mT).double()
    share = (
        gram.shape[1] / rows.shape[2]
    )  # so that the pull is that of the other form: the inputs' mean variance
    weights = rows.mT.double() @ _positive_solve(with_ridge(gram, ridge * share), targets.double())
    return weights, target_mean[:, 0] - _times(mean[:, 0].double(), weights)


def covariances(equations: Equations) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Covariances x xᵀ [problems, d, d] and x yᵀ [problems, d, out], and the means of x and y, in float64.

    Products are taken in the rows' type, of differences from the first chunk's mean: where inputs hardly vary, the
    squares of the means would drown their variance.

    >>> x = torch.tensor([[[0.0], [2.0]]])
    >>> gram, cross, *means = covariances(iter([(x, 3 * x)]))
    >>> gram.item(), cross.item(), [mean.item() for mean in means]
    (1.0, 3.0, [1.0, 3.0])
    """
    equations = _joined(equations)
    first = next(equations)
    origin, other_origin = (values.mean(1, keepdim=True) for values in first)
    problems, inputs, outputs = len(first[0]), first[0].shape[2], first[1].shape[2]
    gram, cross, x, y = (
        first[0].new_zeros(problems, *shape, dtype=torch.float64)
        for shape in ((inputs, inputs), (inputs, outputs), (inputs,), (outputs,))
    )
    count = 0
    for rows, targets in chain([first], equations):
        rows.sub_(origin)  # in place, here and below: new memory of this size takes as long as the sums
        targets.sub_(other_origin)
        _add_gram(gram, rows)
        for total, part in ((cross, rows.mT @ targets), (x, rows.sum(1)), (y, targets.sum(1))):
            total += part
        count += rows.shape[1]
    for start, stop in _blocks(inputs):
        gram[:, stop:, start:stop] = gram[:, start:stop, stop:].mT
    for total in (gram, cross, x, y):
        total /= count
    gram.baddbmm_(x[:, :, None], x[:, None], alpha=-1)
    cross.baddbmm_(x[:, :, None], y[:, None], alpha=-1)
    return gram, cross, origin[:, 0] + x, other_origin[:, 0] + y


def covariance(chunks: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Covariance [problems, d, d] and mean [problems, d] of rows [problems, n, d] that come in chunks, in float64.

    >>> gram, mean = covariance(iter([torch.tensor([[[0.0], [2.0]]])]))
    >>> gram.item(), mean.item()
    (1.0, 1.0)
    """
    gram, _, mean, _ = covariances((rows, rows[..., :0]) for rows in chunks)
    return gram, mean


def _joined(equations: Equations) -> Equations:
    """The same equations in chunks of :data:`_AT_ONCE` or more, but for the last: a large product is a fast one."""
    held: list[tuple[Tensor, Tensor]] = []
    for part in equations:
        held.append(part)
        if sum(rows.shape[1] for rows, _ in held) >= _AT_ONCE:
            yield _together(held)
            held = []
    if held:
        yield _together(held)


def _together(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    rows, targets = zip(*parts, strict=True)
    return torch.cat(rows, 1), torch.cat(targets, 1)


def _add_gram(gram: Tensor, x: Tensor) -> None:
    """Add ``x.mT @ x`` in place, by blocks of columns, but for what lies below the diagonal: that saves almost half."""
    for start, stop in _blocks(x.shape[2]):
        gram[:, start:stop, start:] += x[:, :, start:stop].mT @ x[:, :, start:]


def _blocks(columns: int) -> list[tuple[int, int]]:
    size = max(_BLOCK, -(-columns // 8))
    return [(start, min(start + size, columns)) for start in range(0, columns, size)]


@checked
def with_ridge(gram: Tensor, ridge: NonNegative) -> Tensor:
    """``gram`` [problems, d, d] with ``ridge`` times the mean of all its diagonals, at least a trace, added to them.

    >>> with_ridge(torch.tensor([[[4.0, 1.0], [1.0, 4.0]]]), ridge=0.5).tolist()
    [[[6.0, 1.0], [1.0, 6.0]]]
    """
    pull = (ridge * gram.diagonal(dim1=1, dim2=2).mean()).clamp_min(torch.finfo(gram.dtype).tiny)
    pulled = gram.clone()
    pulled.diagonal(dim1=1, dim2=2).add_(pull)
    return pulled


def _times(mean: Tensor, weights: Tensor) -> Tensor:
    return (mean[:, None] @ weights)[:, 0]


def _positive_solve(matrix: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right, cholesky(matrix))


def cholesky(matrix: Tensor) -> Tensor:
    """Cholesky factors of symmetric matrices [problems, d, d].

    Raises ``torch.linalg.LinAlgError`` for one that is not positive definite, or that only rounding makes so.

    >>> cholesky(torch.tensor([[[4.0]]])).tolist()
    [[[2.0]]]
    """
    factor = torch.linalg.cholesky(matrix)
    rounding = torch.finfo(matrix.dtype).eps * matrix.shape[-1]
    if bool((factor.diagonal(dim1=1, dim2=2).square() <= rounding * matrix.diagonal(dim1=1, dim2=2)).any()):
        raise torch.linalg.LinAlgError("a matrix is singular up to rounding")
    return factor
