import dataclasses
import math

import pytest
import tiny_runs
import torch
from breaking import damaged, kill, started, wait_until
from tiny_runs import SETTINGS, tiny_dataset, tiny_network, train_tiny
from torch import nn

from splinelib.errors import DamagedError, RecordError, SettingError, TrainingError
from splinelib.files import load_tensors, save_tensors
from splinestudy.models import build_model
from splinestudy.training import loop as training
from splinestudy.training.loop import evaluate, train
from splinestudy.training.settings import TrainSettings
from splinestudy.training.trainer import Trainer


@pytest.fixture(scope="module")
def uninterrupted():
    return train_tiny()


def test_the_result_follows_from_the_seed_bit_by_bit(uninterrupted):
    torch.manual_seed(123)
    rows, digest, _ = train_tiny()
    assert (rows, digest) == uninterrupted[:2]
    model = tiny_network()
    train(model, tiny_dataset(), SETTINGS, seed=4, progress=False)
    assert tiny_runs.digest(model) != digest


def test_rows_hold_what_was_measured(uninterrupted):
    rows, _, watch = uninterrupted
    assert [row["epoch"] for row in rows] == watch.epochs == [0, 1, 2]
    assert [row["lr"] for row in rows] == pytest.approx([0.05, 0.05, 0.005])
    assert [len(row["moved"]) for row in rows] == [1, 2, 3]
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_the_loss_is_the_mean_over_images():
    # At a learning rate of all but 0 the network stays what it is, so the size of the batches makes no difference.
    losses = []
    for batch_size in (48, 20):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        nn.init.constant_(model[1].weight, 0.1)
        settings = TrainSettings(epochs=1, batch_size=batch_size, lr=1e-12)
        nn.init.constant_(model[1].bias, 0.0)
        model[1].bias.data[0] = 1.0
        losses.append(train(model, tiny_dataset(), settings, seed=0, progress=False)[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] == pytest.approx((2 * math.log(math.e + 2) + math.log(1 + 2 / math.e)) / 3, rel=1e-5)


def test_a_model_in_eval_mode_is_trained_all_the_same(uninterrupted):
    model = tiny_network().eval()
    train(model, tiny_dataset(), SETTINGS, seed=3, progress=False)
    assert tiny_runs.digest(model) == uninterrupted[1]


def test_chance_inside_the_network_differs_from_step_to_step():
    drawn = []

    class Chance(nn.Linear):
        def forward(self, x):
            if self.training:
                drawn.append(torch.rand(()).item())
            return super().forward(x)

    for seed in (0, 1):
        model = nn.Sequential(nn.Flatten(), Chance(64, 3))
        train(model, tiny_dataset(), dataclasses.replace(SETTINGS, epochs=2), seed=seed, progress=False)
    assert len(set(drawn)) == len(drawn) == 24  # 2 seeds, 2 epochs of 6 steps


def test_the_global_generator_is_untouched():
    state = torch.get_rng_state()
    train_tiny(epochs=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_checkpoints_change_nothing(uninterrupted, tmp_path):
    path = tmp_path / "deep" / "checkpoint.pt"
    assert train_tiny(path)[:2] == uninterrupted[:2]
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]
    # A finished run is not run again.
    rows, digest, watch = train_tiny(path)
    assert (rows, digest) == uninterrupted[:2]
    assert watch.epochs == [0, 1, 2]


def test_moments_that_are_kept_go_on_without_callbacks(uninterrupted, tmp_path):
    """As checkpoints do, and to the same end."""
    path = tmp_path / "moment.pt"
    model = tiny_network()
    arguments = {"seed": 3, "progress": False}
    train(model, tiny_dataset(), SETTINGS, **arguments, keep=lambda epochs: path if epochs == 2 else None)
    assert tiny_runs.digest(model) == uninterrupted[1]
    rows = train(later := tiny_network(), tiny_dataset(), SETTINGS, **arguments, checkpoint=path)
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert tiny_runs.digest(later) == uninterrupted[1]


@pytest.mark.parametrize(("every", "written"), [(0.0, [0, 1, 2]), (60.0, [2])])
def test_checkpoints_are_written_when_they_are_due_and_at_the_end(every, written, tmp_path, monkeypatch):
    model, epochs = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), []
    monkeypatch.setattr(Trainer, "write", lambda trainer, *_: epochs.append(trainer.state.epoch - 1))
    settings = dataclasses.replace(SETTINGS, batch_size=48)
    path = tmp_path / "checkpoint.pt"
    train(model, tiny_dataset(), settings, seed=0, checkpoint=path, checkpoint_every=every, progress=False)
    assert sorted(set(epochs) - {-1}) == written


