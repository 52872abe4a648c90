"""Time of pruning on data: ``python -m benchmarks.compensation`` prints a table and writes JSON.

VGG-16 of CIFAR-10's size, 1,000 images, all cores. The yardstick is one forward pass of the dense network over the same
images in the same run: least squares and greedy choice need one each of the dense and of the smaller network, and then
solve. Weights and images are random, on which times do not depend.
"""

import argparse
import json
import sys

import torch

from benchmarks.machine import least, machine, timed
from benchmarks.partition import RESULTS as PARTITION_RESULTS
from splinelib.criteria import FilterNorm, ReconstructionCost, ThiNet
from splinelib.files import atomic_path
from splinelib.hooks import evaluating
from splinelib.layers import read_layers
from splinelib.layers.patches import CHUNK
from splinelib.pruning import reconstruct, select_units
from splinestudy.models import build_model

RESULTS = PARTITION_RESULTS.with_name("compensation.json")


def forward(model, images):
    """One pass over all images."""
    with evaluating(model):
        for chunk in images.split(CHUNK):
            model(chunk)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    model = build_model("vgg16_bn", num_classes=10, width=arguments.width, seed=0).eval()
    images = torch.randn(arguments.images, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    layers = read_layers(model, images[:2])
    scores = FilterNorm(1)(model, layers)
    calls = {"forward pass": lambda: forward(model, images)}
    for ratio in (0.3, 0.5):
        selection = select_units(layers, scores, ratio)
        calls[f"least squares, {ratio:.0%} of the units gone"] = lambda chosen=selection: reconstruct(
            model, chosen, images, layers=layers
        )
    calls["greedy reconstruction, scores"] = lambda: ReconstructionCost(images)(model, layers)
    calls["ThiNet, scores"] = lambda: ThiNet(images)(model, layers)
    rows = {name: {} for name in calls}
    for _ in range(arguments.rounds):
        for name, call in calls.items():
            _, *seconds = timed(call)
            least(rows[name], seconds)
    unit = rows["forward pass"]["wall"]
    lines = [f"{'':44}{'wall s':>9}{'forward passes':>16}"]
    lines += [f"{name:44}{row['wall']:>9.1f}{row['wall'] / unit:>16.1f}" for name, row in rows.items()]
    result = {"machine": machine(torch.get_num_threads()), **vars(arguments), "calls": rows}
    with atomic_path(RESULTS) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write("\n".join([*lines, f"machine: {result['machine']}", f"written to {RESULTS}"]) + "\n")


if __name__ == "__main__":
    main()
