"""Partitions in parts, and networks that are not read twice."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from splinelib.partition import Slice2D, compute_partition, count_regions, stream_partition
from splinelib.partition.engine.memo import content_of
from splinelib.partition.engine.program import compile_network
from splinelib.partition.engine.reader import read_layout


def network(width=24, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
    ).eval()


WHERE = Slice2D.axis_aligned()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_parts_are_the_whole(threads):
    model = network(96)
    whole = compute_partition(model, WHERE, codes=True, outputs=True)
    parts = list(stream_partition(model, WHERE, codes=True, outputs=True, threads=threads))
    assert len(parts) > 1
    for name in ("key", "area", "codes", "outputs"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        order = np.argsort(np.concatenate([part.key for part in parts]))
        np.testing.assert_array_equal(joined[order], getattr(whole, name)[np.argsort(whole.key)])
    assert sum(part.covered for part in parts) == pytest.approx(1)


def test_to_leave_the_loop_ends_the_search():
    parts = stream_partition(network(256), WHERE, threads=2)
    assert len(next(parts)) > 0
    parts.close()
    assert list(parts) == []


def test_errors_of_the_search_reach_the_loop(monkeypatch):
    def broken(*_):
        raise MemoryError

    monkeypatch.setattr("splinelib.partition.engine.job.new_chunk", broken)
    with pytest.raises(MemoryError):
        list(stream_partition(network(), WHERE, threads=2))


def test_an_interrupt_leaves_what_was_found_if_a_part_is_wanted(monkeypatch):
    def interrupted(work, threads, shared, bar):
        add = shared.add

        def stop(*counts):
            add(*counts)
            if counts[0]:
                shared.stop.set()

        shared.add = stop
        work(0)
        raise KeyboardInterrupt

    model = network(256)
    whole = compute_partition(model, WHERE, threads=1)
    monkeypatch.setattr("splinelib.partition.engine.search._run_threads", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compute_partition(model, WHERE, threads=1)
    part = compute_partition(model, WHERE, threads=1, partial=True)
    assert 0 < len(part) < len(whole)
    assert set(part.key) <= set(whole.key)


def readings(monkeypatch):
    """A list that grows by one for each reading."""
    seen = []

    def counted(*args):
        seen.append(args)
        return read_layout(*args)

    monkeypatch.setattr("splinelib.partition.engine.program.read_layout", counted)
    return seen


def test_a_network_is_read_once_and_anew_when_a_weight_has_changed(monkeypatch):
    seen, model = readings(monkeypatch), network(23)
    first = count_regions(model, WHERE)
    assert (count_regions(model, WHERE), len(seen)) == (first, 1)
    model[0].weight.data[0, 0] += 1.0  # of which torch keeps no count
    changed = compute_partition(model, WHERE)
    assert len(seen) == 2
    model[1] = nn.LeakyReLU(0.5)
    count_regions(model, WHERE)
    assert len(seen) == 3
    model[1] = nn.ReLU()
    again = compute_partition(model, WHERE)
    np.testing.assert_array_equal(again.vertices, changed.vertices)


def test_another_slice_of_a_network_that_was_read(monkeypatch):
    seen, model = readings(monkeypatch), network(22)
    turned = Slice2D(
        torch.tensor([0.1, 0.2]), torch.tensor([1.0, 1.0]), torch.tensor([-1.0, 1.0]), WHERE.polygon / 2
    )
    count_regions(model, turned.zoomed(0.9))
    found = compute_partition(model, turned, outputs=True)
    points = found.centroids()
    mine = np.einsum("rkc,rc->rk", found.outputs, np.c_[points, np.ones(len(points))])
    np.testing.assert_allclose(mine, model.double()(turned.at(points)).detach().numpy(), atol=1e-12)
    assert len(seen) == 2  # without outputs, and with


def test_what_a_network_is_more_than_its_modules_is_looked_at_each_time():
    plain, hooked, odd, masked = (network() for _ in range(4))
    hooked[1].register_forward_hook(lambda module, args, output: 2 * output)
    odd[1].forward = torch.relu
    prune.l1_unstructured(masked[0], "weight", amount=3)
    assert content_of(plain, WHERE.plane) is not None
    assert [content_of(model, WHERE.plane) for model in (hooked, odd, masked)] == [None] * 3
    twice = nn.Sequential(plain[0], plain[1], plain[1])
    assert content_of(twice, WHERE.plane) != content_of(nn.Sequential(plain[0], plain[1]), WHERE.plane)


def test_far_away_a_network_is_read_anew():
    model, far = network(), Slice2D.axis_aligned(((1e60, 2e60),) * 2)
    assert content_of(model, far.plane) != content_of(model, WHERE.plane)
    assert len(compile_network(model, far.plane, False).layers) == 2