@pytest.mark.parametrize("steps", [1, 6, 7, 11, 17])
def test_an_exception_at_any_step_loses_nothing(uninterrupted, steps, tmp_path, monkeypatch):
    taken, step = [], Trainer._step

    def failing(trainer, *batch):
        if len(taken) == steps:
            raise KeyboardInterrupt
        taken.append(None)
        return step(trainer, *batch)

    monkeypatch.setattr(Trainer, "_step", failing)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "checkpoint.pt")
    counted = []
    monkeypatch.setattr(Trainer, "_step", lambda *arguments: counted.append(None) or step(*arguments))
    rows, digest, watch = train_tiny(tmp_path / "checkpoint.pt")
    assert (rows, digest) == uninterrupted[:2]
    assert watch.epochs == [0, 1, 2]
    assert len(counted) == 18 - steps  # of 3 epochs of 6 batches


def test_a_killed_run_ends_as_if_nothing_had_happened(uninterrupted, tmp_path):
    path = tmp_path / "checkpoint.pt"
    process = started("train", tmp_path)

    def in_the_middle():
        progress = load_tensors(path)["progress"] if path.exists() else {"epoch": 0}
        return progress["epoch"] == 1 and progress["step"] >= 2

    wait_until(in_the_middle, process)
    kill(process)
    progress = load_tensors(path)["progress"]
    assert (progress["epoch"], progress["step"]) < (3, 0)
    rows, digest, watch = train_tiny(path)
    assert (rows, digest) == uninterrupted[:2]
    assert watch.epochs == [0, 1, 2]
    assert rows[-1]["moved"] == uninterrupted[0][-1]["moved"]


@pytest.mark.parametrize("changes", [{"lr": 0.04}, {"epochs": 4}, {"norm_l1": 0.0}])
def test_a_checkpoint_of_other_settings_is_named(changes, tmp_path):
    path = tmp_path / "checkpoint.pt"
    train_tiny(path, epochs=1)
    with pytest.raises(
        RecordError, match="checkpoint .*checkpoint.pt was made with seed 3 and .*'epochs': 1"
    ):
        train_tiny(path, **{"epochs": 1, **changes})


def test_a_checkpoint_of_another_seed_is_named(tmp_path):
    path = tmp_path / "checkpoint.pt"
    train_tiny(path, epochs=1)
    settings = dataclasses.replace(SETTINGS, epochs=1)
    with pytest.raises(RecordError, match="was made with seed 3"):
        train(tiny_network(), tiny_dataset(), settings, seed=5, checkpoint=path, progress=False)


@pytest.mark.parametrize("how", ["altered", "truncated", "empty", "other"])
def test_a_damaged_checkpoint_is_set_aside_and_training_starts_anew(how, tmp_path, caplog):
    path = tmp_path / "checkpoint.pt"
    expected = train_tiny(path, epochs=1)[:2]
    path.write_bytes(broken := damaged(path.read_bytes())[how])
    assert train_tiny(path, epochs=1)[:2] == expected
    assert path.with_suffix(".damaged").read_bytes() == broken
    assert "checkpoint.pt is damaged" in caplog.text or "was altered" in caplog.text
    assert load_tensors(path)["progress"]["epoch"] == 1


def test_a_checkpoint_of_another_run_is_not_taken(tmp_path):
    train_tiny(tmp_path / "other.pt", epochs=1)
    (tmp_path / "other.pt").rename(tmp_path / "mine.pt")
    with pytest.raises(DamagedError, match=r"mine.pt was written as other: it belongs to another run"):
        load_tensors(tmp_path / "mine.pt")


def test_altered_tensors_with_right_check_sums_are_noticed(tmp_path):
    save_tensors(tmp_path / "a.pt", {"x": torch.zeros(3), "n": [1, (2.0, None)]})
    assert load_tensors(tmp_path / "a.pt")["n"] == [1, (2.0, None)]
    held = torch.load(tmp_path / "a.pt", weights_only=True)
    held["content"]["x"][1] = 1e-30
    torch.save(held, tmp_path / "a.pt")
    with pytest.raises(DamagedError, match="was altered"):
        load_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1)])
def test_a_resumed_run_keeps_its_threads_or_says_so(before, now, tmp_path, caplog, monkeypatch):
    path, used = tmp_path / "checkpoint.pt", []
    step = Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda *given: used.append(torch.get_num_threads()) or step(*given))
    data = tiny_dataset()
    try:
        for threads, stop in ((before, 1), (now, 2)):
            torch.set_num_threads(threads)
            train(tiny_network(), data, SETTINGS, seed=0, checkpoint=path, stop=stop, progress=False)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(1)
    assert set(used[:6]) == {before}
    assert set(used[6:]) == {min(before, now)}
    assert f"was made with {before} threads and goes on with {min(before, now)}" in caplog.text


def test_a_checkpoint_may_hold_tensors_and_plain_values_only(tmp_path):
    torch.save(torch.zeros(2), tmp_path / "tensor.pt")
    with pytest.raises(RecordError, match="holds a Tensor where a dict was expected"):
        load_tensors(tmp_path / "tensor.pt")
    torch.save({"model": tiny_network()}, tmp_path / "module.pt")
    with pytest.raises(RecordError, match="module.pt is damaged"):
        load_tensors(tmp_path / "module.pt")


