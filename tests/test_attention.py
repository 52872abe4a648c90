"""Attention split into linear modules: the same outputs as torch's own, and heads that can be pruned."""

import itertools

import pytest
import torch
import torchvision
from torch import nn

import splinelib
from splinelib.errors import UnsupportedModuleError
from splinelib.layers import read_layers
from splinelib.pruning import cut_of, load, remove_units, save, split_attention

BATCH, TOKENS, SEEN, HEADS = 3, 4, 5, 2


def attention(**options):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, HEADS, dropout=0.1, **options).double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def masks(batched):
    """Pairs of masks: of keys, and of pairs of tokens."""
    padding = torch.rand(BATCH, SEEN) > 0.7
    pairs = torch.rand(TOKENS, SEEN) > 0.7
    padding[:, 0] = pairs[:, 0] = False  # so that each token sees something
    heads = torch.randn(BATCH * HEADS if batched else HEADS, TOKENS, SEEN, dtype=torch.float64)
    padding = padding if batched else padding[0]
    return [(None, None), (padding, None), (None, pairs), (padding, pairs), (None, heads)]


@pytest.mark.parametrize(
    ("bias", "kdim", "batch_first"), list(itertools.product((True, False), (None, 6), (True, False)))
)
@pytest.mark.parametrize("batched", [True, False])
def test_it_computes_what_torch_does_under_every_mask(bias, kdim, batch_first, batched):
    module = attention(bias=bias, kdim=kdim, vdim=kdim, batch_first=batch_first)
    split = split_attention(module)
    shapes = [(TOKENS, 8), (SEEN, kdim or 8), (SEEN, kdim or 8)]
    inputs = [torch.randn(*((BATCH, *shape) if batched else shape), dtype=torch.float64) for shape in shapes]
    if batched and not batch_first:
        inputs = [values.transpose(0, 1) for values in inputs]
    for (padding, pairs), weights, mean in itertools.product(masks(batched), (True, False), (True, False)):
        options = {"key_padding_mask": padding, "attn_mask": pairs, "need_weights": weights}
        expected, found = (m(*inputs, **options, average_attn_weights=mean) for m in (module, split))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_layers_of_torch_call_it(training):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, HEADS, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).double().train(training)
    tokens = torch.randn(BATCH, SEEN, 8, dtype=torch.float64)
    padding = torch.arange(SEEN) >= torch.tensor([[5], [3], [4]])
    expected, found = (m(tokens, src_key_padding_mask=padding) for m in (model, split_attention(model)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_what_linear_modules_do_not_compute_is_refused():
    for options in ({"add_bias_kv": True}, {"add_zero_attn": True}):
        with pytest.raises(UnsupportedModuleError, match="'1' is MultiheadAttention"):
            split_attention(nn.Sequential(nn.Identity(), attention(**options)))


def test_frozen_shared_and_training_modules_stay_so():
    shared = attention(batch_first=True).train().requires_grad_(False)
    split = split_attention(nn.ModuleList([shared, shared]))
    assert split[0] is split[1]
    assert split[0].training
    assert not any(parameter.requires_grad for parameter in split.parameters())
    assert shared.in_proj_weight is not None  # the model itself stays as it is


def transformer():
    torch.manual_seed(1)
    vit = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=3)
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.3)
    return vit.double().eval()


def test_heads_of_a_vision_transformer_go_as_an_oracle_says():
    split, images = split_attention(transformer()), torch.randn(4, 3, 32, 32, dtype=torch.float64)
    layers = {layer.name: layer for layer in read_layers(split, images)}
    name = "encoder.layers.encoder_layer_0.self_attention.value"
    assert layers[name].units == 4
    smaller = remove_units(split, images, {name: [1, 3]})
    block = smaller.encoder.layers.encoder_layer_0.self_attention
    assert [block.query.out_features, block.value.out_features, block.out_proj.in_features] == [16, 16, 16]
    # Heads 1 and 3 send nothing to what reads them.
    whole = split_attention(split)
    with torch.no_grad():
        reader = whole.encoder.layers.encoder_layer_0.self_attention.out_proj
        reader.weight.view(32, 4, 8)[:, [1, 3]] = 0
    torch.testing.assert_close(smaller(images), whole(images), rtol=0, atol=1e-10)


def test_a_pruned_transformer_is_loaded_into_a_fresh_one(tmp_path):
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    smaller = splinelib.prune(split_attention(transformer()), images, ratio=0.5)
    assert any("self_attention" in name for name in cut_of(smaller).selection)
    save(smaller, tmp_path / "smaller.safetensors")
    loaded = load(tmp_path / "smaller.safetensors", into=split_attention(transformer()))
    torch.testing.assert_close(loaded(images), smaller(images), rtol=0, atol=0)


def test_encoders_take_padding_masks_when_split(generator):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    tokens = torch.randn(2, 5, 8, generator=generator)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    wanted = encoder(
        tokens, src_key_padding_mask=padding
    )  # nested tensors, which give zeros for what is padded
    split = split_attention(encoder)
    found = split(tokens, src_key_padding_mask=padding)
    torch.testing.assert_close(found[~padding], wanted[~padding])
    smaller = splinelib.prune(split, {"src": tokens, "src_key_padding_mask": padding}, 0.5)
    assert smaller(tokens, src_key_padding_mask=padding).shape == tokens.shape
