"""Ridge regression on equations that come in chunks; several problems of one shape are solved together."""

from collections.abc import Iterator

import torch
from torch import Tensor

from splinelib.checks import Count, NonNegative, checked

Equations = Iterator[tuple[Tensor, Tensor]]
"""Chunks of rows x [problems, n, d] and of targets y [problems, n, out], n equations for each problem."""

RIDGE = 1e-3
"""Pull of least squares towards the weights as they are, relative to the mean square of a reader's inputs."""

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
    )  # so that the pull is that of the other form: the inputs' mean square
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
    rows, targets = next(equations)
    origin = rows.mean(1, keepdim=True), targets.mean(1, keepdim=True)
    sums, count = _sums(rows - origin[0], targets - origin[1]), rows.shape[1]
    for rows, targets in equations:
        more = _sums(rows - origin[0], targets - origin[1])
        sums, count = [total + part for total, part in zip(sums, more, strict=True)], count + rows.shape[1]
    gram, cross, x, y = (total / count for total in sums)
    means = origin[0][:, 0] + x, origin[1][:, 0] + y
    return gram - x[:, :, None] * x[:, None], cross - x[:, :, None] * y[:, None], *means


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


def _sums(x: Tensor, y: Tensor) -> list[Tensor]:
    return [part.double() for part in (_gram(x), x.mT @ y, x.sum(1), y.sum(1))]


def _gram(x: Tensor) -> Tensor:
    """``x.mT @ x`` by blocks of columns: what lies below the diagonal is mirrored, which saves almost half."""
    gram = x.new_empty(len(x), x.shape[2], x.shape[2])
    size = max(_BLOCK, -(-x.shape[2] // 8))
    for start in range(0, x.shape[2], size):
        stop = start + size
        gram[:, start:stop, start:] = x[:, :, start:stop].mT @ x[:, :, start:]
        gram[:, stop:, start:stop] = gram[:, start:stop, stop:].mT
    return gram


@checked
def with_ridge(gram: Tensor, ridge: NonNegative) -> Tensor:
    """``gram`` [problems, d, d] with ``ridge`` times the mean of all its diagonals, at least a trace, added to them.

    >>> with_ridge(torch.tensor([[[4.0, 1.0], [1.0, 4.0]]]), ridge=0.5).tolist()
    [[[6.0, 1.0], [1.0, 6.0]]]
    """
    pull = (ridge * gram.diagonal(dim1=1, dim2=2).mean()).clamp_min(torch.finfo(gram.dtype).tiny)
    return gram + pull * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


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
