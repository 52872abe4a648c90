"""Two processes, each with half of every batch, against one that has it whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import parts
import pytest
import torch

from splinestudy.runs.provenance import SOURCE
from splinestudy.runs.store import RecordStore
from splinestudy.training import distributed

TOLERANCE = 1e-5  # float32 sums in another order, over three epochs


def torchrun(*arguments):
    """Two processes of ``python ARGUMENTS`` on this machine."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        *arguments,
    ]
    here = str(Path(__file__).parent)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{SOURCE}{os.pathsep}{here}"}
    ended = subprocess.run(command, env=env, stderr=subprocess.PIPE, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    torchrun(parts.__file__, str(folder))
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("name", [*parts.CASES, "resumed"])
def test_two_processes_lose_as_one_does(name, found):
    alone, together = parts.trained("norm" if name == "resumed" else name), found[name]
    assert len(together["rows"]) == len(alone["rows"]) == 3
    for one, two in zip(alone["rows"], together["rows"], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=TOLERANCE)
        assert (two["epoch"], two["lr"]) == (one["epoch"], one["lr"])
        assert two["accuracy"] == pytest.approx(one["accuracy"], abs=1.01 / 24)  # one image may be a tie
    for key, value in alone["tensors"].items():
        torch.testing.assert_close(
            torch.tensor(together["tensors"][key]), torch.tensor(value), rtol=1e-4, atol=TOLERANCE
        )


def test_a_process_by_itself_shares_nothing():
    value, model = torch.ones(3), parts.network(True)
    assert distributed.part() == (0, 1)
    assert distributed.total(value) is value
    with distributed.joined(), distributed.shared_norms(model):
        assert "forward" not in vars(model[1])


@pytest.mark.long
def test_a_sweep_of_two_processes_leaves_the_records_of_one(tmp_path):
    sweep = (
        "sweep layerwise --profile smoke --seeds 0 --criteria spline --epochs 2 --images 96 --arch alexnet"
    )
    arguments = [*sweep.split(), "--width", "0.04", "--store"]
    said = torchrun("-m", "splinestudy", *arguments, str(tmp_path / "two"))
    assert said.count("2 records, 0 failed, 0 left") == 1
    subprocess.run([sys.executable, "-m", "splinestudy", *arguments, str(tmp_path / "one")], check=True)
    for kind in ("dense", "prune"):
        (one,), (two,) = (RecordStore(tmp_path / name).load_all(kind) for name in ("one", "two"))
        assert two.key == one.key
        assert (two.provenance["processes"], "processes" in one.provenance) == (2, False)
        losses = [[row["loss"] for row in record.results["epochs"]] for record in (one, two)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-2)  # dropout draws for each part
    assert list((tmp_path / "two" / "checkpoints").iterdir()) == []
