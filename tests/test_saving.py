import copy
import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import splinelib
from splinelib.criteria import FilterNorm
from splinelib.errors import DamagedError, FileError, RecordError, SettingError, SplineError
from splinelib.partition import Slice2D, compare, compute_partition, kept_units
from splinelib.pruning import (
    compact_streams,
    cut_of,
    fold_units,
    fuse_norms,
    mask_units,
    merge_units,
    report,
    report_of,
    saving,
)
from splinelib.pruning.report import attach
from splinestudy.models import build_model

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def plain(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 12, 3, groups=2), nn.GroupNorm(2, 12), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(48, 10), nn.ReLU(), nn.Linear(10, 4),
    ).eval()  # fmt: skip


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.last = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(6, 2)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.last((self.one(x) + self.two(2 * x)).relu().mean((1, 2)))


def streams():
    return build_model("preresnet20", num_classes=4, width=0.5, seed=0).eval()


NETWORKS = {"plain": plain, "streams": streams}


def alike(one, other):
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_the_cut_of_two_steps_applied_to_the_dense_network_gives_what_both_left(build):
    dense = build()
    once = splinelib.prune(dense, IMAGES, 0.3, criterion=FilterNorm(1))
    twice = splinelib.prune(once, IMAGES, 0.4, criterion=FilterNorm(2))
    cut = cut_of(twice)
    assert alike(cut.apply_to(dense), twice)
    assert cut_of(cut.apply_to(dense)) == cut
    torch.testing.assert_close(splinelib.remove_units(dense, IMAGES, cut.selection)(IMAGES), twice(IMAGES))
    left = {layer.name: layer.units for layer in splinelib.read_layers(twice, IMAGES)}
    assert left == {name: units - len(cut.selection.get(name, [])) for name, units in cut.units.items()}


def test_every_way_of_removal_carries_the_cut():
    dense, selection = plain(), {"3": [1, 4], "9": [0]}
    for smaller in (
        splinelib.remove_units(dense, IMAGES, selection),
        merge_units(dense, IMAGES, selection),
        copy.deepcopy(splinelib.remove_units(dense, IMAGES, selection)),
    ):
        assert cut_of(smaller).selection == selection
    mlp = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    assert len(cut_of(fold_units(mlp, torch.zeros(1, 2), 0.5)).selection["0"]) == 2
    with pytest.raises(SettingError, match="nothing was cut from this Sequential"):
        cut_of(mask_units(dense, IMAGES, selection))


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_what_is_saved_is_loaded_into_a_fresh_network(build, tmp_path):
    smaller = splinelib.prune(build(), IMAGES, 0.5, criterion=FilterNorm(1), scope="global")
    splinelib.save(smaller, tmp_path / "net.safetensors")
    fresh = build()
    for parameter in fresh.parameters():
        nn.init.ones_(parameter)
    before = copy.deepcopy(fresh)
    found = splinelib.load(str(tmp_path / "net.safetensors"), into=fresh)
    assert alike(found, smaller)
    assert alike(fresh, before)
    assert torch.equal(found(IMAGES), smaller(IMAGES))
    assert cut_of(found) == cut_of(smaller)


def test_tied_weights_are_saved_once_and_stay_tied(tmp_path):
    smaller = splinelib.prune(Tied(), IMAGES[:, :, :3, :3].transpose(1, 3), 0.5, criterion=FilterNorm(1))
    splinelib.save(smaller, tmp_path / "net")
    assert "two.weight" not in load_file(tmp_path / "net")
    found = splinelib.load(tmp_path / "net", into=Tied())
    assert found.one.weight is found.two.weight
    assert alike(found, smaller)
    assert found.last.in_features == 3


def pair(share):
    """Two tensors of their own, one under two names, or one of which the second is a view."""
    module = nn.Module()
    module.register_buffer("one", torch.rand(3, 3))
    module.register_buffer(
        "two", {"apart": torch.rand(3, 3), "tied": module.one, "turned": module.one.T}[share]
    )
    return module


@pytest.mark.parametrize("share", ["tied", "turned"])
def test_what_two_names_share_cannot_hold_two_tensors(share, tmp_path):
    splinelib.save(pair("apart"), tmp_path / "net")
    with pytest.raises(SettingError, match=r"different numbers as 'one' and 'two'"):
        splinelib.load(tmp_path / "net", into=pair(share))
    broken = pair(share)
    broken.one[0] = torch.nan  # what is no number is equal to itself here
    splinelib.save(broken, tmp_path / "net")
    loaded = splinelib.load(tmp_path / "net", into=pair(share))
    torch.testing.assert_close(loaded.two, broken.two, rtol=0, atol=0, equal_nan=True)


