import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import slow_code_distance
from oracles_codes import slow_pairwise, slow_per_rate, slow_settled_share

from splinelib.early_bird import PackedCode, code_distance
from splinelib.early_bird.distances import (
    distance_per_rate,
    distances_to_final,
    pack_bits,
    pairwise_distances,
    settled_share,
)
from splinelib.errors import SettingError


def test_distances_by_hand():
    first = PackedCode((pack_bits(torch.tensor([True, False, True])), pack_bits(torch.ones(9) > 0)), (3, 9))
    second = PackedCode((pack_bits(torch.tensor([True, True, False])), pack_bits(torch.zeros(9) > 0)), (3, 9))
    assert code_distance(first, second).tolist() == [2 / 3, 1.0]
    assert code_distance(first, first).tolist() == [0.0, 0.0]


@given(data=st.data())
def test_packed_distance_is_the_unpacked_one(data):
    shapes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    pair = [
        [data.draw(st.lists(st.booleans(), min_size=count, max_size=count)) for count in shapes]
        for _ in range(2)
    ]
    assert code_distance(*[packed(layers) for layers in pair]).tolist() == slow_code_distance(*pair)


def packed(layers):
    return PackedCode(
        tuple(pack_bits(torch.tensor(bits, dtype=torch.bool)) for bits in layers),
        tuple(len(bits) for bits in layers),
    )


@st.composite
def moments(draw):
    """Codes of one shape at 1 to 6 moments, as lists of bits: ``[moment][layer]``."""
    sizes = draw(st.lists(st.integers(1, 100), min_size=1, max_size=3))
    count, seed = draw(st.integers(1, 6)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    return [[(rng.random(size) < 0.5).tolist() for size in sizes] for _ in range(count)]


@pytest.mark.parametrize("block_bytes", [1, 64, 2**22])
@given(codes=moments())
def test_all_pairs_at_once_are_the_pairs_one_by_one(block_bytes, codes):
    found = pairwise_distances([packed(layers) for layers in codes], block_bytes)
    assert found.tolist() == slow_pairwise(codes)


@given(codes=moments())
def test_distance_to_the_final_code_is_the_last_row_of_all_pairs(codes):
    found = distances_to_final([packed(layers) for layers in codes])
    assert found.tolist() == slow_pairwise(codes)[-1]


@given(codes=moments())
def test_settled_share_is_the_naive_one(codes):
    found = settled_share([packed(layers) for layers in codes])
    np.testing.assert_allclose(found, slow_settled_share(codes), rtol=0, atol=1e-15)
    assert (np.diff(found, axis=0) >= 0).all()
    assert (1 - found >= distances_to_final([packed(layers) for layers in codes]) - 1e-15).all()


def test_settled_share_by_hand():
    # Bit 0 never moves, bit 1 moves last at moment 1, bit 2 leaves at moment 1 and comes back at moment 2.
    codes = [packed([[True, False, False, True]]) for _ in range(4)]
    codes[1] = packed([[True, True, True, True]])
    codes[2] = codes[3] = packed([[True, True, False, True]])
    assert settled_share(codes)[:, 0].tolist() == [0.5, 0.75, 1.0, 1.0]
    assert distances_to_final(codes)[:, 0].tolist() == [0.25, 0.25, 0.0, 0.0]


@given(codes=moments())
def test_distance_per_rate_is_the_naive_one(codes):
    lrs = [0.1 * 0.5**moment for moment in range(len(codes))]
    distances = pairwise_distances([packed(layers) for layers in codes])
    found, expected = distance_per_rate(distances, lrs), slow_per_rate(codes, lrs)
    assert found.shape == (len(codes) - 1, distances.shape[2])
    assert found.tolist() == expected
    mean = distance_per_rate(distances.mean(axis=2), np.array(lrs))
    np.testing.assert_allclose(mean, found.mean(axis=1), rtol=1e-14)


@pytest.mark.parametrize(
    ("distances", "lrs", "named"),
    [
        (np.zeros((2, 3)), [1, 1], r"shape \(2, 3\)"),
        (np.zeros(2), [1, 1], r"shape \(2,\)"),
        (np.zeros((2, 2)), [1], r"lrs have shape \(1,\) beside 2 moments"),
        (np.zeros((2, 2)), [1, 0], "lrs hold 0.0"),
        (np.zeros((2, 2)), [np.nan, 1], "lrs hold nan"),
    ],
)
def test_rates_that_do_not_fit_are_named(distances, lrs, named):
    with pytest.raises(SettingError, match=named):
        distance_per_rate(distances, lrs)


@pytest.mark.parametrize("function", [pairwise_distances, distances_to_final, settled_share])
def test_codes_that_make_no_sequence_are_named(function):
    with pytest.raises(SettingError, match="codes are empty"):
        function([])
    with pytest.raises(SettingError, match=r"code 1 has layers of \(4,\) bits, code 0 of \(3,\)"):
        function([packed([[True] * 3]), packed([[True] * 4])])


def test_all_pairs_need_little_memory_beside_the_codes():
    rng = np.random.default_rng(0)
    codes = [PackedCode((rng.integers(0, 256, 2**17, dtype=np.uint8),), (2**20,)) for _ in range(24)]
    tracemalloc.start()
    pairwise_distances(codes, block_bytes=2**16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 2**16 < sum(code.layers[0].nbytes for code in codes) / 9