def test_a_loss_that_is_no_number_names_epoch_and_settings(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(
        TrainingError, match=r"the loss is (nan|inf) in epoch \d with TrainSettings.*lr=1e\+18"
    ):
        train_tiny(path, lr=1e18)
    poisoned = tiny_network()
    poisoned[8].bias.data[0] = torch.nan
    with pytest.raises(TrainingError, match="the loss is nan in epoch 0"):
        train(poisoned, tiny_dataset(), SETTINGS, seed=0, progress=False)


def test_no_checkpoint_holds_a_loss_that_is_no_number(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(TrainingError):
        train_tiny(path, lr=1e18)
    if path.exists():
        assert load_tensors(path)["progress"]["loss_sum"] < float("inf")


def test_l1_adds_exactly_its_sign_to_the_gradient_of_scales():
    data = tiny_dataset()
    images, labels = data.train.images[:8].float() / 255, data.train.labels[:8]
    gradients = []
    for strength in (0.0, 0.25):
        model = tiny_network()
        model[1].weight.data = torch.tensor([1.0, -1.0, 0.0, 2.0])
        settings = dataclasses.replace(SETTINGS, norm_l1=strength)
        trainer = Trainer(model.eval(), settings, 0, [], None, 60.0)
        trainer._step(images, labels)
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    without, added = gradients
    for name, gradient in added.items():
        if name == "1.weight":
            expected = without[name] + 0.25 * torch.tensor([1.0, -1.0, 0.0, 1.0])
        elif name == "5.weight":
            expected = without[name] + 0.25
        else:
            expected = without[name]
        assert torch.equal(gradient, expected), name


def test_l1_passes_over_batch_norms_without_scales():
    model = tiny_network()
    model[1] = nn.BatchNorm2d(4, affine=False)
    train(model, tiny_dataset(), dataclasses.replace(SETTINGS, epochs=1), seed=0, progress=False)


def test_one_step_is_that_of_sgd():
    # Two steps by hand, with momentum and weight decay: v = g + m v, w = w - lr v.
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    twin = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    twin.load_state_dict(model.state_dict())
    images, labels = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    trainer = Trainer(
        model, TrainSettings(epochs=1, lr=0.1, momentum=0.9, weight_decay=0.01), 0, [], None, 60.0
    )
    speed = [torch.zeros_like(parameter) for parameter in twin.parameters()]
    for _ in range(2):
        loss = trainer._step(images, labels)
        wanted = nn.functional.cross_entropy(twin(images), labels)
        torch.testing.assert_close(loss, wanted.detach())
        for v, parameter, gradient in zip(
            speed, twin.parameters(), torch.autograd.grad(wanted, list(twin.parameters())), strict=True
        ):
            v.mul_(0.9).add_(gradient + 0.01 * parameter.detach())
            parameter.data.sub_(0.1 * v)
    for actual, expected in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("epochs", "falls"), [(160, (80, 120)), (16, (8, 12)), (8, (4, 6)), (4, (2, 3)), (1, ())]
)
def test_the_learning_rate_falls_where_the_papers_schedule_does(epochs, falls):
    settings = TrainSettings(epochs=epochs)
    expected = [0.1 * 0.1 ** sum(epoch >= fall for fall in falls) for epoch in range(epochs)]
    assert [settings.lr_at(epoch) for epoch in range(epochs)] == pytest.approx(expected)


def test_the_optimiser_uses_the_schedule(monkeypatch):
    used, step = [], torch.optim.SGD.step

    def noting(optimizer, *arguments):
        used.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", noting)
    train_tiny(epochs=4)
    assert used == pytest.approx([0.05] * 12 + [0.005] * 6 + [0.0005] * 6)


def test_low_precision_trains_in_float32_weights():
    rows, digest, _ = train_tiny(epochs=1, precision="bfloat16")
    plain = train_tiny(epochs=1)
    assert digest != plain[1]
    assert rows[0]["loss"] == pytest.approx(plain[0][0]["loss"], rel=0.05)


def test_dropout_of_an_architecture_follows_the_seed():
    data, digests = tiny_dataset(8, 4), []
    for seed in (0, 0, 1):
        model = build_model("mobilenet_v2", num_classes=3, in_channels=1, width=0.25, image_size=8, seed=0)
        torch.manual_seed(len(digests))
        train(model, data, TrainSettings(epochs=1, batch_size=8), seed=seed, progress=False)
        digests.append(tiny_runs.digest(model))
    assert digests[0] == digests[1] != digests[2]


def test_evaluation_counts_right_answers(monkeypatch):
    data = tiny_dataset(test_count=7)

    class Guess(nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout = nn.Dropout(1.0)

        def forward(self, x):
            return self.dropout(torch.eye(3)[torch.ones(len(x), dtype=torch.int64)])

    model = Guess().train()
    for batch_size in (100, 3):
        monkeypatch.setitem(training.EVALUATED, "cpu", batch_size)
        assert evaluate(model, data) == 2 / 7  # labels 0 1 2 0 1 2 0
    assert model.dropout.training


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"precision": "half"}, "'half'"),
    ],
)
def test_settings_outside_are_named(changes, named):
    with pytest.raises(SettingError, match=named):
        dataclasses.replace(SETTINGS, **changes)