def test_a_whole_network_is_saved_as_well(tmp_path):
    splinelib.save(plain(0), tmp_path / "net")
    assert alike(splinelib.load(tmp_path / "net", into=plain(1)), plain(0))


@pytest.fixture
def file(tmp_path):
    splinelib.save(splinelib.prune(plain(), IMAGES, 0.5, criterion=FilterNorm(1)), tmp_path / "net")
    return tmp_path / "net"


def wider():
    model = plain()
    model[0], model[1] = nn.Conv2d(3, 9, 3), nn.BatchNorm2d(9)
    return model


@pytest.mark.parametrize(
    ("into", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 2)), "'3' is not there, and had 8"),
        (lambda: nn.Sequential(nn.ReLU()), "'.' is not there, and had 8"),
        (lambda: splinelib.prune(plain(), IMAGES, 0.25), "'.' has 6 channels, and had 8"),
        (wider, "'.' has 9 channels"),
        (lambda: plain().append(nn.Linear(4, 4)), "is of another network than this Sequential.*12.weight"),
    ],
)
def test_another_architecture_is_named(file, into, message):
    with pytest.raises(SettingError, match=message):
        splinelib.load(file, into=into())


def holding(values, dtype=None):
    module = nn.Module()
    module.register_buffer("values", torch.as_tensor(values, dtype=dtype))
    return module


@pytest.mark.parametrize(
    ("values", "dtype", "kept"),
    [
        ([1e5], torch.half, False),
        ([1e4], torch.half, True),
        ([1e39], torch.float32, False),
        ([300], torch.int8, False),
        ([-7], torch.int8, True),
        ([2**24 + 1], torch.float32, True),
        ([torch.inf, torch.nan], torch.half, True),
    ],
)
def test_numbers_that_a_dtype_cannot_take_are_refused(values, dtype, kept, tmp_path):
    wide = torch.int64 if isinstance(values[0], int) else torch.float64
    splinelib.save(holding(values, wide), tmp_path / "net")
    into = holding(torch.zeros(len(values)), dtype)
    if kept:
        loaded = splinelib.load(tmp_path / "net", into=into).values
        torch.testing.assert_close(loaded, torch.tensor(values, dtype=wide).to(dtype), equal_nan=True)
    else:
        with pytest.raises(SettingError, match="'values' in torch"):
            splinelib.load(tmp_path / "net", into=into)


def test_another_shape_is_another_network_in_any_precision(tmp_path):
    splinelib.save(holding([0.0, 1.0, 2.0]), tmp_path / "net")
    with pytest.raises(SettingError, match="is of another network than this Module.*size mismatch"):
        splinelib.load(tmp_path / "net", into=holding([0.0, 1.0]).half())


def test_a_mask_may_be_infinite_where_the_network_has_it_so(tmp_path):
    lowest = torch.finfo(torch.float32).min
    splinelib.save(holding([0.0, lowest]), tmp_path / "net")
    loaded = splinelib.load(tmp_path / "net", into=holding([0.0, lowest]).half())
    assert loaded.values.tolist() == [0.0, -torch.inf]


@pytest.mark.parametrize("dtypes", [(torch.complex64, torch.float32), (torch.float32, torch.int64)])
def test_numbers_that_would_lose_more_than_digits_are_refused(dtypes, tmp_path):
    held, wanted = (nn.Module() for _ in dtypes)
    for module, dtype in zip((held, wanted), dtypes, strict=True):
        module.register_buffer("values", torch.ones(2, dtype=dtype))
    splinelib.save(held, tmp_path / "net")
    with pytest.raises(SettingError, match=f"'values' in {dtypes[0]}, this Module in {dtypes[1]}"):
        splinelib.load(tmp_path / "net", into=wanted)
    assert splinelib.load(tmp_path / "net", into=held).values.dtype == dtypes[0]


def test_every_damaged_byte_is_noticed(file):
    whole = file.read_bytes()
    for place in range(0, len(whole), 97):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(SplineError):
            splinelib.load(file, into=plain())
        file.write_bytes(whole[:place])
        with pytest.raises(DamagedError, match="is damaged"):
            splinelib.load(file, into=plain())


