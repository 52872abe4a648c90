import gc
import types

import pytest
import torch
from torch import nn

from splinestudy.training import trainer
from splinestudy.training.cuda_graphs import captured
from splinestudy.training.settings import TrainSettings
from splinestudy.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


@pytest.fixture
def recorder(monkeypatch):
    """Torch's recorder, which needs a GPU: runs the network as that does, and notes whether garbage is collected."""
    collecting = []

    def record(passes, samples):
        collecting.append(gc.isenabled())
        for _ in range(3):
            passes(*samples)
        return passes

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    return collecting


def test_recording_leaves_the_network_as_it_was(recorder):
    model, images = network().train(), torch.randn(8, 1, 8, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    passes = captured(model, images, low=False)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(passes(images), model(images))
    assert int(model[1].num_batches_tracked) == 2


def test_nothing_is_collected_while_recording(recorder):
    captured(network(), torch.randn(8, 1, 8, 8), low=False)
    assert recorder == [False]
    assert gc.isenabled()


def test_collecting_goes_on_after_a_failure(monkeypatch):
    def failing(passes, samples):
        raise RuntimeError("no memory")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", failing)
    with pytest.raises(RuntimeError, match="no memory"):
        captured(network(), torch.randn(8, 1, 8, 8), low=False)
    assert gc.isenabled()


def test_only_full_batches_on_a_gpu_are_replayed(monkeypatch):
    made = []
    monkeypatch.setattr(trainer, "captured", lambda *settings: made.append(settings) or "recorded")
    settings = TrainSettings(epochs=1, precision="bfloat16")
    training = Trainer(network(), settings, seed=0, callbacks=(), checkpoint=None, every=0.0)

    def passes(count, is_cuda=True):
        return training._passes(types.SimpleNamespace(is_cuda=is_cuda, shape=torch.Size([count, 1, 8, 8])))

    assert passes(8, is_cuda=False) is training.forward
    assert [passes(8), passes(8), passes(8)] == ["recorded"] * 3
    assert passes(5) is training.forward
    assert [(model is training.model, low) for model, _, low in made] == [(True, True)]
