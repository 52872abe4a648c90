"""Pruned networks go where networks go: exported, compiled, quantised, traced, copied."""

import copy
import io
import warnings

import pytest
import torch
from test_saving import IMAGES, plain, streams
from torch import nn

import splinelib
from splinelib.criteria import FilterNorm

NETWORKS = {"plain": plain, "streams": streams}


@pytest.fixture(params=NETWORKS)
def pruned(request):
    return splinelib.prune(NETWORKS[request.param](), IMAGES, 0.5, criterion=FilterNorm(1), round_to=2).eval()


@pytest.fixture(autouse=True)
def _their_own_warnings():
    """PyTorch's and ONNX's remarks on their own code are no fault here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def agrees(found, pruned, **tolerance):
    with torch.no_grad():
        torch.testing.assert_close(found, pruned(IMAGES), **tolerance)


def test_torch_export(pruned):
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(pruned, (IMAGES[:2],), dynamic_shapes=({0: batch},))
    held = io.BytesIO()
    torch.export.save(program, held)
    held.seek(0)
    agrees(torch.export.load(held).module()(IMAGES), pruned)


def test_torch_compile_without_a_break(pruned):
    compiled = torch.compile(pruned, fullgraph=True, backend="aot_eager")
    agrees(compiled(IMAGES), pruned, rtol=1e-4, atol=1e-5)
    again = splinelib.prune(compiled, IMAGES, 0.25, criterion=FilterNorm(1))
    assert splinelib.pruning.cut_of(again) != splinelib.pruning.cut_of(pruned)


def test_onnx(pruned, tmp_path):
    import onnxruntime as runtime

    torch.onnx.export(pruned, (IMAGES,), tmp_path / "net.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})
    agrees(torch.from_numpy(found), pruned, rtol=1e-3, atol=1e-5)


def test_dynamic_quantisation(pruned):
    quantised = torch.ao.quantization.quantize_dynamic(pruned, {nn.Linear}, dtype=torch.qint8)
    agrees(quantised(IMAGES), pruned, rtol=0.1, atol=0.05)
    assert not torch.equal(quantised(IMAGES), pruned(IMAGES))


def test_traces_and_copies(pruned):
    agrees(torch.jit.trace(pruned, IMAGES)(IMAGES), pruned)
    agrees(copy.deepcopy(pruned)(IMAGES), pruned)
    half = pruned.to(torch.bfloat16)
    assert splinelib.pruning.cut_of(half).selection