def test_files_of_others_and_of_the_future_are_told_apart(file, monkeypatch):
    monkeypatch.setattr("splinelib.pruning.saving.SCHEMA", 2)
    splinelib.save(plain(), file)
    monkeypatch.undo()
    with pytest.raises(RecordError, match="of schema 2, this splinelib knows 1: update"):
        splinelib.load(file, into=plain())
    save_file({"x": torch.zeros(2)}, file, {"format": "pt"})
    with pytest.raises(RecordError, match="not written by splinelib.save"):
        splinelib.load(file, into=plain())
    with pytest.raises(FileNotFoundError):
        splinelib.load(file.with_name("absent"), into=plain())
    with pytest.raises(FileError):
        splinelib.save(plain(), file / "below")
    for path in ("", "a\0b"):
        with pytest.raises(SettingError, match="name a file"):
            splinelib.save(plain(), path)


def test_the_file_holds_json_that_people_can_read(file):
    size = int.from_bytes(file.read_bytes()[:8], "little")
    said = json.loads(json.loads(file.read_bytes()[8 : 8 + size])["__metadata__"]["splinelib"])
    assert said["cut"]["units"] == {"3": 8, "4": 12, "9": 10}
    assert len(said["cut"]["selection"]["3"]) == 4


def test_the_report_comes_back_with_the_network(file, tmp_path):
    smaller = splinelib.prune(plain(), IMAGES, 0.5, criterion=FilterNorm(1))
    found = splinelib.load(file, into=plain())
    assert report_of(found) == report_of(smaller)
    assert report_of(found).units == {"3": (8, 4), "4": (12, 6), "9": (10, 5)}
    assert str(report_of(found)).splitlines()[1].split() == ["3", "8", "4", "50%"]
    timed = attach(smaller, report(plain(), smaller, IMAGES, latency=True))
    splinelib.save(timed, tmp_path / "timed")
    assert report_of(splinelib.load(tmp_path / "timed", into=plain())) == report_of(timed)
    again = splinelib.remove_units(smaller, IMAGES, {"9": [0]})
    with pytest.raises(SettingError, match="no report comes with this Sequential"):
        report_of(again)
    splinelib.save(again, file)
    with pytest.raises(SettingError, match="no report comes with this Sequential"):
        report_of(splinelib.load(file, into=plain()))


@pytest.mark.parametrize(
    ("build", "change"),
    [
        (streams, compact_streams),
        (plain, fuse_norms),
        pytest.param(streams, fuse_norms, marks=pytest.mark.long),
    ],
)
def test_a_network_that_was_changed_since_is_refused(build, change, tmp_path):
    dense = build()
    smaller = splinelib.prune(dense, IMAGES, 0.5, criterion=FilterNorm(1))
    changed = change(smaller, IMAGES)
    for action in (
        lambda: cut_of(changed),
        lambda: splinelib.save(changed, tmp_path / "net"),
        lambda: splinelib.prune(changed, IMAGES, 0.3),
    ):
        with pytest.raises(
            SettingError, match=f"changed by {change.__name__}.*and call {change.__name__} again"
        ):
            action()
    assert report(dense, changed, IMAGES).units == report_of(smaller).units
    splinelib.save(smaller, tmp_path / "net")
    again = change(splinelib.load(tmp_path / "net", into=build()), IMAGES)
    torch.testing.assert_close(again.eval()(IMAGES), changed.eval()(IMAGES))
    splinelib.save(change(dense, IMAGES), tmp_path / "whole")  # from which nothing was cut
    splinelib.load(tmp_path / "whole", into=change(build(), IMAGES))


def test_the_cut_says_which_units_of_the_partition_stay():
    dense = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    pruned = splinelib.prune(dense, torch.zeros(1, 2), 0.5)
    plane = Slice2D.axis_aligned()
    kept = kept_units(dense, plane, cut_of(pruned).selection)
    found = compare(compute_partition(dense, plane), compute_partition(pruned, plane), kept=kept)
    assert len(kept) == 5
    assert found is not None


def test_a_file_from_before_there_were_reports_is_read(file):
    with safe_open(file, "pt") as whole:
        said = json.loads(whole.metadata()["splinelib"])
        tensors = {name: whole.get_tensor(name) for name in whole.keys()}  # noqa: SIM118 - no dict
    assert said.pop("report")
    text = json.dumps(said)
    save_file(tensors, file, {"splinelib": text, "digest": saving._digest(text, tensors)})
    found = splinelib.load(file, into=plain())
    assert cut_of(found).units == {"3": 8, "4": 12, "9": 10}
    with pytest.raises(SettingError, match="no report comes with this Sequential: call report"):
        report_of(found)
    splinelib.save(found, file)
    assert torch.equal(splinelib.load(file, into=plain())(IMAGES), found(IMAGES))


