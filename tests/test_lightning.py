"""With the real package: a two-layer network on a handful of batches."""

import runpy
import sys

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import splinelib.early_bird.lightning
from splinelib import SplineEarlyBird
from splinelib.early_bird.lightning import SplineEarlyBirdCallback
from splinelib.errors import RecordError, SettingError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*is deprecated:FutureWarning"),
]
BATCHES = 4


class Jumping(LightningModule):
    """Trains nothing: every optimiser step draws all parameters anew, until ``frozen`` steps are done."""

    def __init__(self, frozen):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
        self.frozen = frozen

    def forward(self, x):
        return self.network(x)

    def training_step(self, batch, batch_idx):
        return self(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        optimizer.step(closure=optimizer_closure)
        step = self.trainer.global_step + 1  # of this step, from 1: it is counted after the hook
        if step <= self.frozen:
            generator = torch.Generator().manual_seed(step)
            for parameter in self.parameters():
                parameter.data.normal_(generator=generator)


def canvas():
    return torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


def fit(callbacks, epochs, frozen=0, module=None, checkpoint=None, **settings):
    """Train on a few batches of zeros, by default a network that jumps for ``frozen`` steps."""
    module = Jumping(frozen) if module is None else module
    trainer = Trainer(
        accelerator="cpu",
        callbacks=callbacks,
        max_epochs=epochs,
        limit_train_batches=BATCHES,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(module, DataLoader(TensorDataset(torch.zeros(2 * BATCHES, 3)), 2), ckpt_path=checkpoint)
    return trainer, module


def test_every_epoch_is_observed_as_in_a_loop_by_hand():
    bird = SplineEarlyBirdCallback(canvas())
    # Frozen within epoch 2: epochs 2, 3, 4, 5 end with the same network.
    trainer, module = fit([bird], frozen=10, epochs=7)
    assert (bird.drawn, bird.epoch, bird.step) == (True, 5, 24)
    assert bird.epochs == list(range(7))
    assert bird.steps == [4 * epoch for epoch in range(1, 8)]
    assert trainer.current_epoch == 7
    assert module.training
    by_hand = SplineEarlyBird(canvas())
    for step in (4, 8, 10, 10, 10, 10, 10):
        generator = torch.Generator().manual_seed(step)
        for parameter in module.parameters():
            parameter.data.normal_(generator=generator)
        by_hand.update(module)
    np.testing.assert_array_equal(bird.detector.distances, by_hand.distances)


@pytest.mark.parametrize(("every", "drawn", "epoch"), [(1, 9, 2), (3, 15, 3), (5, 25, 6)])
def test_observations_every_few_steps_draw_at_the_planted_step(every, drawn, epoch):
    bird = SplineEarlyBirdCallback(canvas(), every_n_steps=every)
    fit([bird], frozen=6, epochs=7)
    assert (bird.step, bird.epoch) == (drawn, epoch)
    assert bird.steps == list(range(every, 29, every))
    assert bird.epochs == [(step - 1) // BATCHES for step in bird.steps]


def test_batches_that_make_no_step_are_not_observed():
    bird = SplineEarlyBirdCallback(canvas(), every_n_steps=1)
    fit([bird], frozen=3, epochs=4, accumulate_grad_batches=2)
    assert bird.steps == list(range(1, 9))
    assert bird.step == 6


@pytest.mark.parametrize(("every", "steps"), [(None, 20), (1, 9)])
def test_training_stops_at_the_draw_on_demand(every, steps):
    bird = SplineEarlyBirdCallback(canvas(), every_n_steps=every, stop=True)
    trainer, _ = fit([bird], frozen=6, epochs=50)
    assert trainer.global_step == bird.step == steps


def test_a_bird_that_is_never_drawn_stops_nothing():
    bird = SplineEarlyBirdCallback(canvas(), stop=True)
    trainer, _ = fit([bird], frozen=1000, epochs=5)
    assert (bird.drawn, bird.epoch, bird.step) == (False, None, None)
    assert trainer.global_step == 20


@pytest.mark.parametrize(("batches", "epoch"), [(1, 3), (2, 7)])
def test_the_state_travels_in_checkpoints(batches, epoch, tmp_path):
    def birds():
        other = SplineEarlyBirdCallback(-canvas(), every_n_steps=3, name="mirrored")
        return [SplineEarlyBirdCallback(canvas(), every_n_steps=3), other]

    settings = {"frozen": 6, "accumulate_grad_batches": batches}
    whole, first, second = birds(), birds(), birds()
    fit(whole, epochs=5 * batches, **settings)
    # The first part has 8 steps, so the third observation is due after the next.
    trainer, _ = fit(first, epochs=2 * batches, **settings)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    torch.load(tmp_path / "half.ckpt", weights_only=True)  # nothing but tensors, numbers and strings
    fit(second, epochs=5 * batches, checkpoint=tmp_path / "half.ckpt", **settings)
    assert not any(bird.drawn for bird in first)
    for resumed, expected in zip(second, whole, strict=True):
        assert (resumed.step, resumed.epoch) == (expected.step, expected.epoch) == (15, epoch)
        assert resumed.steps == expected.steps
        np.testing.assert_array_equal(resumed.detector.distances, expected.detector.distances)
    assert second[0].detector.distances[0, 1] != second[1].detector.distances[0, 1]


def test_a_canvas_of_another_dtype_follows_the_module():
    bird = SplineEarlyBirdCallback(canvas().half())
    fit([bird], frozen=1, epochs=4)
    assert bird.detector.canvas.dtype == torch.float32
    assert bird.epoch == 3


class Words(LightningModule):
    """Looks up integers; two optimisers step in every batch."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.network = nn.Sequential(
            nn.Embedding(9, 5), nn.Flatten(), nn.Linear(15, 8), nn.ReLU(), nn.Linear(8, 1)
        )

    def forward(self, x):
        return self.network(x)

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self(batch[0].long()).square().mean())
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(self.network[part].parameters(), lr=0.1) for part in (0, 2)]


def words():
    return torch.randint(9, (40, 3), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("every", "steps"), [(1, [2, 4, 6, 8, 10, 12, 14, 16]), (3, [6, 12]), (None, [8, 16])]
)
def test_steps_of_two_optimisers_in_one_batch_count_once(every, steps):
    bird = SplineEarlyBirdCallback(words(), every_n_steps=every)
    fit([bird], module=Words(), epochs=2)
    assert bird.steps == steps


def test_a_canvas_of_integers_stays_one():
    bird = SplineEarlyBirdCallback(words())
    fit([bird], module=Words(), epochs=1)
    assert bird.detector.canvas.dtype == torch.int64


class Bare(LightningModule):
    """Has nothing to train."""

    def forward(self, x):
        return torch.relu(x)

    def training_step(self, batch, batch_idx):
        return None

    def configure_optimizers(self):
        return None


@pytest.mark.filterwarnings("ignore:.*returned `None`.*")
def test_a_module_without_parameters_takes_the_canvas_as_it_is():
    bird = SplineEarlyBirdCallback(canvas().double())
    fit([bird], module=Bare(), epochs=4)
    assert bird.epochs == [0, 1, 2, 3]
    assert bird.detector.canvas.dtype == torch.float64
    assert bird.drawn


def test_bits_reach_the_detector_and_tell_callbacks_apart():
    few, many = SplineEarlyBirdCallback(canvas(), bits=50), SplineEarlyBirdCallback(canvas())
    fit([few, many], frozen=1, epochs=1)
    assert few.detector.codes[0].bits == (50,)
    assert many.detector.codes[0].bits == (640,)


def test_a_canvas_that_follows_the_module_still_fits_its_checkpoint(tmp_path):
    first, second = SplineEarlyBirdCallback(canvas().half()), SplineEarlyBirdCallback(canvas().half())
    trainer, _ = fit([first], frozen=1, epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    fit([second], frozen=1, epochs=4, checkpoint=tmp_path / "half.ckpt")
    assert second.epoch == 3


def test_settings_and_states_that_cannot_be_used_are_named():
    with pytest.raises(SettingError, match="every_n_steps is 0"):
        SplineEarlyBirdCallback(canvas(), every_n_steps=0)
    with pytest.raises(SettingError, match="window is 0"):
        SplineEarlyBirdCallback(canvas(), window=0)
    bird = SplineEarlyBirdCallback(canvas())
    state = bird.state_dict()
    del state["steps"]
    with pytest.raises(RecordError, match=r"lacks \['steps'\]"):
        bird.load_state_dict(state)


def test_without_lightning_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)  # what None stands for cannot be imported
    with pytest.raises(SettingError, match="pip install lightning"):
        runpy.run_path(splinelib.early_bird.lightning.__file__)
