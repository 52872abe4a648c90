import copy
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import slow_code_distance, slow_mask_epoch, slow_spline_epoch
from tiny_nets import tiny_cnn
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from splinelib import MaskEarlyBird, SplineEarlyBird
from splinelib.early_bird import PackedCode, codes
from splinelib.early_bird import detectors as earlybird
from splinelib.early_bird.distances import pack_bits, pairwise_distances
from splinelib.errors import RecordError, SettingError, TrainingError, UnsupportedModuleError

CANVAS = torch.zeros(1, 2)
CHANGES = [0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]


class _Scripted:
    """Sees the codes of a list, ``codes[epoch][layer]`` lists of bits, one after the other."""

    def feed(self, codes):
        self.script = iter(codes)
        return [self.update(None) for _ in codes]

    def _observe(self, model):
        layers = next(self.script)
        packed = tuple(pack_bits(torch.tensor(layer, dtype=torch.bool)) for layer in layers)
        return PackedCode(packed, tuple(len(layer) for layer in layers))


class ScriptedSpline(_Scripted, SplineEarlyBird):
    pass


class ScriptedMask(_Scripted, MaskEarlyBird):
    pass


def spline(**settings):
    return ScriptedSpline(CANVAS, **settings)


def mask(**settings):
    return ScriptedMask(0.5, **settings)


def code_of(*counts, bits=100):
    """One layer of ``bits`` bits for each count, the first ``count`` of them set."""
    return [[place < count for place in range(bits)] for count in counts]


def expected_answers(epoch, count):
    return [epoch is not None and update >= epoch for update in range(count)]


sequences = st.lists(
    st.tuples(*[st.lists(st.booleans(), min_size=4, max_size=4)] * 2).map(list), min_size=1, max_size=12
)


@pytest.mark.parametrize("threshold", [0.16, 0.3, 0.5])
@pytest.mark.parametrize("window", [1, 2, 3])
@given(codes=sequences)
def test_spline_rule_is_the_naive_one(codes, threshold, window):
    detector = spline(threshold=threshold, window=window)
    epoch = slow_spline_epoch(codes, threshold, window)
    assert detector.feed(codes) == expected_answers(epoch, len(codes))
    assert detector.epoch == epoch


