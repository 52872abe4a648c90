"""Random graphs of every kind of step: no region lost, none invented, and the maps those of the network.

``SPLINELIB_GRAPHS=10000`` in the environment tries that many; a few are enough to see a handler go wrong.
"""

import os

import numpy as np
import pytest
from oracles_graphs import Graph, pieces

from splinelib.errors import LimitError, UnsupportedModuleError
from splinelib.partition import Slice2D, compute_partition, topology

GRAPHS = int(os.environ.get("SPLINELIB_GRAPHS", "30"))
PART = 20


def partition_of(model, offset):
    """The partition of a square, a smaller one if there is too much to it; None for a network that is refused."""
    for half in (1.0, 0.1, 0.01):
        where = Slice2D.axis_aligned(((offset - half, offset + half * 0.9),) * 2)
        try:
            return compute_partition(model, where, codes=True, outputs=True, max_regions=2000, threads=1)
        except LimitError:
            continue
        except UnsupportedModuleError as error:
            if "in place" not in str(error):
                raise
            return None
    return None


def check(seed):
    offset = (0.0, 0.0, 1e3)[seed % 3]
    model = Graph(seed, steps=3 + seed % 6, grid=(0.0, 0.5, 0.25, 0.0)[seed % 4], offset=offset)
    partition = partition_of(model, offset)
    if partition is None:
        return False
    where, rng = partition.slice, np.random.default_rng(seed)
    assert partition.area.sum() == pytest.approx(where.area, rel=1e-11)
    assert len(np.unique(partition.key)) == len(partition)
    centres = partition.centroids()
    sides, clear = pieces(model, where.at(centres))
    # Maps: at the centroid, and at points anywhere in the region.
    shares = rng.dirichlet(np.ones(3), size=len(partition))
    corners = np.stack(
        [[rng.choice(len(partition.polygon(r)), 3, replace=False)] for r in range(len(partition))]
    )[:, 0]
    inner = np.einsum("rk,rkc->rc", shares, partition.vertices[partition.offsets[:-1, None] + corners])
    for points in (centres, inner):
        mine = np.einsum("rkc,rc->rk", partition.outputs, np.c_[points, np.ones(len(points))])
        theirs = model(where.at(points)).detach().numpy()
        size = 1 + np.abs(partition.outputs).sum(axis=(1, 2))[:, None] * (1 + offset)
        assert (np.abs(mine - theirs) < 1e-11 * size).all()
        # Nothing bends within a region.
        found, sure = pieces(model, where.at(points))
        assert ((sides == found) | ~clear | ~sure).all()
    # What lies between two regions is a bend of the network.
    neighbour = topology(partition).neighbour
    pairs = np.stack([partition.edge_region, neighbour], axis=1)[neighbour >= 0]
    assert (sides[pairs[:, 0]] != sides[pairs[:, 1]]).any(axis=1).all()
    return True


@pytest.mark.parametrize("start", range(0, GRAPHS, PART))
def test_random_graphs(start):
    done = [check(seed) for seed in range(start, start + PART)]
    assert sum(done) > 0.7 * PART
