"""What a network costs: parameters, and floating-point operations by torch's own counter.

A multiply-add counts as two operations, and padded positions count like others, as torch counts them.
Convolutions and matrix products are counted; batch norms, activations, pooling and bias additions are not.
All counts are for one input. They are taken on a copy on the meta device, where shapes flow and nothing is computed;
or, if the forward pass wants numbers, of one that computes.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from splinelib.checks import checked
from splinelib.errors import SettingError
from splinelib.hooks import Inputs, duplicate, in_call_order, own_randomness, run, tensors_in, with_tensors
from splinelib.layers.images import check_inputs


@dataclass(frozen=True)
class Cost:
    """Number of parameters, and operations of one forward pass of one input."""

    parameters: int
    flops: int


def count_parameters(model: nn.Module) -> int:
    """Count the numbers in the model's parameters, each shared one once; buffers do not count."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, example_inputs: Inputs) -> int:
    """Count the operations of a forward pass in eval mode, for one input.

    Args:
        model: left as it was, training flags included.
        example_inputs: ``[N, ...]``, of several the first that the forward pass takes; the values do not change the
            result, and N only where the pass computes something once for all inputs (a weight of two factors, say), of
            which one input has a share. A list of pictures ``[C, H, W]`` of up to four channels, as detectors take
            them, is a batch, too.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports triton, which takes long

    inputs = in_call_order(model, example_inputs)
    batch = _count(inputs)
    if not batch:
        raise SettingError("the example inputs hold no image: give a batch [N, ...]")
    try:
        with FlopCounterMode(**_COUNTED) as counter:
            _forward(_on_meta(model), _to_meta(example_inputs))
    except Exception:  # code that wants values, or makes tensors on a device of its own choice
        check_inputs(model, example_inputs)
        with _in_single_steps(), FlopCounterMode(**_COUNTED) as counter:
            _forward(duplicate(model), example_inputs)
    return counter.get_total_flops() // batch


def _count(inputs: Inputs) -> int:
    """How many inputs there are; 0 if none."""
    first = next(iter(inputs.values() if isinstance(inputs, Mapping) else inputs), None)
    if isinstance(first, list | tuple) and first and all(map(_is_picture, first)):
        return len(first)
    return next((len(tensor) for tensor in tensors_in(inputs) if tensor.ndim), 0)


def _is_picture(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 3 and len(value) <= 4


def training_flops(model: nn.Module, example_inputs: Tensor) -> int:
    """Count the operations of a forward and a backward pass, for one input.

    Counted in eval mode, where convolutions and matrix products are those of training. Gradients are taken
    for the parameters that require them, and none for the input, as in training.

    Args:
        model: left as it was, training flags and ``.grad`` included.
        example_inputs: ``[N, ...]``; neither N nor the values change the result.
    """
    from torch.utils.flop_counter import FlopCounterMode

    copy = _on_meta(model)
    trained = [parameter for parameter in copy.parameters() if parameter.requires_grad]
    with torch.enable_grad(), FlopCounterMode(**_COUNTED) as counter:
        outputs = tensors_in(run(copy.eval(), _to_meta(example_inputs)))
        torch.autograd.grad(
            [part.sum() for part in outputs if part.requires_grad], trained, allow_unused=True
        )
    return counter.get_total_flops() // len(example_inputs)


@contextmanager
def counted_flops() -> Iterator[Callable[[], int]]:
    """Count the operations that torch computes within the block; yields a function that gives their number.

    Unlike the other counts these are of all inputs together, whatever the model and however many passes.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(**_COUNTED) as counter:
        yield counter.get_total_flops


@checked
def cost(model: nn.Module, example_inputs: Inputs) -> Cost:
    """Parameters and operations of one forward pass, see ``count_parameters`` and ``count_flops``.

    >>> cost(nn.Linear(3, 2), torch.zeros(1, 3))
    Cost(parameters=8, flops=12)
    """
    return Cost(count_parameters(model), count_flops(model, example_inputs))


def _on_meta(model: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers have shape and dtype, and no numbers."""
    return duplicate(
        model,
        {
            id(tensor): torch.empty_like(tensor, device="meta").requires_grad_(tensor.requires_grad)
            for tensor in [*model.parameters(), *model.buffers()]
        },
    )


def _to_meta(inputs: Inputs) -> Inputs:
    return with_tensors(inputs, lambda tensor: tensor.to("meta"))


def _forward(copy: nn.Module, inputs: Inputs) -> None:
    with torch.no_grad(), own_randomness():
        run(copy.eval(), inputs)


@contextmanager
def _in_single_steps() -> Iterator[None]:
    """Within the block, modules compute by the operations that the counter knows, not by one that does all at once."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    libraries: Any = (torch.backends.mkldnn, torch.backends.cudnn)
    fast, used = torch.backends.mha.get_fastpath_enabled(), [library.enabled for library in libraries]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for library in libraries:
            library.enabled = False
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for library, enabled in zip(libraries, used, strict=True):
            library.enabled = enabled


def _convolution_backward_flops(
    grad_shape: Sequence[int],
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    *settings: Any,
    out_shape: Any,
) -> int:
    """Operations of a convolution's backward pass: those of the forward pass for each gradient asked for.

    Every multiply-add of the forward pass has one in the gradient of the input and one in that of the weight.
    torch's own formula overlooks the groups in the weight's gradient, which counts far too many operations
    for depthwise convolutions.

    ``settings`` are the operator's bias sizes, stride, padding, dilation, transposed, output padding, groups,
    and which of the three gradients are wanted.
    """
    from torch.utils.flop_counter import conv_flop_count

    transposed, wanted = settings[4], settings[7]
    forward = conv_flop_count(list(input_shape), list(weight_shape), list(grad_shape), transposed=transposed)
    return forward * (wanted[0] + wanted[1])


def _product_flops(matrix: Sequence[int], vector: Sequence[int], *, out_shape: Any) -> int:
    """Operations of a product of a matrix, or a vector, with a vector, which torch's counter does not know."""
    return 2 * math.prod(matrix)


def _added_product_flops(added: Any, matrix: Sequence[int], vector: Sequence[int], **_: Any) -> int:
    """Operations of ``addmv``."""
    return 2 * math.prod(matrix)


def _added_products_flops(added: Any, first: Sequence[int], second: Sequence[int], **_: Any) -> int:
    """Operations of ``addbmm``: of all products of the batch."""
    return 2 * math.prod(first) * second[-1]


def _bilinear_flops(
    first: Sequence[int], weight: Sequence[int], second: Sequence[int], *expanded: Any, out_shape: Any
) -> int:
    """Operations of ``_trilinear``, by which ``nn.Bilinear`` computes: a multiply-add for each weight and input."""
    return 2 * first[0] * math.prod(weight)


def _grouped_products_flops(first: Sequence[int], second: Sequence[int], *rest: Any, out_shape: Any) -> int:
    """Operations of ``grouped_mm``: every row of the first meets the columns of one group."""
    return 2 * math.prod(first[-len(second) :]) * second[-1]


_COUNTED: dict[str, Any] = {
    "display": False,
    "custom_mapping": {
        torch.ops.aten.convolution_backward: _convolution_backward_flops,
        torch.ops.aten.mv: _product_flops,
        torch.ops.aten.dot: _product_flops,
        torch.ops.aten.vdot: _product_flops,
        torch.ops.aten.addmv: _added_product_flops,
        torch.ops.aten.addbmm: _added_products_flops,
        torch.ops.aten._trilinear: _bilinear_flops,
        torch.ops.aten._grouped_mm: _grouped_products_flops,
    },
}
"""How torch's counter is made."""