@pytest.mark.parametrize("threshold", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("window", [1, 2, 5])
@given(codes=sequences)
def test_mask_rule_is_the_naive_one(codes, threshold, window):
    masks = [layers[0] for layers in codes]
    detector = mask(threshold=threshold, window=window)
    epoch = slow_mask_epoch(masks, threshold, window)
    assert detector.feed([[bits] for bits in masks]) == expected_answers(epoch, len(masks))
    assert detector.epoch == epoch


@given(codes=sequences)
def test_distances_are_those_of_every_two_updates(codes):
    detector = spline()
    detector.feed(codes)
    layers = np.array([[slow_code_distance(a, b) for b in codes] for a in codes])
    np.testing.assert_array_equal(detector.layer_distances, layers)
    np.testing.assert_allclose(detector.distances, layers.mean(axis=2), rtol=1e-15)


def test_nothing_is_drawn_before_the_window_is_full():
    still = [code_of(3)] * 8
    assert spline().feed(still) == [False] * 3 + [True] * 5
    assert mask().feed(still) == [False] * 4 + [True] * 4


@pytest.mark.parametrize("frozen", [0, 1, 4])
@pytest.mark.parametrize(("build", "lag"), [(spline, 3), (mask, 4)])
def test_a_network_frozen_after_an_epoch_is_found_once_the_window_is_past(frozen, build, lag):
    # All bits flip from one epoch to the next, until they stop.
    codes = [code_of(100 * (epoch % 2)) for epoch in range(frozen)]
    codes += [code_of(100 * (frozen % 2))] * 8
    detector = build()
    detector.feed(codes)
    assert detector.epoch == frozen + lag


@pytest.mark.parametrize("build", [spline, mask])
def test_what_never_settles_is_never_drawn(build):
    detector = build()
    assert not any(detector.feed([code_of(20 * (epoch % 5)) for epoch in range(40)]))
    assert detector.epoch is None


def test_spline_threshold_is_exclusive():
    # Epoch 3 differs from 0, 1, 2 in 16, 8, 0 of 100 bits.
    codes = [code_of(0), code_of(8), code_of(16), code_of(16)]
    assert spline(threshold=0.16).feed(codes)[-1] is False
    codes[0] = code_of(1)
    assert spline(threshold=0.16).feed(codes)[-1] is True


def test_mask_threshold_is_inclusive_and_holds_for_every_pair():
    # The last mask differs from each other one by at most 5 bits, but two of these by 10.
    codes = [code_of(0), code_of(5), code_of(10), code_of(5), code_of(5)]
    assert mask(threshold=0.1).feed(codes)[-1] is True
    assert mask(threshold=0.09).feed(codes)[-1] is False


def test_spline_distance_is_the_mean_over_layers_not_over_bits():
    codes = [[[False] * 10, [False] * 1000], [[True] * 10, [False] * 1000]]
    detector = spline()
    detector.feed(codes)
    assert detector.distances[0, 1] == 0.5
    assert detector.layer_distances[1, 0].tolist() == [1.0, 0.0]


def test_a_drawn_ticket_stays_drawn():
    detector = spline()
    answers = detector.feed([code_of(0)] * 5 + [code_of(100 * (epoch % 2)) for epoch in range(5)])
    assert answers == [False] * 3 + [True] * 7
    assert detector.epoch == 3
    assert detector.distances.shape == (10, 10)


def test_a_fresh_detector_has_no_distances():
    assert spline().distances.shape == (0, 0)
    assert spline().epoch is None
    assert mask().distances.shape == (0, 0)


@pytest.mark.parametrize("build", [spline, mask])
def test_an_update_compares_with_the_window_alone(build, monkeypatch):
    compared = []

    def counting(codes):
        compared.append(len(codes))
        return pairwise_distances(codes)

    monkeypatch.setattr(earlybird, "pairwise_distances", counting)
    detector = build(window=2)
    detector.feed([code_of(count) for count in range(6)])
    assert compared == [1, 2, 3, 3, 3, 3]
    first = detector.distances
    assert detector.layer_distances.shape == (6, 6, 1)
    assert compared[6:] == [6]  # all of them, once
    first[:] = detector.layer_distances[:] = 9
    assert detector.distances[5].tolist() == [0.05, 0.04, 0.03, 0.02, 0.01, 0]
    detector.feed([code_of(6)])
    assert compared[7:] == [3]
    assert detector.distances[:6, 6].tolist() == [0.06, 0.05, 0.04, 0.03, 0.02, 0.01]


def test_a_code_of_another_network_is_named_and_not_kept():
    detector = spline()
    detector.feed([code_of(3)])
    with pytest.raises(SettingError, match=r"layers of \(50,\) bits"):
        detector.feed([code_of(3, bits=50)])
    assert detector.distances.shape == (1, 1)


def test_places_of_sampled_entries_are_found_at_the_first_update(generator, monkeypatch):
    model, canvas = tiny_cnn(generator), torch.randn(5, 2, 6, 6, generator=generator)
    detector = SplineEarlyBird(canvas, bits=30)
    detector.update(model)
    monkeypatch.setattr(codes, "_places_in_memory", None)
    detector.update(model)
    assert detector.distances.tolist() == [[0, 0], [0, 0]]
    copy.deepcopy(detector).update(model)
    pickle.loads(pickle.dumps(detector)).update(model)


def test_two_detectors_share_no_state(generator):
    models = [tiny_cnn(generator) for _ in range(4)]
    canvas = torch.randn(4, 2, 6, 6, generator=generator)
    alone = SplineEarlyBird(canvas)
    for model in models:
        alone.update(model)
    first, second = SplineEarlyBird(canvas), SplineEarlyBird(canvas)
    for model in models:
        first.update(model)
        second.update(models[0])
    assert (first.epoch, second.epoch) == (alone.epoch, 3) == (None, 3)
    np.testing.assert_array_equal(first.distances, alone.distances)
    assert not second.distances.any()


@pytest.mark.parametrize("build", [spline, mask])
@pytest.mark.parametrize("stop", [0, 1, 5, 10, 13, 15])
def test_a_restored_detector_goes_on_as_if_never_stopped(build, stop):
    codes = [code_of(40 * change) for change in CHANGES]
    whole, saved, restored = build(), build(), build()
    whole.feed(codes)
    saved.feed(codes[:stop])
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert restored.epoch == saved.epoch
    restored.feed(codes[stop:])
    assert restored.epoch == whole.epoch is not None
    np.testing.assert_array_equal(restored.distances, whole.distances)
    np.testing.assert_array_equal(saved.distances, whole.distances[:stop, :stop])


def test_a_state_of_another_canvas_is_named():
    canvas = torch.zeros(2, 3)
    state = SplineEarlyBird(canvas).state_dict()
    other = canvas.clone()
    other[1, 2] = 1e-30
    for changed in (other, torch.zeros(3, 2), canvas.double()):
        with pytest.raises(RecordError, match=r"canvas .* with CRC-32 \w+ and not .* with CRC-32 \w+"):
            SplineEarlyBird(changed).load_state_dict(state)
    SplineEarlyBird(canvas.T.contiguous().T).load_state_dict(state)  # the same values, laid out otherwise
    SplineEarlyBird(canvas.bfloat16())


@pytest.mark.parametrize(
    ("build", "settings", "named"),
    [
        (spline, {"bits": 1000}, r"bits 131072 and not 1000"),
        (spline, {"threshold": 0.2, "window": 4}, r"threshold 0.16 and not 0.2, window 3 and not 4"),
        (mask, {"window": 4}, r"window 5 and not 4"),
        (lambda ratio=0.5: MaskEarlyBird(ratio), {"ratio": 0.3}, r"ratio 0.5 and not 0.3"),
    ],
)
def test_a_state_of_other_settings_is_named_and_changes_nothing(build, settings, named):
    state, detector = build().state_dict(), build(**settings)
    state["epoch"] = 7
    with pytest.raises(RecordError, match=named):
        detector.load_state_dict(state)
    assert detector.epoch is None


def test_a_canvas_that_was_moved_keeps_its_name():
    detector, again = SplineEarlyBird(CANVAS.double()), SplineEarlyBird(CANVAS.double())
    detector.canvas = detector.canvas.float()
    again.load_state_dict(detector.state_dict())


def test_a_state_from_before_settings_were_kept_is_named():
    state = spline().state_dict()
    del state["settings"]
    with pytest.raises(RecordError, match=r"lacks \['settings'\]: it was not made by state_dict"):
        spline().load_state_dict(state)


def test_a_state_with_missing_parts_is_named():
    state = spline().state_dict()
    del state["codes"]
    with pytest.raises(RecordError, match=r"lacks \['codes'\]"):
        spline().load_state_dict(state)


def test_spline_detector_reads_the_network_on_its_canvas(generator):
    model, canvas = tiny_cnn(generator).train(), torch.randn(5, 2, 6, 6, generator=generator)
    detector = SplineEarlyBird(canvas)
    detector.update(model)
    turned = copy.deepcopy(model)
    turned[7].weight.data.neg_()
    turned[7].bias.data.neg_()
    detector.update(turned)
    # All signs of the third non-linearity flip and no others do.
    assert detector.layer_distances[1, 0].tolist() == [0.0, 0.0, 1.0]
    assert all(module.training for module in model.modules())


def perceptron():
    return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 12), nn.LeakyReLU(), nn.Linear(12, 2))


