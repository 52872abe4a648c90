"""Networks that are pruned in the middle of their dense training, and the watch over a partition that settles."""

import dataclasses
import sys
import types

import pytest
import torch
from tiny_runs import CPU, SETTINGS, digest, sweep_tiny, tiny_dataset, tiny_plan

from splinelib.errors import SettingError
from splinestudy.data import calibration
from splinestudy.runs import dense as dense_kind
from splinestudy.runs import prune as prune_kind
from splinestudy.runs import sweep as sweeps
from splinestudy.runs.dense import partly_trained
from splinestudy.runs.plans import plan
from splinestudy.runs.profiles import get_profile
from splinestudy.runs.prune import dense_epochs
from splinestudy.runs.records import run_key
from splinestudy.runs.schedules import SCHEDULES, schedule_name
from splinestudy.runs.settling import Canvas, SettlingRun, SettlingWatch, make_canvas
from splinestudy.runs.store import RecordStore
from splinestudy.training import loop
from splinestudy.training.energy import EnergyMeter
from splinestudy.training.loop import train
from splinestudy.training.settings import TrainSettings

DENSE, _, SPLINE, *_ = tiny_plan()


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(dense_kind, "load_dataset", lambda name: tiny_dataset())
    monkeypatch.setattr(sweeps, "_WAIT", 0.01)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with the dense run in it."""
    folder = tmp_path_factory.mktemp("tickets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense_kind, "load_dataset", lambda name: tiny_dataset())
        assert sweep_tiny(folder, [DENSE]).failed == []
    return RecordStore(folder)


def ticket(**settings):
    return dataclasses.replace(SPLINE, **settings)


# --- moments of a dense run -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_moment_is_that_of_the_dense_run_bit_by_bit(order, tmp_path):
    data, moments = tiny_dataset(), RecordStore(tmp_path)
    for epochs in order:
        straight = dense_kind.new_model(DENSE, data, CPU)
        train(straight, data, SETTINGS, seed=DENSE.seed, stop=epochs, progress=False)
        assert digest(partly_trained(DENSE, epochs, data, moments, CPU)) == digest(straight)


def test_a_moment_is_trained_once(tmp_path, monkeypatch):
    data, moments = tiny_dataset(), RecordStore(tmp_path)
    partly_trained(DENSE, 1, data, moments, CPU)
    steps = []
    step = loop.Trainer._step
    monkeypatch.setattr(loop.Trainer, "_step", lambda *batch: steps.append(1) or step(*batch))
    partly_trained(DENSE, 2, data, moments, CPU)  # goes on from the first
    assert len(steps) == 6
    partly_trained(DENSE, 2, data, moments, CPU)
    assert len(steps) == 6


def test_no_epochs_is_the_initial_network(tmp_path):
    data = tiny_dataset()
    initial = partly_trained(DENSE, 0, data, RecordStore(tmp_path), CPU)
    assert digest(initial) == digest(dense_kind.new_model(DENSE, data, CPU))
    assert not any(tmp_path.iterdir())


# --- when a ticket is drawn -----------------------------------------------------------------------------------


def dense_record(store, spline, mask):
    record = store.load(DENSE)
    results = {
        **record.results,
        "spline": {**record.results["spline"], "epoch": spline},
        "masks": [{"ratio": 0.5, "epoch": mask, "distances": []}],
    }
    return dataclasses.replace(record, results=results)


@pytest.mark.parametrize(
    ("draw", "spline", "mask", "expected"),
    [
        (0, None, None, (0, True)),
        (2, None, None, (2, True)),
        ("end", 1, 1, (3, True)),
        ("spline", 1, 0, (2, True)),
        ("mask", 1, 0, (1, True)),
        ("spline", None, 0, (3, False)),
        ("mask", 0, None, (3, False)),
    ],
)
def test_the_draw_says_how_long_the_dense_network_is_trained(store, draw, spline, mask, expected):
    assert dense_epochs(ticket(draw=draw), dense_record(store, spline, mask)) == expected


def test_a_network_without_masks_never_draws_by_them(store):
    record = dense_record(store, 1, 1)
    bare = dataclasses.replace(record, results={**record.results, "masks": []})
    assert dense_epochs(ticket(draw="mask"), bare) == (3, False)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"draw": 4}, "draw is 4: the dense run has 3 epochs"),
        ({"draw": -1}, "draw is -1"),
        ({"draw": "early"}, "draw is 'early'"),
        ({"draw": "mask", "ratio": 0.3}, "draw is 'mask' at ratio 0.3"),
        ({"onward": True}, "draw 'end'"),
        ({"onward": True, "draw": 1}, "finetune.epochs 1 of 3"),
        ({"onward": True, "draw": 1, "finetune": SETTINGS, "start": "initial"}, "start is 'initial'"),
        ({"criterion": "sfp", "draw": 1}, "'sfp' zeroes units"),
        ({"ratio_of": "cost"}, "ratio_of is 'cost'"),
        ({"ratio_of": "flops", "draw": "mask"}, "with draw 'mask'"),
        ({"ratio_of": "flops", "criterion": "folding"}, "folding and sfp count units"),
    ],
)
def test_draws_that_make_no_sense_are_named(settings, named):
    with pytest.raises(SettingError, match=named):
        ticket(**settings)


def test_older_runs_keep_their_names():
    assert run_key(ticket(draw="end", onward=False)) == run_key(SPLINE)
    assert run_key(ticket(draw=1)) != run_key(SPLINE)


# --- what a ticket's run computes -----------------------------------------------------------------------------


def test_an_early_ticket_goes_on_in_the_dense_schedule(store):
    run = ticket(draw=1, onward=True, finetune=SETTINGS)
    (record,) = sweep_tiny(store.root, [run]).records
    rows = record.results["epochs"]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["lr"] for row in rows] == [SETTINGS.lr_at(1), SETTINGS.lr_at(2)]
    assert (record.results["dense_epochs"], record.results["drawn"]) == (1, True)
    assert record.results["scoring_seconds"] > 0
    assert record.results["scoring_flops"] > 0
    assert record.results["accuracy"] == rows[-1]["accuracy"]


def test_a_ticket_is_cut_from_the_network_of_its_moment(store):
    data = tiny_dataset()
    known = calibration(data, 0)
    early = partly_trained(DENSE, 1, data, store, CPU)
    run = ticket(draw=1)
    expected, _ = prune_kind._pruned(run, early, data, known, store, CPU)
    (record,) = sweep_tiny(store.root, [run]).records
    assert record.results["pruned_accuracy"] == prune_kind.evaluate(expected, data)
    assert [row["epoch"] for row in record.results["epochs"]] == [0]


def test_pruning_at_initialisation_needs_no_training(store):
    run = ticket(draw=0, criterion="snip", finetune=SETTINGS)
    (record,) = sweep_tiny(store.root, [run]).records
    assert record.results["dense_epochs"] == 0
    assert len(record.results["epochs"]) == 3
    assert record.results["cost"]["flops"] < record.results["dense_cost"]["flops"]


def test_a_bird_that_is_never_drawn_leaves_a_dense_run_cut_at_its_end(store, monkeypatch):
    monkeypatch.setattr(prune_kind, "dense_epochs", lambda run, record: (3, False))
    run = ticket(draw="spline", onward=True, finetune=SETTINGS)
    (record,) = sweep_tiny(store.root, [run]).records
    assert (record.results["drawn"], record.results["epochs"]) == (False, [])
    assert record.results["accuracy"] == record.results["reestimated_accuracy"]


@pytest.mark.parametrize("start", ["lsuv", "through_data", "layerwise"])
def test_clever_starts_are_new_weights_in_the_narrow_shape(store, start):
    run = ticket(criterion="random", start=start)
    data, known = tiny_dataset(), calibration(tiny_dataset(), 0)
    dense = dense_kind.trained_model(DENSE, data, store, CPU)
    plain, plain_spent = prune_kind._pruned(
        ticket(criterion="random", start="fresh"), dense, data, known, store, CPU
    )
    network, spent = prune_kind._pruned(run, dense, data, known, store, CPU)
    assert [p.shape for p in network.parameters()] == [p.shape for p in plain.parameters()]
    assert digest(network) != digest(plain)
    assert digest(network) == digest(prune_kind._pruned(run, dense, data, known, store, CPU)[0])
    assert spent["scoring_flops"] > plain_spent["scoring_flops"]
    (record,) = sweep_tiny(store.root, [run]).records
    assert len(record.results["epochs"]) == 1


def test_clever_starts_are_for_chains_alone():
    dense = dataclasses.replace(DENSE, arch="preresnet20")
    with pytest.raises(SettingError, match="start is 'lsuv' and arch 'preresnet20'"):
        ticket(dense=dense, start="lsuv")


def test_narrow_networks_may_train_as_long_as_a_ticket_costs():
    profile = get_profile("study", ratios=[0.5], seeds=[0])
    planned = [run for run in plan("initialisations", profile) if run.kind == "prune"]
    assert [(run.start, run.finetune.epochs) for run in planned] == [
        ("fresh", 16),
        ("lsuv", 16),
        ("through_data", 16),
        ("layerwise", 16),
        ("fresh", 80),
    ]


# --- watching the partition settle ----------------------------------------------------------------------------


CANVAS_LIST = (Canvas("pair", 9), Canvas("pair", 9, 1), Canvas("images", 6), Canvas("noise", 5))


def test_canvases_are_what_they_say():
    data = tiny_dataset()
    made = {canvas: make_canvas(canvas, data, 0) for canvas in CANVAS_LIST}
    assert [len(points) for points in made.values()] == [9, 9, 6, 5]
    assert not torch.equal(made[CANVAS_LIST[0]], made[CANVAS_LIST[1]])
    assert torch.equal(make_canvas(CANVAS_LIST[3], data, 0), made[CANVAS_LIST[3]])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("square", 9), "inputs is 'square'"), (("pair", 8), "points is 8"), (("noise", 0), "points is 0")],
)
def test_canvases_that_make_no_sense_are_named(arguments, named):
    with pytest.raises(SettingError, match=named):
        Canvas(*arguments)


def test_a_settling_run_watches_every_canvas(store):
    run = SettlingRun(DENSE, CANVAS_LIST)
    (record,) = sweep_tiny(store.root, [run]).records
    watched = record.results["watched"]
    assert [(w["inputs"], w["points"], w["draw"]) for w in watched] == [
        (c.inputs, c.points, c.draw) for c in CANVAS_LIST
    ]
    for part in (*watched, record.results["averaged"]):
        assert torch.tensor(part["distances"]).shape == (3, 3)
        assert torch.tensor(part["to_final"]).shape == torch.tensor(part["settled"]).shape == (3, 6)
        assert part["settled"][-1] == [1.0] * 6
        assert part["to_final"][-1] == [0.0] * 6
    assert all(0 <= row["averaged_accuracy"] <= 1 for row in record.results["epochs"])


def test_settling_trains_as_the_dense_run_does(store):
    accuracies = [row["accuracy"] for row in store.load(DENSE).results["epochs"]]
    (record,) = sweep_tiny(store.root, [SettlingRun(DENSE, (Canvas("pair", 16),))]).records
    assert [row["accuracy"] for row in record.results["epochs"]] == accuracies
    # canvas_side is 4: the same canvas, hence the same distances
    assert record.results["watched"][0]["distances"] == store.load(DENSE).results["spline"]["distances"]


def test_the_average_is_exponential_and_its_norms_fit_it():
    data = tiny_dataset()
    watch = SettlingWatch(CANVAS_LIST[:1], data, DENSE.seed)
    first, second = (
        dense_kind.new_model(dataclasses.replace(DENSE, seed=seed), data, CPU) for seed in (0, 1)
    )
    watch.after_epoch(first, 0)
    watch.after_epoch(second, 1)
    averaged = next(watch._average.module.parameters())
    expected = 0.75 * next(first.parameters()) + 0.25 * next(second.parameters())
    torch.testing.assert_close(averaged, expected)


def test_the_watch_goes_on_from_a_checkpoint(tmp_path):
    data, run = tiny_dataset(), SettlingRun(DENSE, CANVAS_LIST)

    def results(*stops):
        path = tmp_path / f"{len(stops)}.pt"
        for stop in stops:
            model, watch = (
                dense_kind.new_model(DENSE, data, CPU),
                SettlingWatch(run.canvases, data, run.training.seed),
            )
            settings = {"seed": 0, "callbacks": [watch], "checkpoint": path, "progress": False}
            rows = train(model, data, SETTINGS, stop=stop, **settings)
        shown = watch.results()
        clocks = [part.pop("seconds") for part in shown["watched"]]
        assert all(clock > 0 for clock in clocks)
        return shown, [row["averaged_accuracy"] for row in rows]

    assert results(3) == results(1, 3)


# --- plans ----------------------------------------------------------------------------------------------------


def test_every_schedule_has_its_name_and_two_have_every_canvas():
    profile = get_profile("study")
    planned = plan("settling", profile)
    assert [schedule_name(run, profile) for run in planned] == [
        name for name in SCHEDULES for _ in profile.seeds
    ]
    (canvases,) = {run.canvases for run in planned[:6]}  # a schedule with drops and one without
    assert {run.canvases for run in planned[6:]} == {canvases[:1]} == {(Canvas("pair", 1024),)}
    assert len(set(canvases)) == len(canvases) == 13
    assert {canvas.inputs for canvas in canvases} == {"pair", "images", "noise"}


def test_tickets_are_drawn_all_along_and_trained_equally():
    profile = get_profile("study", ratios=[0.5], seeds=[0])
    tickets = [run for run in plan("tickets", profile) if run.kind == "prune"]
    assert [run.draw for run in tickets] == [1, 2, 4, 6, 8, 12, "end"] * 2
    assert {run.finetune.epochs for run in tickets} == {8}


def test_the_plan_of_savings_shares_its_runs_with_the_other_sweeps():
    profile = get_profile("study")
    savings = set(plan("savings", profile))
    assert set(plan("scratch", profile)) <= savings
    assert len(savings & set(plan("methods", profile))) == 6 + 2 * 9  # dense runs, spline and slimming
    assert len(savings & set(plan("tickets", profile))) == 3 + 3 * 9  # dense runs, three moments


def test_birds_are_the_early_birds_of_the_plan_of_savings():
    profile = get_profile("residual")
    birds, savings = plan("birds", profile), plan("savings", profile)
    onward = [run for run in savings if getattr(run, "onward", False)]
    assert birds[6:] == onward
    assert len(onward) == 3 * 3 * 2 * 2  # seeds, ratios, detectors, scopes


def test_the_narrow_network_is_given_the_price_of_an_early_ticket():
    runs = plan("savings", get_profile("study", ratios=[0.5], seeds=[0]))
    epochs = {run.finetune.epochs for run in runs if getattr(run, "start", "") == "fresh"}
    assert epochs == {16, 8 + 4 * 4}  # half a schedule, and a quarter of the dense one at four times the cost


# --- schedules and energy -------------------------------------------------------------------------------------


def test_cosine_falls_from_the_first_rate_towards_nothing():
    settings = TrainSettings(epochs=4, lr=0.8, cosine=True)
    rates = [settings.lr_at(epoch) for epoch in range(4)]
    assert rates == pytest.approx([0.8, 0.4 * (1 + 0.5**0.5), 0.4, 0.4 * (1 - 0.5**0.5)])


def test_training_can_start_in_the_middle_of_its_schedule():
    data = tiny_dataset()
    model = dense_kind.new_model(DENSE, data, CPU)
    rows = train(model, data, SETTINGS, seed=0, first=2, progress=False)
    assert [row["epoch"] for row in rows] == [2]
    assert rows[0]["lr"] == SETTINGS.lr_at(2)


class FakeCounter(types.ModuleType):
    """NVML whose counter goes up by 2,000 millijoules a reading."""

    class NVMLError(Exception):
        pass

    def __init__(self, broken=False):
        super().__init__("pynvml")
        self.read, self.broken = 0, broken

    def nvmlInit(self):
        if self.broken:
            raise self.NVMLError

    def nvmlDeviceGetHandleByUUID(self, uuid):
        assert uuid == "GPU-1234"
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        self.read += 2000
        return self.read


def test_energy_is_read_where_it_is_counted(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="1234")
    )
    monkeypatch.setitem(sys.modules, "pynvml", FakeCounter())
    meter = EnergyMeter(torch.device("cuda"))
    assert meter.joules() == 2.0
    assert meter.joules() == 4.0


@pytest.mark.parametrize("module", [None, FakeCounter(broken=True)])
def test_energy_is_not_guessed(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "pynvml", module)  # None: the import fails
    assert EnergyMeter(torch.device("cuda")).joules() is None
    assert EnergyMeter(CPU).joules() is None


def count_five_joules(monkeypatch):
    """Every meter reads five joules."""

    class Meter:
        def __init__(self, device):
            pass

        def joules(self):
            return 5.0

    monkeypatch.setitem(loop.Trainer.run_epoch.__globals__, "EnergyMeter", Meter)


def test_joules_join_the_rows_where_they_are_counted(monkeypatch):
    count_five_joules(monkeypatch)
    model = dense_kind.new_model(DENSE, tiny_dataset(), CPU)
    rows = train(model, tiny_dataset(), SETTINGS, seed=0, progress=False)
    assert [row["joules"] for row in rows] == [5.0, 10.0, 15.0]


def test_a_training_counted_in_part_has_no_energy(monkeypatch, tmp_path):
    def run(stop):
        model = dense_kind.new_model(DENSE, tiny_dataset(), CPU)
        checkpoint = tmp_path / "c.pt"
        return train(
            model, tiny_dataset(), SETTINGS, seed=0, checkpoint=checkpoint, stop=stop, progress=False
        )

    run(1)  # where nothing counts
    count_five_joules(monkeypatch)
    assert not any("joules" in row for row in run(3))
