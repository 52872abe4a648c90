"""Time of pruning on data: ``python -m benchmarks.compensation``; prints and writes each row as it is done.

VGG-16 of CIFAR-10's size, all cores. The yardstick is one forward pass of the dense network over the same images in the
same run: least squares and greedy choice need one each of the dense and of the smaller network, and then solve. Weights
and images are random, on which times do not depend. ``--arch resnet50 --side 224`` measures that network instead.
``--resume`` keeps the rows that are there. Writes JSON and the book's table.
"""

import argparse
import sys

import torch

from benchmarks.kept import RESULTS, load, write_result
from benchmarks.machine import least, machine, timed
from benchmarks.page import machine_text, write_text
from splinelib.criteria import FilterNorm, ReconstructionCost, ThiNet
from splinelib.hooks import evaluating
from splinelib.layers import read_layers
from splinelib.layers.visits import CHUNK
from splinelib.pruning import reconstruct, select_units
from splinestudy.models import build_model
from splinestudy.results.tables import markdown_table

NAMES = {"vgg16_bn": "VGG-16", "resnet50": "ResNet-50"}
KEYS = ("arch", "width", "side", "images")


def forward(model, images):
    """One pass over all images."""
    with evaluating(model):
        for chunk in images.split(CHUNK):
            model(chunk)


def calls(given):
    """What is timed, by name."""
    model = build_model(given.arch, num_classes=10, width=given.width, image_size=given.side, seed=0).eval()
    shape = given.images, 3, given.side, given.side
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    layers = read_layers(model, images[:2])
    scores = FilterNorm(1)(model, layers)
    found = {"forward pass": lambda: forward(model, images)}
    for ratio in (0.3, 0.5):
        selection = select_units(layers, scores, ratio)
        found[f"least squares, {ratio:.0%} of the units gone"] = lambda chosen=selection: reconstruct(
            model, chosen, images, layers=layers
        )
    found["greedy reconstruction, scores"] = lambda: ReconstructionCost(images)(model, layers)
    found["ThiNet, scores"] = lambda: ThiNet(images)(model, layers)
    return found


def save(rows, threads):
    result = {"machine": machine(threads), "rows": rows}
    write_result(result, RESULTS / "compensation.json")
    write_text(page_of(result), "compensation.txt")


def page_of(result):
    unit = {case_of(row): row["wall"] for row in result["rows"] if row["call"] == "forward pass"}
    lines = [
        [
            f"{NAMES[row['arch']]} ×{row['width']:g}, {row['images']} of {row['side']} × {row['side']}",
            row["call"],
            f"{row['wall']:.1f}",
            f"{row['wall'] / unit[case_of(row)]:.1f}",
            f"{row['cpu']:.1f}",
        ]
        for row in result["rows"]
    ]
    columns = {"network, images": "---", "what": "---"}
    columns |= dict.fromkeys(("seconds", "forward passes", "CPU seconds"), "--:")
    return [machine_text(result["machine"]), "", *markdown_table(columns, lines)]


def case_of(row):
    return tuple(row[key] for key in KEYS)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", choices=NAMES, default="vgg16_bn")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2, help="of each, the least time of which counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    where = {key: getattr(given, key) for key in KEYS}
    rows = (load("compensation.json") or {"rows": []})["rows"]
    there = {row["call"] for row in rows if case_of(row) == case_of(where)} if given.resume else set()
    for name, call in calls(given).items():
        if name in there:
            continue
        row = where | {"call": name}
        for _ in range(given.rounds):
            least(row, timed(call)[1:])
        rows = [old for old in rows if case_of(old) != case_of(where) or old["call"] != name] + [row]
        save(rows, given.threads)
        sys.stdout.write(f"{name:44}{row['wall']:>9.1f} s{row['cpu']:>9.1f} CPU s\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