def jump(model, generator):
    """As if trained at a huge learning rate: all parameters anew, so about half of all bits flip."""
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("frozen", [0, 2, 5])
def test_a_real_network_frozen_after_an_epoch_is_found_once_the_window_is_past(frozen, window, generator):
    model, canvas = perceptron(), torch.randn(40, 3, generator=generator)
    detector = SplineEarlyBird(canvas, window=window)
    for epoch in range(frozen + window + 2):
        if epoch <= frozen:
            jump(model, generator)
        assert detector.update(model) is (epoch >= frozen + window)
    assert detector.epoch == frozen + window


@pytest.mark.parametrize(("every", "frozen"), [(1, 10), (4, 10), (5, 10), (5, 11)])
def test_called_every_few_steps_the_window_counts_calls(every, frozen, generator):
    model, canvas = perceptron(), torch.randn(40, 3, generator=generator)
    detector = SplineEarlyBird(canvas, window=3)
    drawn = None
    for step in range(1, 41):  # the network moves in steps 1 to ``frozen`` and never again
        if step <= frozen:
            jump(model, generator)
        if step % every == 0 and detector.update(model) and drawn is None:
            drawn = step
    first = -(-frozen // every) * every  # the first call that sees the frozen network
    assert drawn == first + 3 * every
    assert drawn == (detector.epoch + 1) * every


def test_codes_of_all_updates_are_kept(generator):
    model, canvas = perceptron(), torch.randn(40, 3, generator=generator)
    detector = SplineEarlyBird(canvas)
    assert detector.codes == ()
    for _ in range(4):
        jump(model, generator)
        detector.update(model)
    assert len(detector.codes) == 4
    assert detector.codes[3].bits == (40 * 16, 40 * 12)
    np.testing.assert_array_equal(pairwise_distances(detector.codes), detector.layer_distances)


def hook_count(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def broken_canvas(model, canvas):
    return SettingError, "cannot take the canvas", model, canvas[:, :1]


def not_a_number(model, canvas):
    diverged = copy.deepcopy(model)
    diverged[3].weight.data[0] = torch.nan
    return TrainingError, "pre-activation 1 is NaN", diverged, canvas


def no_kink(model, canvas):
    return UnsupportedModuleError, "no piecewise linear", nn.Sequential(nn.Flatten(), nn.Sigmoid()), canvas


@pytest.mark.parametrize("build", [broken_canvas, not_a_number, no_kink])
def test_a_failed_update_leaves_neither_hooks_nor_traces(build, generator):
    model, canvas = tiny_cnn(generator), torch.randn(4, 2, 6, 6, generator=generator)
    kind, named, culprit, points = build(model, canvas)
    culprit.train()
    detector = SplineEarlyBird(canvas)
    for _ in range(2):
        detector.update(model)
    detector.canvas = points
    with pytest.raises(kind, match=named):
        detector.update(culprit)
    assert hook_count(culprit) == 0
    assert _get_current_function_mode_stack() == []
    assert all(module.training for module in culprit.modules())
    assert len(detector.codes) == 2
    assert detector.distances.shape == (2, 2)
    detector.canvas = canvas
    assert [detector.update(model) for _ in range(2)] == [False, True]


def test_a_real_detector_restored_half_way_draws_the_same_epoch(generator):
    model, canvas = perceptron(), torch.randn(40, 3, generator=generator)
    models = []
    for epoch in range(9):
        if epoch <= 4:
            jump(model, generator)
        models.append(copy.deepcopy(model))
    whole = SplineEarlyBird(canvas, bits=100)
    answers = [whole.update(model) for model in models]
    for stop in (2, 5, 8):
        first, second = SplineEarlyBird(canvas, bits=100), SplineEarlyBird(canvas, bits=100)
        before = [first.update(model) for model in models[:stop]]
        second.load_state_dict(first.state_dict())
        assert before + [second.update(model) for model in models[stop:]] == answers
        assert second.epoch == whole.epoch == 7
        np.testing.assert_array_equal(second.distances, whole.distances)


def scales(*layers):
    model = nn.Sequential(*[nn.BatchNorm1d(len(layer)) for layer in layers])
    for norm, values in zip(model, layers, strict=True):
        norm.weight.data = torch.tensor(values)
    return model


def test_masks_of_scales_by_hand():
    detector = MaskEarlyBird(0.5, threshold=0.2, window=2)
    # Of (-3, 1), (2, 0.5) those beyond the median stay: -3 and 2; then of (-3, 1), (0, 0.5): -3 and 1.
    detector.update(scales([-3.0, 1.0], [2.0, 0.5]))
    assert detector.update(scales([-3.0, 1.0], [0.0, 0.5])) is False
    assert detector.distances.tolist() == [[0.0, 0.5], [0.5, 0.0]]
    assert detector.update(scales([-9.0, 4.0], [0.0, 0.1])) is True
    assert detector.distances[2].tolist() == [0.5, 0.0, 0.0]


@pytest.mark.parametrize(
    ("ratio", "kept"), [(0.2, [1, 2, 3, 4]), (0.4, [2, 3, 4]), (0.6, [3, 4]), (0.79, [3, 4])]
)
def test_masks_follow_the_ratio_globally(ratio, kept):
    model = scales([0.0, -1.0], [2.0, -3.0, 4.0])
    code = MaskEarlyBird(ratio)._observe(model)
    assert code.bits == (5,)
    assert np.flatnonzero(np.unpackbits(code.layers[0])[:5]).tolist() == kept


def test_a_network_without_batch_norm_has_no_mask():
    with pytest.raises(
        UnsupportedModuleError, match="Sequential has no batch norm with scales.*SplineEarlyBird"
    ):
        MaskEarlyBird(0.5).update(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)))


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: SplineEarlyBird(CANVAS, threshold=0), "threshold is 0"),
        (lambda: SplineEarlyBird(CANVAS, threshold=1.2), "threshold is 1.2"),
        (lambda: SplineEarlyBird(CANVAS, threshold=float("nan")), "threshold is nan"),
        (lambda: SplineEarlyBird(CANVAS, window=0), "window is 0"),
        (lambda: MaskEarlyBird(1.0), "ratio is 1.0"),
        (lambda: MaskEarlyBird(0), "ratio is 0"),
    ],
)
def test_settings_outside_are_named(build, named):
    with pytest.raises(SettingError, match=named):
        build()


