"""Attention of linear modules, which can lose heads, in place of ``torch.nn.MultiheadAttention``, which cannot."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splinelib.checks import checked
from splinelib.errors import UnsupportedModuleError
from splinelib.hooks import duplicate
from splinelib.pruning.cut import changed


class LinearAttention(nn.Module):
    """What an ``nn.MultiheadAttention`` computes, with as many heads of ``head_dim`` units as ``query`` writes."""

    # By these nn.TransformerEncoderLayer knows that it must call the module, not compute with its weights.
    in_proj_bias, _qkv_same_embed_dim = None, False

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.batch_first, self.dropout = attention.batch_first, attention.dropout
        self.head_dim = attention.head_dim
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        weights = (
            _thirds(weight) if weight is not None else [getattr(attention, f"{n}_proj_weight") for n in "qkv"]
        )
        biases = [None] * 3 if bias is None else _thirds(bias)
        self.query, self.key, self.value = map(_linear, weights, biases)
        self.out_proj: nn.Linear = attention.out_proj
        self.train(attention.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention``; ``is_causal`` is a hint that goes with ``attn_mask``, and not needed."""
        turned = query.dim() == 3 and not self.batch_first
        inputs = [x.transpose(0, 1) if turned else x for x in (query, key, value)]
        # [..., tokens, heads · head_dim] -> [..., heads, tokens, head_dim]
        q, k, v = (
            linear(x).unflatten(-1, (-1, self.head_dim)).transpose(-3, -2)
            for linear, x in zip((self.query, self.key, self.value), inputs, strict=True)
        )
        mask = _added(attn_mask, q)
        if mask is not None and mask.dim() == 3 and q.dim() == 4:
            mask = mask.unflatten(0, (q.shape[0], -1))
        if key_padding_mask is not None:
            padding = _added(key_padding_mask, q)[..., None, None, :]  # type: ignore[index]
            mask = padding if mask is None else mask + padding
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) / self.head_dim**0.5
            weights = F.dropout(
                (scores if mask is None else scores + mask).softmax(-1), self.dropout, self.training
            )
            heads = weights @ v
            weights = weights.mean(-3) if average_attn_weights else weights
        else:
            heads = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
        out = self.out_proj(heads.transpose(-3, -2).flatten(-2))
        return out.transpose(0, 1) if turned else out, weights


@checked
def split_attention(model: nn.Module) -> nn.Module:
    """A copy that computes the same with a module of four linear ones for every ``nn.MultiheadAttention``.

    The heads of such a network can be pruned. Weights have other names then (``in_proj_weight`` becomes
    ``query.weight`` and so on), so split the fresh network, too, that a cut or file is loaded into.

    Raises:
        UnsupportedModuleError: for attention with ``add_bias_kv`` or ``add_zero_attn``.

    >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> smaller = splinelib.prune(split_attention(layer), torch.zeros(1, 5, 8), ratio=0.5)
    >>> smaller.self_attn.query
    Linear(in_features=8, out_features=4, bias=True)
    """
    split = duplicate(model)
    found: dict[nn.Module, nn.Module] = {}
    for name, module in list(split.named_modules(remove_duplicate=False)):
        if type(module) is nn.MultiheadAttention:
            if module.bias_k is not None or module.add_zero_attn:
                raise UnsupportedModuleError(
                    f"{name!r} is {module} with add_bias_kv or add_zero_attn, which linear modules do not compute: "
                    "leave its heads whole"
                )
            if module not in found:
                found[module] = LinearAttention(module)
            if not name:
                split = found[module]
            else:
                split.set_submodule(name, found[module])
    for module in split.modules():
        inside = any(isinstance(part, LinearAttention) for part in module.modules())
        if isinstance(module, nn.TransformerEncoder) and inside:
            module.use_nested_tensor = (
                False  # which it computes from packed weights, where a padding mask is given
            )
    return changed(split, "split_attention")


def _thirds(values: Tensor) -> list[Any]:
    """Queries', keys' and values' share of what they have in one tensor; parameters as frozen as it is."""
    return [nn.Parameter(part.detach().clone(), values.requires_grad) for part in values.chunk(3)]


def _linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    linear.weight, linear.bias = weight, bias  # type: ignore[assignment]
    return linear


def _added(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """A mask as what is added to the scores: a boolean one is true where nothing is to be seen."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(mask, float("-inf"))