@pytest.mark.parametrize(
    "said",
    ["x", "[]", "null", "{}", '{"schema": 1}', '{"schema": "2", "cut": null, "shared": {}}', "[" * 100_000]
    + [f'{{"schema": 1, "shared": {{}}, "cut": {cut}}}' for cut in ("[1]", '{"selection": {}}', "7")]
    + [
        f'{{"schema": 1, "shared": {{}}, "cut": null, "report": {told}}}'
        for told in ("[1]", '{"units": 3}', "7")
    ]
    + ['{"schema": 1, "cut": null, "shared": {"a": "b"}}', '{"schema": 1, "cut": null, "shared": [3]}'],
)
def test_what_a_file_says_of_the_cut_may_be_nonsense(said, tmp_path):
    tensors = {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}
    save_file(tensors, tmp_path / "x", {"splinelib": said, "digest": saving._digest(said, tensors)})
    with pytest.raises(DamagedError, match="says nothing sound"):
        splinelib.load(tmp_path / "x", into=nn.Linear(2, 2))


def test_networks_without_values_are_refused(tmp_path):
    splinelib.save(nn.Linear(2, 2), tmp_path / "x")
    for empty in (nn.Linear(2, 2, device="meta"), nn.LazyLinear(2)):
        with pytest.raises(SettingError, match="holds no values yet"):
            splinelib.load(tmp_path / "x", into=empty)
        with pytest.raises(SettingError, match="holds no values yet"):
            splinelib.save(empty, tmp_path / "y")


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="read: it is no plain file"):
        splinelib.load(tmp_path / "pipe", into=nn.Linear(2, 2))
    with pytest.raises(FileError, match="written: it is no plain file"):
        splinelib.save(nn.Linear(2, 2), tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_that_takes_no_files_is_named():
    with pytest.raises(FileError, match="/proc/x cannot be written"):
        splinelib.save(nn.Linear(2, 2), "/proc/x")


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.eye(3).to_sparse(), "'odd' of Linear is sparse"),
        (torch.ones(3, dtype=torch.complex128), "holds no torch.complex128"),
    ],
)
def test_tensors_that_a_file_cannot_hold_are_named(tensor, said, tmp_path):
    model = nn.Linear(2, 2)
    model.register_buffer("odd", tensor)
    with pytest.raises(SettingError, match=said):
        splinelib.save(model, tmp_path / "x")


@pytest.mark.parametrize("dtype", [torch.bool, torch.half, torch.complex64, torch.uint8])
def test_tensors_of_any_other_kind_come_back(dtype, tmp_path):
    models = [nn.Linear(2, 2), nn.Linear(2, 2)]
    for model, tensor in zip(models, (torch.tensor([0, 1, 1]), torch.zeros(3)), strict=True):
        model.register_buffer("odd", tensor.to(dtype))
    splinelib.save(models[0], tmp_path / "x")
    assert torch.equal(splinelib.load(tmp_path / "x", into=models[1]).odd, models[0].odd)


def test_what_was_cut_from_a_part_is_saved_with_the_whole(tmp_path):
    def whole():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            front = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7))
            return nn.Sequential(front, nn.ReLU(), nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 2)))

    model, inputs = whole(), torch.randn(3, 4)
    model[0] = splinelib.prune(model[0], inputs, {"0": 0.5})
    for wrapped, prefix in ((model, ""), (nn.DataParallel(model), "module.")):
        assert {name: len(units) for name, units in cut_of(wrapped).selection.items()} == {f"{prefix}0.0": 3}
        splinelib.save(wrapped, tmp_path / "part")
        fresh = nn.DataParallel(whole()) if prefix else whole()
        torch.testing.assert_close(splinelib.load(tmp_path / "part", into=fresh)(inputs), model(inputs))
    further = splinelib.prune(model, inputs, {"2.0": 0.4, "0.0": 0.34}, round_to=1)
    assert {name: len(units) for name, units in cut_of(further).selection.items()} == {"0.0": 4, "2.0": 2}
    torch.testing.assert_close(
        splinelib.remove_units(whole(), inputs, cut_of(further).selection)(inputs), further(inputs)
    )
    splinelib.save(further, tmp_path / "both")
    torch.testing.assert_close(splinelib.load(tmp_path / "both", into=whole())(inputs), further(inputs))