def test_no_mask_is_drawn_of_a_network_of_nans():
    detector, model = MaskEarlyBird(0.5, window=1), nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))
    model[1].weight.data[2] = torch.nan
    with pytest.raises(TrainingError, match="batch-norm scales are NaN"):
        detector.update(model)


def test_a_canvas_of_any_strides_is_taken():
    canvas = torch.rand(8, 2)[:, :1]
    assert SplineEarlyBird(canvas)._made_with == SplineEarlyBird(canvas.contiguous())._made_with


def test_a_state_that_was_drawn_at_no_update_is_named():
    detector = SplineEarlyBird(CANVAS)
    with pytest.raises(RecordError, match="drawn at update 99 of 0"):
        detector.load_state_dict(detector.state_dict() | {"epoch": 99})


def test_scales_that_differ_in_float64_alone_are_told_apart():
    model = nn.BatchNorm1d(4).double()
    model.weight.data = 1 + 1e-9 * torch.tensor([3.0, 2, 1, 0]).double()
    detector = MaskEarlyBird(ratio=0.5)
    detector.update(model)
    assert np.unpackbits(detector.codes[0].layers[0], count=4).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(("ratio", "gone"), [(0.29, 29), (0.57, 57), (0.585, 58)])
def test_a_share_of_the_scales_is_counted_in_decimals(ratio, gone):
    detector = MaskEarlyBird(ratio=ratio)
    detector.update(nn.BatchNorm1d(100))
    assert np.unpackbits(detector.codes[0].layers[0], count=100).sum() == 100 - gone
